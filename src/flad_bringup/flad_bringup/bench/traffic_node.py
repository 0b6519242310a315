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


class PassCounter:
    """Passes of one vehicle that took too long, without those in which its process was stopped."""

    def __init__(self) -> None:
        self._said = 0
        self._is_torn = False
        self.passes = 0
        """All of them."""
        self.overruns = 0
        """Those that took too long, and count."""

    def stopped(self) -> None:
        """The next pass that ends was torn apart."""
        self._is_torn = True

    def take(self, passes: int, overruns: int) -> None:
        """What the vehicle says of all its passes so far: how many, and how many took longer."""
        more, has_ended = overruns - self._said, passes > self.passes
        self.passes, self._said = passes, overruns
        self.overruns += max(0, more - (self._is_torn and has_ended))
        self._is_torn = self._is_torn and not has_ended


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
        self._counters: dict[str, PassCounter] = {}

    @property
    def overruns(self) -> int:
        """Passes of all vehicles that took longer than their emulated time."""
        return sum(counter.overruns for counter in self._counters.values())

    @property
    def passes(self) -> int:
        """All passes of all vehicles."""
        return sum(counter.passes for counter in self._counters.values())

    def was_stopped(self, vehicle: str) -> None:
        """Its process goes on after SIGSTOP: the pass that this tore apart says nothing."""
        self._counter(vehicle).stopped()

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
                self._counter(status.hardware_id).take(
                    int(values["passes"]), int(values["overruns"])
                )

    def _counter(self, vehicle: str) -> PassCounter:
        return self._counters.setdefault(vehicle, PassCounter())
