# SPDX-License-Identifier: Apache-2.0
"""A small model trained through PyTorch's pipeline schedules, on whatever group is the default."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.pipelining import (
    PipelineStage,
    Schedule1F1B,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
)

MICROBATCHES = 6
MICROBATCH = 2
WIDTH = 24
NUM_STEPS = 3
SCHEDULES = ("GPipe", "1F1B", "Interleaved1F1B")


def train(schedule: str, rank: int, size: int) -> list[float]:
    """Losses of some steps; only the member with the last stage has any."""
    num_stages = 2 * size if schedule == "Interleaved1F1B" else size
    blocks = [_block(stage) for stage in range(num_stages)]
    mine = [stage for stage in range(num_stages) if stage % size == rank]
    stages = [_stage(blocks[i], i, num_stages) for i in mine]
    optimizer = torch.optim.SGD([p for i in mine for p in blocks[i].parameters()], lr=0.05)
    run = _schedule(schedule, stages)
    losses: list[float] = []
    for step in range(NUM_STEPS):
        numbers = torch.Generator().manual_seed(step)
        inputs = torch.randn(MICROBATCHES * MICROBATCH, WIDTH, generator=numbers)
        target = torch.randn(MICROBATCHES * MICROBATCH, WIDTH, generator=numbers)
        optimizer.zero_grad()
        collected: list[torch.Tensor] = []
        arguments = (inputs,) if rank == 0 else ()
        if num_stages - 1 in mine:
            run.step(*arguments, target=target, losses=collected)
        else:
            run.step(*arguments)
        optimizer.step()
        losses += [loss.item() for loss in collected]
    return losses


def _block(stage: int) -> nn.Module:
    block = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.LayerNorm(WIDTH))
    numbers = torch.Generator().manual_seed(stage)  # members are threads: no global seed
    with torch.no_grad():
        block[0].weight.normal_(std=WIDTH**-0.5, generator=numbers)
        block[0].bias.normal_(std=0.1, generator=numbers)
    return block


def _stage(block: nn.Module, index: int, num_stages: int) -> PipelineStage:
    example = torch.zeros(MICROBATCH, WIDTH, requires_grad=index > 0)
    return PipelineStage(
        block,
        index,
        num_stages,
        torch.device("cpu"),
        input_args=(example,),
        output_args=(torch.zeros(MICROBATCH, WIDTH, requires_grad=True),),
    )


def _schedule(name: str, stages: list[PipelineStage]) -> GPipeOrOther:
    loss = nn.functional.mse_loss
    if name == "GPipe":
        return ScheduleGPipe(stages[0], MICROBATCHES, loss_fn=loss)
    if name == "1F1B":
        return Schedule1F1B(stages[0], MICROBATCHES, loss_fn=loss)
    return ScheduleInterleaved1F1B(stages, MICROBATCHES, loss_fn=loss)


GPipeOrOther = ScheduleGPipe | Schedule1F1B | ScheduleInterleaved1F1B
