# SPDX-License-Identifier: Apache-2.0
"""PyTorch's own pipeline schedules and DistributedDataParallel, on our group and on gloo."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from member_threads import memory_transports, seeded, with_dds, with_gloo
from pipeline_of_members import MICROBATCHES, NUM_STEPS, SCHEDULES, train
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_losses_equal_those_of_gloo_to_the_last_digit(schedule, size):
    with memory_transports(size) as transports:
        ours = with_dds(transports, 1, lambda rank: train(schedule, rank, size))
    theirs = with_gloo(size, lambda rank: train(schedule, rank, size))

    assert len(ours[-1]) == NUM_STEPS * MICROBATCHES
    assert ours == theirs


def test_data_parallel_training_equals_one_process_with_all_the_data():
    size, batch = 3, 4
    inputs, targets = seeded((size * batch, 5), 1), seeded((size * batch, 2), 2)

    def model():
        made = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
        with torch.no_grad():
            for index, parameter in enumerate(made.parameters()):
                parameter.copy_(seeded(parameter.shape, index))
        return made

    def member(rank):
        mine = model()
        if rank:  # the first broadcast must mend that
            nn.init.zeros_(mine[0].weight)
        parallel = DistributedDataParallel(mine)
        part = slice(rank * batch, (rank + 1) * batch)
        nn.functional.mse_loss(parallel(inputs[part]), targets[part]).backward()
        return [p.grad.clone() for p in mine.parameters()]

    with memory_transports(size) as transports:
        gradients = with_dds(transports, 1, member)

    whole = model()
    nn.functional.mse_loss(whole(inputs), targets).backward()
    for rank in range(size):
        for ours, first, whole_one in zip(
            gradients[rank], gradients[0], whole.parameters(), strict=True
        ):
            assert torch.equal(ours, first)
            torch.testing.assert_close(ours, whole_one.grad)


def test_a_sum_is_taken_in_the_order_of_the_ranks():
    # In single precision these three add up to 1 in the order of the ranks, and to 0 in another.
    values = [1e8, -1e8, 1.0]

    def member(rank):
        small, large = torch.full((3,), values[rank]), torch.full((40_000,), values[rank])
        dist.all_reduce(small)
        dist.all_reduce(large)
        return small, large

    with memory_transports(3) as transports:
        for small, large in with_dds(transports, 1, member):
            assert small.tolist() == [1.0] * 3
            assert torch.equal(large, torch.ones(40_000))


@pytest.mark.parametrize(
    "op, expected",
    [
        (dist.ReduceOp.AVG, 7.0 / 3.0),
        (dist.ReduceOp.MAX, 4.0),
        (dist.ReduceOp.MIN, 1.0),
        (dist.ReduceOp.PRODUCT, 8.0),
    ],
)
def test_other_reductions(op, expected):
    def member(rank):
        values = torch.full((2, 3), 2.0**rank).t()  # not contiguous
        dist.all_reduce(values, op=op)
        return values

    with memory_transports(3) as transports:
        for values in with_dds(transports, 1, member):
            assert torch.allclose(values, torch.full((3, 2), expected))


def test_sub_groups_do_not_hear_each_other():
    def member(rank):
        pairs = [dist.new_group([0, 1]), dist.new_group([1, 2])]
        total = torch.tensor([10.0**rank])
        for pair in pairs:
            if rank in dist.get_process_group_ranks(pair):
                dist.all_reduce(total, group=pair)
        return total.item()

    with memory_transports(3) as transports:
        # 0 and 1 have 11 together; 1 brings that to 2.
        assert with_dds(transports, 1, member) == [11.0, 111.0, 111.0]
