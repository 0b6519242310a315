# SPDX-License-Identifier: Apache-2.0
"""The bridge's health on ``/diagnostics``, once a second of wall time."""

from __future__ import annotations

import time
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from flad_carla.control_inbox import ControlInbox
from flad_carla.ros import messages
from flad_carla.session import Tick
from flad_common.ros.qos import DIAGNOSTICS

_PERIOD_S = 1.0


class BridgeHealth:
    """Counts steps between two reports."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._pub = node.create_publisher(DiagnosticArray, "/diagnostics", DIAGNOSTICS)
        self.num_late_steps = 0
        self.worst_lateness_s = 0.0
        self._since_s = time.monotonic()
        self._since_sim_s: float | None = None
        self._refused: dict[str, int] = {}

    def destroy(self) -> None:
        """Take the topic away."""
        self._node.destroy_publisher(self._pub)

    def publish(self, tick: Tick, inboxes: Mapping[str, ControlInbox]) -> None:
        """Report, if a second has passed since the last report."""
        now_s = time.monotonic()
        if self._since_sim_s is None:
            self._since_sim_s = tick.sim_time_s
        elapsed_s = now_s - self._since_s
        if elapsed_s < _PERIOD_S:
            return
        pace = (tick.sim_time_s - self._since_sim_s) / elapsed_s
        self._since_s, self._since_sim_s = now_s, tick.sim_time_s
        array = DiagnosticArray(header=messages.header(tick.stamp_ns, ""))
        array.status.append(self._world_status(tick, pace))
        array.status += [self._ego_status(role, inbox) for role, inbox in inboxes.items()]
        self._pub.publish(array)

    def _world_status(self, tick: Tick, pace: float) -> DiagnosticStatus:
        return DiagnosticStatus(
            level=DiagnosticStatus.OK,
            name="bridge: world",
            hardware_id="carla",
            message=f"{pace:.2f} simulated seconds per second",
            values=[
                KeyValue(key="frame", value=str(tick.frame)),
                KeyValue(key="late_steps", value=str(self.num_late_steps)),
                KeyValue(key="worst_lateness_s", value=f"{self.worst_lateness_s:.3f}"),
            ],
        )

    def _ego_status(self, role: str, inbox: ControlInbox) -> DiagnosticStatus:
        newly_refused = inbox.num_refused - self._refused.get(role, 0)
        self._refused[role] = inbox.num_refused
        status = DiagnosticStatus(name=f"bridge: {role} control", hardware_id=role)
        status.level, status.message = DiagnosticStatus.OK, "controls arrive"
        if inbox.manual.active:
            status.message = "manual control"
        elif inbox.last_stamp_ns is None:
            status.level, status.message = DiagnosticStatus.WARN, "no control has arrived yet"
        if newly_refused:
            status.level = DiagnosticStatus.WARN
            status.message = f"{newly_refused} controls were refused during the last second"
        status.values = [
            KeyValue(key="late_controls", value=str(inbox.num_late)),
            KeyValue(key="refused_controls", value=str(inbox.num_refused)),
        ]
        return status
