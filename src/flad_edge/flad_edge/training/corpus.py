# SPDX-License-Identifier: Apache-2.0
"""Everything there is to learn from: recordings and uploaded clips, split by what is held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flad_edge.training.clip_file import FeatureClip, read_clip
from flad_edge.training.config import AdLlmTrainConfig
from flad_edge.training.feature_jobs import Job
from flad_edge.training.features import PHASES, cached_features
from flad_edge.training.lessons import Drive, Lesson, group_of
from flad_perception.data.lmdrive import BadFileError, Run, find_runs
from flad_perception.data.pack import COMPLETE
from flad_perception.weights import LoadedEncoder
from flad_planner.language.bank import Bank
from flad_planner.language.kinds import Kind

_TEST_TELLING = 1_000_000  # held-out drives are told in a way that no training drive is


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Lessons; a lesson is in one part only."""

    training: tuple[Lesson, ...]
    other_weathers: tuple[Lesson, ...]
    """Of the training towns, in held-out weathers."""
    other_towns: tuple[Lesson, ...]
    encoder_hash: str
    num_versions: int
    """So many times each training drive is in ``training``."""
    refused: tuple[str, ...]
    """Runs and files that could not be used, each with the reason."""

    def fingerprint(self) -> str:
        """Of what is trained on: another one is another corpus."""
        digest = hashlib.sha256(self.encoder_hash.encode())
        for n in self.training:
            about = n.clip.about
            said = (about.get("run"), about.get("kind"), n.clip.num_frames, n.clip.instruction)
            digest.update(repr(said).encode())
        return digest.hexdigest()[:16]

    def summary(self) -> dict[str, Any]:
        """For the card and the terminal."""
        groups: Counter[str] = Counter()
        towns: Counter[str] = Counter()
        for n in self.training:
            groups[n.group or "other"] += n.clip.num_frames
            towns[n.town] += n.clip.num_frames
        versions = self.num_versions
        return {
            "encoder": self.encoder_hash,
            "training_clips": len(self.training),
            "tellings_and_phases_of_each_drive": versions,
            "training_frames_by_town": {k: v // versions for k, v in sorted(towns.items())},
            "training_frames_by_instruction": {k: v // versions for k, v in sorted(groups.items())},
            "held_out_weathers_frames": sum(n.clip.num_frames for n in self.other_weathers),
            "held_out_towns_frames": sum(n.clip.num_frames for n in self.other_towns),
            "refused": list(self.refused[:10]),
        }


def usable_runs(
    roots: Sequence[Path], leave_out: Sequence[str] = ()
) -> tuple[list[Run], list[str]]:
    """Complete runs below ``roots`` whose names hold none of ``leave_out``, and what was refused.

    Raises:
        ValueError: if a root is none, or nothing is left.
    """
    found, bad = find_runs(roots)
    refused = [str(error) for error in bad]
    runs = []
    for run in found:
        if any(text in run.name for text in leave_out):
            refused.append(f"{run.name}: left out as asked")
        elif run.status != COMPLETE:
            refused.append(f"{run.name}: is {run.status}, not complete")
        else:
            runs.append(run)
    if not runs:
        raise ValueError(f"no complete run below {', '.join(map(str, roots))}")
    return runs, refused


def wanted_features(runs: Sequence[Run], config: AdLlmTrainConfig) -> list[Job]:
    """What :func:`load_corpus` reads; of held-out runs one phase."""
    return [
        (run, phase)
        for run in runs
        for phase in PHASES[: config.phases if _part(run, config) == "training" else 1]
    ]


def load_corpus(
    runs: Sequence[Run],
    encoder: LoadedEncoder,
    cache: Path,
    config: AdLlmTrainConfig,
    bank: Bank,
    uploads: Sequence[FeatureClip] = (),
    refused: Sequence[str] = (),
) -> Corpus:
    """Features of every run, told in every way; held-out ones in one.

    Args:
        runs: complete ones.
        encoder: whose tokens are learned.
        cache: of features.
        config: of tellings, phases and what is held out.
        bank: words.
        uploads: clips of vehicles; they are trained on, whatever town they are of.
        refused: what is known to be unusable already.
    """
    parts: dict[str, list[Lesson]] = {"training": [], "weathers": [], "towns": []}
    refusals = list(refused)
    for run in runs:
        part = _part(run, config)
        is_training = part == "training"
        for phase in PHASES[: config.phases if is_training else 1]:
            try:
                features = cached_features(run, encoder, cache, phase)
                drive = Drive(run, features, config.lessons)
                for telling in range(config.lessons.tellings if is_training else 1):
                    seed = 1000 * config.seed + telling if is_training else _TEST_TELLING
                    parts[part] += drive.lessons(bank, seed)
            except (BadFileError, ValueError) as error:
                refusals.append(f"{run.name}: {error}")
                break
    for clip in uploads:
        if clip.encoder_hash != encoder.identity.hash:
            refusals.append(f"an uploaded clip is of encoder {clip.encoder_hash}")
        else:
            parts["training"].append(lesson_of_upload(clip))
    if not parts["training"]:
        why = f"; the first that was refused: {refusals[0]}" if refusals else ""
        raise ValueError(f"there is no clip to train on{why}")
    return Corpus(
        training=tuple(parts["training"]),
        other_weathers=tuple(parts["weathers"]),
        other_towns=tuple(parts["towns"]),
        encoder_hash=encoder.identity.hash,
        num_versions=config.lessons.tellings * config.phases,
        refused=tuple(refusals),
    )


def lesson_of_upload(clip: FeatureClip) -> Lesson:
    """A clip as a vehicle made it: its words stay as they are."""
    name = clip.about.get("kind", "")
    weather = clip.about.get("weather_id", "")
    return Lesson(
        clip=clip,
        group=group_of(Kind[name]) if name in Kind.__members__ else "",
        town=clip.about.get("town", ""),
        weather_id=int(weather) if weather.isdigit() else -1,
    )


def read_uploads(folders: Sequence[Path]) -> tuple[list[FeatureClip], list[str]]:
    """Every clip file below ``folders``, by name, and what was refused.

    Raises:
        ValueError: if one is no folder.
    """
    clips, refused = [], []
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder; expected one with uploaded clips")
        for path in sorted(folder.rglob("*.safetensors")):
            try:
                clips.append(read_clip(path))
            except (OSError, ValueError) as error:
                refused.append(str(error))
    return clips, refused


def _part(run: Run, config: AdLlmTrainConfig) -> str:
    if run.town in config.holdout_towns:
        return "towns"
    return "weathers" if run.weather_id in config.holdout_weathers else "training"
