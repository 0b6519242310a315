# SPDX-License-Identifier: Apache-2.0
"""The evaluation's side of a vehicle's driver node: words out, who drives in."""

from __future__ import annotations

from flad_msgs.msg import DriverStatus
from rclpy.node import Node
from std_msgs.msg import String

from flad_carla.bridge import ControlTimeout
from flad_carla.run_log import DriverView
from flad_common.ros.qos import LATCHED
from flad_planner.language.narrator import Words

_NAMES = {
    DriverStatus.NONE: "nobody",
    DriverStatus.ADLLM: "adllm",
    DriverStatus.ADM: "adm",
}


class DriverLink:
    """Talks to the driver of ``role`` through another's node. Single-threaded."""

    def __init__(self, node: Node, role: str) -> None:
        self._node = node
        self._role = role
        self._instruction_pub = node.create_publisher(String, f"/{role}/instruction", LATCHED)
        self._notice_pub = node.create_publisher(String, f"/{role}/notice", LATCHED)
        self._input = node.create_subscription(
            DriverStatus, f"/{role}/driver_status", self._on_status, LATCHED
        )
        self._said = Words(instruction="")
        self._status: DriverStatus | None = None
        self._view: DriverView | None = None

    @property
    def view(self) -> DriverView | None:
        """Who drove the newest frame; the same object until there is another."""
        return self._view

    def reset(self) -> None:
        """Another route begins: its words are said anew."""
        self._said = Words(instruction="")
        self._view = None

    def is_ready(self) -> bool:
        """Whether the driver has said hello and hears us."""
        return (
            self._status is not None
            and self._instruction_pub.get_subscription_count() > 0
            and self._notice_pub.get_subscription_count() > 0
        )

    def tell(self, words: Words) -> None:
        """Say what is new."""
        if words.instruction != self._said.instruction:
            self._instruction_pub.publish(String(data=words.instruction))
            if words.notice and words.notice == self._said.notice:
                self._notice_pub.publish(String(data=words.notice))  # a new one forgets it
        if words.notice != self._said.notice:
            self._notice_pub.publish(String(data=words.notice or ""))
        self._said = words

    def is_told(self) -> bool:
        """Whether the driver has taken what was said last."""
        status = self._status
        return (
            status is not None
            and status.instruction == self._said.instruction
            and status.notice == (self._said.notice or "")
        )

    def has(self, stamp_ns: int) -> bool:
        """Whether the frame of this stamp has been decided."""
        return self._status is not None and _stamp_ns(self._status) == stamp_ns

    def sees_edge(self) -> bool:
        """Whether the driver says that an edge is there."""
        return self._status is not None and bool(self._status.edge_alive)

    def complaint(self, what: str, error: ControlTimeout) -> ControlTimeout:
        """What is known of a driver that did not do ``what``."""
        status = self._status
        known = "it has never said anything; is it active?"
        if status is not None:
            known = (
                f"its last word was for {_stamp_ns(status) * 1e-9:.3f} s: "
                f"{_NAMES[status.driver]} drives, told {status.instruction!r}, "
                f"edge {'there' if status.edge_alive else 'gone'} {status.why}"
            )
        return ControlTimeout(f"{self._role}'s driver: {what}: {error}; {known}", (self._role,))

    def destroy(self) -> None:
        """Take the topics away, in reverse."""
        self._node.destroy_subscription(self._input)
        self._node.destroy_publisher(self._notice_pub)
        self._node.destroy_publisher(self._instruction_pub)

    def _on_status(self, msg: DriverStatus) -> None:
        is_frame = self._status is None or _stamp_ns(self._status) != _stamp_ns(msg)
        self._status = msg
        if is_frame and _stamp_ns(msg):
            self._view = DriverView(
                stamp_s=_stamp_ns(msg) * 1e-9,
                who=_NAMES[msg.driver],
                why=msg.why,
                instruction=msg.instruction,
                notice=msg.notice,
                edge_alive=msg.edge_alive,
                completed=msg.completed,
                latency_s=msg.latency_s,
                edge_latency_s=msg.edge_latency_s,
                release=msg.release,
            )


def _stamp_ns(status: DriverStatus) -> int:
    return int(status.header.stamp.sec) * 10**9 + int(status.header.stamp.nanosec)
