# SPDX-License-Identifier: Apache-2.0
"""One step of the optimizer on one batch, and everything that the next step depends on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from flad_common.error_codes import TRAINING_DIVERGED, FladError
from flad_perception.batch import Batch
from flad_perception.losses import encoder_losses
from flad_perception.model.encoder import EncoderOutput, VisionEncoder, encode
from flad_perception.training.config import TrainConfig
from flad_perception.training.ema import WeightAverage
from flad_perception.training.optimizer import make_optimizer, set_rates

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one step did."""

    losses: dict[str, float]
    """``total`` and its parts before weighting."""
    gradient_norm: float
    """Before clipping."""
    rate: float
    """The largest learning rate of the step."""
    taken: bool
    """False: loss or gradient were not finite, the weights are as before."""


class Stepper:
    """Model, optimizer, loss scale and running mean; single-threaded.

    Raises:
        ValueError: if the precision needs a GPU and there is none.
    """

    def __init__(self, model: VisionEncoder, config: TrainConfig, device: torch.device) -> None:
        if config.precision == "fp16" and device.type == "cpu":
            raise ValueError("precision fp16 needs a GPU; on a CPU use fp32 or bf16")
        # torch's own type stubs know this argument only beside a tensor's
        self.model: VisionEncoder = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._config = config
        self._device = device
        self._optimizer = make_optimizer(model, config)
        self._average = WeightAverage(model, config.ema_decay)
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self._num_bad_in_a_row = 0
        self.num_skipped = 0

    def step(self, batch: Batch, rate_factor: float) -> StepResult:
        """Follow the gradient of ``batch``, unless it is not finite: then count it.

        Raises:
            FladError: (TRAINING_DIVERGED) after ``max_bad_batches`` such batches in a row.
        """
        self.model.train()
        rate = set_rates(self._optimizer, rate_factor)
        self._optimizer.zero_grad(set_to_none=True)
        losses = self._gradients(batch.to(self._device))
        self._scaler.unscale_(self._optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self._config.clip_norm))
        taken = math.isfinite(losses["total"]) and math.isfinite(norm)
        # A loss scale that is still too high shows as an infinite norm: the scaler then lowers it
        # and skips the step itself.
        if taken or self._scaler.is_enabled():
            self._scaler.step(self._optimizer)
            self._scaler.update()
        if taken:
            self._average.update(self.model)
            self._num_bad_in_a_row = 0
        if not taken and (not math.isfinite(losses["total"]) or not self._scaler.is_enabled()):
            self._count_bad(losses, norm, batch)
        return StepResult(losses=losses, gradient_norm=norm, rate=rate, taken=taken)

    def averaged_weights(self) -> dict[str, torch.Tensor]:
        """The running mean: what is evaluated and shipped."""
        return self._average.weights()

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on, random states included."""
        cuda = torch.cuda.get_rng_state_all() if self._device.type == "cuda" else []
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": self._average.state_dict(),
            "num_bad_in_a_row": self._num_bad_in_a_row,
            "num_skipped": self.num_skipped,
            "torch_random": torch.get_rng_state(),
            "cuda_random": cuda,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier :meth:`state_dict`."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self._average.load_state_dict(state["average"])
        self._num_bad_in_a_row = state["num_bad_in_a_row"]
        self.num_skipped = state["num_skipped"]
        torch.set_rng_state(state["torch_random"])
        if self._device.type == "cuda" and state["cuda_random"]:
            torch.cuda.set_rng_state_all(state["cuda_random"])

    def _gradients(self, batch: Batch) -> dict[str, float]:
        """Sum gradients over the batch's slices; returns the mean losses."""
        size = self._config.micro_batch or len(batch)
        means: dict[str, float] = {}
        for start in range(0, len(batch), size):
            part = batch.slice(slice(start, start + size))
            share = len(part) / len(batch)
            half = _HALF.get(self._config.precision)
            with torch.autocast(self._device.type, dtype=half, enabled=half is not None):
                output = encode(self.model, part.input)
            output = EncoderOutput(*(tensor.float() for tensor in output))
            losses = encoder_losses(output, part.targets, self._config.loss)
            self._scaler.scale(losses.total * share).backward()
            for name, value in losses.terms().items():
                means[name] = means.get(name, 0.0) + share * float(value.detach())
        return means

    def _count_bad(self, losses: dict[str, float], norm: float, batch: Batch) -> None:
        self.num_skipped += 1
        self._num_bad_in_a_row += 1
        if self._num_bad_in_a_row >= self._config.max_bad_batches:
            first = f"{batch.info.run[0]} frame {int(batch.info.frame[0])}"
            parts = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
            raise FladError(
                TRAINING_DIVERGED,
                f"{self._num_bad_in_a_row} batches in a row gave no finite gradient (norm "
                f"{norm:.4g}; losses: {parts}); the last one began with {first}",
            )
