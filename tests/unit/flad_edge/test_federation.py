# SPDX-License-Identifier: Apache-2.0
"""Rounds with vehicles that are killed, come back, join, and an edge that dies: exact weights."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from round_threads import Federation, make_task

from flad_edge.federate.conductor import ConductorConfig, RoundOutcome
from flad_pipeline.aggregation.layout import State
from flad_pipeline.round.order import Order, OrderKind
from flad_pipeline.stages.trainer import LocalTrainer
from flad_pipeline.stages.unit_store import UnitStore

STEPS = 12
CONFIG = ConductorConfig(cut_every=2, rotation_cuts=2, silent_after_s=60.0)
SMALL = (0.8, 0.8, 0.8)
SEED_STRIDE = 1 << 20


def timeline(orders: list[Order], client: str) -> list[str]:
    """Whose data trained each step of the model that came out."""
    owners: list[str] = []
    for order in orders:
        if order.kind is OrderKind.TRAIN and order.client == client:
            owners = owners[: order.from_step]
            owners += [order.pipeline(s).owner for s in range(order.from_step, order.end_step)]
    return owners


def alone(owners: list[str], round_number: int = 1) -> State:
    """One process that takes the same steps on the same data."""
    task = make_task("")
    store = UnitStore(task.graph, task.make_optimizer)
    trainer = LocalTrainer(store, task.loss, task.step_config)
    data = {name: make_task(name).batches for name in set(owners)}
    cursors: Counter[str] = Counter()
    for step, owner in enumerate(owners):
        trainer.step(round_number * SEED_STRIDE + step, data[owner](round_number, cursors[owner]))
        cursors[owner] += 1
    tensors = (store.state_of(unit, 0).tensors.items() for unit in store.held)
    found = {key.split("/", 1)[1]: t for items in tensors for key, t in items}
    return {name: found.get(name, task.start[name]) for name in task.layout.tensors}


def assert_same(found: State, expected: State) -> None:
    different = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert not different


def only_client(outcome: RoundOutcome) -> dict:
    [(_, client)] = outcome.report["clients"].items()
    return client


def test_a_cluster_rotates_over_all_owners_and_its_model_is_that_of_one_process(tmp_path):
    with Federation(tmp_path, SMALL, CONFIG) as federation:
        federation.start()
        outcome = federation.train(STEPS)
        found = dict(federation.conductor.model)
    owners = timeline(federation.orders, "cluster_vehicle_0")

    assert outcome.completed, outcome.text
    assert set(owners) == {"vehicle_0", "vehicle_1", "vehicle_2"}
    assert outcome.num_samples == STEPS * 16
    assert_same(found, alone(owners))


@pytest.mark.parametrize("victim", ["vehicle_0", "vehicle_2"])
def test_after_a_kill_the_rest_goes_on_from_the_last_cut_with_the_same_numbers(tmp_path, victim):
    killed: list[int] = []

    def kill(federation: Federation) -> None:
        if not killed and federation.furthest() >= 5:
            killed.append(federation.furthest())
            federation.kill(victim)

    with Federation(tmp_path, SMALL, CONFIG) as federation:
        federation.start()
        outcome = federation.train(STEPS, kill)
        found = dict(federation.conductor.model)
    owners = timeline(federation.orders, "cluster_vehicle_0")
    client = only_client(outcome)

    assert outcome.completed, outcome.text
    assert client["vehicles"] == sorted({"vehicle_0", "vehicle_1", "vehicle_2"} - {victim})
    [recovery] = client["recoveries"]
    assert recovery["gone"] == [victim]
    assert 0 <= recovery["lost_steps"] <= 2 * CONFIG.cut_every
    assert sum(recovery["fetched_units"].values()) < len(make_task("").graph.units)
    assert_same(found, alone(owners))
