# SPDX-License-Identifier: Apache-2.0
"""What crosses a cut arrives bit for bit, in one message a number type."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from member_threads import memory_transports, with_dds
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

from flad_pipeline.stages.packing import PackedStage, packed, rows_under

NUM_MICRO_BATCHES = 4
TYPES = (torch.float32, torch.bool, torch.int64, torch.float16)


@given(
    kinds=st.lists(
        st.tuples(st.sampled_from(TYPES), st.lists(st.integers(0, 3), max_size=3)), max_size=8
    ),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_rows_carry_every_value_to_its_place(kinds, seed):
    numbers = torch.Generator().manual_seed(seed)
    sent = [torch.randint(0, 100, shape, generator=numbers).to(dtype) for dtype, shape in kinds]
    received = [torch.zeros(shape, dtype=dtype) for dtype, shape in kinds]

    out, into = packed(sent), rows_under(received)
    assert [row.dtype for row in out] == list(dict.fromkeys(dtype for dtype, _ in kinds))
    for there, here in zip(out, into, strict=True):
        here.copy_(there)

    for a, b in zip(sent, received, strict=True):
        assert torch.equal(a, b)


class _First(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1.0, 1.0, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = x * self.weight
        return y, y > 0.0, y.square().sum(1), (y > 1.0).long().sum(1)


class _Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, y: Tensor, positive: Tensor, length: Tensor, count: Tensor) -> Tensor:
        return (y * positive).sum(1) * self.weight + length * count


def trained(kind: type[PipelineStage]) -> tuple[list[Tensor], list[int]]:
    """Gradients of both stages after two steps, and how many messages each member sent."""
    example = torch.zeros(2, 3)
    with torch.no_grad():
        crossing = _First()(example)
    for tensor in (crossing[0], crossing[2]):
        tensor.requires_grad_()

    def member(rank: int) -> list[Tensor]:
        module = (_First, _Last)[rank]()
        stage = kind(
            module,
            rank,
            2,
            torch.device("cpu"),
            input_args=(example,) if rank == 0 else crossing,
            output_args=crossing if rank == 0 else torch.zeros(2, requires_grad=True),
        )
        schedule = Schedule1F1B(
            stage, NUM_MICRO_BATCHES, loss_fn=lambda out, target: (out - target).square().sum()
        )
        inputs = torch.randn(2 * NUM_MICRO_BATCHES, 3, generator=torch.Generator().manual_seed(1))
        for _ in range(2):
            if rank == 0:
                schedule.step(3.0 * inputs)
            else:
                schedule.step(target=inputs[:, 0])
        dist.barrier()
        return [parameter.grad for parameter in module.parameters()]

    with memory_transports(2) as transports:
        gradients = [g for found in with_dds(transports, 1, member) for g in found]
        return gradients, [transport.counts()["messages_sent"] for transport in transports]


@pytest.fixture(scope="module")
def plain() -> tuple[list[Tensor], list[int]]:
    return trained(PipelineStage)


def test_a_packed_stage_learns_the_same_from_fewer_messages(plain):
    gradients, counts = trained(PackedStage)

    assert all(torch.equal(a, b) for a, b in zip(gradients, plain[0], strict=True))
    assert all(float(g.abs().max()) > 0.0 for g in gradients)
    steps = 2 * NUM_MICRO_BATCHES
    # Forward three types for four tensors, backward one for the two that learn.
    assert [a - b for a, b in zip(plain[1], counts, strict=True)] == [
        steps * (4 - 3),
        steps * (2 - 1),
    ]
