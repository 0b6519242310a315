# SPDX-License-Identifier: Apache-2.0
"""Whether an AD-LLM still drives on the tokens of an encoder that was trained on.

The gate of a release (:mod:`flad_edge.service.releases`) for one case: the same AD-LLM, the same
drives, seen by the encoder it was trained with and by the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flad_edge.adapt.make_clips import PARTS, clips_of_recordings
from flad_edge.adapt.scoring import read_clips, score
from flad_edge.adllm.weights import adllm_file, load_adllm, save_adllm
from flad_perception.scene_encoder import model_file
from flad_perception.weights import load_encoder


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """What was found."""

    error_m: float
    """Waypoint L1 with the encoder that the AD-LLM was trained with."""
    new_error_m: float
    """The same with the new one."""
    margin_m: float
    num_frames: int

    @property
    def holds(self) -> bool:
        """Whether the pair may drive."""
        return self.new_error_m <= self.error_m + self.margin_m

    @property
    def words(self) -> str:
        """For whoever reads a terminal or a report."""
        verdict = "they go together" if self.holds else "they do not go together"
        return (
            f"the language model's waypoint error on {self.num_frames} recorded frames is "
            f"{self.new_error_m:.3f} m with the trained encoder and {self.error_m:.3f} m with the "
            f"one it was trained with (allowed: {self.margin_m:g} m more): {verdict}"
        )


def pair(
    adllm: str,
    *,
    known: str,
    new: Path,
    recordings: Sequence[Path],
    folder: Path,
    margin_m: float,
    training: str = "tiny",
    say: Callable[[str], None] = print,
) -> Pairing:
    """Drive recordings with both encoders; where it holds, ``adllm.safetensors`` says so.

    Args:
        adllm: a name or a file.
        known: encoder that it was trained with, a name or a file.
        new: the other.
        recordings: that the AD-LLM is held against; the encoder may have learned from them.
        folder: new or empty; gets the clips and, if the pair holds, the AD-LLM as a file whose
            header names the new encoder.
        margin_m: that the error may grow.
        training: configuration of the clips.
        say: told of runs that cannot be used.

    Raises:
        OSError, ValueError: if a file is none, or no clip is left.
    """
    loaded = load_adllm(adllm_file(adllm))
    errors = []
    for name, encoder in (("known", model_file(known)), ("new", new)):
        clips_of_recordings(
            recordings,
            folder / name,
            encoder=str(encoder),
            features=folder / "features",
            training=training,
            parts=PARTS,
            say=say,
        )
        errors.append(score(loaded.model, read_clips([folder / name])))
    found = Pairing(
        error_m=errors[0].error_m,
        new_error_m=errors[1].error_m,
        margin_m=margin_m,
        num_frames=errors[1].num_frames,
    )
    if found.holds:
        header = {
            "flad_encoder_hash": load_encoder(new).identity.hash,
            "flad_paired": found.words,
        }
        save_adllm(folder / "adllm.safetensors", loaded.model, header)
    return found
