# SPDX-License-Identifier: Apache-2.0
"""Scores against numbers worked out by hand from the leaderboard's published rules."""

import json

import pytest

from flad_carla.evaluation.checkpoint import Checkpoint, CheckpointError
from flad_carla.evaluation.protocol import PROTOCOLS, PenaltyEvent
from flad_carla.evaluation.statistics import (
    BLOCKED,
    LABELS,
    SIMULATION_CRASHED,
    Event,
    RouteOutcome,
    global_record,
    route_record,
    values_and_labels,
)


def _penalty(protocol: str, *events: tuple[str, float]) -> float:
    return PROTOCOLS[protocol].penalty([PenaltyEvent(kind=k, percentage=p) for k, p in events])


def _outcome(**changes) -> RouteOutcome:
    values = {
        "route_id": "3",
        "index": 0,
        "town": "Grid",
        "completion": 100.0,
        "reached": True,
        "route_length_m": 500.0,
        "duration_game_s": 60.0,
        "duration_system_s": 20.0,
    }
    return RouteOutcome(**{**values, **changes})


@pytest.mark.parametrize(
    "kind, lb1, lb2_1",
    [
        ("collisions_pedestrian", 0.50, 1 / 2.0),
        ("collisions_vehicle", 0.60, 1 / 1.7),
        ("collisions_layout", 0.65, 1 / 1.6),
        ("red_light", 0.70, 1 / 1.4),
        ("stop_infraction", 0.80, 1 / 1.25),
    ],
)
def test_one_event_costs_what_the_table_says(kind, lb1, lb2_1):
    assert _penalty("lb1.0", (kind, 0)) == _penalty("lb2.0", (kind, 0)) == pytest.approx(lb1)
    assert _penalty("lb2.1", (kind, 0)) == pytest.approx(lb2_1)
    # twice: the product decays faster than the sum
    assert _penalty("lb1.0", (kind, 0), (kind, 0)) == pytest.approx(lb1**2)
    assert _penalty("lb2.1", (kind, 0), (kind, 0)) == pytest.approx(1 / (2 / lb2_1 - 1))


def test_a_mixed_route_by_hand():
    events = [("red_light", 0.0), ("collisions_vehicle", 0.0), ("outside_route_lanes", 20.0)]

    assert _penalty("lb1.0", *events) == pytest.approx(0.7 * 0.6 * 0.8)
    assert _penalty("lb2.1", *events) == pytest.approx(0.8 / (1 + 0.4 + 0.7))


def test_minimum_speed_is_scored_by_the_second_generation_only():
    slow = ("min_speed_infractions", 60.0)

    assert _penalty("lb1.0", slow) == 1.0
    assert _penalty("lb2.0", slow) == pytest.approx(1 - 0.3 * 0.4)
    assert _penalty("lb2.1", slow) == pytest.approx(1 / (1 + 0.4 * 0.4))


@pytest.mark.parametrize("kind", ["route_dev", "vehicle_blocked", "route_timeout"])
def test_what_ends_a_route_has_no_coefficient(kind):
    assert all(_penalty(name, (kind, 0.0)) == 1.0 for name in PROTOCOLS)


def test_a_blocked_route_keeps_its_events_and_its_part_of_the_way():
    events = [Event(kind="red_light", message="ran"), Event(kind="vehicle_blocked", message="b")]
    record = route_record(
        _outcome(completion=40.0, reached=False, failure=BLOCKED, events=events),
        PROTOCOLS["lb1.0"],
    )

    assert record["status"] == "Failed - Agent got blocked"
    assert record["scores"] == pytest.approx(
        {"score_route": 40.0, "score_penalty": 0.7, "score_composed": 28.0}
    )
    assert record["infractions"]["red_light"] == ["ran"]
    assert record["infractions"]["vehicle_blocked"] == ["b"]


def test_ids_and_the_word_perfect_belong_to_the_second_generation():
    first, second = (route_record(_outcome(), PROTOCOLS[p]) for p in ("lb1.0", "lb2.1"))

    assert (first["route_id"], first["status"]) == ("RouteScenario_3", "Completed")
    assert (second["route_id"], second["status"]) == ("RouteScenario_3_rep0", "Perfect")
    assert second["num_infractions"] == 0 and "num_infractions" not in first
    assert set(second["infractions"]) > set(first["infractions"])


def test_means_are_over_what_was_asked_for():
    """Two of four were run: the others count as zero. The spread is of those that were run."""
    records = [
        route_record(_outcome(completion=c, reached=c == 100.0), PROTOCOLS["lb2.0"])
        for c in (100.0, 50.0)
    ]
    record = global_record(records, 4, PROTOCOLS["lb2.0"])

    assert record["scores_mean"]["score_composed"] == pytest.approx(150.0 / 4)
    assert record["scores_std_dev"]["score_composed"] == pytest.approx(50.0 / 2**0.5, abs=1e-5)


def test_driving_score_is_the_mean_of_products():
    events = [Event(kind="collisions_pedestrian", message="")]
    records = [
        route_record(_outcome(), PROTOCOLS["lb1.0"]),
        route_record(_outcome(completion=20.0, reached=False, events=events), PROTOCOLS["lb1.0"]),
    ]
    scores = global_record(records, 2, PROTOCOLS["lb1.0"])["scores"]

    assert scores["score_composed"] == pytest.approx((100.0 + 10.0) / 2)  # not 60 * 0.75


def test_infractions_per_km_are_of_the_driven_way():
    events = [Event(kind="red_light", message="")] * 3
    outside = [Event(kind="outside_route_lanes", message="", percentage=10.0, outside_m=25.0)]
    records = [
        route_record(_outcome(events=events), PROTOCOLS["lb1.0"]),  # 0.5 km
        route_record(
            _outcome(completion=50.0, reached=False, events=outside), PROTOCOLS["lb1.0"]
        ),  # 0.25 km
    ]
    record = global_record(records, 2, PROTOCOLS["lb1.0"])

    assert record["infractions"]["red_light"] == pytest.approx(3 / 0.75)
    assert record["infractions"]["outside_route_lanes"] == pytest.approx(0.025 / 0.75)
    assert record["meta"]["driven_km"] == pytest.approx(0.75)


@pytest.mark.parametrize("protocol, count", [("lb1.0", 12), ("lb2.0", 15), ("lb2.1", 15)])
def test_values_and_labels_have_the_leaderboards_columns(protocol, count):
    record = global_record([], 1, PROTOCOLS[protocol])
    values, labels = values_and_labels(record, PROTOCOLS[protocol])

    assert len(values) == len(labels) == count
    assert labels == list(LABELS[:count])


# --- the file -----------------------------------------------------------------------------------


def _checkpoint(tmp_path, ids=("0_rep0", "1_rep0", "2_rep0"), **config) -> Checkpoint:
    return Checkpoint(tmp_path / "out.json", PROTOCOLS["lb2.1"], ids, {"seed": 1, **config})


def test_progress_and_status_follow_the_records(tmp_path):
    checkpoint = _checkpoint(tmp_path)
    seen = []
    for i in range(3):
        checkpoint.add(route_record(_outcome(route_id=str(i), index=i), PROTOCOLS["lb2.1"]))
        data = json.loads((tmp_path / "out.json").read_text())
        seen.append((data["_checkpoint"]["progress"], data["entry_status"], data["eligible"]))

    assert seen == [
        ([1, 3], "Started", False),
        ([2, 3], "Started", False),
        ([3, 3], "Finished", True),
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]  # no half-written file is left


def test_resuming_goes_on_behind_the_last_good_record(tmp_path):
    first = _checkpoint(tmp_path)
    first.add(route_record(_outcome(route_id="0"), PROTOCOLS["lb2.1"]))
    first.add(
        route_record(
            _outcome(route_id="1", reached=False, failure=SIMULATION_CRASHED), PROTOCOLS["lb2.1"]
        )
    )
    again = _checkpoint(tmp_path)

    assert again.resume() == 1  # the crashed one is run again
    assert [r["route_id"] for r in again.records] == ["RouteScenario_0_rep0"]


@pytest.mark.parametrize(
    "ids, config, complaint",
    [
        (("0_rep0", "9_rep0", "2_rep0"), {}, "made with other routes"),
        (("0_rep0", "1_rep0", "2_rep0"), {"seed": 2}, "another seed: seed 1 then, 2 now"),
    ],
)
def test_a_file_of_another_run_is_refused(tmp_path, ids, config, complaint):
    _checkpoint(tmp_path).write("Started")

    with pytest.raises(CheckpointError, match=complaint):
        _checkpoint(tmp_path, ids, **config).resume()


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", '{"_checkpoint": {"records": 3}}'])
def test_a_file_that_is_no_results_file_is_refused_and_kept(tmp_path, text):
    path = tmp_path / "out.json"
    path.write_text(text)

    with pytest.raises(CheckpointError, match="no results file"):
        _checkpoint(tmp_path).resume()
    assert path.read_text() == text
