# SPDX-License-Identifier: Apache-2.0
"""ROS side of the expert: its waypoints on the topic that a model will use as well."""

from __future__ import annotations

from array import array

from builtin_interfaces.msg import Time
from flad_msgs.msg import Plan
from rclpy.node import Node

from flad_carla.expert.driver import STEP_S, Decision
from flad_common.ros.qos import STATE


class ExpertPublisher:
    """Publishes decisions as plans of ``role`` on ``/<role>/plan``, through another's node."""

    def __init__(self, node: Node, role: str) -> None:
        self._node = node
        self._role = role
        self._publisher = node.create_publisher(Plan, f"/{role}/plan", STATE)

    def publish(self, decision: Decision, stamp_ns: int) -> None:
        """Publish the plan made from the sensor data of ``stamp_ns``."""
        msg = Plan(
            x=array("f", decision.forward),
            y=array("f", decision.left),
            step_s=STEP_S,
            source=decision.source,
            note=decision.reason,
        )
        msg.header.stamp = Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        msg.header.frame_id = self._role
        self._publisher.publish(msg)

    def is_heard(self) -> bool:
        """Whether somebody listens."""
        return bool(self._publisher.get_subscription_count() > 0)

    def destroy(self) -> None:
        """Take the topic away."""
        self._node.destroy_publisher(self._publisher)
