# SPDX-License-Identifier: Apache-2.0
"""The encoder as its own process, over real DDS; this process plays the bridge."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from encoder_stand import (
    CAMERAS,
    CONFIG,
    ROLE,
    START_S,
    Stand,
    cloud,
    encoder_command,
    stamp,
    step_of,
)
from lifecycle_msgs.msg import Transition
from nav_msgs.msg import Odometry
from sensor_msgs.msg import PointCloud2

from flad_bringup import topology
from flad_carla.evaluation import processes
from flad_carla.evaluation.processes import EncoderOption, EncoderSensors, start_encoder
from flad_common.supervision import Supervisor
from flad_perception.model.encoder import build_encoder
from flad_perception.ros.messages import tokens_from_msg
from flad_perception.weights import save_encoder
from flad_perception.wire import decode_tokens


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    """The small encoder, untrained."""
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    save_encoder(path, build_encoder(CONFIG, seed=1), CONFIG)
    return path


@pytest.fixture
def stand(tmp_path, model_path):
    made = []
    with Supervisor(tmp_path / "logs") as supervisor:

        def make(**parameters):
            made.append(Stand(supervisor, model_path, **parameters))
            return made[-1]

        yield make
        for one in made:
            one.close()


def test_lockstep_answers_every_due_step_in_order_and_survives_what_is_missing_or_bad(stand):
    s = stand(mode="lockstep", wire="fp32", **{"tick.lockstep_deadline_s": "1.5"})
    for step in range(2, 16):
        s.step(step)
    s.answer(14)
    s.until(lambda: len(s.heard["prediction"]) == 7, "a prediction of every step")
    assert s.answered() == list(range(2, 16, 2)) == [step_of(m) for m in s.heard["prediction"]]
    tokens = {step_of(m): decode_tokens(tokens_from_msg(m)) for m in s.heard["tokens"]}
    assert {t.shape for t in tokens.values()} == {(CONFIG.num_tokens, CONFIG.embed_dim)}
    lacking = {step_of(m): (m.view_valid, m.lidar_valid) for m in s.heard["tokens"]}
    assert set(map(str, lacking.values())) == {str(([True] * 5, True))}, (lacking, s.child.tail())
    assert len({t.tobytes() for t in tokens.values()}) == 7

    # A camera is silent, then the LiDAR: the step is answered without it.
    s.step(16, without=("rgb_left",))
    assert dict(zip(s.answer(16).views, s.answer(16).view_valid, strict=True)) == {
        view.name: view.camera != "rgb_left" for view in CONFIG.views
    }
    s.step(17)
    s.step(18, without=("lidar",))
    assert not s.answer(18).lidar_valid and all(s.answer(18).view_valid)

    # Bad messages are dropped; good ones of the same step are taken after them.
    s.step(19)
    pixels = np.zeros((24, 32, 4), dtype=np.uint8)
    s.image("rgb_front", 20, pixels, encoding="yuv422")
    s.image("rgb_front", 20, pixels, width=33)
    s.cloud_pub.publish(PointCloud2(width=4, height=1, point_step=16))
    bad = Odometry()
    stamp(bad, 20)
    bad.twist.twist.linear.x = float("nan")
    s.odometry_pub.publish(bad)
    s.step(20)
    assert all(s.answer(20).view_valid) and s.answer(20).lidar_valid
    nan = np.full((50, 4), np.nan, dtype=np.float32)
    s.step(21)
    s.step(22, without=("lidar",))
    s.cloud_pub.publish(cloud(22, nan))
    assert np.isfinite(decode_tokens(tokens_from_msg(s.answer(22)))).all()

    # The same sensors again, in a world that began anew: the same bits.
    s.heard["tokens"].clear()
    for step in range(2, 6):
        s.step(step)
    assert decode_tokens(tokens_from_msg(s.answer(4))).tobytes() == tokens[4].tobytes()

    _, values = s.diagnosis(
        lambda status: "rgb_front/image 2" in dict_of(status)["bad_messages"], "a diagnosis"
    )
    assert values["bad_messages"] == "lidar 1, odometry 1, rgb_front/image 2"
    assert "rgb_left 1" in values["missing"] and "lidar 1" in values["missing"]
    assert values["model_hash"] == s.heard["tokens"][0].model_hash
    assert float(values["latency_p95_s"]) >= float(values["latency_p50_s"]) > 0.0
    boxes = {m.ns for m in s.heard["markers"][-1].markers}
    assert {"encoder_waypoints", "encoder_light"} <= boxes


def dict_of(status):
    return {v.key: v.value for v in status.values}


def test_realtime_goes_on_without_a_silent_camera_and_obeys_its_lifecycle(stand):
    s = stand(autostart=False, mode="realtime", **{"tick.realtime_deadline_s": "0.3"})
    s.step(2)
    for _ in range(10):
        s.executor.spin_once(timeout_sec=0.02)
    assert s.heard["tokens"] == []

    assert s.transition(Transition.TRANSITION_ACTIVATE)
    step = drive_until(s, 4, lambda m: all(m.view_valid) and m.lidar_valid)
    step = drive_until(s, step, lambda m: list(m.view_valid).count(False) == 1, ("rgb_rear",))
    step = drive_until(s, step, lambda m: not any(m.view_valid), CAMERAS)
    assert s.answered() == sorted(s.answered())

    assert s.transition(Transition.TRANSITION_DEACTIVATE)
    count = len(s.heard["tokens"])
    s.step(step + 50)
    for _ in range(20):
        s.executor.spin_once(timeout_sec=0.02)
    assert len(s.heard["tokens"]) == count
    assert s.transition(Transition.TRANSITION_CLEANUP)
    assert s.transition(Transition.TRANSITION_CONFIGURE)
    assert s.transition(Transition.TRANSITION_ACTIVATE)
    s.until(s.is_heard, "the topics being back")
    drive_until(s, step + 100, lambda m: all(m.view_valid))


def drive_until(stand, step, condition, without=(), deadline_s=60.0):
    """Publish steps, 50 ms apart, until tokens fulfil a condition; returns the next step."""
    end_s = time.monotonic() + deadline_s
    seen = len(stand.heard["tokens"])
    while not any(condition(m) for m in stand.heard["tokens"][seen:]):
        assert time.monotonic() < end_s, f"no such tokens\n{stand.child.tail()}"
        stand.step(step, without=without)
        step += 1
        next_s = time.monotonic() + 0.05
        while time.monotonic() < next_s:
            stand.executor.spin_once(timeout_sec=0.01)
    return step


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"encoder.expected_model_hash": "feedfeed"}, "FLAD-701 MODEL_REFUSED"),
        ({"wire": "fp8"}, "is one of ['fp32', 'fp16', 'int8'], got 'fp8'"),
    ],
)
def test_what_does_not_match_ends_it_with_words(tmp_path, model_path, parameters, words):
    with Supervisor(tmp_path / "logs") as supervisor:
        command = encoder_command(model_path, **parameters)
        child = supervisor.start("encoder", command)
        assert supervisor.wait(child, deadline_s=START_S) != 0
        assert words in child.log_file.read_text()


def test_the_evaluation_and_the_topology_name_the_same_topics(tmp_path):
    template = dict(topology.ENCODER.remappings)
    assert {
        **processes.ENCODER_TOPICS,
        **{
            f"{camera}/image": processes.CAMERA_TOPIC.replace("{camera}", camera)
            for camera in topology.CAMERAS
        },
    } == template
    assert set(topology.CAMERAS) == set(CAMERAS)
    with Supervisor(tmp_path / "logs") as supervisor:
        child = start_encoder(
            supervisor,
            EncoderOption(model="/absent.safetensors"),
            EncoderSensors(CAMERAS, True),
            role=ROLE,
            mode="lockstep",
            domain_id=1,
        )
        assert supervisor.wait(child, deadline_s=START_S) != 0
        assert "no model '/absent.safetensors'" in child.log_file.read_text()


def test_a_recorded_drive_replayed_gives_the_same_tokens(workspace, tmp_path, model_path):
    """A closed loop with an encoder beside the planner, its bag, and another encoder process."""
    (route,) = _short_route(workspace, tmp_path)
    done = _run(
        *("flad_carla.evaluation", "--routes", route, "--encoder", model_path, "--seed", 3),
        *("--traffic", 6, "--walkers", 2, "--bag", tmp_path / "bag", "--bag-raw"),
        *("--json", tmp_path / "out.json", "--logs", tmp_path / "logs"),
    )
    assert done.returncode == 0, done.stderr
    (record,) = json.loads((tmp_path / "out.json").read_text())["_checkpoint"]["records"]
    assert record["status"] == "Completed"
    (bag,) = (tmp_path / "bag").iterdir()

    again = _run("flad_carla.bag.replay_node", bag, "--encoder", model_path)
    assert again.returncode == 0, again.stdout + again.stderr
    ticks = round(record["meta"]["duration_game"] / 0.1)
    assert f"{ticks + 1} of {ticks + 1} ticks identical" in again.stdout


def _run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280.0, check=False)


def _short_route(workspace, folder: Path, metres: int = 18) -> list[Path]:
    """The beginning of the demo's route."""
    import carla

    from flad_carla.evaluation.routes import read_routes
    from flad_carla.route_planner import RoutePlanner
    from flad_sim.towns import load_town

    (demo,) = read_routes(workspace.config / "routes" / "demo.xml")
    planner = RoutePlanner(carla.Map("Grid", load_town("Grid").xodr_text))
    trace = planner.trace([carla.Location(*p) for p in demo.positions])
    points = "".join(f'<position x="{p.x}" y="{p.y}" z="0"/>' for p in (trace[0], trace[metres]))
    path = folder / "routes.xml"
    path.write_text(
        f'<routes><route id="0" town="Grid"><waypoints>{points}</waypoints></route></routes>'
    )
    return [path]
