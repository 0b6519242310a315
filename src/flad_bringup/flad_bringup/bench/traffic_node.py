# SPDX-License-Identifier: Apache-2.0
"""ROS side of the traffic bench: speaks on ``/edge/fleet`` for vehicles, hears diagnostics."""

from __future__ import annotations

from collections.abc import Sequence

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from flad_msgs.msg import FleetVehicle
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from flad_common.ros.qos import DIAGNOSTICS, MANY
from flad_edge.ros.planning_messages import FLEET, member_to_msg
from flad_edge.swift.fleet import Member


class FleetVoice:
    """A node in a domain. Single-threaded: callbacks run in :meth:`spin`."""

    def __init__(self, domain_id: int) -> None:
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain_id)
        self._node = Node("fleet_voice", context=self._context, enable_rosout=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._pub = self._node.create_publisher(FleetVehicle, FLEET, MANY)
        self._node.create_subscription(
            DiagnosticArray, "/diagnostics", self._on_diagnostics, DIAGNOSTICS
        )
        self.overruns: dict[str, int] = {}
        """Passes that took longer than their emulated time, by vehicle."""

    def say(self, members: Sequence[Member]) -> None:
        """Every vehicle's word."""
        for member in members:
            self._pub.publish(member_to_msg(member, Time()))

    def spin(self) -> None:
        """Hear what has come."""
        self._executor.spin_once(timeout_sec=0.0)

    def close(self) -> None:
        """End the node."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            values = {pair.key: pair.value for pair in status.values}
            if "overruns" in values:
                self.overruns[status.hardware_id] = int(values["overruns"])
