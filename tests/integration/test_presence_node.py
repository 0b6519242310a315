# SPDX-License-Identifier: Apache-2.0
"""Three vehicles hear their own odometry, say who they are, and the edge plans and draws them."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import rclpy
from flad_msgs.srv import PlanPipelines
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from visualization_msgs.msg import MarkerArray

from flad_common.ros.qos import STATE, VIEW
from flad_edge.planning_node import PlanningNode
from flad_edge.presence_node import PresenceNode
from flad_edge.swift.random_problems import random_model

_DEADLINE_S = 90.0
_NAMES = ("vehicle_0", "vehicle_1", "vehicle_2")


class _Rig:
    """An edge and three vehicles in one context."""

    def __init__(self, folder):
        model = random_model(np.random.default_rng(1), num_units=12, least_bytes=9e9, flops=1e11)
        units = folder / "units.json"
        units.write_text(json.dumps(model.as_json()), encoding="utf-8")
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.rest = rclpy.create_node("rest", context=self.context)
        given = {"task.units": str(units), "task.samples": 80, "period_s": 0.2, "lost_s": 1.5}
        self.edge = self._made(PlanningNode, given)
        self.vehicles = [
            self._made(
                PresenceNode,
                {"period_s": 0.1, "vehicle.device": "nano"},
                namespace=f"/{name}",
                cli_args=["--ros-args", "-r", "edge/fleet:=/edge/fleet"],
            )
            for name in _NAMES
        ]
        self.executor = SingleThreadedExecutor(context=self.context)
        for node in (self.rest, self.edge, *self.vehicles):
            self.executor.add_node(node)
        for node in (self.edge, *self.vehicles):
            assert node.trigger_configure().name == node.trigger_activate().name == "SUCCESS"
        self._odometry = [
            self.rest.create_publisher(Odometry, f"/{name}/odometry", STATE) for name in _NAMES
        ]

    def _made(self, kind, given, **more):
        parameters = [Parameter(k, value=v) for k, v in given.items()]
        return kind(context=self.context, parameter_overrides=parameters, **more)

    def drive(self, silent=()):
        """All but some hear where they are, 20 m from each other."""
        for i, publisher in enumerate(self._odometry):
            if i not in silent:
                message = Odometry()
                message.pose.pose.position.x = 20.0 * i
                message.pose.pose.orientation.w = 1.0
                message.twist.twist.linear.x = 2.0
                publisher.publish(message)
        self.executor.spin_once(0.05)

    def plan(self):
        client = self.rest.create_client(PlanPipelines, "edge/plan_pipelines")
        assert client.wait_for_service(_DEADLINE_S), "nobody serves edge/plan_pipelines"
        future = client.call_async(PlanPipelines.Request())
        self.executor.spin_until_future_complete(future, _DEADLINE_S)
        self.rest.destroy_client(client)
        assert future.done(), "no answer came"
        return future.result()

    def close(self):
        for node in (*self.vehicles, self.edge):
            node.close()
        self.executor.shutdown()
        for node in (*self.vehicles, self.edge, self.rest):
            node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def rig(tmp_path):
    made = _Rig(tmp_path)
    yield made
    made.close()


def _until(rig, ready, silent=()):
    end_s = time.monotonic() + _DEADLINE_S
    while time.monotonic() < end_s:
        for _ in range(20):
            rig.drive(silent)
        if ready(answer := rig.plan()):
            return answer
    return answer


def _planned(answer):
    return {name for cluster in answer.clusters for name in cluster.vehicles}


def test_the_edge_plans_from_what_vehicles_say_and_forgets_who_is_silent(rig):
    drawn = []
    rig.rest.create_subscription(MarkerArray, "edge/fleet_markers", drawn.append, VIEW)

    answer = _until(rig, lambda a: len(_planned(a)) >= 2)
    assert answer.refused == "" and _planned(answer) <= set(_NAMES)

    def dots():
        return [m for m in drawn[-1].markers if m.ns == "vehicles"] if drawn else []

    _until(rig, lambda _: len(dots()) == 3)
    assert sorted(round(m.pose.position.x) for m in dots()) == [0, 20, 40]

    # a vehicle without odometry does not know where it is, and says nothing
    gone = _until(rig, lambda a: "vehicle_1" not in {*_planned(a), *a.left_over}, silent=(1,))
    assert "vehicle_1" not in {*_planned(gone), *gone.left_over, *gone.alone}
