# SPDX-License-Identifier: Apache-2.0
"""What a run tells: TensorBoard, ``metrics.json``, and a progress bar."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from flad_perception.config import EncoderConfig
from flad_perception.metrics import ALL_TOWNS
from flad_perception.training.evaluate import Evaluation
from flad_perception.training.pictures import example_picture
from flad_perception.training.stepper import StepResult

Bar = Callable[[StepResult, float, float, int], None]


class RunLog:
    """Writes into the run's folder; single-threaded.

    ``history`` holds one record an epoch and is part of the checkpoint, so that a resumed run has
    the whole of it.
    """

    def __init__(self, folder: Path, config: EncoderConfig, *, show_progress: bool) -> None:
        self._folder = folder
        self._config = config
        self._show_progress = show_progress
        self._writer: SummaryWriter | None = None
        self._purge_step: int | None = None
        self.history: list[dict[str, Any]] = []
        self.train_curve: list[tuple[int, float]] = []

    def step(self, step: int, result: StepResult, num_skipped: int) -> None:
        """One step of the optimizer, every few of them."""
        writer = self._open()
        for name, value in result.losses.items():
            writer.add_scalar(f"train/{name}", value, step)
        writer.add_scalar("train/gradient_norm", result.gradient_norm, step)
        writer.add_scalar("train/rate", result.rate, step)
        writer.add_scalar("train/skipped_batches", num_skipped, step)
        self.train_curve.append((step, result.losses["total"]))

    def validation(self, epoch: int, step: int, elapsed_s: float, found: Evaluation) -> None:
        """Figures and example pictures after an epoch."""
        writer = self._open()
        for name, value in found.losses.items():
            writer.add_scalar(f"validation/{name}", value, step)
        for town, figures in found.towns.items():
            for name, value in figures.items():
                writer.add_scalar(f"validation_{town}/{name}", value, step)
        for number, (batch, output) in enumerate(found.examples):
            picture = example_picture(self._config, batch, output, 0)
            writer.add_image(f"example/{number}", picture, step, dataformats="HWC")
        writer.flush()
        self.history.append(
            {
                "epoch": epoch,
                "step": step,
                "elapsed_s": round(elapsed_s, 1),
                "losses": found.losses,
                "towns": found.towns,
            }
        )
        self.write_metrics({})
        if self._show_progress:
            tqdm.write(f"epoch {epoch}: {one_line(found.towns.get(ALL_TOWNS, {}))}")

    def write_metrics(self, more: dict[str, Any]) -> None:
        """``metrics.json``: the history, and whatever is known at the end."""
        beside = self._folder / "metrics.json.new"
        text = json.dumps(_finite({"epochs": self.history, **more}), indent=1, allow_nan=False)
        beside.write_text(text + "\n", encoding="utf-8")
        beside.replace(self._folder / "metrics.json")

    @contextmanager
    def progress(self, epoch: int, done: int, total: int) -> Iterator[Bar]:
        """A bar over one epoch's steps; call what it gives after every step."""
        with tqdm(
            initial=done,
            total=total,
            desc=f"epoch {epoch + 1}",
            unit="batch",
            disable=not self._show_progress,
            leave=False,
            dynamic_ncols=True,
        ) as bar:
            mean = 0.0

            def show(result: StepResult, progress: float, elapsed_s: float, frames: int) -> None:
                nonlocal mean
                if result.taken:
                    total_loss = result.losses["total"]
                    mean = 0.95 * mean + 0.05 * total_loss if mean else total_loss
                left_min = elapsed_s * (1.0 / progress - 1.0) / 60.0 if progress > 0.0 else 0.0
                rate = (bar.format_dict["rate"] or 0.0) * frames
                bar.set_postfix_str(
                    f"loss {mean:.4f}, {rate:.0f} frames/s, {100.0 * min(1.0, progress):.0f} %, "
                    f"{max(0.0, left_min):.0f} min left",
                    refresh=False,
                )
                bar.update()

            yield show

    def state_dict(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {
            "history": json.dumps(self.history),
            "train_curve": [list(point) for point in self.train_curve],
        }

    def load_state_dict(self, state: dict[str, Any], step: int) -> None:
        """Go on after ``step``: what TensorBoard heard of later steps is taken back."""
        self.history = json.loads(state["history"])
        self.train_curve = [(int(s), float(loss)) for s, loss in state["train_curve"]]
        self._purge_step = step + 1

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> SummaryWriter:
        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder / "tb"), purge_step=self._purge_step)
        return self._writer


def one_line(figures: dict[str, float]) -> str:
    """The figures that matter most, for a terminal."""
    names = {
        "light_balanced_accuracy": "light",
        "waypoint_l1_m_at_1.0s": "waypoints at 1 s [m]",
        "vehicle_ap_2m": "vehicle AP",
    }
    return ", ".join(
        f"{text} {figures[name]:.3f}" for name, text in names.items() if name in figures
    )


def _finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity: a figure without frames is null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
