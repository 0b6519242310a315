# SPDX-License-Identifier: Apache-2.0
"""What a training tells: a progress bar, ``history.json``, ``metrics.json`` and curves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from flad_edge.training.trainer import StepResult
from flad_perception.training.curves import Panel, draw_curves, smoothed

_LOG_EVERY = 10
_HISTORY, _METRICS = "history.json", "metrics.json"


class RunLog:
    """Writes into the run's folder; single-threaded."""

    def __init__(self, folder: Path, *, show_progress: bool) -> None:
        self._folder = folder
        self._show_progress = show_progress
        self.losses: list[list[float]] = []
        """``[step, total]``."""
        self.validations: list[dict[str, Any]] = []

    def resume(self, step: int) -> None:
        """Take up the history of a run that goes on after ``step``."""
        path = self._folder / _HISTORY
        if step and path.is_file():
            told = json.loads(path.read_text(encoding="utf-8"))
            self.losses = [entry for entry in told["losses"] if entry[0] <= step]
            self.validations = [one for one in told["validations"] if one["step"] <= step]

    def step(self, step: int, result: StepResult) -> None:
        """One step of the optimizer."""
        if result.losses and step % _LOG_EVERY == 0:
            self.losses.append([step, result.losses["total"]])

    def validation(self, step: int, elapsed_s: float, parts: dict[str, Any], line: str) -> None:
        """A look at held-out frames."""
        self.validations.append(
            {"step": step, "elapsed_s": round(elapsed_s, 1), "figures": parts["all"]}
        )
        self.write()
        if self._show_progress:
            tqdm.write(f"step {step}: {line}")

    def write(self) -> None:
        """``history.json``, which a resumed run reads."""
        told = {"losses": self.losses, "validations": self.validations}
        _write_json(self._folder / _HISTORY, told)

    def finish(self, metrics: dict[str, Any]) -> None:
        """``metrics.json`` and ``curves.png``."""
        self.write()
        _write_json(self._folder / _METRICS, {**metrics, "validations": self.validations})
        draw_curves(self._folder / "curves.png", self._panels())

    @contextmanager
    def progress(self, what: str, total: int, unit: str = "frames") -> Iterator[tqdm[Any]]:
        """A bar."""
        with tqdm(
            total=total,
            desc=what,
            unit=f" {unit}",
            disable=not self._show_progress,
            leave=False,
            dynamic_ncols=True,
        ) as bar:
            yield bar

    def _panels(self) -> list[Panel]:
        def line(*names: str) -> dict[str, list[tuple[float, float]]]:
            return {
                name: [
                    (float(one["step"]), one["figures"][name])
                    for one in self.validations
                    if one["figures"].get(name) is not None
                ]
                for name in names
            }

        losses = smoothed([(float(s), v) for s, v in self.losses])
        return [
            Panel(title="training loss", lines={"total": losses}),
            Panel(title="waypoint L1 [m] (validation)", lines=line("waypoint_l1_m")),
            Panel(title="aim error [deg] (validation)", lines=line("aim_error_deg")),
            Panel(
                title="shares (validation)",
                lines=line(
                    "starts_when_it_shall", "stands_when_it_shall", "turns_to_the_right_side"
                ),
            ),
        ]


def _write_json(path: Path, values: Any) -> None:
    beside = path.with_name(path.name + ".new")
    text = json.dumps(_finite(values), indent=1, allow_nan=False)
    beside.write_text(text + "\n", encoding="utf-8")
    beside.replace(path)


def _finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
