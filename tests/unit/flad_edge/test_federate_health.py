# SPDX-License-Identifier: Apache-2.0
"""What the edge's diagnostics say of a round that a real federation goes through."""

from __future__ import annotations

import time

import pytest
import torch
from round_threads import Federation

from flad_edge.federate.health import Health, federation_health
from flad_edge.federate.rounds import ConductorConfig

CONFIG = ConductorConfig(cut_every=2, rotation_cuts=2, silent_after_s=60.0, patience_s=0.2)


@pytest.fixture(autouse=True)
def one_thread():
    """Of PyTorch: vehicles are threads already."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def look(federation: Federation) -> dict[str, Health]:
    edge = federation.conductor
    found = federation_health(
        edge.round_number, edge.round, edge.last, edge.statuses, time.monotonic()
    )
    return {one.name: one for one in found}


def test_a_loss_and_what_was_left_are_told_and_a_round_that_failed_says_why(tmp_path):
    left = ["vehicle_0", "vehicle_1"]
    seen: list[dict[str, Health]] = []

    def kill(federation: Federation) -> None:
        edge = federation.conductor
        with federation._lock:
            if edge.is_training:
                seen.append(look(federation))
        if left and federation.furthest() >= 3:
            federation.kill(left.pop())

    with Federation(tmp_path, (0.8, 0.8, 0.8), CONFIG) as federation:
        federation.start()
        before = look(federation)
        federation.train(12, kill)
        after = look(federation)
    client = [looks["edge/cluster_vehicle_0"] for looks in seen]
    whole, lossy = client[0], [one for one in client if one.values["recoveries"] == "1"]
    waiting = [one for one in client if "waits for somebody" in one.message]

    assert before["edge/conductor"].message == "no round is under way"
    assert before["edge/conductor"].values["vehicles"] == "vehicle_0, vehicle_1, vehicle_2"
    assert whole.is_well
    assert whole.values["members"] == "vehicle_0, vehicle_1, vehicle_2"
    assert "failure" not in whole.values
    assert lossy[0].values["members"] == "vehicle_0, vehicle_2"
    assert lossy[0].values["failure"].startswith("vehicle_1: ")
    assert waiting
    assert not waiting[-1].is_well
    assert "only vehicle_2 was left" in after["edge/conductor"].values["last_text"]
    assert set(after) == {"edge/conductor"}


def test_a_second_departure_finds_its_template_as_the_first_did(tmp_path):
    """The planner is not asked while a cluster stands still, also after others have come."""
    asked: list[frozenset[str]] = []
    asked_before: list[int] = []

    def disturb(federation: Federation) -> None:
        with federation._lock:
            [run] = federation.conductor.round.clients.values()
            three = len(run.order.vehicles) == 3
            ready = three and len(run.templates) == 3
        if "vehicle_2" not in federation.workers and federation.furthest() >= 3:
            federation.start("vehicle_2")
        elif asked and ready and not asked_before:
            asked_before.append(len(asked))
            federation.kill("vehicle_1")
            asked_before.append(len(asked))

    with Federation(tmp_path, (0.8, 0.8, 0.8), CONFIG) as federation:
        federation.start("vehicle_0", "vehicle_1")
        plan = federation.planner.pipelines

        def counted(names, facts):
            asked.append(frozenset(names))
            return plan(names, facts)

        federation.planner.pipelines = counted
        outcome = federation.train(36, disturb)
    [client] = outcome.report["clients"].values()

    assert outcome.completed, outcome.text
    assert client["vehicles"] == ["vehicle_0", "vehicle_2"]
    assert len(asked_before) == 2
    assert asked_before[0] == asked_before[1]
    assert {"vehicle_0", "vehicle_2"} in asked[: asked_before[0]]
