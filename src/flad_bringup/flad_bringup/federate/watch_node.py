# SPDX-License-Identifier: Apache-2.0
"""ROS side of ``./flad federate``: asks for rounds, hears orders and statuses. Decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import rclpy
from action_msgs.msg import GoalStatus
from flad_msgs.action import TrainRound
from flad_msgs.msg import FleetVehicle, TrainOrder, TrainStatus
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from flad_common.ros.qos import MANY
from flad_edge.ros.planning_messages import FLEET
from flad_pipeline.ros.round_messages import (
    ORDERS,
    ROUND,
    STATUSES,
    order_from_msg,
    status_from_msg,
)
from flad_pipeline.round.order import Order, OrderKind, Status

_SPIN_S = 0.02
_AGAIN_S = 5.0  # the edge speaks ten times in it


class FederationWatch:
    """A node in a domain. Single-threaded: callbacks run in :meth:`spin`.

    Args:
        domain_id: of ROS.
        on_event: told what the edge says.
        again_s: an edge that says nothing of the round for so long is asked again.
        on_status: told every word of a vehicle.
    """

    def __init__(
        self,
        domain_id: int,
        on_event: Callable[[str], None] = lambda _: None,
        *,
        again_s: float = _AGAIN_S,
        on_status: Callable[[Status], None] = lambda _: None,
    ) -> None:
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain_id)
        self._node = Node("federation_watch", context=self._context, enable_rosout=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._on_event, self._again_s = on_event, again_s
        self._tell_status = on_status
        self.statuses: dict[str, Status] = {}
        self.heard_s: dict[str, float] = {}
        self.most_bytes: dict[str, int] = {}
        """The most that a vehicle's process has had."""
        self.orders: dict[str, Order] = {}
        """The newest that says TRAIN, by client."""
        self.told: list[tuple[float, Order]] = []
        """Every one that says TRAIN, with the time at which it was first heard."""
        self.places_m: dict[int, dict[str, tuple[float, float]]] = {}
        """Where vehicles had said that they were, by the number of such an order."""
        self.place_m: dict[str, tuple[float, float]] = {}
        """Where each vehicle said last that it is."""
        self._node.create_subscription(TrainStatus, STATUSES, self._on_status, MANY)
        self._node.create_subscription(TrainOrder, ORDERS, self._on_order, MANY)
        self._node.create_subscription(FleetVehicle, FLEET, self._on_place, MANY)
        self._client = ActionClient(self._node, TrainRound, ROUND)
        self._goal: Any = None
        self._asked: list[Any] = []
        self._results: list[Any] = []
        self._edge_heard_s = 0.0

    def spin(self, seconds: float = _SPIN_S) -> None:
        """Hear what has come."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left_s)

    def edge_is_there(self) -> bool:
        """Whether somebody leads rounds."""
        return bool(self._client.server_is_ready())

    def ask(self, round_number: int, *, steps: int, deadline_s: float) -> None:
        """Ask for a round, until it is over: :meth:`result` asks again when the edge is silent.

        DDS takes seconds to miss an edge that was killed; one that came back meanwhile looks as if
        it had never been away, but knows nothing of who asked. For the edge it is all one whether
        it is asked once or often.
        """
        self._goal = TrainRound.Goal(round=round_number, steps=steps, deadline_s=deadline_s)
        self._asked, self._results = [], []
        self._send()

    def result(self) -> Any:
        """Of the round, once it is over; else None. Call it often."""
        for asked in [one for one in self._asked if one.done()]:
            self._asked.remove(asked)
            if asked.result().accepted:
                self._results.append(asked.result().get_result_async())
        for result in [one for one in self._results if one.done()]:
            if result.result().status != GoalStatus.STATUS_UNKNOWN:
                return result.result().result
            self._results.remove(result)  # of an edge that did not hear the question
        if self._goal is not None and time.monotonic() - self._edge_heard_s >= self._again_s:
            self._send()
        return None

    def close(self) -> None:
        """End the node."""
        self._executor.shutdown()
        self._client.destroy()
        self._node.destroy_node()
        self._context.try_shutdown()

    def _send(self) -> None:
        self._edge_heard_s = time.monotonic()
        asked = self._client.send_goal_async(self._goal, feedback_callback=self._on_feedback)
        self._asked.append(asked)

    def _on_status(self, msg: TrainStatus) -> None:
        status = status_from_msg(msg)
        self.statuses[status.vehicle] = status
        most = max(self.most_bytes.get(status.vehicle, 0), status.resident_bytes)
        self.most_bytes[status.vehicle] = most
        self.heard_s[status.vehicle] = time.monotonic()
        self._tell_status(status)

    def _on_order(self, msg: TrainOrder) -> None:
        order = order_from_msg(msg)
        if order.kind is OrderKind.TRAIN:
            self.orders[order.client] = order
            if order.order not in {one.order for _, one in self.told}:  # orders are repeated
                self.told.append((time.monotonic(), order))
                self.places_m[order.order] = dict(self.place_m)

    def _on_place(self, msg: FleetVehicle) -> None:
        self.place_m[msg.vehicle] = (msg.x, msg.y)

    def _on_feedback(self, message: Any) -> None:
        self._edge_heard_s = time.monotonic()
        for event in message.feedback.events:
            self._on_event(event)
