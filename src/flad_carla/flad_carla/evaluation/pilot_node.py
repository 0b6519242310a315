# SPDX-License-Identifier: Apache-2.0
"""The pilot over ROS 2: bridge and expert publish, the planner process answers."""

from __future__ import annotations

import math
import time

import rclpy
from flad_msgs.msg import Plan, PlannerStatus

from flad_carla.bridge_node import BridgeConfig, BridgeNode
from flad_carla.evaluation.pilot import Answer
from flad_carla.expert.driver import Decision
from flad_carla.expert_node import ExpertPublisher
from flad_carla.run_log import BodyView, PlanView
from flad_carla.session import CarlaSession, Tick
from flad_common.ros.qos import STATE

_STATES = {
    getattr(PlannerStatus, name): name
    for name in ("FOLLOWING", "STARTING", "STALE", "STOPPED", "REFUSED", "MANUAL")
}


class RosPilot:
    """Over DDS, in lockstep or in real time. Initialises rclpy on its own domain."""

    def __init__(self, session: CarlaSession, config: BridgeConfig, domain_id: int | None) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain_id)
        self._lockstep = config.mode == "lockstep"
        self._bridge = BridgeNode(session, config, context=self._context)
        self._expert: ExpertPublisher | None = None
        self._inputs: list[object] = []
        self._role = ""
        self._status: PlannerStatus | None = None
        self._plan: Plan | None = None
        self._plan_ego: BodyView | None = None

    def start(self, role: str, *, publish_plans: bool = True) -> None:
        """A new ego of this role is in the world."""
        self._role = role
        self._expert = ExpertPublisher(self._bridge, role) if publish_plans else None
        self._status = self._plan = None
        self._inputs = [
            self._bridge.create_subscription(
                PlannerStatus, f"/{role}/planner_status", self._on_status, STATE
            )
        ]

    def answer(self, tick: Tick, ego: BodyView, decision: Decision | None) -> Answer:
        """Publish the tick and the decision, wait for the control."""
        begun_s = time.monotonic()
        self._bridge.publish(tick)
        if decision is not None and self._expert is not None:
            self._expert.publish(decision, tick.stamp_ns)
        if self._lockstep:
            controls = self._bridge.wait_for_control(tick)
            latency_s = math.nan
        else:
            self._bridge.spin_for(0.0)
            controls = self._bridge.newest_control(tick)
            latency_s = time.monotonic() - begun_s
        status = self._status
        return Answer(
            control=controls[self._role],
            state="" if status is None else _STATES.get(status.state, ""),
            desired_speed_mps=math.nan if status is None else status.desired_speed_mps,
            plan=None,
            latency_s=latency_s,
        )

    def end(self) -> None:
        """The ego is about to go."""
        for subscription in self._inputs:
            self._bridge.destroy_subscription(subscription)
        self._inputs = []
        if self._expert is not None:
            self._expert.destroy()
            self._expert = None

    def close(self) -> None:
        """Leave DDS."""
        self.end()
        self._bridge.close()
        rclpy.shutdown(context=self._context)

    def _on_status(self, msg: PlannerStatus) -> None:
        self._status = msg


__all__ = ["PlanView", "RosPilot"]
