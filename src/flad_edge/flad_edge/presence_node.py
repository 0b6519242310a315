# SPDX-License-Identifier: Apache-2.0
"""ROS side of :mod:`flad_edge.swift.presence`: odometry in, ``FleetVehicle`` out. On the vehicle.

The edge's planning node (:mod:`flad_edge.planning_node`) hears it. The vehicle's name is the node's
namespace. A vehicle that does not know where it is says nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from flad_msgs.msg import FleetVehicle
from nav_msgs.msg import Odometry
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import State, TransitionCallbackReturn

from flad_common.config import knob, section
from flad_common.ros.lifecycle import ManagedNode, reports_errors, run_node
from flad_common.ros.parameters import from_node
from flad_common.ros.qos import MANY, STATE
from flad_edge.ros.planning_messages import member_to_msg
from flad_edge.swift.presence import PresenceConfig, presence
from flad_planner.ros.messages import ego_from_odometry


@dataclass(frozen=True, kw_only=True)
class PresenceNodeConfig:
    """What a vehicle says of itself, and how often."""

    period_s: float = knob(0.5, unit="s", doc="Between two words.")
    stale_s: float = knob(1.0, unit="s", doc="A position counts for so long.")
    vehicle: PresenceConfig = section(PresenceConfig, doc="What it is.")

    def __post_init__(self) -> None:
        for name in ("period_s", "stale_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


class PresenceNode(ManagedNode):
    """Speaks while active. Attributes exist from configure to cleanup."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("presence", **kwargs)
        self._active = False

    @reports_errors
    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Make the topics."""
        self._config = from_node(PresenceNodeConfig, self)
        self._vehicle = self.get_namespace().strip("/").rsplit("/")[-1]
        self._fleet_pub = self.create_lifecycle_publisher(FleetVehicle, "edge/fleet", MANY)
        self._input = self.create_subscription(Odometry, "odometry", self._on_odometry, STATE)
        self._timer = self.create_timer(
            self._config.period_s, self._speak, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        return super().on_configure(state)

    @reports_errors
    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Start afresh: the vehicle has not been seen."""
        self._odometry: Odometry | None = None
        self._heard_s, self._began_s = 0.0, time.monotonic()
        result = super().on_activate(state)
        self._active = True
        return result

    @reports_errors
    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Fall silent: the edge will count the vehicle as gone."""
        self.close()
        return super().on_deactivate(state)

    @reports_errors
    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Undo what configure did, in reverse."""
        self.destroy_timer(self._timer)
        self.destroy_subscription(self._input)
        self.destroy_lifecycle_publisher(self._fleet_pub)
        return super().on_cleanup(state)

    def close(self) -> None:
        """Speak no more."""
        self._active = False

    def _on_odometry(self, msg: Odometry) -> None:
        self._odometry, self._heard_s = msg, time.monotonic()

    def _speak(self) -> None:
        now_s = time.monotonic()
        if not self._active or self._odometry is None:
            return
        if now_s - self._heard_s > self._config.stale_s:
            self.get_logger().warning("no odometry: silent", throttle_duration_sec=5.0)
            return
        ego = ego_from_odometry(self._odometry)
        try:
            said = presence(
                self._config.vehicle,
                self._vehicle,
                ego.pose.x_m,
                ego.pose.y_m,
                ego.speed_mps,
                ego.pose.yaw_rad,
                now_s - self._began_s,
            )
        except ValueError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)
            return
        self._fleet_pub.publish(member_to_msg(said, self._odometry.header.stamp))


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run_node(PresenceNode, args)


if __name__ == "__main__":
    main()
