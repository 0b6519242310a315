# SPDX-License-Identifier: Apache-2.0
"""Who asked for a round hears its end, also from an edge that came back and knows of nobody."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pytest
import rclpy
from flad_msgs.action import TrainRound
from flad_msgs.msg import FleetVehicle, TrainOrder
from rclpy.action import ActionServer
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future

from flad_bringup.federate.watch_node import FederationWatch
from flad_common.ros.qos import MANY
from flad_edge.ros.planning_messages import FLEET
from flad_pipeline.partition import Partition, Span
from flad_pipeline.ros.round_messages import ORDERS, ROUND, order_to_msg
from flad_pipeline.round.order import Order, OrderKind

_DEADLINE_S = 60.0
_AGAIN_S = 0.5


class _Edge:
    """Takes goals; says how the round ended, or nothing at all."""

    def __init__(self, *, answers: bool) -> None:
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = Node("edge", context=self._context, enable_rosout=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._answers = answers
        self.asked: list[int] = []
        self._server = ActionServer(self._node, TrainRound, ROUND, execute_callback=self._execute)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    async def _execute(self, goal) -> TrainRound.Result:
        self.asked.append(goal.request.round)
        if not self._answers:
            await Future(executor=self._executor)
        goal.succeed()
        return TrainRound.Result(completed=True, round=goal.request.round, report="{}")

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(_DEADLINE_S)
        self._server.destroy()
        self._node.destroy_node()
        self._context.try_shutdown()


@pytest.fixture
def watch():
    watch = FederationWatch(int(os.environ["ROS_DOMAIN_ID"]), again_s=_AGAIN_S)
    yield watch
    watch.close()


def spin(watch: FederationWatch, done: Callable[[], object]) -> None:
    end_s = time.monotonic() + _DEADLINE_S
    while not done():
        assert time.monotonic() < end_s, "the edge was not heard"
        watch.spin()


def test_an_edge_that_says_nothing_is_asked_again_and_the_next_one_answers(watch):
    silent = _Edge(answers=False)
    spin(watch, watch.edge_is_there)
    assert watch.result() is None  # nobody has asked: so it asks nobody
    watch.ask(3, steps=5, deadline_s=60.0)
    spin(watch, lambda: watch.result() or len(silent.asked) >= 2)
    assert watch.result() is None
    silent.close()

    edge = _Edge(answers=True)
    spin(watch, watch.result)
    assert watch.result().completed
    assert set(edge.asked) == {3}
    edge.close()


def test_an_order_is_remembered_with_where_vehicles_were_when_it_was_said(watch):
    """What the report's map draws; a place that is said later belongs to later orders."""
    context = Context()
    rclpy.init(context=context)
    node = Node("others", context=context, enable_rosout=False)
    fleet = node.create_publisher(FleetVehicle, FLEET, MANY)
    orders = node.create_publisher(TrainOrder, ORDERS, MANY)

    def order(number: int) -> TrainOrder:
        whole = Partition(
            digest="d",
            num_units=3,
            heads_from=2,
            stages=(Span(vehicle="vehicle_0", first=0, last=1),),
        )
        return order_to_msg(
            Order(
                kind=OrderKind.TRAIN,
                order=number,
                vehicles=("vehicle_0",),
                pipelines=(whole,),
                end_step=1,
            )
        )

    for number, x in ((1, 10.0), (2, 20.0)):

        def said(number: int = number, x: float = x) -> bool:
            fleet.publish(FleetVehicle(vehicle="vehicle_0", device="nano", x=x, y=-1.0))
            watch.spin()
            if watch.place_m.get("vehicle_0") == (x, -1.0):
                orders.publish(order(number))
            return number in watch.places_m

        spin(watch, said)
    assert watch.places_m[1] == {"vehicle_0": (10.0, -1.0)}
    assert watch.places_m[2] == {"vehicle_0": (20.0, -1.0)}
    node.destroy_node()
    context.try_shutdown()
