# SPDX-License-Identifier: Apache-2.0
"""The exactness bench: its plans are what they say, and a difference would show."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from flad_bringup.bench import exactness
from flad_bringup.bench.exactness_case import Plan, case_graph, micro_batches, read_plan
from flad_pipeline.graph.units import UnitGraph


@pytest.fixture(scope="module")
def base() -> Plan:
    return Plan(config="small", seed=1, micro_batch=2, num_micro_batches=3, phases=())


@pytest.fixture(scope="module")
def graph(base: Plan) -> UnitGraph:
    return case_graph(base)


def test_plans_go_through_their_file_and_fit_the_model(
    base: Plan, graph: UnitGraph, tmp_path: Path
) -> None:
    numbers = random.Random(1)
    turns = exactness.rotation(base, graph, 10, 3, numbers)
    loss = exactness.recovery(base, graph, 10, numbers)
    for plan in (turns, loss):
        plan.write(tmp_path / "plan.json")
        assert read_plan(tmp_path / "plan.json") == plan
        for phase in plan.phases:
            phase.partition.check(graph)
    owners = exactness.owners_of(turns)
    assert len(owners) == 10 and set(owners) == {"vehicle_0", "vehicle_1", "vehicle_2"}
    assert set(exactness.owners_of(loss)) == {"vehicle_0"}
    second = loss.phases[1]
    assert second.first_step % loss.backup_every == 0
    assert second.first_step <= loss.lost_at_step < second.first_step + loss.backup_every
    assert loss.lost not in [span.vehicle for span in second.partition.stages]


def test_every_vehicle_and_step_has_data_of_its_own(base: Plan) -> None:
    seeds = {
        batch.targets
        for vehicle in ("vehicle_0", "vehicle_1")
        for step in (0, 1)
        for batch in micro_batches(base, vehicle, step)
    }
    assert len(seeds) == 2 * 2 * base.num_micro_batches


def test_a_difference_shows() -> None:
    expected = {"weight/a": torch.tensor([1.0, -4.0]), "optimizer/a/step": torch.ones(())}
    found = {**expected, "weight/a": torch.tensor([1.0, -4.001])}
    far, same = exactness.rows_of("x", found, expected)
    assert far.value == pytest.approx(2.5e-4, rel=1e-2) and far.holds is False
    assert same.value == 0.5
    assert exactness.rows_of("x", expected, expected)[0].holds is True
    with pytest.raises(RuntimeError, match="other tensors"):
        exactness.rows_of("x", {}, expected)
