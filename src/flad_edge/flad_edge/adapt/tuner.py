# SPDX-License-Identifier: Apache-2.0
"""Starts tunings in a process of their own and watches them, while the edge drives on.

Single-threaded, and in the thread that lives longest: see :class:`flad_common.supervision`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from flad_common.config import knob, section
from flad_common.supervision import Child, Supervisor
from flad_edge.adapt.trigger import TriggerConfig, TuneTrigger
from flad_edge.adapt.uploads import UploadConfig


@dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """Uploads and tunings of an edge; both need a store of releases."""

    uploads_folder: str = knob(
        "", unit="", doc="Where clips of vehicles go; empty: none are taken."
    )
    held_out_folder: str = knob(
        "", unit="", doc="Clips for the gate, that nobody learned from; empty: nothing is tuned."
    )
    replay_folder: str = knob("", unit="", doc="Clips it was trained on; empty: none beside.")
    tune_file: str = knob("", unit="", doc="YAML of TuneConfig's knobs; empty: the defaults.")
    margin_m: float = knob(0.02, unit="m", doc="Of the gate, in total and in every town.")
    tune_threads: int = knob(1, unit="1", doc="That a tuning computes with; it runs at nice 19.")
    uploads: UploadConfig = section(UploadConfig, doc="How much is kept.")
    trigger: TriggerConfig = section(TriggerConfig, doc="When it tunes.")

    def __post_init__(self) -> None:
        if not self.margin_m >= 0.0:
            raise ValueError(f"margin_m must not be negative, got {self.margin_m}")
        if self.tune_threads < 1:
            raise ValueError(f"tune_threads must be at least 1, got {self.tune_threads}")
        if self.held_out_folder and not self.uploads_folder:
            raise ValueError("held_out_folder needs uploads_folder: tuning learns from uploads")

    @property
    def tunes(self) -> bool:
        """Whether there is a tuning at all."""
        return bool(self.held_out_folder)


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningEnded:
    """How a tuning's process ended."""

    succeeded: bool
    """Whether there is a new release; whether it is live, the store says."""
    text: str
    """The last lines that it said."""


class Tuner:
    """At most one tuning at a time.

    Args:
        config: what it works on, and when.
        store: folder of the releases.
        supervisor: of the process.
        python: that runs it; tests give another.
    """

    def __init__(
        self,
        config: AdaptConfig,
        store: Path,
        supervisor: Supervisor,
        python: tuple[str, ...] = (sys.executable,),
    ) -> None:
        self._config = config
        self._store = store
        self._supervisor = supervisor
        self._python = python
        self._trigger = TuneTrigger(config.trigger)
        self._child: Child | None = None
        self._number = 0

    @property
    def is_tuning(self) -> bool:
        """Whether one runs."""
        return self._child is not None

    def look(self, now_s: float, *, new_frames: int, busy_share: float) -> TuningEnded | None:
        """Start a tuning if it is time, or note that one has ended; called once a second.

        Args:
            now_s: on a steady clock.
            new_frames: uploaded since the last one began.
            busy_share: of the last period, in which the driving model worked.
        """
        if self._child is not None:
            return self._look_at(self._child, now_s)
        if self._config.tunes and self._trigger.is_due(
            now_s, new_frames=new_frames, busy_share=busy_share
        ):
            self._number += 1
            self._child = self._supervisor.start(f"tuning_{self._number}", self._command())
        return None

    def _look_at(self, child: Child, now_s: float) -> TuningEnded | None:
        if child.is_running:
            return None
        self._child = None
        self._supervisor.stop_child(child)  # its number may soon be another process's
        self._trigger.ended(now_s)
        return TuningEnded(succeeded=child.process.returncode == 0, text=child.tail(4))

    def _command(self) -> list[str]:
        c = self._config
        command = ["nice", "-n", "19", *self._python, "-m", "flad_edge.adapt.release_cli"]
        command += ["--store", str(self._store), "tune", "--uploads", c.uploads_folder]
        command += ["--clips", c.held_out_folder, "--publish", str(c.margin_m)]
        command += ["--replay", c.replay_folder] if c.replay_folder else []
        command += ["--config", c.tune_file] if c.tune_file else []
        return [*command, "--threads", str(c.tune_threads)]
