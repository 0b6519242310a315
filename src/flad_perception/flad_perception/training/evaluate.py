# SPDX-License-Identifier: Apache-2.0
"""A model on frames it is not trained on: losses and figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from flad_perception.batch import Batch
from flad_perception.config import EncoderConfig
from flad_perception.losses import LossConfig, encoder_losses
from flad_perception.metrics import Evaluator
from flad_perception.model.encoder import EncoderOutput, VisionEncoder, encode

_NUM_EXAMPLES = 6


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a pass over some frames gave."""

    towns: dict[str, dict[str, float]]
    """Figures of :meth:`flad_perception.metrics.Evaluator.result`."""
    losses: dict[str, float]
    """Means over the frames; empty without frames."""
    examples: list[tuple[Batch, EncoderOutput]]
    """Some single frames, evenly spread, and what the model said, for pictures."""


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
    examples: list[tuple[Batch, EncoderOutput]] = []
    for batch in batches:
        there = batch.to(device)
        output = encode(model, there.input)
        for name, value in encoder_losses(output, there.targets, weights).terms().items():
            sums[name] = sums.get(name, 0.0) + len(batch) * float(value)
        num_frames += len(batch)
        evaluator.update(output, batch)
        one = slice(len(batch) // 2, len(batch) // 2 + 1)
        examples.append((batch.slice(one), EncoderOutput(*(t[one].clone() for t in output))))
    losses = {name: value / num_frames for name, value in sums.items()}
    spread = np.linspace(0, len(examples) - 1, min(_NUM_EXAMPLES, len(examples))).astype(int)
    return Evaluation(
        towns=evaluator.result(), losses=losses, examples=[examples[i] for i in spread]
    )
