# SPDX-License-Identifier: Apache-2.0
"""Who must be there, besides the planner, before a vehicle's first step in lockstep.

What a step brings before an encoder or a driver hears it is lost, and nobody would ever answer it.
"""

from __future__ import annotations

from collections.abc import Sequence

from flad_msgs.msg import DriverStatus
from geometry_msgs.msg import PointStamped
from rclpy.node import Node

from flad_common.ros.qos import LATCHED, STATE


class Crew:
    """Of one vehicle, watched through another's node. Single-threaded.

    An encoder listens to ``target_point`` only after all its other inputs; a driver in lockstep
    says hello only when nothing to or from it can be lost any more.

    Args:
        node: that has the topics.
        role: of the vehicle.
        awaits: of ``encoder`` and ``driver``.
    """

    def __init__(self, node: Node, role: str, awaits: Sequence[str]) -> None:
        self._node = node
        self._awaits = awaits
        self._has_driver = False
        self._target_pub = node.create_publisher(PointStamped, f"/{role}/target_point", STATE)
        self._input = node.create_subscription(
            DriverStatus, f"/{role}/driver_status", self._on_status, LATCHED
        )

    def missing(self) -> list[str]:
        """Who is not there yet."""
        there = {
            "encoder": self._target_pub.get_subscription_count() > 0,
            "driver": self._has_driver,
        }
        return [name for name in self._awaits if not there[name]]

    def destroy(self) -> None:
        """Take the topics away, in reverse."""
        self._node.destroy_subscription(self._input)
        self._node.destroy_publisher(self._target_pub)

    def _on_status(self, msg: DriverStatus) -> None:
        self._has_driver = True
