# SPDX-License-Identifier: Apache-2.0
"""Epochs, validation, checkpoints and the clock; one step is :mod:`.stepper`'s."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from flad_common.config import to_mapping
from flad_perception.batch import Batch
from flad_perception.config import EncoderConfig
from flad_perception.data.augment import AugmentConfig
from flad_perception.data.loader import Loader, LoaderConfig
from flad_perception.model.encoder import VisionEncoder
from flad_perception.training.checkpoint import load_checkpoint, save_checkpoint
from flad_perception.training.config import TrainConfig
from flad_perception.training.evaluate import Evaluation, evaluate
from flad_perception.training.frames import Frames
from flad_perception.training.run_log import RunLog
from flad_perception.training.sampling import draw_epoch
from flad_perception.training.schedule import progress_of, rate_factor
from flad_perception.training.stepper import Stepper

_MAY_CHANGE = ("threads", "checkpoint_minutes", "prefetch")
"""Settings that a resumed run may have otherwise."""
_LOG_EVERY = 10

Reason = Literal["finished", "budget", "interrupted"]


@dataclass(kw_only=True)
class RunState:
    """Where a run is."""

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    num_frames: int = 0
    elapsed_s: float = 0.0
    """Training and validation, summed over interruptions."""


class Trainer:
    """Trains one model on the frames of one packed data set; single-threaded.

    Args:
        model: trained in place; :meth:`best_model` gives the weights to ship.
        config: of the model.
        train: how to train.
        frames: what to train and validate on.
        log: told what happens.
        checkpoint: the file that a run goes on from, if it is there.
        device: where the model computes.
        clock: seconds, for budget and checkpoints.
        should_stop: asked before every step.
    """

    def __init__(
        self,
        model: VisionEncoder,
        config: EncoderConfig,
        train: TrainConfig,
        frames: Frames,
        log: RunLog,
        checkpoint: Path,
        device: torch.device,
        *,
        clock: Callable[[], float] = time.monotonic,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._config = config
        self._train = train
        self._frames = frames
        self._log = log
        self._path = checkpoint
        self._clock = clock
        self._should_stop = should_stop
        torch.manual_seed(train.seed)
        self._stepper = Stepper(model, train, device)
        self._state = RunState()
        self._order = partial(draw_epoch, frames.training, train.sampling, train.seed)
        self._loader = self._make_loader(self._order, train.augment)
        self._num_steps = sum(self._loader.num_steps(epoch) for epoch in range(train.epochs))
        self._began = self._saved_at = clock()
        if checkpoint.is_file():
            self._resume()

    @property
    def state(self) -> RunState:
        """Where the run is; a copy."""
        return copy.copy(self._state)

    @property
    def num_skipped(self) -> int:
        """Batches whose gradient was not finite."""
        return self._stepper.num_skipped

    def fit(self) -> Reason:
        """Train until epochs or time are over, or somebody asks to stop; then write a checkpoint.

        Raises:
            FladError: (TRAINING_DIVERGED) see :meth:`Stepper.step`. The last checkpoint stays.
        """
        while not (reason := self._why_end()):
            if self._run_epoch():
                self._end_epoch()
        self.save()
        return reason

    def best_model(self) -> VisionEncoder:
        """A copy with the running mean of the weights, ready to answer."""
        model = copy.deepcopy(self._stepper.model)
        model.load_state_dict(self._stepper.averaged_weights())
        return model.eval()

    def evaluate(self, indices: Any, model: VisionEncoder | None = None) -> Evaluation:
        """The best model (or another) on frames of the packed data set, none of them changed."""
        with closing(self.batches(indices)) as batches:
            model = model or self.best_model()
            return evaluate(model, self._config, batches, self._train.loss)

    def batches(self, indices: Any) -> Generator[Batch, None, None]:
        """Frames of the packed data set as they are; close it."""
        return self._make_loader(indices, None).epoch(0)

    def save(self) -> None:
        """Write the checkpoint."""
        self._state.elapsed_s = self._elapsed_s()
        self._began = self._saved_at = self._clock()
        state = {
            "run": asdict(self._state),
            "stepper": self._stepper.state_dict(),
            "log": self._log.state_dict(),
        }
        save_checkpoint(self._path, self._belongs_to(), state)

    def _resume(self) -> None:
        state = load_checkpoint(self._path, self._belongs_to())
        self._state = RunState(**state["run"])
        self._stepper.load_state_dict(state["stepper"])
        self._log.load_state_dict(state["log"], self._state.step)

    def _belongs_to(self) -> dict[str, Any]:
        train = {k: v for k, v in to_mapping(self._train).items() if k not in _MAY_CHANGE}
        return {
            "encoder": to_mapping(self._config),
            "train": train,
            "data": self._frames.fingerprint(),
        }

    def _make_loader(self, order: Any, augment: AugmentConfig | None) -> Loader:
        config = LoaderConfig(
            batch_size=self._train.batch_size,
            seed=self._train.seed,
            augment=augment,
            prefetch=self._train.prefetch,
        )
        return Loader(self._frames.dataset, order, config)

    def _elapsed_s(self) -> float:
        return self._state.elapsed_s + self._clock() - self._began

    def _progress(self) -> float:
        minutes = self._train.minutes
        return progress_of(
            step=self._state.step,
            num_steps=self._num_steps,
            elapsed_s=self._elapsed_s(),
            budget_s=60.0 * minutes if minutes else None,
        )

    def _why_end(self) -> Reason | None:
        if self._should_stop():
            return "interrupted"
        if self._train.epochs and self._state.epoch >= self._train.epochs:
            return "finished"
        if self._train.minutes and self._elapsed_s() >= 60.0 * self._train.minutes:
            return "budget"
        return None

    def _run_epoch(self) -> bool:
        """The rest of the current epoch; False if it was left before its end."""
        state = self._state
        total = self._loader.num_steps(state.epoch)
        with (
            self._log.progress(state.epoch, state.step_in_epoch, total) as bar,
            closing(self._loader.epoch(state.epoch, state.step_in_epoch)) as batches,
        ):
            for batch in batches:
                factor = rate_factor(
                    self._progress(), warmup=self._train.warmup, floor=self._train.lr_floor
                )
                result = self._stepper.step(batch, factor)
                state.step += 1
                state.step_in_epoch += 1
                state.num_frames += len(batch)
                bar(result, self._progress(), self._elapsed_s(), len(batch))
                if state.step % _LOG_EVERY == 0:
                    self._log.step(state.step, result, self._stepper.num_skipped)
                if self._why_end() is not None:
                    return False
                if self._clock() - self._saved_at >= 60.0 * self._train.checkpoint_minutes:
                    self.save()
        return True

    def _end_epoch(self) -> None:
        state = self._state
        state.epoch += 1
        state.step_in_epoch = 0
        last = state.epoch == self._train.epochs
        if len(self._frames.validation) and (last or state.epoch % self._train.validate_every == 0):
            found = self.evaluate(self._frames.validation)
            self._log.validation(state.epoch, state.step, self._elapsed_s(), found)
        self.save()
