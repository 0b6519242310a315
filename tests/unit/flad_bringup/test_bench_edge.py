# SPDX-License-Identifier: Apache-2.0
"""The plain way that the edge is measured against says the same, by other code; loads are whole."""

from __future__ import annotations

import argparse

import pytest
import torch
from edge_service import Bench, request
from tiny_adllm import SHORT, TEXTS, tiny_model, tiny_tokens

from flad_bringup.bench import edge
from flad_bringup.bench.edge_load import WorkClock, drive_at_rate, make_fleet
from flad_bringup.bench.edge_plain import KeptFrames, PlainHistory, plain_waypoints_m
from flad_edge.adllm.weights import save_adllm


def test_both_plain_ways_say_what_the_cached_history_says():
    model = tiny_model(SHORT)
    history = PlainHistory(ids=model.tokenizer.instruction(TEXTS[0]))
    kept, (cached,) = KeptFrames(model), model.start([TEXTS[0]])
    for number, frame in enumerate(tiny_tokens(15)):  # histories hold 6
        notice = TEXTS[5] if number % 4 == 1 else None
        if notice:
            history.notices[number] = model.tokenizer.notice(notice)
        history.frames.append(frame)
        want = model.step([cached], frame[None], [notice]).waypoints_m[0]
        kept.prepare(history)
        for got in (plain_waypoints_m(model, history), kept.waypoints_m(history)):
            torch.testing.assert_close(got, want, rtol=0.0, atol=1e-4)


def test_time_passes_only_while_somebody_works():
    ticks = iter([10.0, 12.5, 12.5, 30.0, 31.0, 31.0])
    clock = WorkClock(lambda: next(ticks))
    with clock.working():
        assert clock() == 2.5
    clock.skip_to(7.0)
    with clock.working():
        assert clock() == 8.0
    clock.skip_to(1.0)
    assert clock() == 8.0


def test_every_request_of_a_load_is_accounted_for_and_overload_shows():
    fleet = make_fleet(
        3,
        num_tokens=2,
        token_dim=4,
        instructions=["a", "b", "c"],
        notices=["n"],
        encoder_hash="e" * 16,
        frame_s=0.2,
        seed=1,
    )
    # The service does not believe the fleet: it follows another contract.
    bench = Bench()
    assert request().contract_version != fleet.request(0, 0, 0.0).contract_version
    answers = drive_at_rate(
        bench.service, WorkClock(), fleet, [0, 5, 9], rate_hz=5.0, num_frames=4, seed=1
    )
    assert len(answers) == 12 and all(a.error for a in answers)
    stamps = {(a.head.vehicle, round(a.head.stamp_ns * 1e-9 / 0.2)) for a in answers}
    first = {"vehicle_0": 1, "vehicle_1": 6, "vehicle_2": 10}
    assert stamps == {(v, f + k) for v, f in first.items() for k in range(4)}
    arrived = [a.head.arrived_s for a in answers]
    assert arrived == sorted(arrived) and 0.6 < arrived[-1] < 0.8


def test_the_bench_runs_on_a_model_and_its_answers_are_the_same(tmp_path):
    save_adllm(tmp_path / "tiny.safetensors", tiny_model(SHORT))
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    edge.add_arguments(parser)
    args = parser.parse_args(
        ["--adllm", str(tmp_path / "tiny.safetensors"), "--vehicles", "1", "3", "--frames", "4"]
    )
    rows = {row.name: row for row in edge.measure(args)}
    assert rows["edge_waypoint_difference"].holds
    assert 0.0 < rows["edge_waypoint_difference"].value < 1e-4
    assert rows["edge_waypoint_spread"].value > 0.1, "else all answers are the same anyway"
    for num_vehicles in (1, 3):
        assert rows[f"edge_{num_vehicles}_unanswered"].unit == f"of {4 * num_vehicles} requests"
        over = rows[f"edge_{num_vehicles}_requests_per_s"]
        assert over.ratio == pytest.approx(rows[f"edge_{num_vehicles}_over_plain"].value)
        assert rows[f"edge_{num_vehicles}_over_plain"].bar is None, "the promise is for 16"


def test_the_promise_is_for_sixteen_vehicles_in_single_precision():
    run = edge.EdgeRun(
        num_vehicles=16,
        requests_per_s=100.0,
        plain_s=[0.04, 0.06],
        kept_s=[0.02],
        differences_m=[1e-5, 3e-4],
    )
    rows = {row.name: row for row in edge.rows([run], exact=True, device="cpu")}
    assert rows["edge_16_over_plain"].value == pytest.approx(5.0)
    assert (rows["edge_16_over_plain"].bar, rows["edge_16_over_plain"].holds) == (5.0, True)
    assert rows["edge_waypoint_difference"].holds is False
    half = {row.name: row for row in edge.rows([run], exact=False, device="cpu")}
    assert half["edge_waypoint_difference"].bar is None
