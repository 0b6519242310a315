# SPDX-License-Identifier: Apache-2.0
"""The encoder as its own process, over real DDS; this process plays the bridge."""

from __future__ import annotations

import array
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from flad_msgs.msg import ScenePrediction, SceneTokens
from geometry_msgs.msg import PointStamped, TransformStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, PointCloud2, PointField
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from flad_bringup import topology
from flad_carla.evaluation import processes
from flad_carla.evaluation.processes import EncoderOption, EncoderSensors, start_encoder
from flad_common.ros.qos import (
    DIAGNOSTICS,
    LOCKSTEP,
    SENSOR_OUT,
    STATE,
    TF_STATIC,
    VIEW,
)
from flad_common.supervision import Supervisor
from flad_perception.config import load_encoder_config
from flad_perception.model.encoder import build_encoder
from flad_perception.ros.messages import tokens_from_msg
from flad_perception.weights import save_encoder
from flad_perception.wire import decode_tokens

ROLE = "vehicle_0"
STEP_NS = 50_000_000
CONFIG = load_encoder_config("small")
CAMERAS = tuple(view.camera for view in CONFIG.views)
_START_S = 120.0


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    """The small encoder, untrained."""
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    save_encoder(path, build_encoder(CONFIG, seed=1), CONFIG)
    return path


class Stand:
    """The bridge of one encoder process."""

    def __init__(self, supervisor, model, *, autostart=True, **parameters):
        parameters = {"encoder.model": str(model), "encoder.num_threads": "1", **parameters}
        command = topology.node_command(topology.ENCODER, vehicle=ROLE, parameters=parameters)
        if not autostart:
            command.remove("autostart:=true")
            command.remove("-p")
        self.child = supervisor.start("encoder", command)
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("stand", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        base = f"/carla/{ROLE}"
        create = self.node.create_publisher
        self.image_pubs = {c: create(Image, f"{base}/{c}/image", SENSOR_OUT) for c in CAMERAS}
        self.cloud_pub = create(PointCloud2, f"{base}/lidar", SENSOR_OUT)
        self.odometry_pub = create(Odometry, f"{base}/odometry", STATE)
        self.tf_pub = create(TFMessage, "/tf_static", TF_STATIC)
        self.target_pub = create(PointStamped, f"/{ROLE}/target_point", STATE)
        self.heard = {name: [] for name in ("tokens", "prediction", "markers", "diagnostics")}
        for name, kind, topic, qos in (
            ("tokens", SceneTokens, f"/{ROLE}/scene_tokens", LOCKSTEP),
            ("prediction", ScenePrediction, f"/{ROLE}/scene_prediction", STATE),
            ("markers", MarkerArray, f"/{ROLE}/scene_markers", VIEW),
            ("diagnostics", DiagnosticArray, "/diagnostics", DIAGNOSTICS),
        ):
            self.node.create_subscription(kind, topic, self.heard[name].append, qos)
        mount = TransformStamped(child_frame_id=f"{ROLE}/lidar")
        mount.header.frame_id = ROLE
        mount.transform.translation.z, mount.transform.rotation.w = 2.5, 1.0
        self.tf_pub.publish(TFMessage(transforms=[mount]))
        if not autostart:
            assert self.transition(Transition.TRANSITION_CONFIGURE)
        self.until(self.is_heard, "the encoder being discovered", _START_S)

    def is_heard(self):
        publishers = (*self.image_pubs.values(), self.cloud_pub, self.odometry_pub, self.tf_pub)
        return all(p.get_subscription_count() for p in (*publishers, self.target_pub))

    def close(self):
        self.executor.remove_node(self.node)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def until(self, condition, what, deadline_s=30.0):
        end_s = time.monotonic() + deadline_s
        while not condition():
            assert self.child.is_running, f"the encoder ended\n{self.child.tail()}"
            assert time.monotonic() < end_s, f"{what} did not happen\n{self.child.tail()}"
            self.executor.spin_once(timeout_sec=0.02)

    def step(self, step, *, without=(), speed_mps=5.0, seed=None):
        """Publish the sensors of one step of 50 ms; cameras only of even ones."""
        rng = np.random.default_rng(step if seed is None else seed)
        for camera in CAMERAS:
            if step % 2 == 0 and camera not in without:
                self.image(camera, step, rng.integers(0, 256, (24, 32, 4), dtype=np.uint8))
        if "lidar" not in without:
            points = rng.uniform(-20.0, 20.0, (200, 4)).astype(np.float32)
            self.cloud_pub.publish(cloud(step, points))
        odometry = Odometry(child_frame_id=ROLE)
        odometry.header.frame_id = "map"
        stamp(odometry, step)
        odometry.pose.pose.orientation.w = 1.0
        odometry.twist.twist.linear.x = speed_mps
        self.odometry_pub.publish(odometry)

    def image(self, camera, step, pixels, **changes):
        msg = Image(height=pixels.shape[0], width=pixels.shape[1], encoding="bgra8")
        stamp(msg, step)
        msg.step = 4 * pixels.shape[1]
        msg.data = array.array("B", pixels.tobytes())
        for name, value in changes.items():
            setattr(msg, name, value)
        self.image_pubs[camera].publish(msg)

    def answer(self, step, deadline_s=30.0):
        """The tokens of a step."""
        self.until(lambda: step in self.answered(), f"tokens of step {step}", deadline_s)
        return self.heard["tokens"][self.answered().index(step)]

    def answered(self):
        return [step_of(m) for m in self.heard["tokens"]]

    def transition(self, number):
        client = self.node.create_client(ChangeState, f"/{ROLE}/encoder/change_state")
        self.until(client.service_is_ready, "the lifecycle service", _START_S)
        future = client.call_async(ChangeState.Request(transition=Transition(id=number)))
        self.until(future.done, f"transition {number}", _START_S)
        return future.result().success

    def diagnosis(self, condition, what):
        """The newest status of the encoder that fulfils a condition, its values as a dict."""

        def found():
            statuses = [s for array_ in self.heard["diagnostics"] for s in array_.status]
            mine = [s for s in statuses if s.name.endswith("encoder: scene tokens")]
            return [s for s in mine if condition(s)]

        self.until(found, what)
        status = found()[-1]
        return status, {v.key: v.value for v in status.values}


def stamp(msg, step):
    msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(step * STEP_NS, 1_000_000_000)


def step_of(msg):
    return (msg.header.stamp.sec * 1_000_000_000 + msg.header.stamp.nanosec) // STEP_NS


def cloud(step, points):
    msg = PointCloud2(height=1, width=len(points), point_step=16, row_step=16 * len(points))
    stamp(msg, step)
    msg.header.frame_id = f"{ROLE}/lidar"
    msg.fields = [
        PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
        for i, name in enumerate(("x", "y", "z", "intensity"))
    ]
    msg.data = array.array("B", points.tobytes())
    return msg


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
        parameters = {"encoder.model": str(model_path), **parameters}
        command = topology.node_command(topology.ENCODER, vehicle=ROLE, parameters=parameters)
        child = supervisor.start("encoder", command)
        assert supervisor.wait(child, deadline_s=_START_S) != 0
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
        assert supervisor.wait(child, deadline_s=_START_S) != 0
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
