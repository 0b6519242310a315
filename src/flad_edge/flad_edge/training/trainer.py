# SPDX-License-Identifier: Apache-2.0
"""Steps, the clock, checkpoints: trains an AD-LLM on lessons, alone or after a teacher."""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from flad_common.config import to_mapping
from flad_common.error_codes import TRAINING_DIVERGED, FladError
from flad_edge.adllm.model import AdLlm
from flad_edge.training.batches import LessonBatch, training_batch
from flad_edge.training.config import AdLlmTrainConfig
from flad_edge.training.corpus import Corpus
from flad_edge.training.objective import objective, weighted_error
from flad_edge.training.reading import HeadsTeacher, Reading
from flad_edge.training.sampling import Window, draw_epoch, interests, repeats
from flad_perception.training.checkpoint import load_checkpoint, save_checkpoint
from flad_perception.training.ema import WeightAverage
from flad_perception.training.schedule import progress_of, rate_factor
from flad_planner.language.bank import Bank

_MAY_CHANGE = ("threads", "checkpoint_minutes", "validations", "validation_frames", "test_frames")
"""Settings that a resumed run may have otherwise."""

_BASE_RATE = "base_lr"
"""Key of a parameter group: its rate before the schedule's factor."""

Reason = Literal["finished", "budget", "interrupted"]


@dataclass(kw_only=True)
class RunState:
    """Where a run is."""

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    num_frames: int = 0
    num_skipped: int = 0
    elapsed_s: float = 0.0
    """Training alone, summed over interruptions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """What one step did."""

    losses: dict[str, float]
    num_frames: int
    progress: float


class Trainer:
    """Trains one model; single-threaded.

    Args:
        model: trained in place, on the device where it is; with adapters, if any.
        config: how.
        corpus: what on.
        bank: words.
        checkpoint: the file that a run goes on from, if it is there.
        teacher: an AD-LLM whose waypoints are learned besides the labels.
        heads: of the encoder; needed where ``config.reading`` is not 0.
        clock: seconds, for budget and checkpoints.
        should_stop: asked before every step.
    """

    def __init__(
        self,
        model: AdLlm,
        config: AdLlmTrainConfig,
        corpus: Corpus,
        bank: Bank,
        checkpoint: Path,
        *,
        teacher: AdLlm | None = None,
        heads: HeadsTeacher | None = None,
        clock: Callable[[], float] = time.monotonic,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        if not (config.epochs or config.minutes):
            raise ValueError("neither epochs nor minutes are given: the training would not end")
        self._model, self._config, self._corpus, self._bank = model, config, corpus, bank
        self._teacher = teacher.eval() if teacher else None
        self._path, self._clock, self._should_stop = checkpoint, clock, should_stop
        torch.manual_seed(config.seed)
        self._heads = heads if config.reading > 0.0 else None
        self._reading: Reading | None = None
        self._optimizer = make_optimizer(model, config)
        if self._heads is not None:
            sizes = (model.config.qformer.num_queries, model.config.llm.hidden)
            self._reading = Reading(self._heads, *sizes).to(model.device)
            self._optimizer.add_param_group(
                {"params": list(self._reading.parameters()), _BASE_RATE: config.lr}
            )
        self._average = WeightAverage(model, config.ema_decay)
        self._times = repeats(corpus.training, config.shares, corpus.num_versions)
        self._interests = interests(corpus.training, config.objective)
        self._state = RunState()
        self._num_steps = sum(len(self._epoch(e)) for e in range(config.epochs))
        self._num_bad = 0
        self._began = self._saved_at = clock()
        if checkpoint.is_file():
            self._resume()

    @property
    def state(self) -> RunState:
        """Where the run is; a copy."""
        state = copy.copy(self._state)
        state.elapsed_s = self._elapsed_s()
        return state

    def fit(self, on_step: Callable[[StepResult], None] = lambda result: None) -> Reason:
        """Train until epochs or time are over, or somebody asks to stop; then write a checkpoint.

        Raises:
            FladError: (TRAINING_DIVERGED) after several batches without a finite gradient.
        """
        state = self._state
        while not (reason := self._why_end()):
            batches = self._epoch(state.epoch)
            while state.step_in_epoch < len(batches) and self._why_end() is None:
                on_step(self._step(batches[state.step_in_epoch]))
                if self._clock() - self._saved_at >= 60.0 * self._config.checkpoint_minutes:
                    self.save()
            if state.step_in_epoch == len(batches):
                state.epoch, state.step_in_epoch = state.epoch + 1, 0
        self.save()
        return reason

    def pause(self, work: Callable[[], None]) -> None:
        """Do ``work``, such as a validation, outside the time budget."""
        self._state.elapsed_s = self._elapsed_s()
        work()
        self._began = self._clock()

    def best_model(self) -> AdLlm:
        """A copy with the running mean of the weights, ready to answer."""
        model = copy.deepcopy(self._model)
        model.load_state_dict(self._average.weights())
        return model.eval()

    def save(self) -> None:
        """Write the checkpoint."""
        self._state.elapsed_s = self._elapsed_s()
        self._began = self._saved_at = self._clock()
        state = {
            "run": asdict(self._state),
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self._average.state_dict(),
            "reading": self._reading.state_dict() if self._reading else {},
            "torch_random": torch.get_rng_state(),
        }
        save_checkpoint(self._path, self._belongs_to(), state)

    def _resume(self) -> None:
        state = load_checkpoint(self._path, self._belongs_to())
        self._state = RunState(**state["run"])
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._average.load_state_dict(state["average"])
        if self._reading:
            self._reading.load_state_dict(state["reading"])
        torch.set_rng_state(state["torch_random"])

    def _belongs_to(self) -> dict[str, Any]:
        train = {k: v for k, v in to_mapping(self._config).items() if k not in _MAY_CHANGE}
        return {
            "model": to_mapping(self._model.config),
            "train": train,
            "data": self._corpus.fingerprint(),
            "has_teacher": self._teacher is not None,
        }

    def _epoch(self, epoch: int) -> list[list[Window]]:
        return draw_epoch(
            self._corpus.training,
            self._times,
            self._interests,
            self._model.config.history,
            self._config.windows,
            batch_frames=self._config.batch_frames,
            seed=self._config.seed,
            epoch=epoch,
        )

    def _step(self, windows: Sequence[Window]) -> StepResult:
        state, config = self._state, self._config
        progress = self._progress()
        factor = rate_factor(progress, warmup=config.warmup, floor=config.lr_floor)
        for group in self._optimizer.param_groups:
            group["lr"] = group[_BASE_RATE] * factor
        rng = random.Random(f"{config.seed}/{state.epoch}/{state.step_in_epoch}")
        batch = training_batch(
            self._corpus.training, windows, config.objective, self._bank, rng, config.notices
        )
        state.step += 1
        state.step_in_epoch += 1
        state.num_frames += batch.num_frames
        losses = self._learn(batch) if bool((batch.weights > 0.0).any()) else {}
        return StepResult(losses=losses, num_frames=batch.num_frames, progress=progress)

    def _learn(self, batch: LessonBatch) -> dict[str, float]:
        self._model.train()
        self._optimizer.zero_grad(set_to_none=True)
        losses = self._losses(batch)
        losses["total"].backward()
        trained = [p for p in self._model.parameters() if p.requires_grad]
        norm = float(nn.utils.clip_grad_norm_(trained, self._config.clip_norm))
        values = {name: float(value.detach()) for name, value in losses.items()}
        if math.isfinite(norm) and math.isfinite(values["total"]):
            self._optimizer.step()
            self._average.update(self._model)
            self._num_bad = 0
        else:
            self._count_bad(values, norm)
        return values

    def _losses(self, batch: LessonBatch) -> dict[str, torch.Tensor]:
        config, mask = self._config, batch.clip.frame_mask
        target, weights = batch.waypoints_m[mask], batch.weights[mask]
        teaching = None
        if self._teacher is not None:
            with torch.no_grad():  # the teacher sees what is there, the student with noise on it
                teaching = self._teacher(batch.clip).waypoints_m[mask]
        said = self._heads(batch.clip.tokens[mask]) if self._heads else None
        if config.token_noise > 0.0:
            noise = config.token_noise * torch.randn_like(batch.clip.tokens)
            batch.clip.tokens.add_(noise)
        output = self._model(batch.clip)
        predicted = output.waypoints_m[mask]
        loss = objective(
            predicted,
            output.completed_logits[mask],
            target,
            batch.completed[mask],
            weights,
            config.objective,
        )
        losses = {"waypoints_m": loss.waypoints_m, "completed": loss.completed}
        total = loss.total
        if teaching is not None:
            everywhere = weights.clamp(min=1e-3)
            losses["teacher_m"] = weighted_error(predicted, teaching, everywhere, config.objective)
            total = total + config.teacher_weight * losses["teacher_m"]
        if said is not None and self._reading is not None:
            losses["reading"] = self._reading(output.read, said.to(output.read.device))
            total = total + config.reading * losses["reading"]
        return {"total": total, **losses}

    def _count_bad(self, losses: dict[str, float], norm: float) -> None:
        self._state.num_skipped += 1
        self._num_bad += 1
        if self._num_bad >= self._config.max_bad_batches:
            parts = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
            raise FladError(
                TRAINING_DIVERGED,
                f"{self._num_bad} batches in a row gave no finite gradient (norm {norm:.4g}; "
                f"losses: {parts})",
            )

    def _elapsed_s(self) -> float:
        return self._state.elapsed_s + self._clock() - self._began

    def _progress(self) -> float:
        minutes = self._config.minutes
        return progress_of(
            step=self._state.step,
            num_steps=self._num_steps,
            elapsed_s=self._elapsed_s(),
            budget_s=60.0 * minutes if minutes else None,
        )

    def _why_end(self) -> Reason | None:
        if self._should_stop():
            return "interrupted"
        if self._config.epochs and self._state.epoch >= self._config.epochs:
            return "finished"
        if self._config.minutes and self._elapsed_s() >= 60.0 * self._config.minutes:
            return "budget"
        return None


def make_optimizer(model: AdLlm, config: AdLlmTrainConfig) -> torch.optim.AdamW:
    """AdamW on what trains; matrices decay, norms, biases, queries and embeddings do not.

    The layer that says metres has a rate of its own: its weights must become several times larger
    than those of the layers before, or everything waits for it.
    """
    metres = {id(p) for p in model.waypoint_head[-1].parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim >= 2 and "embed" not in name and name.endswith("weight")
            groups.setdefault((id(parameter) in metres, is_matrix), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": config.weight_decay if decays and not in_metres else 0.0,
                _BASE_RATE: config.lr * (config.head_rate if in_metres else 1.0),
            }
            for (in_metres, decays), parameters in sorted(groups.items(), key=lambda g: g[0])
        ],
        lr=config.lr,
        betas=(0.9, config.beta2),
    )


@torch.no_grad()
def begin_at_the_mean(model: AdLlm, corpus: Corpus) -> None:
    """Let an untrained model say the mean of all labels, whatever it sees."""
    total, count = np.zeros((model.config.num_waypoints, 2)), 0
    for lesson in corpus.training:
        known = lesson.clip.waypoints_m[lesson.clip.labelled]
        total, count = total + known.sum(axis=0), count + len(known)
    last = model.waypoint_head[-1]
    assert isinstance(last, nn.Linear)
    last.bias.copy_(torch.from_numpy(total / max(1, count)).flatten())
    last.weight.mul_(0.1)
