# SPDX-License-Identifier: Apache-2.0
"""What the expert would do with the pedals and the wheel, whoever drives.

The expert answers with waypoints; the planner's own law turns them into control, as it does for
any driver. When the expert drives, that is what the planner asked for before any kick.
"""

from __future__ import annotations

import math

from flad_carla.run_log import BodyView, ControlView, PlanView, TickEntry
from flad_common.frames import carla_yaw_to_ros
from flad_planner.geometry import Pose2
from flad_planner.plan import RawPlan
from flad_planner.planner import Ego, Planner, PlannerConfig


class ExpertLabel:
    """Follows the expert's plans on paper. Make one per run; feed every tick."""

    def __init__(self, expert_drives: bool, config: PlannerConfig | None = None) -> None:
        self._expert_drives = expert_drives
        self._planner = Planner(config or PlannerConfig())
        self._plan: PlanView | None = None

    def step(self, entry: TickEntry) -> ControlView:
        """The label of one tick."""
        if entry.expert is not None and entry.expert.control is not None:
            return entry.expert.control
        if self._expert_drives:
            return entry.asked or entry.control
        stamp_ns = round(entry.sim_time_s * 1e9)
        self._planner.observe(Ego(stamp_ns, _pose(entry.ego), _forward_speed(entry.ego)))
        plan = entry.expert.plan if entry.expert else None
        if plan is not None and plan is not self._plan:
            self._plan = plan
            self._planner.receive(_raw_plan(plan, entry.ego))
        control = self._planner.decide(entry.sim_time_s).control
        return ControlView(throttle=control.throttle, steer=control.steer, brake=control.brake)


def _raw_plan(plan: PlanView, ego: BodyView) -> RawPlan:
    """The plan as the expert made it: in the frame of the vehicle, y to the left."""
    local = [ego.pose.to_local(x, y) for x, y in plan.points]
    return RawPlan(
        round(plan.stamp_s * 1e9),
        tuple(forward for forward, _ in local),
        tuple(-right for _, right in local),
        plan.step_s,
        plan.source,
    )


def _pose(ego: BodyView) -> Pose2:
    return Pose2(ego.pose.x, -ego.pose.y, carla_yaw_to_ros(ego.pose.yaw))


def _forward_speed(ego: BodyView) -> float:
    yaw_rad = math.radians(ego.pose.yaw)
    return ego.velocity[0] * math.cos(yaw_rad) + ego.velocity[1] * math.sin(yaw_rad)
