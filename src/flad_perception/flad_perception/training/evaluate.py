# SPDX-License-Identifier: Apache-2.0
"""A model on frames it is not trained on: losses and figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from flad_perception.batch import Batch
from flad_perception.config import EncoderConfig
from flad_perception.losses import LossConfig, encoder_losses
from flad_perception.metrics import Evaluator
from flad_perception.model.encoder import EncoderOutput, VisionEncoder, encode


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a pass over some frames gave."""

    towns: dict[str, dict[str, float]]
    """Figures of :meth:`flad_perception.metrics.Evaluator.result`."""
    losses: dict[str, float]
    """Means over the frames; empty without frames."""
    example: tuple[Batch, EncoderOutput] | None
    """The first batch and what the model said, for pictures."""


@torch.inference_mode()
def evaluate(
    model: VisionEncoder, config: EncoderConfig, batches: Iterable[Batch], weights: LossConfig
) -> Evaluation:
    """Run ``model`` over ``batches`` as it is (see :meth:`torch.nn.Module.eval`)."""
    model.eval()
    device = next(model.parameters()).device
    evaluator = Evaluator(config)
    sums: dict[str, float] = {}
    num_frames = 0
    example = None
    for batch in batches:
        there = batch.to(device)
        output = encode(model, there.input)
        for name, value in encoder_losses(output, there.targets, weights).terms().items():
            sums[name] = sums.get(name, 0.0) + len(batch) * float(value)
        num_frames += len(batch)
        evaluator.update(output, batch)
        example = example or (batch, output)
    losses = {name: value / num_frames for name, value in sums.items()}
    return Evaluation(towns=evaluator.result(), losses=losses, example=example)
