# SPDX-License-Identifier: Apache-2.0
"""World, real client, bridge and planner processes in one loop."""

from __future__ import annotations

import hashlib
import math
import signal
import struct
import sys
import time
from dataclasses import replace
from pathlib import Path

import carla
import numpy as np
import pytest
import rclpy
from ackermann_msgs.msg import AckermannDrive
from carla_msgs.msg import (
    CarlaControl,
    CarlaEgoVehicleControl,
    CarlaEgoVehicleInfo,
    CarlaEgoVehicleStatus,
    CarlaTrafficLightInfoList,
    CarlaWorldInfo,
)
from derived_object_msgs.msg import ObjectArray
from flad_msgs.msg import DriverStatus, Plan
from geometry_msgs.msg import PointStamped
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix, PointCloud2
from std_msgs.msg import Float32
from tf2_msgs.msg import TFMessage

from flad_bringup import topology
from flad_carla.bridge import BridgeConfig, ControlTimeout
from flad_carla.bridge_loop import BridgeLoop, BridgeLoopConfig, EgoConfig
from flad_carla.bridge_node import BridgeNode
from flad_carla.rig import Rig, load_rig
from flad_carla.session import CarlaSession, SessionConfig
from flad_carla.session_errors import ServerUnreachable, SpawnError, TownError
from flad_common.config import from_mapping, to_yaml
from flad_common.periods import is_due
from flad_common.ports import free_ports
from flad_common.ros import qos
from flad_common.supervision import Supervisor

NO_SENSORS = Rig()
SMALL_RIG = from_mapping(
    Rig,
    {
        "sensors": [
            {
                "id": "rgb",
                "type": "sensor.camera.rgb",
                "pose": {"x_m": 1.3, "z_m": 2.3},
                "attributes": {"image_size_x": 64, "image_size_y": 48, "fov": 100.0},
            },
            {
                "id": "slow",
                "type": "sensor.camera.depth",
                "pose": {"x_m": 1.3, "z_m": 2.3},
                "attributes": {"image_size_x": 32, "image_size_y": 24, "sensor_tick": 0.1},
            },
            {
                "id": "lidar",
                "type": "sensor.lidar.ray_cast",
                "pose": {"z_m": 2.5, "yaw_deg": -90.0},
                "attributes": {"channels": 8, "points_per_second": 20000, "range": 40.0},
            },
            {"id": "gnss", "type": "sensor.other.gnss"},
            {"id": "imu", "type": "sensor.other.imu"},
            {"id": "collision", "type": "sensor.other.collision"},
        ]
    },
)


class Loop:
    """A session, a bridge, and what a test wants from them."""

    def __init__(self, port, supervisor, *, mode="lockstep", awaits=None, **bridge):
        config = SessionConfig(port=port)
        self.session = CarlaSession(config)
        self.session.load_town("Grid")
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        config = BridgeConfig(mode=mode, **bridge)
        self.bridge = BridgeNode(self.session, config, awaits=awaits, context=self.context)
        self.supervisor = supervisor
        self.plan_pubs = {}
        self.planners = {}
        self.closed = False

    def close(self):
        if self.closed:
            return
        self.closed = True
        self.bridge.close()
        rclpy.shutdown(context=self.context)
        self.session.close()

    def add_ego(self, role, rig=NO_SENSORS, point=0, mode="lockstep"):
        ego = self.session.spawn_ego(role, self.session.map.get_spawn_points()[point], rig)
        command = topology.node_command(
            topology.PLANNER, vehicle=role, parameters={"mode": mode, "plan_period_s": "0.1"}
        )
        self.planners[role] = self.supervisor.start(f"planner_{role}", command)
        publisher = self.bridge.create_publisher(Plan, f"/{role}/plan", qos.STATE)
        self.plan_pubs[role] = publisher
        self.bridge.wait_until(publisher.get_subscription_count, f"{role}'s planner", 20.0)
        return ego

    def publish(self, tick, speeds):
        self.bridge.publish(tick)
        if is_due(tick.stamp_ns, 0.1):
            for role, speed_mps in speeds.items():
                self.plan_pubs[role].publish(straight_plan(tick.stamp_ns, speed_mps))

    def drive(self, steps, speeds):
        """Straight plans of given speeds; returns one line of numbers per step."""
        lines = []
        for _ in range(steps):
            tick = self.session.tick()
            self.publish(tick, speeds)
            controls = self.bridge.collect_and_apply(tick)
            for role in sorted(controls):
                c, state = controls[role], tick.snapshot.find(self.session.egos[role].actor.id)
                place = state.get_transform()
                at, speed_mps = place.location, state.get_velocity().length()
                lines.append(
                    (c.throttle, c.steer, c.brake, at.x, at.y, place.rotation.yaw, speed_mps)
                )
        return lines


def straight_plan(stamp_ns, speed_mps):
    plan = Plan(step_s=0.5, source="test", y=[0.0] * 5)
    plan.x = [speed_mps * 0.5 * (i + 1) for i in range(5)]
    plan.header.stamp.sec, plan.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    return plan


@pytest.fixture
def supervisor(tmp_path):
    with Supervisor(tmp_path / "planners") as made:
        yield made


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """One world for the whole module: every test loads its town afresh."""
    first = free_ports(3).start
    with Supervisor(tmp_path_factory.mktemp("world")) as world:
        command = [sys.executable, "-m", "flad_sim", "--town", "Grid", "--port", str(first)]
        child = world.start("world", [*command, "--traffic", "3", "--seed", "4"])
        world.wait_until(
            lambda: "listening on" in child.log_file.read_text(), what="the world", deadline_s=120.0
        )
        yield first


@pytest.fixture
def loop(port, supervisor):
    made = []

    def make(**options):
        made.append(Loop(port, supervisor, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Listener:
    """Another participant that hears some of the bridge's topics."""

    def __init__(self, topics):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("listener", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard = {topic: [] for topic, _, _ in topics}
        for topic, kind, profile in topics:
            self.node.create_subscription(kind, topic, self.heard[topic].append, profile)

    def spin_until(self, condition, what, deadline_s=20.0):
        end_s = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < end_s, f"{what} did not happen"
            self.executor.spin_once(timeout_sec=0.02)

    def hears(self, condition, deadline_s=2.0):
        """Whether ``condition`` comes true before the deadline."""
        end_s = time.monotonic() + deadline_s
        while not condition() and time.monotonic() < end_s:
            self.executor.spin_once(timeout_sec=0.02)
        return bool(condition())

    def close(self):
        self.executor.remove_node(self.node)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


def fingerprint(lines):
    return hashlib.sha256(b"".join(struct.pack("<7d", *line) for line in lines)).hexdigest()


def test_two_egos_in_lockstep_repeat_bit_for_bit(loop):
    """The same world and the same plans: the same controls and poses; other plans: others."""
    prints = []
    for speeds in ((6.0, 4.0), (6.0, 4.0), (6.0, 4.5)):
        one = loop()
        one.add_ego("vehicle_0", point=0)
        one.add_ego("vehicle_1", point=40)
        lines = one.drive(80, {"vehicle_0": speeds[0], "vehicle_1": speeds[1]})
        prints.append(fingerprint(lines))
        ends = lines[-2][6], lines[-1][6]
        assert ends == pytest.approx(speeds, abs=0.5)
        one.close()
        one.supervisor.stop()

    assert prints[0] == prints[1]
    assert prints[0] != prints[2]


def test_what_is_published_is_what_the_client_measured(loop):
    one = loop()
    base = "/carla/vehicle_0"
    # Reliable subscriptions: a lost picture would say nothing about what was published.
    wanted = [
        ("/clock", Clock, qos.CLOCK),
        ("/tf", TFMessage, qos.TF),
        ("/tf_static", TFMessage, qos.TF_STATIC),
        (f"{base}/rgb/image", Image, qos.SENSOR_OUT),
        (f"{base}/rgb/camera_info", CameraInfo, qos.SENSOR_OUT),
        (f"{base}/slow/image", Image, qos.SENSOR_OUT),
        (f"{base}/lidar", PointCloud2, qos.SENSOR_OUT),
        (f"{base}/gnss", NavSatFix, qos.SENSOR_OUT),
        (f"{base}/imu", Imu, qos.SENSOR_OUT),
        (f"{base}/odometry", Odometry, qos.STATE),
        (f"{base}/speedometer", Float32, qos.STATE),
        (f"{base}/vehicle_status", CarlaEgoVehicleStatus, qos.STATE),
        (f"{base}/vehicle_info", CarlaEgoVehicleInfo, qos.LATCHED),
        (f"{base}/objects", ObjectArray, qos.STATE),
        ("/carla/traffic_lights/info", CarlaTrafficLightInfoList, qos.LATCHED),
        ("/carla/world_info", CarlaWorldInfo, qos.LATCHED),
    ]
    ego = one.add_ego("vehicle_0", SMALL_RIG)
    listener = Listener(wanted)
    heard = listener.heard
    try:
        one.drive(30, {"vehicle_0": 6.0})
        stamped = [t for t, k, q in wanted[3:] if hasattr(k(), "header") and q is not qos.LATCHED]
        stamped = [t for t in stamped if "objects" not in t]

        def latest(topic):
            for msg in reversed(heard[topic]):
                if (msg.header.stamp.sec, msg.header.stamp.nanosec) == now:
                    return msg
            return None

        # The listener is another participant and is matched topic by topic, when it is: what was
        # published before is not for it. Step until it hears every sensor of one step.
        for _ in range(60):
            tick = one.session.tick()
            one.publish(tick, {"vehicle_0": 6.0})
            now = divmod(tick.stamp_ns, 1_000_000_000)
            data = tick.data["vehicle_0"]
            if "slow" in data and listener.hears(lambda: all(map(latest, stamped))):
                break
            one.bridge.collect_and_apply(tick)
        else:
            missing = [topic for topic in stamped if not latest(topic)]
            pytest.fail(f"no step was heard whole; of the last one {missing} are missing")
        listener.spin_until(lambda: all(heard[t] for t, _, _ in wanted), "every topic")

        image = latest(f"{base}/rgb/image")
        assert (image.width, image.height, image.encoding) == (64, 48, "bgra8")
        assert image.step == 256
        assert bytes(image.data) == bytes(data["rgb"].raw_data)
        assert image.header.frame_id == "vehicle_0/rgb"

        info = latest(f"{base}/rgb/camera_info")
        assert info.k[0] == pytest.approx(32.0 / math.tan(math.radians(50.0)))
        assert (info.k[2], info.k[5]) == (32.0, 24.0)

        depth = np.frombuffer(latest(f"{base}/slow/image").data, dtype=np.float32)
        assert depth.size == 32 * 24
        assert 0.5 < depth[-16] < 20.0  # the road below the middle

        cloud = latest(f"{base}/lidar")
        mine = np.frombuffer(data["lidar"].raw_data, dtype=np.float32).reshape(-1, 4)
        theirs = np.frombuffer(cloud.data, dtype=np.float32).reshape(-1, 4)
        assert [f.name for f in cloud.fields] == ["x", "y", "z", "intensity"]
        assert (theirs == mine * np.array([1, -1, 1, 1], dtype=np.float32)).all()

        fix = latest(f"{base}/gnss")
        assert (fix.latitude, fix.longitude) == (data["gnss"].latitude, data["gnss"].longitude)
        imu, raw = latest(f"{base}/imu"), data["imu"]
        assert imu.linear_acceleration.z == pytest.approx(raw.accelerometer.z)
        assert imu.angular_velocity.z == pytest.approx(-raw.gyroscope.z)

        state = tick.snapshot.find(ego.actor.id)
        place, odometry = state.get_transform(), latest(f"{base}/odometry")
        at = odometry.pose.pose.position
        assert (at.x, at.y) == pytest.approx((place.location.x, -place.location.y))
        q = odometry.pose.pose.orientation
        assert 2 * math.atan2(q.z, q.w) == pytest.approx(-math.radians(place.rotation.yaw))
        assert odometry.twist.twist.linear.x == pytest.approx(
            state.get_velocity().length(), abs=0.05
        )
        assert odometry.header.frame_id == "map"
        assert odometry.child_frame_id == "vehicle_0"

        (moving,) = [t for t in heard["/tf"][-1].transforms if t.child_frame_id == "vehicle_0"]
        assert (moving.transform.translation.x, moving.header.frame_id) == (at.x, "map")
        fixed = {t.child_frame_id: t.transform for t in heard["/tf_static"][-1].transforms}
        assert {"vehicle_0/base_link", "vehicle_0/rgb", "vehicle_0/lidar"} <= fixed.keys()
        optical = fixed["vehicle_0/rgb"].rotation
        assert (optical.x, optical.y, optical.z, optical.w) == (-0.5, 0.5, -0.5, 0.5)

        assert heard[f"{base}/vehicle_info"][0].id == ego.actor.id
        assert heard["/carla/world_info"][0].opendrive.startswith("<")
        assert len(heard["/carla/traffic_lights/info"][0].traffic_lights) > 0
        objects = heard[f"{base}/objects"][-1].objects
        assert ego.actor.id not in {item.id for item in objects}
        assert len(objects) >= 1
        assert heard["/clock"]
    finally:
        listener.close()


def test_every_pair_of_endpoints_is_compatible(loop):
    """Bridge and planner on one side of each topic, on the other whoever really is there."""
    one = loop()
    one.add_ego("vehicle_0", SMALL_RIG)
    one.drive(4, {"vehicle_0": 5.0})
    met = set()
    for topic, _ in one.bridge.get_topic_names_and_types():
        for out in one.bridge.get_publishers_info_by_topic(topic):
            for into in one.bridge.get_subscriptions_info_by_topic(topic):
                verdict, reason = qos_check_compatible(out.qos_profile, into.qos_profile)
                assert verdict != QoSCompatibility.ERROR, f"{topic}: {reason}"
                met.add(topic)
    base = "/carla/vehicle_0"
    assert {f"{base}/odometry", f"{base}/vehicle_control_cmd", "/vehicle_0/plan"} <= met


def test_a_planner_that_is_gone_is_named(loop):
    one = loop()
    one.add_ego("vehicle_0", point=0)
    one.add_ego("vehicle_1", point=40)
    one.drive(10, {"vehicle_0": 5.0, "vehicle_1": 5.0})
    one.planners["vehicle_1"].process.send_signal(signal.SIGKILL)
    one.planners["vehicle_1"].process.wait(10)

    with pytest.raises(ControlTimeout) as caught:
        for _ in range(3):
            tick = one.session.tick()
            one.publish(tick, {"vehicle_0": 5.0, "vehicle_1": 5.0})
            one.bridge.wait_for_control(tick, deadline_s=1.0)

    assert caught.value.missing == ("vehicle_1",)
    assert "vehicle_0" not in str(caught.value)
    assert "FLAD-301" in str(caught.value)


def test_a_vehicle_without_a_planner_is_named_at_the_start(loop):
    one = loop()
    one.session.spawn_ego("vehicle_0", one.session.map.get_spawn_points()[0], NO_SENSORS)
    with pytest.raises(ControlTimeout, match="no planner for vehicle_0"):
        one.bridge.wait_for_planners(deadline_s=0.3)


def test_in_lockstep_the_first_step_waits_for_encoder_and_driver(loop):
    """What it brings before they hear it would be lost, and the world held for ever."""
    one = loop(control_deadline_s=0.3, awaits={"vehicle_0": ("encoder", "driver")})
    one.add_ego("vehicle_0")
    one.bridge.wait_for_planners(deadline_s=20.0)
    tick = one.session.tick()

    def complaint():
        try:
            one.bridge.publish(tick)
        except ControlTimeout as error:
            return str(error)
        return ""

    assert "vehicle_0: encoder, driver;" in complaint()
    clock = ("/clock", Clock, qos.CLOCK)
    others = Listener([clock, ("/vehicle_0/target_point", PointStamped, qos.STATE)])
    try:
        heard = others.node.create_publisher(DriverStatus, "/vehicle_0/driver_status", qos.LATCHED)
        others.spin_until(lambda: "vehicle_0: driver;" in complaint(), "the encoder being seen")
        assert not others.hears(lambda: others.heard["/clock"], deadline_s=0.5)
        heard.publish(DriverStatus())
        others.spin_until(lambda: not complaint(), "the driver being seen")
        others.spin_until(lambda: others.heard["/clock"], "the first step")
    finally:
        others.close()


def test_slow_cameras_see_at_multiples_of_their_period(port, supervisor, tmp_path):
    """Whatever the time is when the vehicles come: encoders answer multiples."""
    rig = tmp_path / "rig.yaml"
    rig.write_text(to_yaml(SMALL_RIG))
    for num_before in (0, 1):
        with CarlaSession(SessionConfig(port=port)) as session:
            session.load_town("Grid")
            for _ in range(num_before):
                session.tick()
            BridgeLoop(session, BridgeLoopConfig(egos=(EgoConfig(rig=rig),)), tmp_path)
            ticks = [session.tick() for _ in range(6)]
        with_picture = [t for t in ticks if "slow" in t.data["vehicle_0"]]
        assert len(with_picture) == 3
        assert all(is_due(t.stamp_ns, 0.1) for t in with_picture)


def test_impossible_controls_are_refused_and_the_bridge_lives(loop):
    one = loop(mode="realtime")
    one.session.spawn_ego("vehicle_0", one.session.map.get_spawn_points()[0], NO_SENSORS)
    sender = Listener([])
    control = sender.node.create_publisher(
        CarlaEgoVehicleControl, "/carla/vehicle_0/vehicle_control_cmd", qos.CONTROL
    )
    try:
        one.bridge.publish(one.session.tick())
        sender.spin_until(control.get_subscription_count, "the bridge being discovered")
        got = []
        for throttle in (0.5, math.nan, 7.0, 0.25):
            tick = one.session.tick()
            one.bridge.publish(tick)
            message = CarlaEgoVehicleControl(throttle=throttle)
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(
                tick.stamp_ns, 1_000_000_000
            )
            control.publish(message)
            one.bridge.wait_until(
                lambda stamp=tick.stamp_ns: one.bridge.last_control_ns("vehicle_0") == stamp,
                "the control",
                10.0,
            )
            answer = one.bridge.collect_and_apply(tick)["vehicle_0"]
            got.append((answer.throttle, answer.brake))
    finally:
        sender.close()

    assert got == [(0.5, 0.0), (0.0, 1.0), (0.0, 1.0), (0.25, 0.0)]
    assert one.bridge.num_refused("vehicle_0") == 2


def test_an_ackermann_command_drives_without_a_planner(loop):
    one = loop(mode="realtime")
    ego = one.session.spawn_ego("vehicle_0", one.session.map.get_spawn_points()[0], NO_SENSORS)
    sender = Listener([])
    command = sender.node.create_publisher(
        AckermannDrive, "/carla/vehicle_0/ackermann_cmd", qos.CONTROL
    )
    try:
        one.bridge.publish(one.session.tick())
        sender.spin_until(command.get_subscription_count, "the bridge being discovered")
        yaws, speeds = [], []
        for step in range(80):  # longer, and it would leave the road
            tick = one.session.tick()
            one.bridge.publish(tick)
            command.publish(AckermannDrive(speed=4.0, steering_angle=0.1))
            if step == 0:
                one.bridge.wait_until(
                    lambda tick=tick: not one.bridge.newest_control(tick), "the command", 10.0
                )
            assert one.bridge.collect_and_apply(tick) == {}
            state = tick.snapshot.find(ego.actor.id)
            speeds.append(state.get_velocity().length())
            yaws.append(state.get_transform().rotation.yaw)
    finally:
        sender.close()

    assert speeds[-1] == pytest.approx(4.0, abs=0.5)
    turned = math.remainder(yaws[-1] - yaws[20], 360.0)
    assert turned < -8.0  # steering_angle is positive to the left, CARLA's yaw to the right


def test_pause_and_step_once(loop):
    one = loop(mode="realtime")
    one.session.spawn_ego("vehicle_0", one.session.map.get_spawn_points()[0], NO_SENSORS)
    sender = Listener([])
    pause = sender.node.create_publisher(CarlaControl, "/carla/control", qos.CONTROL)
    try:
        one.bridge.publish(one.session.tick())
        sender.spin_until(pause.get_subscription_count, "the bridge being discovered")
        pause.publish(CarlaControl(command=CarlaControl.PAUSE))
        one.bridge.wait_until(lambda: one.bridge.is_paused, "the pause", 10.0)
        pause.publish(CarlaControl(command=CarlaControl.STEP_ONCE))
        one.bridge.wait_while_paused()
        assert one.bridge.is_paused
        pause.publish(CarlaControl(command=CarlaControl.PLAY))
        one.bridge.wait_while_paused()
        assert not one.bridge.is_paused
    finally:
        sender.close()


def test_a_new_vehicle_in_the_same_role_keeps_its_topics(loop):
    """As the next route of an evaluation does: no rediscovery, no stale control."""
    one = loop()
    one.add_ego("vehicle_0", point=0)
    one.drive(20, {"vehicle_0": 6.0})
    one.session.load_town("Grid")
    second = one.session.spawn_ego("vehicle_0", one.session.map.get_spawn_points()[5], SMALL_RIG)
    lines = one.drive(20, {"vehicle_0": 6.0})

    assert lines[0][2] == 1.0 or lines[0][0] > 0.0
    assert lines[-1][6] > 2.0
    assert second.actor.is_alive


def test_the_standing_bridge_steps_in_real_time_and_ends_cleanly(port, tmp_path):
    config = tmp_path / "bridge.yaml"
    (tmp_path / "rig.yaml").write_text("sensors:\n  - {id: gnss, type: sensor.other.gnss}\n")
    config.write_text("egos:\n  - {role: vehicle_0, rig: rig.yaml}\nbridge: {mode: realtime}\n")
    command = topology.node_command(
        topology.BRIDGE, arguments=("--config", str(config), "--port", str(port))
    )
    listener = Listener([("/carla/vehicle_0/gnss", NavSatFix, qos.SENSOR)])
    with Supervisor(tmp_path / "logs") as supervisor:
        child = supervisor.start("bridge", command)
        supervisor.wait_until(
            lambda: (
                listener.executor.spin_once(timeout_sec=0.02)
                or len(listener.heard["/carla/vehicle_0/gnss"]) > 5
            ),
            what="five fixes",
            deadline_s=60.0,
        )
        child.process.send_signal(signal.SIGINT)
        assert supervisor.wait(child, deadline_s=20.0) == 0, child.tail(50)
        assert "Traceback" not in child.log_file.read_text()
    listener.close()
    client = carla.Client("127.0.0.1", port)
    client.set_timeout(10.0)
    world = client.get_world()
    assert not world.get_settings().synchronous_mode
    world.wait_for_tick(10.0)
    roles = {actor.attributes["role_name"] for actor in world.get_actors().filter("vehicle.*")}
    assert "vehicle_0" not in roles
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
    world.apply_settings(settings)  # a silent server: the client's threads end in peace


@pytest.mark.parametrize(
    "text, words",
    [
        ("egos: [{role: vehicle_0, rig: nowhere.yaml}]\n", "nowhere.yaml"),
        ("egos: [{role: vehicle_0, spawn_pont: 3}]\n", "has no ['spawn_pont']"),
        ("town: Atlantis\n", "has no town 'Atlantis'"),
        ("egos: [{role: vehicle_0, rig: RIG, spawn_point: 100000}]\n", "spawn_point is 100000"),
    ],
)
def test_a_bad_start_is_told_in_words(port, tmp_path, workspace, text, words):
    config = tmp_path / "bridge.yaml"
    config.write_text(text.replace("RIG", str(workspace.config / "rigs/demo.yaml")))
    with Supervisor(tmp_path / "logs") as supervisor:
        command = [sys.executable, "-m", "flad_carla.bridge_node", "--config", str(config)]
        child = supervisor.start("bridge", [*command, "--port", str(port)])
        assert supervisor.wait(child, deadline_s=60.0) == 1
        assert words in child.tail(50)
        assert "Traceback" not in child.tail(50)


def test_session_errors_are_told_in_words(port, workspace):
    config = SessionConfig(port=free_ports(3).start, connect_wait_s=0.2)
    with pytest.raises(ServerUnreachable, match=f"no simulator at {config.address}"):
        CarlaSession(config)
    with CarlaSession(replace(config, port=port, connect_wait_s=20.0)) as session:
        with pytest.raises(TownError, match=r"'Nowhere'.*'Grid'"):
            session.load_town("Nowhere")
        with pytest.raises(TownError, match=r"missing\.xodr cannot be read"):
            session.load_town(Path("missing.xodr"))
        session.load_town("Grid")
        place = session.map.get_spawn_points()[0]
        with pytest.raises(SpawnError, match="lincoln"):
            session.spawn_ego("vehicle_0", place, NO_SENSORS, "vehicle.lincoln.mkz_2021")
        odd = from_mapping(
            Rig, {"sensors": [{"id": "c", "type": "sensor.camera.rgb", "attributes": {"fovv": 1}}]}
        )
        with pytest.raises(SpawnError, match="no attribute 'fovv'"):
            session.spawn_ego("vehicle_0", place, odd)
        session.spawn_ego("vehicle_0", place, load_rig(workspace.config / "rigs/minimal.yaml"))
        with pytest.raises(SpawnError, match="no room"):
            session.spawn_ego("vehicle_1", place, NO_SENSORS)
        tick = session.tick()
        assert set(tick.data["vehicle_0"]) == {"rgb_front", "gnss", "imu"}
