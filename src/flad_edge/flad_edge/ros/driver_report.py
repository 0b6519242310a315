# SPDX-License-Identifier: Apache-2.0
"""What a driver tells the planner and everybody else: plans and its status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flad_msgs.msg import DriverStatus

from flad_edge.driver import Driver, Who
from flad_edge.edge_watch import EdgeWatch
from flad_edge.ros import driver_messages as convert
from flad_edge.service.requests import Answer
from flad_edge.spoken import Spoken
from flad_perception.ros.messages import ns_to_stamp

_SOURCES = {Who.ADLLM: "adllm", Who.ADM: "adm"}
_NAN = float("nan")


class DriverReport:
    """Of one vehicle; silent until :meth:`say_hello`. Single-threaded.

    Args:
        plan_pub: of plans.
        status_pub: of the status.
        vehicle: its name.
        driver, spoken, edge: what is told of.
        num_open: how many frames have no end yet.
        says_none: whether a frame that nobody drives has a plan without points, as lockstep needs.
    """

    def __init__(
        self,
        plan_pub: Any,
        status_pub: Any,
        vehicle: str,
        *,
        driver: Driver,
        spoken: Spoken,
        edge: EdgeWatch,
        num_open: Callable[[], int],
        says_none: bool,
    ) -> None:
        self._plan_pub, self._status_pub = plan_pub, status_pub
        self._vehicle = vehicle
        self._driver, self._spoken, self._edge = driver, spoken, edge
        self._num_open = num_open
        self._says_none = says_none
        self.has_said_hello = False
        self.status = DriverStatus(completed=_NAN, latency_s=_NAN, edge_latency_s=_NAN)
        self.status.header.frame_id = vehicle
        self._decided_ns: int | None = None

    def forget(self) -> None:
        """Another drive begins, whose stamps may be older."""
        self._decided_ns = None

    def say_hello(self) -> None:
        """The first status."""
        self.has_said_hello = True
        self.publish()

    def publish(self) -> None:
        """Say the newest frame's status, with all else as it is now."""
        if not self.has_said_hello:
            return
        status, spoken = self.status, self._spoken
        status.instruction, status.notice = spoken.instruction, spoken.notice
        status.edge_alive = self._edge.is_alive
        if spoken.complaint:
            status.why = spoken.complaint
        convert.write_counts(status, self._driver, self._num_open())
        self._status_pub.publish(status)

    def drove(
        self, stamp_ns: int, who: Who, answer: Answer, *, why: str, latency_s: float, note: str
    ) -> None:
        """Somebody drives a frame: the status, then the plan, which in lockstep ends the step.

        ``note`` is for people who look at the plan.
        """
        if self._is_newest(stamp_ns):
            status = self.status
            status.header.stamp = ns_to_stamp(stamp_ns)
            status.driver, status.why = int(who), "" if who is Who.ADLLM else why
            status.completed, status.release = answer.completed, answer.release
            status.latency_s = latency_s
            status.edge_latency_s = answer.latency_s if who is Who.ADLLM else _NAN
        self.publish()
        self._plan_pub.publish(
            convert.plan_msg(stamp_ns, self._vehicle, answer, _SOURCES[who], note)
        )

    def nobody(self, stamp_ns: int, why: str) -> None:
        """Nobody drives a frame."""
        if self._is_newest(stamp_ns):
            status = self.status
            status.header.stamp = ns_to_stamp(stamp_ns)
            status.driver, status.why, status.release = int(Who.NONE), why, ""
            status.completed = status.latency_s = status.edge_latency_s = _NAN
        self.publish()
        if self._says_none:
            self._plan_pub.publish(convert.no_plan_msg(stamp_ns, self._vehicle, why))

    def _is_newest(self, stamp_ns: int) -> bool:
        """Whether the status is this frame's now: in realtime an older one may end later."""
        if self._decided_ns is not None and stamp_ns < self._decided_ns:
            return False
        self._decided_ns = stamp_ns
        return True
