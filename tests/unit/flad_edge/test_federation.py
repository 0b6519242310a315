# SPDX-License-Identifier: Apache-2.0
"""Rounds with vehicles that are killed, come back, join, and an edge that dies: exact weights."""

from __future__ import annotations

import dataclasses
import gc
import json
import time
import weakref
from collections import Counter

import pytest
import torch
from round_threads import Federation, make_task

from flad_common.error_codes import FladError
from flad_edge.federate.rounds import ConductorConfig, RoundOutcome
from flad_edge.swift.fleet import Member
from flad_pipeline.aggregation.layout import State
from flad_pipeline.group.deadlines import TransportConfig
from flad_pipeline.round.edge_link import CutName
from flad_pipeline.round.order import Order, OrderKind
from flad_pipeline.stages.pipeline import PipelineTrainer
from flad_pipeline.stages.trainer import LocalTrainer
from flad_pipeline.stages.unit_store import UnitStore

STEPS = 12
CONFIG = ConductorConfig(cut_every=2, rotation_cuts=2, silent_after_s=60.0, patience_s=0.2)
SMALL = (0.8, 0.8, 0.8)
SEED_STRIDE = 1 << 20


@pytest.fixture(autouse=True)
def one_thread():
    """Of PyTorch: vehicles are threads already, and sums must not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


def test_what_a_broken_order_held_is_free_after_it(tmp_path, monkeypatch):
    made: list[tuple[str, weakref.ref[PipelineTrainer]]] = []
    make = PipelineTrainer.__init__

    def note(self: PipelineTrainer, store, turn, vehicle, *args, **kwargs) -> None:
        make(self, store, turn, vehicle, *args, **kwargs)
        made.append((vehicle, weakref.ref(self)))

    monkeypatch.setattr(PipelineTrainer, "__init__", note)
    victims = ["vehicle_2"]

    def kill(federation: Federation) -> None:
        if victims and federation.furthest() >= 5:
            federation.kill(victims.pop())

    gc.disable()  # else it may happen to come by
    try:
        with Federation(tmp_path, SMALL, CONFIG) as federation:
            federation.start()
            outcome = federation.train(STEPS, kill)
            survivors = [trainer for name, trainer in made if name != "vehicle_2"]
            end_s = time.monotonic() + 10.0  # a worker says that it is done, then clears up
            while any(trainer() for trainer in survivors) and time.monotonic() < end_s:
                time.sleep(0.02)
            left = [trainer for trainer in survivors if trainer()]
    finally:
        gc.enable()

    assert outcome.completed, outcome.text
    assert len(only_client(outcome)["recoveries"]) == 1
    assert left == []


def test_who_loads_for_longer_than_a_silence_is_heard_meanwhile(tmp_path):
    impatient = TransportConfig(timeout_s=30.0, heartbeat_s=0.1, silent_after_s=1.0)
    with Federation(tmp_path, SMALL, CONFIG, impatient) as federation:
        federation.fetch_takes_s["vehicle_2"] = 2.5
        federation.start()
        outcome = federation.train(STEPS)

    assert outcome.completed, outcome.text
    assert only_client(outcome)["recoveries"] == []


def test_a_second_kill_leaves_one_vehicle_that_is_too_small_and_the_round_says_so(tmp_path):
    left = ["vehicle_0", "vehicle_1"]

    def kill(federation: Federation) -> None:
        if left and federation.furthest() >= 3:
            federation.kill(left.pop())

    with Federation(tmp_path, SMALL, CONFIG) as federation:
        federation.start()
        before = dict(federation.conductor.model)
        outcome = federation.train(STEPS, kill)
        after = dict(federation.conductor.model)

    assert not outcome.completed
    assert "only vehicle_2 was left, too little memory" in outcome.text
    assert_same(after, before)


def test_an_able_vehicle_and_a_cluster_are_averaged_by_samples(tmp_path):
    with Federation(tmp_path, (0.8, 0.8, 2.5), CONFIG) as federation:
        federation.start()
        outcome = federation.train(STEPS)
        found = dict(federation.conductor.model)
    cluster = alone(timeline(federation.orders, "cluster_vehicle_0"))
    able = alone(timeline(federation.orders, "vehicle_2"))

    assert sorted(outcome.clients) == ["cluster_vehicle_0", "vehicle_2"]
    for name in ("stem.weight", "blocks.3.1.running_mean"):
        assert torch.allclose(found[name], (cluster[name] + able[name]) / 2.0, atol=1e-7)
        assert not torch.allclose(found[name], able[name], atol=1e-4)


def test_who_comes_late_trains_from_the_next_rotation_on(tmp_path):
    came: list[int] = []

    def come(federation: Federation) -> None:
        if not came and federation.furthest() >= 1:
            came.append(federation.furthest())
            federation.start("vehicle_2")

    with Federation(tmp_path, SMALL, CONFIG) as federation:
        federation.start("vehicle_0", "vehicle_1")
        outcome = federation.train(40, come)
        found = dict(federation.conductor.model)
    owners = timeline(federation.orders, "cluster_vehicle_0")
    client = only_client(outcome)

    assert client["vehicles"] == ["vehicle_0", "vehicle_1", "vehicle_2"]
    assert client["recoveries"] == []
    [joined_at] = {o.from_step for o in federation.orders if "vehicle_2" in o.vehicles[2:]} - {0}
    assert joined_at % CONFIG.rotation_period == 0
    assert "vehicle_2" in owners[joined_at:]
    assert "vehicle_2" not in owners[:joined_at]
    assert_same(found, alone(owners))


def test_a_killed_edge_goes_on_from_its_journal_and_vehicles_train_meanwhile(tmp_path):
    killed_at: list[int] = []
    back_at: list[int] = []

    def kill(federation: Federation) -> None:
        if not killed_at and federation.furthest() >= 3:
            killed_at.append(federation.furthest())
            federation.kill_edge()
        if killed_at and not back_at and federation.furthest() > killed_at[0]:
            back_at.append(federation.furthest())
            federation.start_edge()

    with Federation(tmp_path, SMALL, CONFIG) as federation:
        federation.start()
        federation.train(STEPS, kill)
        found = dict(federation.conductor.model)
        second = federation.train(4)
        federation.kill_edge()  # before whoever asked for the round has heard how it ended
        federation.start_edge()
        remembered = federation.conductor.last
    first = [o for o in federation.orders if o.round == 1]
    owners = timeline(first, "cluster_vehicle_0")

    assert back_at[0] > killed_at[0]
    assert len({o.epoch for o in first if o.kind is OrderKind.TRAIN}) == 1  # nobody was disturbed
    assert_same(found, alone(owners))
    assert second.completed and second.round == 2
    assert json.dumps(vars(remembered), default=str) == json.dumps(vars(second), default=str)


def test_an_edge_that_was_asleep_takes_nobody_for_silent(tmp_path):
    slept: list[float] = []

    def sleep(federation: Federation) -> None:
        if not slept and federation.furthest() >= 3:
            slept.append(CONFIG.silent_after_s + CONFIG.hang_after_s)
            federation.ask().on_tick(time.monotonic() + slept[0])

    with Federation(tmp_path, SMALL, CONFIG) as federation:
        federation.start()
        outcome = federation.train(STEPS, sleep)

    assert slept
    assert only_client(outcome)["recoveries"] == []
    assert only_client(outcome)["dropped"] == ""


def test_an_edge_refuses_whoever_comes_back_with_an_old_epoch(tmp_path):
    refused: list[str] = []

    def look(federation: Federation) -> None:
        train = [o for o in federation.orders if o.kind is OrderKind.TRAIN]
        epochs = {o.epoch for o in train}  # orders are repeated
        if len(epochs) == 1 and federation.furthest() >= 3:
            federation.kill("vehicle_2")
        elif len(epochs) == 2 and not refused:
            old = CutName(
                vehicle="vehicle_2", client=train[0].client, round=1, epoch=train[0].epoch, step=8
            )
            late = dataclasses.replace(old, vehicle="vehicle_0", epoch=1, step=99)
            update = federation.update_of("vehicle_0", train[0])
            edge = federation.ask()
            for call, complaint in (
                (lambda: edge.fetch(old, [0]), "is not in"),
                (lambda: edge.store(late, []), "is in epoch 1"),
                (lambda: edge.submit("vehicle_0", update), "that is not asked for"),
            ):
                with pytest.raises(FladError, match=complaint) as error:
                    call()
                refused.append(error.value.code.name)

    with Federation(tmp_path, SMALL, CONFIG) as federation:
        federation.start()
        outcome = federation.train(STEPS, look)

    assert outcome.completed
    assert refused == ["ORDER_REFUSED"] * 3


def says(federation: Federation, name: str, dwell_s: float, x_m: float = 0.0) -> None:
    federation.ask().on_place(
        Member(
            name=name,
            device="nano",
            available_bytes=0.0,
            x_m=x_m,
            y_m=0.0,
            speed_mps=0.0,
            heading_rad=0.0,
            dwell_s=dwell_s,
        ),
        time.monotonic(),
    )


def test_a_member_that_says_it_will_leave_is_let_go_without_losing_a_step(tmp_path):
    left: list[str] = []

    def leave(federation: Federation) -> None:
        for name in ("vehicle_0", "vehicle_2"):
            says(federation, name, 1e6)
        says(federation, "vehicle_1", 0.5 if federation.furthest() >= 3 else 1e6)
        train = [o for o in federation.orders if o.kind is OrderKind.TRAIN]
        if not left and "vehicle_1" not in train[-1].vehicles:
            left.append("vehicle_1")
            federation.kill("vehicle_1")

    with Federation(tmp_path, SMALL, CONFIG) as federation:
        federation.start()
        outcome = federation.train(60, leave)
        found = dict(federation.conductor.model)
    owners = timeline(federation.orders, "cluster_vehicle_0")
    client = only_client(outcome)

    assert outcome.completed and left
    assert client["recoveries"] == []
    assert client["vehicles"] == ["vehicle_0", "vehicle_2"]  # it was not asked to come back
    [gone] = client["let_go"]
    assert (gone["vehicles"], gone["ends"]) == (["vehicle_1"], False)
    assert gone["step"] % CONFIG.rotation_period == 0
    assert outcome.num_samples == 60 * 16
    assert_same(found, alone(owners))


@pytest.mark.parametrize("heard", ["status first", "update first"])
def test_a_cluster_that_cannot_go_on_ends_while_everybody_is_there_and_counts(heard, tmp_path):
    def leave(federation: Federation) -> None:
        says(federation, "vehicle_0", 1e6)
        says(federation, "vehicle_1", 0.5 if federation.furthest() >= 3 else 1e6)
        if heard == "update first":
            ends = (o.order for o in federation.orders if 0 < o.from_step == o.end_step)
            federation.unheard.update(ends)

    with Federation(tmp_path, SMALL[:2], CONFIG) as federation:
        federation.start()
        outcome = federation.train(400, leave)
        found = dict(federation.conductor.model)
    owners = timeline(federation.orders, "cluster_vehicle_0")
    client = only_client(outcome)

    assert outcome.completed, outcome.text
    [gone] = client["let_go"]
    assert (gone["vehicles"], gone["ends"]) == (["vehicle_1"], True)
    assert 0 < client["steps"] == gone["step"] < 400
    assert outcome.num_samples == gone["step"] * 16
    assert_same(found, alone(owners))


def test_a_member_that_will_leave_is_let_go_with_the_turn_that_brings_a_newcomer(tmp_path):
    came: list[int] = []

    def come_and_leave(federation: Federation) -> None:
        asked = [o for o in federation.orders if o.kind is OrderKind.PAUSE]
        says(federation, "vehicle_1", 0.5 if asked else 1e6)
        if not came and federation.furthest() >= 3:
            came.append(1)
            federation.start("vehicle_3")

    with Federation(tmp_path, (0.8,) * 4, CONFIG) as federation:
        federation.before_order = lambda order: (  # said before anybody can pause
            says(federation, "vehicle_1", 0.5) if order.kind is OrderKind.PAUSE else None
        )
        federation.start("vehicle_0", "vehicle_1", "vehicle_2")
        outcome = federation.train(60, come_and_leave)
        found = dict(federation.conductor.model)
    client = only_client(outcome)
    turns = [o for o in federation.orders if o.kind is OrderKind.TRAIN]

    assert outcome.completed, outcome.text
    assert client["vehicles"] == ["vehicle_0", "vehicle_2", "vehicle_3"]
    assert [gone["vehicles"] for gone in client["let_go"]] == [["vehicle_1"]]
    assert client["recoveries"] == []
    assert len(turns) == 2  # one turn for both
    assert_same(found, alone(timeline(federation.orders, "cluster_vehicle_0")))


def test_after_a_loss_nobody_begins_again_who_would_leave_soon(tmp_path):
    came: list[int] = []
    killed: list[int] = []

    def kill(federation: Federation) -> None:
        if not came and federation.furthest() >= 1:
            came.append(1)
            federation.start("vehicle_3")
        newest = [o for o in federation.orders if o.kind is OrderKind.TRAIN][-1]
        has_moved = federation.furthest() > newest.from_step
        if not killed and has_moved and len(newest.vehicles) == 4:
            killed.append(newest.order)
            says(federation, "vehicle_1", 0.0)
            federation.kill("vehicle_2")

    with Federation(tmp_path, (0.8,) * 4, CONFIG) as federation:
        federation.start("vehicle_0", "vehicle_1", "vehicle_2")
        outcome = federation.train(60, kill)
        found = dict(federation.conductor.model)
    client = only_client(outcome)
    train = [o for o in federation.orders if o.kind is OrderKind.TRAIN]
    after = next(order for order in train if order.order > killed[0])

    assert outcome.completed, outcome.text
    assert after.vehicles == ("vehicle_0", "vehicle_3")
    [recovery] = client["recoveries"]
    assert recovery["gone"] == ["vehicle_2"]
    assert client["let_go"][0]["vehicles"] == ["vehicle_1"]
    assert_same(found, alone(timeline(federation.orders, "cluster_vehicle_0")))


def test_a_newcomer_is_promised_to_one_cluster_only(tmp_path):
    came: list[int] = []

    def come(federation: Federation) -> None:
        if not came and federation.furthest() >= 3:
            came.append(1)
            federation.start("vehicle_5", "vehicle_6")

    with Federation(tmp_path, (0.8,) * 7, CONFIG) as federation:
        federation.start(*federation.names[:5])
        outcome = federation.train(60, come)
        found = dict(federation.conductor.model)
    joins = [event.split()[0] for event in federation.events if " joins " in event]
    clients = outcome.report["clients"]

    assert outcome.completed, outcome.text
    assert len(clients) == 2
    assert sorted(joins) == ["vehicle_5", "vehicle_6"]
    assert sorted(v for c in clients.values() for v in c["vehicles"]) == federation.names
    assert all(client["recoveries"] == [] for client in clients.values())
    assert all(torch.isfinite(tensor).all() for tensor in found.values())


def test_who_waits_for_somebody_and_will_leave_is_not_waited_with(tmp_path):
    left: list[str] = []

    def lose(federation: Federation) -> None:
        if not left and federation.furthest() >= 3:
            left.append("vehicle_1")
            federation.kill("vehicle_1")
            says(federation, "vehicle_0", 0.5)
            federation.start("vehicle_2")

    with Federation(tmp_path, SMALL, CONFIG) as federation:
        federation.start("vehicle_0", "vehicle_1")
        outcome = federation.train(60, lose)
    train = [o for o in federation.orders if o.kind is OrderKind.TRAIN]
    later = [o for o in train if o.order > train[0].order]

    assert not outcome.completed
    assert "only vehicle_2 was left, too little memory" in outcome.text
    assert not any("vehicle_0" in order.vehicles for order in later)


def test_clusters_are_made_of_who_is_near_and_stays(tmp_path):
    with Federation(tmp_path, (0.8,) * 6, CONFIG) as federation:
        federation.start()
        for number, x_m in enumerate((0.0, 2000.0, 10.0, 2010.0, 20.0)):
            says(federation, f"vehicle_{number}", 2.0 if number == 4 else 1e6, x_m)
        outcome = federation.train(4)
    found = {frozenset(c["vehicles"]) for c in outcome.report["clients"].values()}

    assert any({"vehicle_0", "vehicle_2"} <= members for members in found)
    assert any({"vehicle_1", "vehicle_3"} <= members for members in found)
    assert not any({"vehicle_0", "vehicle_1"} <= members for members in found)
    assert list(outcome.report["left_out"]) == ["vehicle_4"]
    assert "at least 10 s count" in outcome.report["left_out"]["vehicle_4"]
    assert sum(len(members) for members in found) == 5  # one has said no place, and trains
