# SPDX-License-Identifier: Apache-2.0
"""The demo's first part: three emulated Jetsons train the encoder together, and one is killed.

What they train on is recorded once, by the expert on a route that the demo does not drive, and
dealt out to them in clips; later demos find it again.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from flad_bringup.commands import federate as command
from flad_bringup.federate.page import section_html
from flad_bringup.federate.story import Story, tell

_ROUTES, _ROUTE = "routes/data_grid_signals.xml", "5"  # 213 m, half a minute
_RECORD = (
    *("--image-size", "320x240", "--weather", "route", "--lights", "favoured"),
    *("--kicks", "on", "--seed", "5"),
)
_FEDERATE = (
    *("--vehicles", "3", "--devices", "nano", "--level", "1"),
    *("--clip-frames", "30", "--gap-frames", "5"),
    *("--steps", "18", "--micro-batch", "2", "--micro-batches", "4", "--cut-every", "3"),
    *("--rounds", "24", "--within-s", "115", "--lr-share", "0.02"),
    # Three vehicles, an edge and whoever watches on two cores: a shorter lease cries wolf.
    *("--lease-s", "0.8", "--kill", "vehicle_1@8"),
)
_MARGIN_M = 0.02


@dataclass(frozen=True, kw_only=True)
class Training:
    """What came out, and what drives with it."""

    encoder: Path
    """What drives: the trained one, unless a language model cannot read it."""
    driving: tuple[str, ...]
    """More options of the evaluation."""
    story: Story
    pairing: str
    """Whether language model and trained encoder go together; empty without one."""
    folder: Path

    @property
    def section(self) -> str:
        """HTML for the report."""
        note = f'<p class="warning">{escape(self.pairing)}</p>' if self.pairing else ""
        return section_html(self.story) + note

    @property
    def words(self) -> list[str]:
        """Lines for the terminal."""
        told = [f"{self.story.samples_per_s:.1f} samples/s", f"{self.story.rotations} rotations"]
        told += [
            f"{upset.who} killed, {upset.again_s - upset.at_s:.1f} s to the next step"
            for upset in self.story.upsets
            if upset.again_s is not None
        ]
        lines = [f"training {', '.join(told)}; {self.folder / 'federation.html'}"]
        return lines + ([f"         {self.pairing}"] if self.pairing else [])

    def as_json(self) -> Mapping[str, Any]:
        """Figures."""
        return {
            "seconds": self.story.seconds,
            "samples_per_s": self.story.samples_per_s,
            "rotations": self.story.rotations,
            "losses": self.story.losses(),
            "encoder": str(self.encoder),
            "trained_hash": self.story.encoder_hash,
            "pairing": self.pairing,
            "upsets": [
                {
                    "kind": upset.kind,
                    "who": upset.who,
                    "recovery_s": None if upset.again_s is None else upset.again_s - upset.at_s,
                    "lost_steps": upset.lost_steps,
                }
                for upset in self.story.upsets
            ],
        }


def train_together(
    config: Path, recording: Path, folder: Path, *, start: str, adllm: str = ""
) -> Training:
    """Record if need be, pack, train, and see whether a language model can drive with it.

    Args:
        config: the workspace's folder of configurations.
        recording: kept from demo to demo.
        folder: of the demo.
        start: encoder to begin from, a name or a file.
        adllm: language model that shall drive, a name or a file; empty: none.

    Raises:
        RuntimeError: if a part of it failed; it has said why.
        FladError, TimeoutError, ValueError, OSError: as :func:`.run.federate` says.
    """
    federation: Any = importlib.import_module("flad_bringup.federate.run")  # now it is installed
    frames = recording / "frames"
    _recorded(config, recording, frames, folder / "logs_recording")
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    asked = ["--data", str(recording / "packed"), "--weights", start, *_FEDERATE]
    out = folder / "training"
    figures = federation.federate(parser.parse_args(asked), out)
    print(federation.summary(figures))
    if not figures["completed"]:
        raise RuntimeError(f"a round was not completed; {out / 'federate.json'} says why")
    trained = Training(
        encoder=Path(figures["encoder"]), driving=(), story=tell(out), pairing="", folder=out
    )
    return _paired(trained, adllm, start, frames) if adllm else trained


def _recorded(config: Path, recording: Path, frames: Path, logs: Path) -> None:
    record: Any = importlib.import_module("flad_carla.recorder.cli")
    data: Any = importlib.import_module("flad_perception.data.cli")
    routes = ["--routes", str(config / _ROUTES), "--only", _ROUTE]
    if record.main([*routes, "--out", str(frames), *_RECORD, "--logs", str(logs)]):
        raise RuntimeError(f"recording into {frames} did not end well")
    packed = recording / "packed"
    if data.main(["pack", str(frames), "--out", str(packed), "--config", "small"]):
        raise RuntimeError(f"packing {frames} into {packed} did not end well")


def _paired(trained: Training, adllm: str, start: str, frames: Path) -> Training:
    """The language model reads tokens of the encoder it was trained with: see if these still do."""
    pairing: Any = importlib.import_module("flad_edge.adapt.pairing")
    folder = trained.folder / "pairing"
    found = pairing.pair(
        adllm,
        known=start,
        new=trained.encoder,
        recordings=[frames],
        folder=folder,
        margin_m=_MARGIN_M,
    )
    print(found.words)
    if not found.holds:
        return Training(
            encoder=Path(
                importlib.import_module("flad_perception.scene_encoder").model_file(start)
            ),
            driving=("--adllm", adllm),
            story=trained.story,
            pairing=f"{found.words}; {start} drives",
            folder=trained.folder,
        )
    return Training(
        encoder=trained.encoder,
        driving=("--adllm", str(folder / "adllm.safetensors"), "--adm", "off"),
        story=trained.story,
        pairing=f"{found.words}; the trained encoder drives",
        folder=trained.folder,
    )
