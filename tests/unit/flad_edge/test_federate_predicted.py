# SPDX-License-Identifier: Apache-2.0
"""What SWIFT says of a step of a real model's partition, by hand; and rounds planned by the DQN."""

import numpy as np
import pytest
import torch
from round_threads import BATCH, MICRO_BATCHES, make_task

from flad_edge.federate.planning import PlanningConfig, RoundPlanner
from flad_edge.federate.predicted import predicted_step, with_heads_first
from flad_edge.swift.cluster import Cluster, Vehicle
from flad_edge.swift.devices import load_devices
from flad_pipeline.graph.costs import unit_costs
from flad_pipeline.partition import Partition, Span
from flad_pipeline.round.order import VehicleFacts


@pytest.fixture(scope="module")
def costs():
    graph = make_task("").graph
    return unit_costs(graph, graph.traced.flatten((torch.zeros(BATCH, 6),)))


def _work(costs, units):
    return sum(costs.units[i].flops_forward + costs.units[i].flops_backward for i in units)


def test_a_step_is_its_stages_with_the_heads_first_its_hops_and_the_slowest(costs):
    head, m = costs.first_head, 5
    speeds, per_byte, delay_s = (1e-6, 3e-6), 1e-5, 0.002
    cluster = Cluster(
        vehicles=tuple(
            Vehicle(name=n, device="nano", available_bytes=1e9, seconds_per_flop=s, stability=1.0)
            for n, s in zip(("a", "b"), speeds, strict=True)
        ),
        seconds_per_byte=np.full((2, 2), per_byte),
        delay_s=np.full((2, 2), delay_s),
        shared_channel=True,
    )
    partition = Partition(
        digest=costs.digest,
        num_units=len(costs.units),
        heads_from=head,
        stages=(Span(vehicle="b", first=0, last=2), Span(vehicle="a", first=3, last=head - 1)),
    )

    said = predicted_step(cluster, costs, partition, m)

    heads = range(head, len(costs.units))
    stages_s = (
        speeds[1] * _work(costs, [0, 1, 2, *heads]),
        speeds[0] * _work(costs, range(3, head)),
    )
    air_s = per_byte * (costs.cuts[2].forward_bytes + costs.cuts[2].backward_bytes)
    by_hand_s = sum(stages_s) + air_s + 2 * delay_s + (m - 1) * max(*stages_s, air_s)
    assert said.closed_form_s == pytest.approx(by_hand_s)
    assert said.stepped_s >= m * max(stages_s)


def test_the_heads_lose_nothing(costs):
    model = with_heads_first(costs)
    assert len(model) == costs.first_head and len(model.cuts) == len(model) - 1
    assert sum(u.flops_forward + u.flops_backward for u in model.units) == pytest.approx(
        _work(costs, range(len(costs.units)))
    )


@pytest.mark.parametrize("planner", ["auto", "dqn", "exact", "greedy"])
def test_a_round_is_planned_by_the_planner_that_is_asked_for(costs, planner):
    rounds = RoundPlanner(costs, MICRO_BATCHES, load_devices(), PlanningConfig(planner=planner))
    facts = {
        f"vehicle_{i}": VehicleFacts(
            device=device,
            available_bytes=int(0.9 * rounds.alone_bytes),
            dwell_s=3600.0,
            num_samples=64,
            digest=costs.digest,
        )
        for i, device in enumerate(("nano", "nano", "agx"))
    }

    plan = rounds.plan(facts, steps=4)

    assert not plan.left_out
    (client,) = plan.clients
    assert {p.stages[0].vehicle for p in client.pipelines} == set(facts)
    # whoever leaves, what runs then is there already
    assert {tuple(gone) for gone in client.templates} == {(name,) for name in facts}
    for gone, pipelines in client.templates.items():
        assert pipelines
        assert all({s.vehicle for s in p.stages} == set(facts) - gone for p in pipelines)
