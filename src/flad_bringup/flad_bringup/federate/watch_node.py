# SPDX-License-Identifier: Apache-2.0
"""ROS side of ``./flad federate``: asks for rounds, hears orders and statuses. Decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import rclpy
from flad_msgs.action import TrainRound
from flad_msgs.msg import TrainOrder, TrainStatus
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from flad_common.ros.qos import MANY
from flad_pipeline.ros.round_messages import (
    ORDERS,
    ROUND,
    STATUSES,
    order_from_msg,
    status_from_msg,
)
from flad_pipeline.round.order import Order, OrderKind, Status

_SPIN_S = 0.02


class FederationWatch:
    """A node in a domain. Single-threaded: callbacks run in :meth:`spin`.

    Args:
        domain_id: of ROS.
        on_event: told what the edge says.
    """

    def __init__(self, domain_id: int, on_event: Callable[[str], None] = lambda _: None) -> None:
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain_id)
        self._node = Node("federation_watch", context=self._context, enable_rosout=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._on_event = on_event
        self.statuses: dict[str, Status] = {}
        self.heard_s: dict[str, float] = {}
        self.most_bytes: dict[str, int] = {}
        """The most that a vehicle's process has had."""
        self.orders: dict[str, Order] = {}
        """The newest that says TRAIN, by client."""
        self.told: list[tuple[float, Order]] = []
        """Every one that says TRAIN, with the time at which it was first heard."""
        self._node.create_subscription(TrainStatus, STATUSES, self._on_status, MANY)
        self._node.create_subscription(TrainOrder, ORDERS, self._on_order, MANY)
        self._client = ActionClient(self._node, TrainRound, ROUND)
        self._accepted: Any = None
        self._result: Any = None

    def spin(self, seconds: float = _SPIN_S) -> None:
        """Hear what has come."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left_s)

    def edge_is_there(self) -> bool:
        """Whether somebody leads rounds."""
        return bool(self._client.server_is_ready())

    def ask(self, round_number: int, *, steps: int, deadline_s: float) -> None:
        """Ask for a round; an edge that came back is asked again."""
        goal = TrainRound.Goal(round=round_number, steps=steps, deadline_s=deadline_s)
        self._result = None
        self._accepted = self._client.send_goal_async(goal, feedback_callback=self._on_feedback)

    def result(self) -> Any:
        """Of the round, once it is over; else None.

        Raises:
            RuntimeError: if the edge refused the goal.
        """
        if self._result is None and self._accepted is not None and self._accepted.done():
            handle = self._accepted.result()
            if not handle.accepted:
                raise RuntimeError("the edge is busy with another goal")
            self._result = handle.get_result_async()
        if self._result is not None and self._result.done():
            return self._result.result().result
        return None

    def close(self) -> None:
        """End the node."""
        self._executor.shutdown()
        self._client.destroy()
        self._node.destroy_node()
        self._context.try_shutdown()

    def _on_status(self, msg: TrainStatus) -> None:
        status = status_from_msg(msg)
        self.statuses[status.vehicle] = status
        most = max(self.most_bytes.get(status.vehicle, 0), status.resident_bytes)
        self.most_bytes[status.vehicle] = most
        self.heard_s[status.vehicle] = time.monotonic()

    def _on_order(self, msg: TrainOrder) -> None:
        order = order_from_msg(msg)
        if order.kind is OrderKind.TRAIN:
            self.orders[order.client] = order
            if order.order not in {one.order for _, one in self.told}:  # orders are repeated
                self.told.append((time.monotonic(), order))

    def _on_feedback(self, message: Any) -> None:
        for event in message.feedback.events:
            self._on_event(event)
