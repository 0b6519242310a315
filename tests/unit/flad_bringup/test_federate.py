# SPDX-License-Identifier: Apache-2.0
"""``./flad federate`` without its processes: what is refused, what is drawn, what is measured."""

from __future__ import annotations

import argparse
import io
import json

import pytest
import yaml

from flad_bringup import cli
from flad_bringup.bench.recovery import _rows_of
from flad_bringup.bench.recovery_stand import Loss
from flad_bringup.federate.dashboard import Dashboard, table
from flad_bringup.federate.faults import moment
from flad_bringup.federate.fleet import emulated_planning
from flad_bringup.federate.run import _Disturbances, summary
from flad_common.config import from_mapping
from flad_edge.federate.planning import PlanningConfig
from flad_pipeline.partition import Partition, Span
from flad_pipeline.round.order import Order, OrderKind, Stand, Status, VehicleFacts
from flad_pipeline.testbed.testbed import EmulatedVehicle, LinkProfile, Testbed


@pytest.mark.parametrize("text", ["vehicle_1", "vehicle_1@", "vehicle_1@x", "@12", "v@1:2:3"])
def test_a_moment_that_is_none_is_named(text):
    with pytest.raises(ValueError, match="is no moment; write vehicle_1@12"):
        moment(text)


def test_a_moment_is_reached_in_its_round_or_later():
    at = moment("edge@2:5")

    assert not at.is_reached(1, 99)
    assert not at.is_reached(2, 4)
    assert at.is_reached(2, 5)
    assert at.is_reached(3, 0)


def asked(**more: list[str]) -> argparse.Namespace:
    return argparse.Namespace(**{"vehicles": 2, "kill": [], "freeze": [], "late": [], **more})


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"kill": ["vehicle_2@3"]}, "there is no 'vehicle_2' to disturb"),
        ({"freeze": ["edge@3+1"]}, "there is no 'edge' to disturb"),
        ({"freeze": ["vehicle_0@3"]}, r"needs \+SECONDS"),
    ],
)
def test_whom_nobody_can_disturb_is_refused(more, complaint):
    with pytest.raises(ValueError, match=complaint):
        _Disturbances.of(asked(**more))


def test_a_folder_with_something_else_is_not_emptied(tmp_path, capsys):
    (tmp_path / "precious").write_text("mine")
    out = ["federate", "--data", str(tmp_path), "--out", str(tmp_path)]

    assert cli.main(out) == 2
    assert "holds something else" in capsys.readouterr().err
    assert (tmp_path / "precious").read_text() == "mine"


def status(vehicle: str, step: int) -> Status:
    facts = VehicleFacts(device="nano", available_bytes=1, dwell_s=1.0, num_samples=1, digest="d")
    return Status(
        vehicle=vehicle, session="s", state=Stand.TRAINING, client="c", step=step, facts=facts
    )


def order() -> Order:
    turns = tuple(
        Partition(
            digest="d",
            num_units=6,
            heads_from=5,
            stages=(Span(vehicle=a, first=0, last=1), Span(vehicle=b, first=2, last=4)),
        )
        for a, b in (("v0", "v1"), ("v1", "v0"))
    )
    return Order(
        kind=OrderKind.TRAIN,
        order=1,
        vehicles=("v0", "v1"),
        client="c",
        pipelines=turns,
        rotation_period=4,
        end_step=16,
        cut_every=2,
    )


def test_the_dashboard_shows_whose_turn_it_is():
    early = table([status("v0", 3)], {"c": order()}, [])
    late = table([status("v0", 4)], {"c": order()}, ["v1"])

    assert "0: 0..1+heads" in early[0] and "3/16" in early[0]
    assert "1: 2..4" in late[0] and "+heads" not in late[0]
    assert late[1].split() == ["v1", "gone"]


def test_without_a_terminal_events_are_lines():
    out = io.StringIO()
    board = Dashboard(out)
    board.event("vehicle_1 is gone")
    board.draw("round 1", lambda: ["never"])

    assert out.getvalue() == "vehicle_1 is gone\n"
    assert board.events == ("vehicle_1 is gone",)


def test_the_bench_holds_median_worst_and_lost_steps_against_the_bars():
    losses = [
        Loss(
            vehicle="v",
            how="killed",
            phase="forward",
            seconds=s,
            ordered_s=0.1,
            left_s=0.2,
            loaded_s=0.3,
            lost_steps=n,
            fetched_bytes=0,
            num_orders=1,
        )
        for s, n in ((0.5, 2), (0.7, 9), (4.0, 1))
    ]
    beside = {"full relaunch": 20.0, "torchrun elastic": 7.0}
    rows = {row.name: row for row in _rows_of("killed", losses, beside)}

    assert rows["recovery_killed_median"].value == 0.7
    assert rows["recovery_killed_median"].baseline_value == 7.0
    assert rows["recovery_killed_median"].holds
    assert rows["recovery_killed_worst"].holds is False
    assert rows["recovery_killed_worst"].baseline_value == 20.0
    assert rows["recovery_killed_lost_steps"].value == 9


def test_the_summary_says_who_was_lost_and_what_it_cost(tmp_path):
    recovery = {
        "gone": ["vehicle_1"],
        "why": "killed",
        "from_step": 10,
        "lost_steps": 2,
        "fetched_units": {"vehicle_0": 7},
        "at_s": 3.2,
    }
    report = {
        "seconds": 30.0,
        "counted": {"cluster_vehicle_0": 480},
        "clients": {"cluster_vehicle_0": {"recoveries": [recovery]}},
    }
    one = {"round": 1, "num_samples": 480, "model_hash": "abc", "text": "", "report": report}
    figures = {"rounds": [json.loads(json.dumps(one))], "encoder": str(tmp_path / "e.safetensors")}
    text = summary(figures)

    assert "480 samples of cluster_vehicle_0; model abc" in text
    assert "vehicle_1 lost at 3 s, went back 2 steps to step 10, 7 units from the edge" in text


def test_the_edge_plans_in_the_seconds_that_its_emulated_vehicles_take():
    testbed = Testbed(
        vehicles={"vehicle_0": EmulatedVehicle(seconds_per_flop=1e-12, available_bytes=1e9)},
        link=LinkProfile(bits_per_s=8e6, delay_s=0.02),
        shared_channel=False,
        dilation=4.0,
    )
    planning: dict[str, object] = {}
    for name, text in emulated_planning(testbed, work_scale=3.0).items():
        *sections, knob = name.split(".")
        values = planning
        for section in sections[1:]:
            values = values.setdefault(section, {})  # type: ignore[assignment]
        values[knob] = yaml.safe_load(text)
    config = from_mapping(PlanningConfig, planning)

    assert config.work_scale == 12.0
    radio = config.radio
    assert 8e6 * radio.overhead / radio.bits_per_s == 4.0, "a megabyte takes a second, dilated"
    assert radio.delay_s == 0.08
    assert radio.shared is False
