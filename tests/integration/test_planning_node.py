# SPDX-License-Identifier: Apache-2.0
"""Vehicles speak, the edge's planning node answers who trains with whom and draws it."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import rclpy
from flad_msgs.msg import FleetVehicle
from flad_msgs.srv import PlanPipelines
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from visualization_msgs.msg import Marker, MarkerArray

from flad_common.ros.qos import MANY, VIEW
from flad_edge.planning_node import PlanningNode
from flad_edge.swift.random_problems import random_model

_DEADLINE_S = 90.0


@pytest.fixture
def edge(tmp_path):
    """The node, active, and an executor with it and a vehicle's node."""
    model = random_model(np.random.default_rng(1), num_units=12, least_bytes=9e9, flops=1e11)
    units = tmp_path / "units.json"
    units.write_text(json.dumps(model.as_json()), encoding="utf-8")
    context = rclpy.Context()
    rclpy.init(context=context)
    given = {"task.units": str(units), "task.samples": 800, "period_s": 0.2, "lost_s": 2.0}
    node = PlanningNode(
        context=context, parameter_overrides=[Parameter(k, value=v) for k, v in given.items()]
    )
    rest = rclpy.create_node("rest", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    executor.add_node(rest)
    assert node.trigger_configure().name == node.trigger_activate().name == "SUCCESS"
    yield node, rest, executor
    node.close()
    executor.shutdown()
    node.destroy_node()
    rest.destroy_node()
    rclpy.try_shutdown(context=context)


def _vehicle(name, x, **more):
    values = {"device": "nano", "dwell_s": 300.0, "speed": 3.0} | more
    return FleetVehicle(vehicle=name, x=x, **values)


def _ask(rest, executor, vehicles=()):
    client = rest.create_client(PlanPipelines, "edge/plan_pipelines")
    assert client.wait_for_service(_DEADLINE_S), "nobody serves edge/plan_pipelines"
    future = client.call_async(PlanPipelines.Request(vehicles=list(vehicles)))
    executor.spin_until_future_complete(future, _DEADLINE_S)
    assert future.done(), "no answer came"
    rest.destroy_client(client)
    return future.result()


def test_who_is_asked_for_is_planned_and_what_cannot_be_is_refused(edge):
    _, rest, executor = edge
    there = [_vehicle(f"vehicle_{i}", 10.0 * i) for i in range(4)]
    answer = _ask(rest, executor, [*there, _vehicle("lonely", 900.0)])
    assert answer.refused == "" and "lonely" in answer.left_over and answer.clusters
    assert len(answer.left_over_why) == len(answer.left_over)
    for cluster in answer.clusters:
        assert [p.first for p in cluster.pipelines] == cluster.vehicles
        for pipeline in cluster.pipelines:
            if pipeline.stages:
                ends = [stage.end for stage in pipeline.stages]
                assert [s.begin for s in pipeline.stages] == [0, *ends[:-1]] and ends[-1] == 12
                assert pipeline.stages[0].vehicle == pipeline.first
        gone = sorted(name for t in cluster.templates for name in t.gone)
        assert gone == sorted(cluster.vehicles)
    named = [*answer.left_over, *(name for c in answer.clusters for name in c.vehicles)]
    assert sorted(named) == ["lonely", *(v.vehicle for v in there)]
    refused = _ask(rest, executor, [_vehicle("vehicle_0", float("nan"))])
    assert "position (nan, 0.0) is not finite" in refused.refused and not refused.clusters


def test_what_is_heard_is_planned_drawn_and_forgotten(edge):
    _, rest, executor = edge
    drawn = []
    rest.create_subscription(MarkerArray, "edge/fleet_markers", drawn.append, VIEW)
    pub = rest.create_publisher(FleetVehicle, "edge/fleet", MANY)
    until, answer = time.monotonic() + _DEADLINE_S, None
    while time.monotonic() < until:
        for i in range(3):
            pub.publish(_vehicle(f"vehicle_{i}", 10.0 * i))
        said = time.monotonic()
        while time.monotonic() < said + 0.1:  # who speaks faster than it is heard fills the queue
            executor.spin_once(0.02)
        lines = [m for m in (drawn[-1].markers if drawn else []) if m.ns == "pipelines"]
        if lines and (answer := _ask(rest, executor)).clusters:
            break
    assert answer is not None and answer.clusters, "three vehicles spoke, and nothing was planned"
    markers = drawn[-1].markers
    assert markers[0].action == Marker.DELETEALL
    assert {"coverage", "vehicles", "pipelines"} <= {m.ns for m in markers}
    while time.monotonic() < until and _ask(rest, executor).clusters:
        executor.spin_once(0.2)
    assert not _ask(rest, executor).clusters, "all are silent, and still they are planned"
