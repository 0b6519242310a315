# SPDX-License-Identifier: Apache-2.0
"""What a worker's computer refuses before a stage is begun, and how fast it is."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import Tensor, nn

from flad_common.error_codes import STAGE_TOO_LARGE, FladError
from flad_pipeline.graph.costs import UnitCosts, unit_costs, unit_costs_from_json
from flad_pipeline.graph.units import UnitGraph, unit_graph
from flad_pipeline.memory.manager import MemoryConfig, MemoryManager
from flad_pipeline.memory.readings import Reading
from flad_pipeline.partition import Partition, Span, message_bytes, stage_bytes
from flad_pipeline.round.computer import Computer
from flad_pipeline.round.order import Order, OrderKind
from flad_pipeline.stages.trainer import StepConfig
from flad_pipeline.testbed.pace import Pace
from flad_pipeline.testbed.testbed import EmulatedVehicle, LinkProfile, Testbed

CONFIG = StepConfig(num_micro_batches=4)
BASE_BYTES = 1 << 30


class Uneven(nn.Module):
    """Its units differ in size, so that turns of a rotation do."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = nn.Sequential(
            nn.Linear(16, 256), nn.Tanh(), nn.Linear(256, 64), nn.Tanh(), nn.Linear(64, 4)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.lines(x)


@pytest.fixture(scope="module")
def graph() -> UnitGraph:
    return unit_graph(Uneven().train(), (torch.zeros(2, 16),))


@pytest.fixture(scope="module")
def costs(graph) -> UnitCosts:
    return unit_costs(graph, [torch.zeros(2, 16)])


def pair(graph: UnitGraph, *names: str, after: int = 0) -> Partition:
    last = len(graph.units) - 1
    return Partition(
        digest=graph.digest,
        num_units=len(graph.units),
        stages=(
            Span(vehicle=names[0], first=0, last=after),
            Span(vehicle=names[1], first=after + 1, last=last),
        ),
    )


def order(*pipelines: Partition) -> Order:
    return Order(
        kind=OrderKind.TRAIN,
        order=1,
        vehicles=("v0", "v1"),
        pipelines=pipelines,
        end_step=4,
    )


def computer(costs: UnitCosts, free_bytes: float) -> Computer:
    reading = Reading(process_bytes=BASE_BYTES, available_bytes=int(free_bytes))
    config = MemoryConfig(reserve_bytes=0.0, process_share=0.0)
    return Computer(costs=costs, memory=MemoryManager(config, lambda: reading))


def test_costs_come_back_from_their_file(costs):
    assert unit_costs_from_json(json.dumps(costs.as_json())) == costs


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "flad.units"}'])
def test_costs_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="no costs of units"):
        unit_costs_from_json(text)


def test_the_largest_turn_and_two_cuts_of_it_are_what_counts(graph, costs):
    turns = (pair(graph, "v0", "v1"), pair(graph, "v1", "v0"))
    needs = []
    for turn in turns:
        units = [costs.units[i] for i in turn.units_of("v0")]
        cut = sum(u.parameter_bytes + u.optimizer_bytes + u.buffer_bytes for u in units)
        messages = message_bytes(turn, costs)["v0"]
        needs.append(stage_bytes(turn, costs, num_micro_batches=4)["v0"] + messages + 2 * cut)
    need = max(needs)
    assert need > min(needs)

    computer(costs, need).admit("v0", order(*turns), CONFIG)
    with pytest.raises(FladError, match="v0: the stage needs") as refused:
        computer(costs, need - 1).admit("v0", order(*turns), CONFIG)
    assert refused.value.code is STAGE_TOO_LARGE


def test_without_a_manager_everything_fits(graph, costs):
    Computer(costs=costs).admit("v0", order(pair(graph, "v0", "v1")), CONFIG)


def test_who_trains_alone_takes_the_time_of_all_units(graph, costs):
    slept: list[float] = []
    testbed = Testbed(
        vehicles={"v0": EmulatedVehicle(seconds_per_flop=1e-6, available_bytes=1.0)},
        link=LinkProfile(bits_per_s=1e6),
        dilation=2.0,
    )
    pace = Pace(testbed, "v0", clock=lambda: 0.0, sleep=slept.append)
    emulated = dataclasses.replace(Computer(costs=costs), pace=pace)
    flops = sum(u.flops_forward + u.flops_backward for u in costs.units)

    with emulated.step_alone(3):
        pass

    assert slept == [pytest.approx(3 * flops * 1e-6 * 2.0)]
    stage = emulated.stage_pace(pair(graph, "v0", "v1"), "v0")
    assert stage is not None
    assert stage.forward_flops == costs.units[0].flops_forward
