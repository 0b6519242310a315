# SPDX-License-Identifier: Apache-2.0
"""What the encoder predicted reaches the report as it was, beside the truth of the same tick."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from made_up_drive import RIG, Drive, FakeLidar, FakeTick

from flad_carla.recorder.session import recording_rig
from flad_carla.report.collect import RunCollector
from flad_carla.report.matching import match, points_inside
from flad_carla.report.packing import unpack
from flad_carla.report.page import render_page
from flad_carla.report.page_perception import encoder_words, figures
from flad_carla.report.perception import CELL_M, MOMENT_COLUMNS, Perception, State
from flad_carla.report.perception_log import PerceptionLog
from flad_carla.report.run_file import load_runs
from flad_carla.report.sweep import Area, cells, num_columns, obstacle_points
from flad_carla.rig import Rig, load_rig
from flad_carla.run_log import PoseView, PredictedBox, PredictionView
from flad_common.frames import CarlaPose
from flad_perception.config import GridConfig, load_encoder_config

ROOT = Path(__file__).resolve().parents[3]
AREA = Area()
START_S = 50.0  # of the made-up drive's ticks: FakeTick.sim_time_s at the start of the route
HASH = "0123456789abcdef"
# No LiDAR: then every road user in the area counts.
BLIND = Rig(sensors=tuple(s for s in RIG.sensors if s.id != "lidar"))


def box_at(forward, left, *, yaw=0.0, score=0.9):
    return PredictedBox(
        x_m=forward,
        y_m=left,
        yaw_rad=yaw,
        half_length_m=2.4,
        half_width_m=1.0,
        speed_mps=4.0,
        score=score,
    )


def road_users(entry):
    """(forward, left) of every road user in the encoder's area, nearest first."""
    places = [entry.ego.pose.to_local(b.pose.x, b.pose.y) for b in entry.actors]
    return sorted(
        ((f, -r) for f, r in places if AREA.holds(f, -r)), key=lambda p: math.hypot(p[0], p[1])
    )


def predict(entry, *, stamp_s=None, shift_m=0.0, red=None, drop=0, extra=()):
    places = road_users(entry)[drop:]
    boxes = [box_at(f + shift_m, w, score=0.9 - 0.01 * i) for i, (f, w) in enumerate(places)]
    expected_red = float(bool(entry.expert.red_lights)) if red is None else red
    return PredictionView(
        stamp_s=entry.sim_time_s if stamp_s is None else stamp_s,
        light_red=expected_red,
        stop=0.25,
        boxes=(*boxes, *extra),
        waypoints=((1.0, 0.1), (2.0, 0.3), (3.0, 0.6), (4.0, 1.0), (5.0, 1.5)),
        latency_s=0.04,
        model_hash=HASH,
    )


def seeing(drive, predicted):
    """The drive's ticks, each entry with ``predicted(k, entries)``."""
    ticks = drive.ticks()
    entries = [entry for _, entry in ticks]
    return [
        (tick, dataclasses.replace(entry, prediction=predicted(k, entries)))
        for k, (tick, entry) in enumerate(ticks)
    ]


def logged(drive, predicted, rig=BLIND, area=None):
    log = PerceptionLog(dataclasses.replace(drive.info(), encoder="small", rig=rig), area)
    for tick, entry in seeing(drive, predicted):
        log.add(tick, entry)
    return log.result()


def written(drive, predicted, folder, rig=RIG):
    collector = RunCollector(folder)
    collector.on_start(dataclasses.replace(drive.info(), encoder="small", rig=rig))
    for tick, entry in seeing(drive, predicted):
        collector.on_tick(tick, entry)
    collector.on_end(drive.result())
    assert collector.failures == []
    (run,) = load_runs(folder)
    return run


@pytest.fixture(scope="module")
def drive():
    return Drive(duration_s=6.0, num_actors=12, image_size=(32, 24))


# --- matching -----------------------------------------------------------------------------------


def test_the_surest_box_takes_the_nearest_and_nobody_is_taken_twice():
    truth = np.array([[10.0, 0.0], [11.5, 0.0], [30.0, 5.0]])
    predicted = np.array([[10.8, 0.0], [10.1, 0.0], [10.0, 0.1], [29.0, 6.9]])
    # The first is nearer to the second road user; the second takes the first one; for the third
    # none is left; the fourth is more than 2 m off.
    assert match(predicted, truth, 2.0).tolist() == [1, 0, -1, -1]
    assert match(predicted, truth[:0], 2.0).tolist() == [-1] * 4
    assert match(predicted[:0], truth, 2.0).size == 0


@pytest.mark.parametrize("seed", range(5))
def test_matches_are_near_and_single(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.uniform(-10, 10, (12, 2)), rng.uniform(-10, 10, (15, 2))
    found = match(predicted, truth, 3.0)
    taken = found[found >= 0]
    assert len(set(taken.tolist())) == taken.size > 0
    assert np.all(np.hypot(*(predicted[found >= 0] - truth[taken]).T) <= 3.0)
    free = [i for i in range(12) if i not in taken]
    for p in predicted[found < 0]:  # what stays alone has no free neighbour
        assert not free or np.hypot(*(truth[free] - p).T).min() > 3.0


@pytest.mark.parametrize("yaw", [0.0, 0.7, -2.5])
def test_points_are_counted_in_turned_boxes(yaw):
    rng = np.random.default_rng(3)
    local = rng.uniform(-1.0, 1.0, (200, 2)) * (2.5, 0.9)
    edge = np.array([(2.51, 0.0), (-2.51, 0.0), (0.0, 0.91), (0.0, -0.91)])
    c, s = math.cos(yaw), math.sin(yaw)
    turn = np.array([[c, s], [-s, c]])
    box = np.array([7.0, -3.0, yaw, 2.5, 0.9])
    assert points_inside(local @ turn + box[:2], box) == 200
    assert points_inside(edge @ turn + box[:2], box) == 0


# --- the LiDAR ----------------------------------------------------------------------------------


def test_half_sweeps_of_a_moving_vehicle_lie_on_each_other():
    mount = CarlaPose(x_m=1.3, z_m=2.5, yaw_deg=-90.0)
    poses = [PoseView(x=20.0, y=-7.0, yaw=30.0), PoseView(x=20.6, y=-6.6, yaw=36.0)]
    world = np.array([(31.0, -2.0, 1.0), (24.0, -9.0, 1.7), (12.0, -12.0, 0.5)])

    def raw(pose):
        rows = []
        for x, y, z in world:
            forward, right = pose.to_local(x, y)
            # mounted 1.3 m ahead, 2.5 m up and turned by -90 degrees: its x axis points left
            rows.append((-right, forward - 1.3, z - 2.5, 0.5))
        return np.array(rows, dtype=np.float32).tobytes()

    points = obstacle_points([(p, raw(p)) for p in poses], mount, AREA)
    expected = [(f, -r) for f, r in (poses[1].to_local(x, y) for x, y, _ in world)]
    np.testing.assert_allclose(points[:3, :2], expected, atol=1e-4)
    np.testing.assert_allclose(points[3:, :2], expected, atol=1e-4)
    np.testing.assert_allclose(points[:3, 2], world[:, 2], atol=1e-4)


def test_the_road_the_vehicle_and_broken_points_are_no_obstacles():
    rows = [
        (5.0, 1.0, 0.1, 1.0),  # road
        (1.0, 0.3, 1.0, 1.0),  # the vehicle itself
        (60.0, 0.0, 1.0, 1.0),  # outside
        (5.0, 1.0, 9.0, 1.0),  # a crown
        (math.nan, 1.0, 1.0, 1.0),
        (5.0, 1.0, 1.0, 1.0),
    ]
    raw = np.array(rows, dtype=np.float32).tobytes()
    points = obstacle_points([(PoseView(x=0.0, y=0.0), raw)], CarlaPose(), AREA)
    np.testing.assert_allclose(points, [(5.0, -1.0, 1.0)])  # CARLA's y is right, ours left


def test_a_cell_gives_its_place_back():
    rng = np.random.default_rng(1)
    points = rng.uniform((-20, -25, 0), (30, 25, 2), (500, 3)).astype(np.float32)
    numbers = cells(points, AREA, CELL_M)
    columns = num_columns(AREA, CELL_M)
    x = AREA.x_min_m + (numbers // columns + 0.5) * CELL_M
    y = AREA.y_min_m + (numbers % columns + 0.5) * CELL_M
    for place in points[:50]:
        assert np.min(np.maximum(np.abs(x - place[0]), np.abs(y - place[1]))) <= CELL_M / 2 + 1e-4
    assert np.all(np.diff(numbers) > 0)


# --- moments ------------------------------------------------------------------------------------


def test_near_boxes_are_found_and_dropped_ones_missed(drive):
    far_off = box_at(25.0, 24.0, score=0.1)
    seen = logged(drive, lambda k, e: predict(e[k], shift_m=0.7, drop=1, extra=(far_off,)))
    entries = [entry for _, entry in drive.ticks()]
    assert seen.num_moments == len(entries)
    states = [seen.truth["state"][seen.truth["moment"] == m] for m in range(len(entries))]
    for entry, state in zip(entries, states, strict=True):
        num = len(road_users(entry))
        assert np.sum(state == State.FOUND) >= num - 1  # another may lie within 2 m of the first
        assert np.sum(state != State.UNSEEN) == num
    assert np.all(seen.moments["extra"] >= 0) and seen.moments["extra"].max() >= 1
    assert figures(seen)["found"] > 10 * figures(seen)["moments"] / 10


def test_true_boxes_stand_where_the_road_users_stand(drive):
    """Their noses, seen from the vehicle, are the noses in the world; so are their heights."""
    truth = logged(drive, lambda k, e: predict(e[k])).truth
    entries = [entry for _, entry in drive.ticks()]
    for row in range(0, truth["actor"].size, 17):
        at = {name: float(column[row]) for name, column in truth.items()}
        entry = entries[int(at["moment"])]
        body = next(b for b in entry.actors if b.actor_id == at["actor"])
        nose = (at["x"] + 3.0 * math.cos(at["yaw"]), at["y"] + 3.0 * math.sin(at["yaw"]))
        expected = body.pose.to_world(body.center[0] + 3.0, body.center[1])
        assert entry.ego.pose.to_world(nose[0], -nose[1]) == pytest.approx(expected, abs=1e-6)
        assert at["z"] == pytest.approx(body.pose.z + body.center[2] - entry.ego.pose.z)


def test_only_vehicles_are_counted(drive):
    seen = logged(drive, lambda k, e: predict(e[k]))
    for m, (_, entry) in enumerate(drive.ticks()):
        vehicles = [
            b
            for b in entry.actors
            if b.type_id.startswith("vehicle")
            and AREA.holds(*(lambda f, r: (f, -r))(*entry.ego.pose.to_local(b.pose.x, b.pose.y)))
        ]
        assert seen.moments["found"][m] == len(vehicles)
    assert seen.moments["missed"].sum() == 0 and seen.moments["extra"].sum() == 0


@pytest.mark.parametrize("clock_s", [0.0, START_S])
def test_a_late_prediction_is_judged_by_the_world_of_its_own_tick(drive, clock_s):
    """Boxes of 1 s ago are exact for that tick and off for this one; its stamp may be absolute."""

    def late(k, entries):
        if k < 20 or k % 5:
            return None
        old = entries[k - 20]
        return predict(old, stamp_s=old.sim_time_s + clock_s)

    seen = logged(drive, late)
    np.testing.assert_allclose(seen.moments["t"], [0.25 * i for i in range(20)], atol=1e-6)
    assert seen.moments["missed"].sum() == 0 and seen.moments["found"].sum() > 0
    hits = {(m, a) for m, a in zip(seen.truth["moment"], seen.truth["actor"], strict=True)}
    assert len(hits) == seen.truth["actor"].size
    close = seen.boxes["hit"] == 1
    assert close.all()


def test_a_prediction_counts_once_and_a_very_late_one_not_at_all(drive, caplog):
    kept = {}
    seen = logged(drive, lambda k, e: kept.setdefault(k // 4, predict(e[k])))
    assert seen.num_moments == math.ceil(len(drive.ticks()) / 4)
    gone = logged(drive, lambda k, e: predict(e[0]) if k == 100 else None)
    assert gone.num_moments == 0
    assert "1 predictions came more than 3 s after" in caplog.text


def test_without_a_point_on_it_a_road_user_is_not_counted_as_missed():
    drive = Drive(duration_s=1.0, num_actors=12)
    (tick, entry) = drive.ticks()[-1]
    target = next(
        b for b in entry.actors if AREA.holds(*entry.ego.pose.to_local(b.pose.x, b.pose.y))
    )
    forward, right = entry.ego.pose.to_local(target.pose.x, target.pose.y)
    on_it = np.array([[-right, forward, 1.0 - 2.5, 0.5]], dtype=np.float32)  # of RIG's LiDAR
    view = PredictionView(stamp_s=entry.sim_time_s, light_red=0.0, stop=0.0)
    log = PerceptionLog(dataclasses.replace(drive.info(), encoder="small", rig=RIG))
    data = {"vehicle_0": {"lidar": FakeLidar(on_it.tobytes())}}
    log.add(
        FakeTick(tick.frame, tick.sim_time_s, data), dataclasses.replace(entry, prediction=view)
    )
    truth = log.result().truth
    for actor, state in zip(truth["actor"], truth["state"], strict=True):
        assert state == (State.MISSED if actor == target.actor_id else State.UNSEEN)
    assert truth["actor"].size > 1


def test_the_light_is_compared_with_what_makes_the_expert_stop():
    drive = Drive(duration_s=16.0)
    red = sum(bool(entry.expert.red_lights) for _, entry in drive.ticks())
    free = len(drive.ticks()) - red
    assert red > 20 and free > 20
    right = figures(logged(drive, lambda k, e: predict(e[k])))
    assert (right["red"], right["free"]) == ([red, red], [free, free])
    green = figures(logged(drive, lambda k, e: predict(e[k], red=0.1)))  # always green
    assert (green["red"], green["free"]) == ([0, red], [free, free])
    assert right["latency_ms"] == [40, 40]


def test_without_predictions_there_is_nothing_to_say():
    empty = figures(Perception())
    assert empty == {
        "moments": 0,
        "found": 0,
        "vehicles": 0,
        "extra": None,
        "red": [0, 0],
        "free": [0, 0],
        "latency_ms": None,
    }


# --- files and the page -------------------------------------------------------------------------


def test_predictions_survive_the_file(drive, tmp_path):
    def predicted(k, entries):
        view = predict(entries[k], shift_m=0.5)
        return dataclasses.replace(view, missing_views=("left",)) if k == 40 else view

    run = written(drive, predicted, tmp_path)
    grid = load_encoder_config("small").grid
    area = Area(
        **{name: getattr(grid, name) for name in ("x_min_m", "x_max_m", "y_min_m", "y_max_m")}
    )
    direct = logged(drive, predicted, rig=RIG, area=area)
    seen = run.perception
    assert (seen.encoder, seen.model_hash, seen.missing_views) == ("small", HASH, ("left",))
    assert seen.area == area != AREA and seen.has_lidar
    for name in ("moments", "boxes", "truth", "waypoints"):
        for column, values in getattr(direct, name).items():
            np.testing.assert_array_equal(getattr(seen, name)[column], values)
    assert [view.id for view in run.views] == ["rgb_front", "rgb_focus"]
    assert len(run.insets) == len(run.thumbnails) and all(j[:2] == b"\xff\xd8" for j in run.insets)
    assert set(seen.truth["actor"]) <= {kind.actor_id for kind in run.actor_kinds}


def page_run(run, **kwargs):
    html = render_page([run], **kwargs)
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    return html, json.loads(text.group(1))["runs"][0]


@pytest.mark.parametrize("max_bytes", [9_000_000, 115_000])
def test_every_picture_has_the_boxes_of_its_own_moment(drive, tmp_path, max_bytes):
    run = written(drive, lambda k, e: predict(e[k]), tmp_path)
    html, packed = page_run(run, max_bytes=max_bytes)
    assert len(html) < max_bytes
    times, at = packed["thumbs"]["times"], packed["scenes"]["at"]
    assert 3 <= len(times) == len(at) == len(packed["insets"]["sizes"])
    moments = unpack(packed["seen"]["moments"])
    np.testing.assert_allclose(moments["t"][at], times, atol=0.011)
    boxes = unpack(packed["scenes"]["boxes"])
    for row, moment in enumerate(at):
        wanted = run.perception.boxes["moment"] == moment
        mine = boxes["row"] == row
        for name in ("x", "y", "score"):
            np.testing.assert_allclose(
                boxes[name][mine], run.perception.boxes[name][wanted], atol=0.026
            )
    truth = unpack(packed["scenes"]["truth"])
    ids = [kind.actor_id for kind in run.actor_kinds]
    row0 = {ids[int(i)] for i, row in zip(truth["actor"], truth["row"], strict=True) if row == 0}
    expected = run.perception.truth["actor"][run.perception.truth["moment"] == at[0]]
    assert row0 == set(expected)
    sweeps = unpack(packed["scenes"]["sweeps"])
    assert set(sweeps["row"]) == set(range(len(at)))


def test_a_picture_waits_a_little_for_a_tick_with_a_prediction(drive, tmp_path):
    """At 5 Hz, in odd ticks: every picture is of a tick that was predicted."""
    last = {}

    def predicted(k, entries):
        if k % 4 == 3:
            last["view"] = predict(entries[k])
        return last.get("view")

    run = written(drive, predicted, tmp_path)
    predicted_at = run.perception.moments["t"]
    assert len(run.thumbnail_times) == pytest.approx(6.0 / 0.4, abs=1)
    for t in run.thumbnail_times[1:]:
        assert np.min(np.abs(predicted_at - t)) < 1e-3


def test_the_page_says_which_model_predicted_or_that_none_did(drive, tmp_path):
    html, _ = page_run(written(drive, lambda k, e: predict(e[k]), tmp_path / "a"))
    assert f"small, model {HASH}" in html
    html, packed = page_run(written(drive, lambda k, e: None, tmp_path / "b"))
    assert "small, but no prediction of it arrived" in html and packed["seen"] is None
    assert encoder_words(Perception()) == "none ran"


def test_an_infinite_latency_or_box_is_no_reason_to_lose_the_report(drive, tmp_path):
    """A net that diverged gives such numbers; the page says what it can."""

    def predicted(k, entries):
        view = predict(entries[k], extra=(box_at(math.inf, 0.0), box_at(math.nan, 1.0)))
        return dataclasses.replace(view, latency_s=math.inf, light_red=math.nan)

    html, packed = page_run(written(drive, predicted, tmp_path))
    assert packed["seen"]["figures"]["latency_ms"] is None and "<html" in html


# --- what it rests on ---------------------------------------------------------------------------


def test_the_demo_looks_at_the_world_as_the_recordings_do():
    recorded = recording_rig(load_rig(ROOT / "config/rigs/lmdrive.yaml"), (320, 240))
    demo = {sensor.id: sensor for sensor in load_rig(ROOT / "config/rigs/demo.yaml").sensors}
    for sensor in recorded.sensors:
        assert demo[sensor.id] == sensor


def test_the_area_is_the_encoders_grid():
    grid = GridConfig(cell_m=1.0)
    assert dataclasses.asdict(AREA) == {name: getattr(grid, name) for name in vars(AREA)}


def test_every_column_of_a_moment_is_written():
    moment = logged(Drive(duration_s=0.1), lambda k, e: predict(e[k])).moments
    assert tuple(moment) == MOMENT_COLUMNS
    assert all(column.size == 2 for column in moment.values())
