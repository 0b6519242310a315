# SPDX-License-Identifier: Apache-2.0
"""The pilot over ROS 2: bridge and expert publish, the planner process answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import rclpy
from flad_msgs.msg import Plan, PlannerStatus

from flad_carla.bridge import BridgeConfig, ControlTimeout, NodeDied
from flad_carla.bridge_node import BridgeNode
from flad_carla.evaluation.pilot import Answer
from flad_carla.expert.driver import Decision
from flad_carla.expert_node import ExpertPublisher
from flad_carla.pacer import Pacer
from flad_carla.ros.driver_link import DriverLink
from flad_carla.ros.encoder_link import EncoderLink
from flad_carla.run_log import BodyView, PlanView, Point
from flad_carla.session import CarlaSession, Tick
from flad_common.error_codes import FladError
from flad_common.periods import is_due
from flad_common.ros.qos import STATE
from flad_planner.language.narrator import Words

_STATES = {
    getattr(PlannerStatus, name): name
    for name in ("FOLLOWING", "STARTING", "STALE", "STOPPED", "REFUSED", "MANUAL")
}
_MATCH_S = 20.0
_ENCODER_START_S = 180.0  # PyTorch and the model are loaded meanwhile
_ENCODER_S = 60.0  # for the tokens of one tick, in lockstep
_DRIVER_START_S = 180.0  # as the encoder's
_DRIVER_S = 60.0  # to take in words, or to say who drove a frame, in lockstep


class RosPilot:
    """Over DDS, in lockstep or in real time, on a domain of its own.

    With ``plans`` false somebody else publishes ``/<role>/plan``; it is listened to either way,
    so that what was driven by is what is logged.

    Args:
        session: of the world.
        config: how the bridge works in time.
        domain_id: of DDS.
        plans: see above.
        encoder_period_s: an encoder answers steps that are multiples of it; None: there is none.
        frame_period_s: a driver node drives by words, by frames so far apart; None: there is none.
        has_edge: whether it needs an edge.
        check: called while an answer is waited for; raises if a process of ours has ended.
    """

    def __init__(
        self,
        session: CarlaSession,
        config: BridgeConfig,
        domain_id: int,
        *,
        plans: bool = True,
        encoder_period_s: float | None = None,
        frame_period_s: float | None = None,
        has_edge: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain_id)
        self._lockstep = config.mode == "lockstep"
        self._pacer = Pacer(session.config.fixed_delta_s)
        self._bridge = BridgeNode(
            session, config, check=self._check_processes, context=self._context
        )
        self._plans = plans
        self._role = ""
        self._expert: ExpertPublisher | None = None
        self._encoder_period_s = encoder_period_s
        self._encoder: EncoderLink | None = None
        self._frame_period_s = frame_period_s
        self._has_edge = has_edge
        self._driver: DriverLink | None = None
        self._check = check
        self._inputs: list[Any] = []
        self._status: PlannerStatus | None = None
        self._plan: PlanView | None = None
        self._poses: dict[int, BodyView] = {}

    def start(self, role: str) -> None:
        """A new ego of this role is in the world."""
        if role != self._role:
            self._leave_topics()
            self._role = role
            self._expert = ExpertPublisher(self._bridge, role) if self._plans else None
            if self._encoder_period_s is not None:
                self._encoder = EncoderLink(self._bridge, role)
            if self._frame_period_s is not None:
                self._driver = DriverLink(self._bridge, role)
            self._inputs = [
                self._bridge.create_subscription(
                    PlannerStatus, f"/{role}/planner_status", self._on_status, STATE
                ),
                self._bridge.create_subscription(Plan, f"/{role}/plan", self._on_plan, STATE),
            ]
        self._status = self._plan = None
        self._poses.clear()
        if self._lockstep:
            self._bridge.wait_for_planners(_MATCH_S)
            expert = self._expert
            if expert is not None:
                self._bridge.wait_until(expert.is_heard, "the planner hearing the plans", _MATCH_S)
        if self._encoder is not None:
            self._encoder.reset()
            self._bridge.wait_until(
                self._encoder.is_ready, "the encoder hearing its target points", _ENCODER_START_S
            )
        if self._driver is not None:
            self._driver.reset()
            self._wait_for_driver(self._driver.is_ready, "it saying hello", _DRIVER_START_S)
            if self._has_edge:
                self._wait_for_driver(
                    self._driver.sees_edge, "it knowing its edge", _DRIVER_START_S
                )
        self._pacer = Pacer(self._pacer.period_s)

    def await_edge(self, is_there: bool) -> None:
        """In lockstep, wait until the driver knows that its edge is there, or gone.

        Raises:
            ControlTimeout: if it does not find out.
        """
        driver = self._driver
        if driver is None or not self._lockstep:
            return
        self._wait_for_driver(
            lambda: driver.sees_edge() == is_there,
            f"it knowing that the edge is {'there' if is_there else 'gone'}",
            _DRIVER_START_S,
        )

    def answer(
        self,
        tick: Tick,
        ego: BodyView,
        decision: Decision | None,
        far_node: Point | None = None,
        words: Words | None = None,
    ) -> Answer:
        """Publish the tick and the decision; wait for the control and, in lockstep, the tokens.

        Raises:
            ControlTimeout: in lockstep, naming who did not answer and what is known of them.
            NodeDied: if a process of ours has ended, with its last lines and where its log is.
        """
        begun_s = time.monotonic()
        encodes = self._encoder_period_s is not None and is_due(
            tick.stamp_ns, self._encoder_period_s
        )
        frame = self._frame_period_s is not None and is_due(tick.stamp_ns, self._frame_period_s)
        if frame and self._driver is not None and words is not None:
            self._driver.tell(words)
            if self._lockstep:
                self._wait_for_driver(self._driver.is_told, f"it hearing {words}", _DRIVER_S)
        if decision is not None or not self._plans:
            self._poses = {tick.stamp_ns: ego, **dict(list(self._poses.items())[:20])}
        if encodes and self._encoder is not None:
            self._encoder.note_sending(tick.stamp_ns)
        self._bridge.publish(tick)
        if decision is not None and self._expert is not None:
            self._expert.publish(decision, tick.stamp_ns)
        if encodes and self._encoder is not None:
            target = far_node or (ego.pose.x, ego.pose.y)
            self._encoder.publish_target(target, ego.pose.z, tick.stamp_ns)
        if self._lockstep:
            controls = self._bridge.wait_for_control(tick)
            if encodes and self._encoder is not None:
                self._wait_for_tokens(self._encoder, tick.stamp_ns)
            if frame and (driver := self._driver) is not None:
                self._wait_for_driver(
                    lambda: driver.has(tick.stamp_ns), "who drives this frame", _DRIVER_S
                )
            latency_s = math.nan
        else:
            due_s = self._pacer.next_due_s()
            self._check_processes()
            self._bridge.spin_for(max(0.001, due_s - time.monotonic()))
            controls = self._bridge.newest_control(tick)
            latency_s = time.monotonic() - begun_s
        status = self._status
        return Answer(
            control=controls[self._role],
            state="" if status is None else _STATES.get(status.state, ""),
            desired_speed_mps=math.nan if status is None else status.desired_speed_mps,
            plan=self._plan,
            latency_s=latency_s,
            prediction=None if self._encoder is None else self._encoder.newest,
            driver=None if self._driver is None else self._driver.view,
        )

    def end(self) -> None:
        """The ego is about to go; the topics stay for the next one."""

    def close(self) -> None:
        """Leave DDS."""
        self._leave_topics()
        self._bridge.close()
        rclpy.shutdown(context=self._context)

    def _leave_topics(self) -> None:
        for subscription in self._inputs:
            self._bridge.destroy_subscription(subscription)
        self._inputs = []
        if self._expert is not None:
            self._expert.destroy()
            self._expert = None
        if self._encoder is not None:
            self._encoder.destroy()
            self._encoder = None
        if self._driver is not None:
            self._driver.destroy()
            self._driver = None

    def _check_processes(self) -> None:
        try:
            self._check()
        except FladError as error:  # this route fails, not all: the next one gets a new process
            raise NodeDied(error.detail, (self._role,)) from error

    def _wait_for_tokens(self, encoder: EncoderLink, stamp_ns: int) -> None:
        try:
            self._bridge.wait_until(lambda: encoder.has(stamp_ns), "tokens", _ENCODER_S)
        except NodeDied:
            raise
        except ControlTimeout as error:
            raise encoder.complaint(stamp_ns, _ENCODER_S) from error

    def _wait_for_driver(self, condition: Callable[[], bool], what: str, limit_s: float) -> None:
        assert self._driver is not None
        try:
            self._bridge.wait_until(condition, what, limit_s)
        except NodeDied:
            raise
        except ControlTimeout as error:
            raise self._driver.complaint(what, error) from error

    def _on_status(self, msg: PlannerStatus) -> None:
        self._status = msg

    def _on_plan(self, msg: Plan) -> None:
        if msg.source == "expert":  # its own view has it in full precision
            return
        stamp_ns = msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec
        seen_from = self._poses.get(stamp_ns)
        if seen_from is None:
            return
        self._plan = PlanView.from_vehicle_frame(
            seen_from.pose,
            msg.x,
            msg.y,
            stamp_s=stamp_ns * 1e-9,
            step_s=msg.step_s,
            source=msg.source,
        )
