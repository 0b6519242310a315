# SPDX-License-Identifier: Apache-2.0
"""The planner as its own process, over real DDS; this process plays bridge and driver."""

from __future__ import annotations

import math
import time

import pytest
import rclpy
from carla_msgs.msg import (
    CarlaEgoVehicleControl,
    CarlaEgoVehicleInfo,
    CarlaEgoVehicleInfoWheel,
)
from flad_msgs.msg import Plan, PlannerStatus, ScenePrediction
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry, Path
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Bool
from visualization_msgs.msg import MarkerArray

from flad_bringup import topology
from flad_common.ros.qos import CONTROL, LATCHED, SCENE, STATE, VIEW
from flad_common.supervision import Supervisor
from flad_planner.pursuit import PursuitConfig

ROLE = "vehicle_0"
STEP_NS = 50_000_000


class Stand:
    """Bridge and driver of one planner process."""

    def __init__(self, supervisor, *, autostart=True, **parameters):
        command = topology.node_command(topology.PLANNER, vehicle=ROLE, parameters=parameters)
        if not autostart:
            command = [word for word in command if word != "autostart:=true"]
            command.remove("-p")
        self.child = supervisor.start("planner", command)
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("stand", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        base = f"/carla/{ROLE}"
        self.odometry_pub = self.node.create_publisher(Odometry, f"{base}/odometry", STATE)
        self.plan_pub = self.node.create_publisher(Plan, f"/{ROLE}/plan", STATE)
        self.prediction_pub = self.node.create_publisher(
            ScenePrediction, f"/{ROLE}/scene_prediction", SCENE
        )
        self.manual_pub = self.node.create_publisher(
            CarlaEgoVehicleControl, f"{base}/vehicle_control_cmd_manual", CONTROL
        )
        self.override_pub = self.node.create_publisher(
            Bool, f"{base}/vehicle_control_manual_override", LATCHED
        )
        self.info_pub = self.node.create_publisher(
            CarlaEgoVehicleInfo, f"{base}/vehicle_info", LATCHED
        )
        self.heard = {name: [] for name in ("control", "status", "path", "markers")}
        for name, kind, topic, qos in (
            ("control", CarlaEgoVehicleControl, f"{base}/vehicle_control_cmd", CONTROL),
            ("status", PlannerStatus, f"/{ROLE}/planner_status", STATE),
            ("path", Path, f"/{ROLE}/planned_path", VIEW),
            ("markers", MarkerArray, f"/{ROLE}/planner_markers", VIEW),
        ):
            self.node.create_subscription(kind, topic, self.heard[name].append, qos)
        self.now_ns = 0
        if not autostart:  # it has no topics before
            assert self.transition(Transition.TRANSITION_CONFIGURE)
        self.until(
            lambda: (
                self.odometry_pub.get_subscription_count()
                and self.plan_pub.get_subscription_count()
                and self.prediction_pub.get_subscription_count()
                and self.manual_pub.get_subscription_count()
            ),
            "the planner being discovered",
        )

    def close(self):
        self.executor.remove_node(self.node)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def until(self, condition, what, deadline_s=20.0):
        end_s = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < end_s, f"{what} did not happen\n{self.child.tail()}"
            self.executor.spin_once(timeout_sec=0.02)

    def odometry(self, speed_mps=6.0, x_m=0.0):
        self.now_ns += STEP_NS
        msg = Odometry()
        msg.header.frame_id, msg.child_frame_id = "map", ROLE
        self.stamp(msg)
        msg.pose.pose.position.x = x_m
        msg.pose.pose.orientation.w = 1.0
        msg.twist.twist.linear.x = speed_mps
        self.odometry_pub.publish(msg)

    def info(self, full_steer_deg, wheelbase_m=2.8):
        """The geometry of the car."""
        msg = CarlaEgoVehicleInfo()
        for along, angle in ((0.5, full_steer_deg), (-0.5, 0.0)):
            wheel = CarlaEgoVehicleInfoWheel(max_steer_angle=math.radians(angle))
            wheel.position.x = along * wheelbase_m
            msg.wheels.append(wheel)
        self.info_pub.publish(msg)

    def plan(self, speed_mps=6.0, xs=None, left_m=0.0):
        msg = Plan(step_s=0.5, source="test")
        self.stamp(msg)
        msg.x = xs or [speed_mps * 0.5 * (i + 1) for i in range(5)]
        msg.y = [left_m] * len(msg.x)
        self.plan_pub.publish(msg)

    def prediction(self, *ahead_m):
        """Cars that stand straight ahead."""
        msg = ScenePrediction(box_x=list(ahead_m))
        self.stamp(msg)
        count = len(ahead_m)
        msg.box_y, msg.box_yaw, msg.box_speed = [0.0] * count, [0.0] * count, [0.0] * count
        msg.box_half_length, msg.box_half_width = [2.2] * count, [0.9] * count
        msg.box_score = [0.9] * count
        self.prediction_pub.publish(msg)

    def stamp(self, msg):
        msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(self.now_ns, 1_000_000_000)

    def answered(self):
        return [
            m.header.stamp.sec * 1_000_000_000 + m.header.stamp.nanosec
            for m in self.heard["control"]
        ]

    def step(self, plan=True, **odometry):
        """One step of a realtime world: odometry, plan, and the answer to the odometry."""
        if plan:
            self.now_ns += STEP_NS
            self.plan()
            self.now_ns -= STEP_NS
        self.odometry(**odometry)
        self.until(lambda: self.now_ns in self.answered(), f"an answer to {self.now_ns}")
        self.until(
            lambda: self.heard["status"] and self.last_status_ns() == self.now_ns, "its status"
        )

    def last_status_ns(self):
        stamp = self.heard["status"][-1].header.stamp
        return stamp.sec * 1_000_000_000 + stamp.nanosec

    def transition(self, number):
        client = self.node.create_client(ChangeState, f"/{ROLE}/planner/change_state")
        self.until(client.service_is_ready, "the lifecycle service")
        future = client.call_async(ChangeState.Request(transition=Transition(id=number)))
        self.until(future.done, f"transition {number}")
        return future.result().success


@pytest.fixture
def stand(tmp_path):
    made = []
    with Supervisor(tmp_path / "logs") as supervisor:

        def make(**parameters):
            made.append(Stand(supervisor, **parameters))
            return made[-1]

        yield make
        for one in made:
            one.close()


def test_lockstep_answers_every_odometry_once_and_waits_for_the_plan(stand):
    s = stand(mode="lockstep", plan_period_s="0.1")
    for step in range(1, 41):
        s.odometry(x_m=0.3 * step)
        if step % 2 == 0:  # a plan is due: without it there is no answer
            for _ in range(3):
                s.executor.spin_once(timeout_sec=0.02)
            assert s.now_ns not in s.answered()
            s.plan()
        s.until(lambda: s.now_ns in s.answered(), f"an answer to step {step}")

    s.until(lambda: len(s.heard["status"]) >= 40, "a status of every step")
    assert s.answered() == [STEP_NS * step for step in range(1, 41)]
    states = {m.state for m in s.heard["status"][2:]}
    assert states == {PlannerStatus.FOLLOWING}


def test_lockstep_waits_for_what_is_detected_and_brakes_for_it(stand):
    s = stand(mode="lockstep", plan_period_s="0.1", prediction_period_s="0.2")
    for step in range(1, 41):
        s.odometry(x_m=0.3 * step)
        if step % 2 == 0:
            s.plan()
        if step % 4 == 0:
            for _ in range(3):
                s.executor.spin_once(timeout_sec=0.02)
            assert s.now_ns not in s.answered()
            s.prediction(*[20.0 - 0.3 * step] if step > 12 else [])
        s.until(lambda: s.now_ns in s.answered(), f"an answer to step {step}")

    s.until(lambda: len(s.heard["status"]) >= 40, "a status of every step")
    brakes = [m.brake for m in s.heard["control"]]
    assert set(brakes[2:12]) == {0.0} and brakes[-1] == 1.0
    assert s.heard["status"][-1].state == PlannerStatus.FOLLOWING
    assert "a road user is" in s.heard["status"][-1].reason


def test_a_prediction_that_does_not_hold_together_is_left_out(stand):
    s = stand(mode="realtime")
    for step in range(6):
        broken = ScenePrediction(box_x=[5.0, 6.0], box_y=[0.0])
        s.stamp(broken)
        s.prediction_pub.publish(broken)
        s.step(x_m=0.3 * step)
    assert s.heard["control"][-1].brake == 0.0
    s.until(lambda: "columns of" in s.child.tail(50), "a warning")


def test_lockstep_takes_a_plan_that_is_faster_than_its_odometry(stand):
    s = stand(mode="lockstep", plan_period_s="0.05")
    for step in range(1, 11):
        s.now_ns += STEP_NS
        s.plan()
        for _ in range(2):
            s.executor.spin_once(timeout_sec=0.01)
        s.now_ns -= STEP_NS
        s.odometry(x_m=0.3 * step)
        s.until(lambda: s.now_ns in s.answered(), f"an answer to step {step}")

    s.until(lambda: len(s.heard["status"]) >= 10, "a status of every step")
    assert [m.plan_age_s for m in s.heard["status"]] == [0.0] * 10


def test_realtime_follows_refuses_goes_stale_and_obeys_a_person(stand):
    s = stand(mode="realtime")
    s.step(plan=False)
    assert s.heard["status"][-1].state == PlannerStatus.STARTING
    assert s.heard["control"][-1].brake == 1.0

    s.step()
    assert s.heard["status"][-1].state in (PlannerStatus.STARTING, PlannerStatus.FOLLOWING)
    s.step()
    assert s.heard["status"][-1].state == PlannerStatus.FOLLOWING
    assert s.heard["status"][-1].desired_speed_mps == pytest.approx(6.0, abs=1e-3)

    s.plan(xs=[3.0, math.nan, 9.0, 12.0, 15.0])
    s.step(plan=False)
    s.step(plan=False)
    assert s.heard["status"][-1].state == PlannerStatus.REFUSED
    assert "waypoint 1 is (nan" in s.heard["status"][-1].reason

    for _ in range(12):
        s.step(plan=False)
    assert s.heard["status"][-1].state == PlannerStatus.STALE
    assert 0.0 < s.heard["control"][-1].brake < 1.0
    s.step(plan=False, speed_mps=0.0)
    assert s.heard["status"][-1].state == PlannerStatus.STOPPED
    assert s.heard["control"][-1].brake == 1.0

    s.override_pub.publish(Bool(data=True))
    s.manual_pub.publish(CarlaEgoVehicleControl(throttle=0.4, steer=-0.2))

    def under_manual_control():
        s.step(plan=False)
        return s.heard["control"][-1].throttle == pytest.approx(0.4)

    s.until(under_manual_control, "manual control")
    assert s.heard["status"][-1].state == PlannerStatus.MANUAL
    s.until(lambda: s.heard["control"][-1].brake == 1.0 or s.step(plan=False), "the watchdog")
    assert s.heard["status"][-1].state == PlannerStatus.MANUAL
    assert "no manual command" in s.heard["status"][-1].reason
    s.override_pub.publish(Bool(data=False))
    s.until(lambda: s.heard["status"][-1].state != PlannerStatus.MANUAL or s.step(), "the release")
    assert s.heard["path"] and s.heard["path"][-1].header.frame_id == "map"
    assert {m.ns for m in s.heard["markers"][-1].markers} == {"plan", "state"}


def test_realtime_brakes_when_the_odometry_falls_silent(stand):
    s = stand(mode="realtime", odometry_watchdog_s="0.2")
    for _ in range(3):
        s.step()
    assert s.heard["control"][-1].brake == 0.0
    s.until(lambda: s.heard["control"][-1].brake == 1.0, "the watchdog")
    assert s.answered()[-1] == s.now_ns


def test_it_does_nothing_before_it_is_activated_and_brakes_when_deactivated(stand):
    s = stand(autostart=False, mode="realtime")
    s.odometry()
    for _ in range(5):
        s.executor.spin_once(timeout_sec=0.02)
    assert s.heard["control"] == []
    assert s.transition(Transition.TRANSITION_ACTIVATE)
    s.step()
    s.step()
    assert s.heard["control"][-1].brake == 0.0
    count = len(s.heard["control"])
    assert s.transition(Transition.TRANSITION_DEACTIVATE)
    s.until(lambda: len(s.heard["control"]) > count, "the last brake")
    assert s.heard["control"][-1].brake == 1.0
    assert s.transition(Transition.TRANSITION_CLEANUP)
    assert s.transition(Transition.TRANSITION_CONFIGURE)
    assert s.transition(Transition.TRANSITION_ACTIVATE)


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"planner.law.max_throttle": "2.0"}, "max_throttle must be in (0, 1], got 2.0"),
        ({"mode": "sometimes"}, "is one of ['lockstep', 'realtime'], got 'sometimes'"),
        ({"plan_period_s": "0.0"}, "plan_period_s must be positive"),
        ({"prediction_period_s": "-0.1"}, "prediction_period_s must not be negative"),
    ],
)
def test_a_wrong_parameter_ends_it_with_words(tmp_path, parameters, words):
    with Supervisor(tmp_path / "logs") as supervisor:
        command = topology.node_command(topology.PLANNER, vehicle=ROLE, parameters=parameters)
        child = supervisor.start("planner", command)
        assert supervisor.wait(child, deadline_s=30.0) != 0
        assert words in child.tail(100)


def steers(stand):
    """What it answers to a plan to the left."""
    count = len(stand.heard["control"])
    stand.odometry()
    stand.plan(left_m=0.5)
    stand.until(lambda: len(stand.heard["control"]) > count, "a control")
    return stand.heard["control"][-1].steer


def test_it_steers_the_car_that_the_vehicle_info_describes(stand):
    one = stand(mode="lockstep", plan_period_s=0.05, **{"planner.control_period_s": 0.05})
    car = PursuitConfig()
    one.until(lambda: steers(one) < 0.0, "steering")
    known = steers(one)  # of the car in the configuration

    for full_steer_deg in (30.0, 60.0):
        wanted = pytest.approx(known * car.full_steer_deg / full_steer_deg, rel=0.02)
        one.info(full_steer_deg, car.wheelbase_m)
        one.until(lambda: steers(one) == wanted, f"a car of {full_steer_deg} degrees")  # noqa: B023

    for nonsense in (120.0, 0.0):
        one.info(nonsense)
        for _ in range(20):
            assert steers(one) == wanted
