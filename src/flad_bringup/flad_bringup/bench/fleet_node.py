# SPDX-License-Identifier: Apache-2.0
"""ROS side of the fleet's benchmark: tells every vehicle what to do, and hears what they ask."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from flad_msgs.msg import DriveAnswer, DriveRequest, DriverStatus
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from flad_bringup.bench.fleet_tally import Asked, FleetTally
from flad_common.ros.qos import ANSWERS, CLOCK, DIAGNOSTICS, LATCHED, MANY
from flad_edge.service.requests import Outcome
from flad_perception.ros.messages import stamp_to_ns

_NS = 1_000_000_000


class FleetWatch:
    """Speaks to vehicles and keeps account, until it is closed.

    Args:
        domain_id: ROS domain of the fleet.
        roles: names of the vehicles.
        sentences: that they are told, drawn anew every ``tell_s`` of simulated time.
        tell_s: see above.
        seed: of the draws.
        check: called while waiting; raises if a process has died.
    """

    def __init__(
        self,
        domain_id: int,
        roles: Sequence[str],
        sentences: Sequence[str],
        tell_s: float,
        seed: int,
        check: Callable[[], None],
    ) -> None:
        self.tally = FleetTally()
        self.edge: dict[str, str] = {}
        self._roles, self._sentences, self._check = roles, sentences, check
        self._tell_ns = round(tell_s * _NS)
        self._rng = random.Random(seed)
        self._now_ns = self._told_ns = -1
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain_id)
        self._node = rclpy.create_node("fleet_watch", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        create = self._node.create_subscription
        create(Clock, "/clock", self._on_clock, CLOCK)
        create(DriveRequest, "/edge/requests", self._on_request, MANY)
        create(DriveAnswer, "/edge/answers", self._on_answer, ANSWERS)
        create(DiagnosticArray, "/diagnostics", self._on_diagnostics, DIAGNOSTICS)
        self._words = {}
        for role in roles:
            create(DriverStatus, f"/{role}/driver_status", self._on_status, LATCHED)
            self._words[role] = self._node.create_publisher(String, f"/{role}/instruction", LATCHED)

    def close(self) -> None:
        """Leave."""
        self._executor.remove_node(self._node)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    @property
    def sim_time_s(self) -> float:
        """Newest of /clock; negative before the first."""
        return self._now_ns / _NS

    def is_ready(self) -> bool:
        """Whether the edge and every vehicle's encoder, driver and planner hear each other."""
        topics = ["/edge/requests", "/edge/answers"]
        topics += [f"/{role}/{name}" for role in self._roles for name in ("scene_tokens", "plan")]
        publishers, heard = self._node.count_publishers, self._node.count_subscribers
        by_others = {topic: heard(topic) - self._is_own(topic) for topic in topics}
        return all(publishers(topic) and by_others[topic] for topic in topics)

    def _is_own(self, topic: str) -> int:
        return int(topic.startswith("/edge/"))

    def until(self, is_so: Callable[[], bool], what: str, deadline_s: float) -> None:
        """Listen until something is so.

        Raises:
            TimeoutError: if it is not by then.
        """
        end_s = time.monotonic() + deadline_s
        while not is_so():
            self._check()
            if time.monotonic() > end_s:
                raise TimeoutError(f"{what} did not happen within {deadline_s:g} s")
            self._executor.spin_once(timeout_sec=0.1)

    def _on_clock(self, msg: Clock) -> None:
        self._now_ns = stamp_to_ns(msg.clock)
        if self._told_ns < 0 or self._now_ns - self._told_ns >= self._tell_ns:
            self._told_ns = self._now_ns
            for publisher in self._words.values():
                publisher.publish(String(data=self._rng.choice(self._sentences)))

    def _on_request(self, msg: DriveRequest) -> None:
        header = msg.tokens.header
        self.tally.asked(Asked(header.frame_id, msg.session, stamp_to_ns(header.stamp)))

    def _on_answer(self, msg: DriveAnswer) -> None:
        asked = Asked(msg.header.frame_id, msg.session, stamp_to_ns(msg.header.stamp))
        self.tally.ended(asked, Outcome(msg.outcome), msg.latency_s, msg.error)

    def _on_status(self, msg: DriverStatus) -> None:
        self.tally.drove(msg.latency_s)

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            if status.hardware_id == "edge":
                self.edge = {value.key: value.value for value in status.values}
