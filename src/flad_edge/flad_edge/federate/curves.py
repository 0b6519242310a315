# SPDX-License-Identifier: Apache-2.0
"""Throughput, memory and rounds as TensorBoard curves: what the edge may know of its vehicles."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from flad_pipeline.round.order import Status

_EVERY_S = 1.0


class Curves:
    """Writes into a folder; single-threaded."""

    def __init__(self, folder: Path) -> None:
        self._writer = SummaryWriter(str(folder))
        self._said: dict[str, tuple[int, int]] = {}
        self._due_s = 0.0

    def statuses(self, found: Iterable[Status]) -> None:
        """Once a second, what every vehicle says; x is its count of finished things."""
        if time.monotonic() < self._due_s:
            return
        self._due_s = time.monotonic() + _EVERY_S
        for status in found:
            now = (status.round, status.progress)
            if self._said.get(status.vehicle) == now:
                continue
            self._said[status.vehicle] = now
            for name, value in (
                ("samples_per_s", status.samples_per_s),
                ("resident_mib", status.resident_bytes / 2**20),
                ("step", status.step),
                ("epoch", status.epoch),
            ):
                self._writer.add_scalar(f"{status.vehicle}/{name}", value, status.progress)

    def round(self, report: Mapping[str, Any]) -> None:
        """A round's figures."""
        number = int(report["round"])
        recoveries = [r for c in report["clients"].values() for r in c["recoveries"]]
        for name, value in (
            ("seconds", report["seconds"]),
            ("samples", sum(report["counted"].values())),
            ("clients", len(report["counted"])),
            ("recoveries", len(recoveries)),
            ("lost_steps", sum(r["lost_steps"] for r in recoveries)),
        ):
            self._writer.add_scalar(f"rounds/{name}", float(value), number)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
