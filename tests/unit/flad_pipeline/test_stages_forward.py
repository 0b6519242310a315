# SPDX-License-Identifier: Apache-2.0
"""A model on several computers answers as on one, also with several frames on the way."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.distributed as dist
from member_threads import memory_transports, with_dds, with_gloo
from nasty_model import NastyModel, nasty_batch
from torch import Tensor

from flad_pipeline.graph.units import UnitGraph, unit_graph
from flad_pipeline.partition import Partition, Span
from flad_pipeline.stages.forward import ForwardStage
from flad_pipeline.stages.unit_store import UnitStore

NUM_FRAMES = 5


@functools.cache
def model() -> NastyModel:
    torch.manual_seed(0)  # one frame shows that shapes depend on values only for some weights
    made = NastyModel(dropout=0.5)
    made(*nasty_batch(8))  # BatchNorm has seen something
    return made.eval()


@functools.cache
def graph() -> UnitGraph:
    return unit_graph(model(), nasty_batch(1))


def sgd(parameters: dict[str, Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters.values(), lr=0.1)


def cut(*ends: int, heads_from: int | None) -> Partition:
    starts = (0, *ends[:-1])
    return Partition(
        digest=graph().digest,
        num_units=len(graph().units),
        heads_from=heads_from,
        stages=tuple(
            Span(vehicle=f"c{i}", first=a, last=b - 1)
            for i, (a, b) in enumerate(zip(starts, ends, strict=True))
        ),
    )


@pytest.mark.parametrize("backend", ["gloo", "dds"])
@pytest.mark.parametrize("partition", [cut(3, 7, heads_from=None), cut(3, 4, 5, heads_from=5)])
def test_results_are_the_models(partition: Partition, backend: str) -> None:
    expected = [model()(*nasty_batch(1, seed)) for seed in range(NUM_FRAMES)]

    def member(rank: int) -> list[tuple[Tensor, dict[str, Tensor]]]:
        name = f"c{rank}"
        store = UnitStore(graph(), sgd, partition.units_of(name))
        stage = ForwardStage(store, partition, name, dist.group.WORLD)
        if rank:
            for frame in range(NUM_FRAMES):
                stage.serve(frame)
            stage.flush()
            return []
        found = []
        for frame in range(NUM_FRAMES + 1):  # one frame ahead
            if frame < NUM_FRAMES:
                stage.submit(frame, nasty_batch(1, frame))
            if frame:
                found.append(stage.result(frame - 1))
        return found

    size = len(partition.stages)
    if backend == "gloo":
        found = with_gloo(size, member)[0]
    else:
        with memory_transports(size) as transports:
            found = with_dds(transports, 1, member)[0]
    for (light, more), (expected_light, expected_more) in zip(found, expected, strict=True):
        torch.testing.assert_close(light, expected_light, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(more["inner"], expected_more["inner"], rtol=1e-5, atol=1e-6)
        assert not light.requires_grad


def test_a_model_in_training_is_refused() -> None:
    training = unit_graph(NastyModel().train(), nasty_batch(2))
    partition = Partition.even(training, ["c0", "c1"])

    def member(rank: int) -> None:
        with pytest.raises(ValueError, match="traced in training mode"):
            ForwardStage(UnitStore(training, sgd), partition, f"c{rank}", dist.group.WORLD)

    with_gloo(2, member)
