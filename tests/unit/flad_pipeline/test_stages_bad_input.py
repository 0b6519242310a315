# SPDX-License-Identifier: Apache-2.0
"""States, micro-batches and groups that do not fit are refused, and nothing changes."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch
import torch.distributed as dist
from member_threads import with_gloo
from nasty_model import NastyModel, nasty_batch
from torch import Tensor

from flad_pipeline.graph.units import UnitGraph, unit_graph
from flad_pipeline.partition import Partition, Span
from flad_pipeline.stages.pipeline import PipelineTrainer
from flad_pipeline.stages.trainer import LocalTrainer, MicroBatch, StepConfig, micro_batch_slices
from flad_pipeline.stages.unit_state import unit_state_from_bytes
from flad_pipeline.stages.unit_store import UnitStore


@functools.cache
def graph() -> UnitGraph:
    return unit_graph(NastyModel().train(), nasty_batch(4))


def sgd(parameters: dict[str, Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters.values(), lr=0.1, momentum=0.9)


def store() -> UnitStore:
    return UnitStore(graph(), sgd)


@pytest.mark.parametrize("place", [0, 30, -3])
def test_a_damaged_state_is_refused(place: int) -> None:
    data = bytearray(store().state_of(2, 5).to_bytes())
    assert unit_state_from_bytes(bytes(data)).hash == store().state_of(2, 5).hash
    data[place] ^= 0x40
    with pytest.raises(ValueError, match=r"no state of a unit|changed on the way"):
        unit_state_from_bytes(bytes(data))
    with pytest.raises(ValueError, match="no state of a unit"):
        unit_state_from_bytes(b"\x00")


def test_hashes_tell_weights_steps_and_units_apart() -> None:
    states = [store().state_of(0, 0), store().state_of(0, 1), store().state_of(1, 0)]
    changed = {k: t.clone() for k, t in states[0].tensors.items()}
    changed["weight/first.bias"][0] += 1e-6
    states.append(dataclasses.replace(states[0], tensors=changed))
    assert len({s.hash for s in states}) == 4


def test_a_unit_of_another_model_or_shape_is_refused_and_the_old_one_stays() -> None:
    mine = store()
    state, before = mine.state_of(0, 0), mine.state_of(0, 0).hash
    tensors = dict(state.tensors)
    wide = {**tensors, "weight/first.bias": torch.zeros(9)}
    less = {k: t for k, t in tensors.items() if k != "weight/first.bias"}
    more = {**tensors, "optimizer/other/step": torch.zeros(())}
    for changes, complaint in [
        ({"digest": "0" * 16}, "same model"),
        ({"unit": 70}, "no unit 70"),
        ({"tensors": wide}, r"must be \[8\] torch.float32, got \[9\]"),
        ({"tensors": less}, "the state has"),
        ({"tensors": more}, "no such parameter"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            mine.give_unit(dataclasses.replace(state, **changes))
    assert mine.state_of(0, 0).hash == before


def test_a_unit_is_in_one_place() -> None:
    mine = store()
    mine.take_unit(3, 0)
    assert 3 not in mine.held
    for ask in (mine.take_unit, mine.state_of):
        with pytest.raises(ValueError, match="unit 3 is not here"):
            ask(3, 0)
    with pytest.raises(ValueError, match=r"units \[3\] are not here"):
        mine.stage([2, 3], takes=[], gives=[])


def test_ragged_micro_batches_are_refused_and_can_be_left_out() -> None:
    config = StepConfig(num_micro_batches=2)
    trainer = LocalTrainer(store(), lambda result, _: result[0].sum(), config)
    whole = MicroBatch(args=nasty_batch(4), targets=None)
    with pytest.raises(ValueError, match="micro-batch 1 has 3 samples"):
        trainer.step(0, [whole, MicroBatch(args=nasty_batch(3), targets=None)])
    with pytest.raises(ValueError, match="takes 2 micro-batches, got 1"):
        trainer.step(0, [whole])
    assert micro_batch_slices(10, 4) == [slice(0, 4), slice(4, 8)]
    assert micro_batch_slices(3, 4) == []


@pytest.mark.parametrize(
    ("ends", "config", "complaint"),
    [
        ((3, 7), StepConfig(num_micro_batches=1), "as many micro-batches"),
        ((3, 5, 7), StepConfig(num_micro_batches=4), "the group's ranks must be"),
        ((7,), StepConfig(num_micro_batches=4), "LocalTrainer"),
    ],
)
def test_groups_and_partitions_that_do_not_fit(
    ends: tuple[int, ...], config: StepConfig, complaint: str
) -> None:
    starts = (0, *ends[:-1])
    spans = [
        Span(vehicle=f"v{i}", first=a, last=b - 1)
        for i, (a, b) in enumerate(zip(starts, ends, strict=True))
    ]
    partition = Partition(digest=graph().digest, num_units=7, stages=tuple(spans))

    def member(rank: int) -> None:
        name = f"v{min(rank, len(ends) - 1)}"
        with pytest.raises(ValueError, match=complaint):
            PipelineTrainer(store(), partition, name, dist.group.WORLD, lambda r, t: r[0], config)

    with_gloo(2, member)


@pytest.mark.parametrize(
    "values", [{"schedule": "zb"}, {"num_micro_batches": 0}, {"clip_norm": -1.0}]
)
def test_bad_step_settings_are_named(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        StepConfig(**values)
