# SPDX-License-Identifier: Apache-2.0
"""Who turns a decision into a control: the interface, and a pilot without ROS.

The real one goes over DDS to the planner process: ``pilot_node.py``. This one runs the same
planner core in this process, for tests of what does not concern the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import carla

from flad_carla.expert.driver import STEP_S, Decision
from flad_carla.run_log import BodyView, PlanView, Point, PredictionView
from flad_carla.session import Tick
from flad_common.frames import carla_yaw_to_ros
from flad_planner.geometry import Pose2
from flad_planner.plan import RawPlan
from flad_planner.planner import Ego, Planner, PlannerConfig


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the planner answered to one tick."""

    control: carla.VehicleControl
    state: str = ""
    desired_speed_mps: float = math.nan
    plan: PlanView | None = None  # another driver's plan, where one was heard
    latency_s: float = math.nan
    prediction: PredictionView | None = None  # the encoder's newest, where one runs


class Pilot(Protocol):
    """One ego's way from a decision to a control."""

    def start(self, role: str) -> None:
        """A new ego of this role is in the world."""

    def answer(
        self,
        tick: Tick,
        ego: BodyView,
        decision: Decision | None,
        far_node: Point | None = None,
    ) -> Answer:
        """Publish the tick and the decision (None: no plan is due); wait for the control.

        ``far_node`` is the route's next far node in the world, which an encoder is told.
        """

    def end(self) -> None:
        """The ego is about to go."""

    def close(self) -> None:
        """Free everything."""


class DirectPilot:
    """The planner's core in this process, no ROS."""

    def __init__(self, config: PlannerConfig | None = None) -> None:
        self._config = config or PlannerConfig()
        self._planner = Planner(self._config)

    def start(self, role: str) -> None:
        """A new ego: a planner without a past."""
        self._planner = Planner(self._config)

    def answer(
        self,
        tick: Tick,
        ego: BodyView,
        decision: Decision | None,
        far_node: Point | None = None,
    ) -> Answer:
        """The planner's control for this tick."""
        yaw = math.radians(ego.pose.yaw)
        speed = ego.velocity[0] * math.cos(yaw) + ego.velocity[1] * math.sin(yaw)
        pose = Pose2(ego.pose.x, -ego.pose.y, carla_yaw_to_ros(ego.pose.yaw))
        self._planner.observe(Ego(tick.stamp_ns, pose, speed))
        if decision is not None:
            self._planner.receive(
                RawPlan(tick.stamp_ns, decision.forward, decision.left, STEP_S, decision.source)
            )
        answer = self._planner.decide(tick.sim_time_s)
        c = answer.control
        return Answer(
            control=carla.VehicleControl(
                throttle=c.throttle, steer=c.steer, brake=c.brake, hand_brake=c.hand_brake
            ),
            state=answer.state.name,
            desired_speed_mps=answer.desired_speed_mps,
        )

    def end(self) -> None:
        """Nothing to leave."""

    def close(self) -> None:
        """Nothing to free."""
