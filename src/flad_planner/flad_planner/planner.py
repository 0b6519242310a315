# SPDX-License-Identifier: Apache-2.0
"""What the vehicle does now: follow the plan, wait, brake, or obey a person.

The node beside it (``planner_node.py``) brings plans and odometry and takes controls away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from flad_common.config import knob, section
from flad_planner.collision_monitor import (
    MonitorConfig,
    SpeedLimit,
    arcs_m,
    counts,
    speed_limit,
)
from flad_planner.control import FULL_BRAKE, Control, control_complaint
from flad_planner.creep import Creep, CreepConfig
from flad_planner.geometry import Point, Pose2, PoseHistory
from flad_planner.light_guard import LightGuard, LightGuardConfig
from flad_planner.lmdrive_law import LmdriveLaw, LmdriveLawConfig, desired_speed_mps
from flad_planner.manual import ManualConfig, ManualOverride
from flad_planner.plan import AnchoredPlan, Plan, PlanLimits, RawPlan, complaint
from flad_planner.pursuit import PursuitConfig, ahead_m, steer
from flad_planner.stop import Stop, StopConfig
from flad_planner.tracking import Box, Tracker

STEERINGS = ("pursuit", "lmdrive")
_JUMP_M = 5.0  # more than a collision moves a vehicle in one step


class PlannerState(IntEnum):
    """What the planner is doing, with the numbers of ``flad_msgs/PlannerStatus``."""

    FOLLOWING = 0
    STARTING = 1
    STALE = 2
    STOPPED = 3
    REFUSED = 4
    MANUAL = 5


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """The planner's knobs, by part."""

    control_period_s: float = knob(
        0.1, unit="s", doc="The control law is stepped this often and its answer held between."
    )
    history_s: float = knob(3.0, unit="s", doc="How long past poses are kept for late plans.")
    limits: PlanLimits = section(PlanLimits, doc="What a plan may ask for.")
    steering: str = knob(
        "pursuit",
        unit="name",
        doc="``pursuit`` (pure pursuit of the plan's path) or ``lmdrive`` (its PID).",
    )
    pursuit: PursuitConfig = section(PursuitConfig, doc="Pure pursuit.")
    law: LmdriveLawConfig = section(LmdriveLawConfig, doc="LMDrive's control law.")
    monitor: MonitorConfig = section(MonitorConfig, doc="Slowing down for who is in the way.")
    lights: LightGuardConfig = section(LightGuardConfig, doc="Slowing down for red lights.")
    creep: CreepConfig = section(CreepConfig, doc="Rolling after standing for long.")
    stop: StopConfig = section(StopConfig, doc="Braking without a plan.")
    manual: ManualConfig = section(ManualConfig, doc="Manual override.")

    def __post_init__(self) -> None:
        if not self.control_period_s > 0.0:
            raise ValueError(f"control_period_s must be positive, got {self.control_period_s}")
        if self.steering not in STEERINGS:
            raise ValueError(f"steering must be one of {STEERINGS}, got {self.steering!r}")
        if self.history_s < self.limits.stale_after_s:
            raise ValueError(
                f"history_s ({self.history_s}) must cover limits.stale_after_s "
                f"({self.limits.stale_after_s}), or late plans cannot be placed"
            )


@dataclass(frozen=True, slots=True)
class Ego:
    """The vehicle as odometry has it."""

    stamp_ns: int
    pose: Pose2
    speed_mps: float

    def is_finite(self) -> bool:
        """Whether this can be reckoned with."""
        values = (self.pose.x_m, self.pose.y_m, self.pose.yaw_rad, self.speed_mps)
        return all(math.isfinite(v) for v in values)


@dataclass(frozen=True, slots=True)
class Decision:
    """A control and why it is what it is; ``plan_age_s`` is negative without a plan."""

    control: Control
    state: PlannerState
    plan_age_s: float
    desired_speed_mps: float
    """By the plan; the reason says what the monitor makes of it."""
    reason: str


class Planner:
    """Plans and odometry in, one decision per odometry out. Single-threaded; reads no clock.

    Per step: :meth:`observe` the odometry, :meth:`see` who is around, :meth:`receive` what plans
    there are, :meth:`decide`.
    """

    def __init__(self, config: PlannerConfig) -> None:
        self._config = config
        self._law = LmdriveLaw(config.law)
        self._pursuit = config.pursuit
        self._creep = Creep(config.creep)
        self._lights = LightGuard(config.lights)
        self.manual = ManualOverride(config.manual)
        self._history = PoseHistory(config.history_s)
        self._tracker = Tracker(config.monitor.tracking)
        self.num_refused = 0
        self.num_late = 0
        self.num_slowed = 0
        self._forget()

    def _forget(self) -> None:
        self._law.reset()
        self._creep.reset()
        self._lights.reset()
        self._active: AnchoredPlan | None = None
        self._early: Plan | None = None  # came before the odometry of its stamp
        self._refusal = ""
        self._stop: Stop | None = None
        self._ego: Ego | None = None
        self._dt_s = 0.0
        self._held = FULL_BRAKE
        self.is_creeping = False
        self.light_limit_mps: float | None = None
        self._limit: SpeedLimit | None = None
        self._seen_ns = -1
        self._tracker.clear()
        self._law_ns: int | None = None

    @property
    def active_plan(self) -> AnchoredPlan | None:
        """The plan that is followed, or the last one that was."""
        return self._active

    def know_car(self, wheelbase_m: float, full_steer_deg: float) -> None:
        """Take the geometry of the car that is steered.

        Raises:
            ValueError: if no car has it.
        """
        self._pursuit = replace(
            self._pursuit, wheelbase_m=wheelbase_m, full_steer_deg=full_steer_deg
        )

    def observe(self, ego: Ego) -> None:
        """Take odometry.

        A stamp that goes back, or a place that no vehicle gets to in the time, means a new world
        or another vehicle: everything is forgotten.
        """
        if self._ego is not None:
            dt_s = (ego.stamp_ns - self._ego.stamp_ns) * 1e-9
            here, there = ego.pose, self._ego.pose
            jump_m = math.hypot(here.x_m - there.x_m, here.y_m - there.y_m)
            if dt_s <= 0.0 or jump_m > _JUMP_M + self._config.limits.max_speed_mps * dt_s:
                self._history.clear()
                self._forget()
            else:
                self._dt_s = dt_s
        self._ego = ego
        if not ego.is_finite():
            return
        self._history.add(ego.stamp_ns, ego.pose)
        if self._early is not None and self._early.stamp_ns <= ego.stamp_ns:
            plan, self._early = self._early, None
            self._anchor(plan)

    def see(self, stamp_ns: int, boxes: Sequence[Box], light_red: float = 0.0) -> None:
        """Take what was detected at a time, in the vehicle's frame of then.

        ``light_red`` is the probability that a red light makes the vehicle stop.

        News that are not newer, or of a time without odometry, are dropped.
        """
        pose = self._history.at(stamp_ns)
        if stamp_ns <= self._seen_ns or pose is None:
            return
        self._seen_ns = stamp_ns
        self._lights.see(light_red)
        others = [box.on_ground(pose) for box in boxes if counts(box, self._config.monitor)]
        self._tracker.update(stamp_ns * 1e-9, others)

    def receive(self, plan: RawPlan) -> str | None:
        """Take a plan; returns why it was not taken, None if it will be followed."""
        limits = self._config.limits
        if (reason := complaint(plan, limits)) is not None:
            return self._refuse(plan.stamp_ns, plan.source, reason)
        newest_ns = self._history.newest_ns
        lead_s = 0.0 if newest_ns is None else (plan.stamp_ns - newest_ns) * 1e-9
        if lead_s > limits.max_future_s:
            reason = f"its stamp is {lead_s:.2f} s ahead of the odometry"
            return self._refuse(plan.stamp_ns, plan.source, reason)
        if -lead_s >= limits.stale_after_s - 1e-6:
            self.num_late += 1
            return f"it is {-lead_s:.2f} s old on arrival"
        if self._active is not None and plan.stamp_ns < self._active.plan.stamp_ns:
            self.num_late += 1
            return "it is older than the one that is followed"
        checked = plan.checked()
        if newest_ns is None or plan.stamp_ns > newest_ns:
            self._early = checked
            return None
        return self._anchor(checked)

    def decide(self, clock_s: float) -> Decision:
        """The decision for the last odometry.

        Args:
            clock_s: the clock of the manual watchdog: steady in real time, simulated in lockstep.

        Raises:
            RuntimeError: if nothing was observed yet.
        """
        if self._ego is None:
            raise RuntimeError("decide() needs odometry: call observe() first")
        ego = self._ego
        if not ego.is_finite():
            return self._decision(FULL_BRAKE, PlannerState.STOPPED, "odometry is not finite")
        if self.manual.active:
            self._law.reset()
            self._law_ns, self._stop = None, None
            reason = self.manual.silence(clock_s) or ""
            return self._decision(self.manual.control(clock_s), PlannerState.MANUAL, reason)
        if self._active is None:
            state = PlannerState.REFUSED if self._refusal else PlannerState.STARTING
            return self._decision(FULL_BRAKE, state, self._refusal or "no plan has arrived yet")
        age_s = self._active.age_s(ego.stamp_ns)
        if age_s >= self._config.limits.stale_after_s - 1e-6:
            return self._brake(self._active, ego, age_s)
        self._stop = None
        control = self._follow(self._active, ego, age_s)
        state = PlannerState.REFUSED if self._refusal else PlannerState.FOLLOWING
        whys = (self._refusal, *self._slow_reasons())
        return self._decision(control, state, "; ".join(filter(None, whys)))

    def _slow_reasons(self) -> list[str]:
        """Why it is not the plan's speed."""
        reasons = [str(self._limit)] if self._limit else []
        if self.light_limit_mps is not None:
            reasons.append("a light is seen red")
        return [*reasons, "creeping"] if self.is_creeping else reasons

    def _anchor(self, plan: Plan) -> str | None:
        pose = self._history.at(plan.stamp_ns)
        if pose is None:
            return self._refuse(plan.stamp_ns, plan.source, "there is no odometry of its stamp")
        self._active = AnchoredPlan(plan, pose)
        self._refusal = ""
        return None

    def _refuse(self, stamp_ns: int, source: str, reason: str) -> str:
        self.num_refused += 1
        self._refusal = f"plan of {stamp_ns * 1e-9:.2f} s from {source!r}: {reason}"
        return reason

    def _follow(self, active: AnchoredPlan, ego: Ego, age_s: float) -> Control:
        """LMDrive's pedals for the points of 0.5 s and 1 s from now, and the steering."""
        period_ns = round(self._config.control_period_s * 1e9)
        if self._law_ns is None or ego.stamp_ns - self._law_ns > period_ns - 1_000_000:
            near, far = _targets(active, ego.pose, age_s)
            if self._creeps(ego):
                self._law_ns, self._limit, self.light_limit_mps = ego.stamp_ns, None, None
                half_m = 0.5 * self._config.creep.speed_mps
                pedals = self._law.pedals((half_m, 0.0), (2.0 * half_m, 0.0), ego.speed_mps)
                self._held = replace(pedals, steer=self._held.steer)
                return self._held
            self._limit = self._slower(active, ego, desired_speed_mps(near, far))
            most_mps = self._limit.speed_mps if self._limit else math.inf
            self.light_limit_mps = self._for_light(ego)
            if self.light_limit_mps is not None:
                most_mps = min(most_mps, self.light_limit_mps)
            if self._config.steering == "lmdrive":
                self._held = self._law.step(near, far, ego.speed_mps, most_mps)
            else:
                pedals = self._law.pedals(near, far, ego.speed_mps, most_mps)
                self._held = replace(pedals, steer=self._pursue(active, ego))
            self._law_ns = ego.stamp_ns
            self.num_slowed += self._limit is not None
        return self._held

    def _for_light(self, ego: Ego) -> float | None:
        """The speed that a red light allows, as the encoder sees it."""
        if not self._config.monitor.enabled:
            return None
        return self._lights.limit_mps(ego.stamp_ns * 1e-9, ego.speed_mps)

    def _creeps(self, ego: Ego) -> bool:
        """Whether it is time to roll straight on, as the monitor sees it."""
        config = self._config.monitor
        if not config.enabled or self._seen_ns < 0:
            return False
        speed_mps = self._config.creep.speed_mps
        path = [ego.pose.to_world((arc_m, 0.0)) for arc_m in arcs_m(speed_mps, config)]
        users = self._tracker.users(ego.stamp_ns * 1e-9)
        limit = speed_limit(path, speed_mps, users, config)
        is_free = limit is None or limit.speed_mps >= speed_mps
        self.is_creeping = self._creep.step(ego.stamp_ns * 1e-9, ego.speed_mps, is_free=is_free)
        return self.is_creeping

    def _pursue(self, active: AnchoredPlan, ego: Ego) -> float:
        """Pure pursuit's steering; what it was where the path is too short to have a direction."""
        config = self._pursuit
        here = (ego.pose.x_m, ego.pose.y_m)
        if active.length_m < config.least_path_m:
            return self._held.steer
        return steer(ego.pose.to_local(active.ahead(here, ahead_m(ego.speed_mps, config))), config)

    def _slower(self, active: AnchoredPlan, ego: Ego, desired_mps: float) -> SpeedLimit | None:
        """What the monitor allows, if that is less than desired."""
        config = self._config.monitor
        if not config.enabled:
            return None
        here = (ego.pose.x_m, ego.pose.y_m)
        fast_mps = max(desired_mps, ego.speed_mps)
        path = [active.ahead(here, arc_m) for arc_m in arcs_m(fast_mps, config)]
        limit = speed_limit(path, fast_mps, self._tracker.users(ego.stamp_ns * 1e-9), config)
        return limit if limit is not None and limit.speed_mps < desired_mps else None

    def _brake(self, active: AnchoredPlan, ego: Ego, age_s: float) -> Decision:
        """Along the old path, to a stop, and hold."""
        if self._stop is None:
            self._stop = Stop(self._config.stop, ego.speed_mps)
            self._law.reset()
            self._law_ns = None
        brake = self._stop.step(ego.speed_mps, self._dt_s)
        standing = ego.speed_mps < self._config.stop.standing_mps
        if standing:
            turned = 0.0
        elif self._config.steering == "lmdrive":
            here = (ego.pose.x_m, ego.pose.y_m)
            aim = ego.pose.to_local(active.ahead(here, max(3.0, 0.75 * ego.speed_mps)))
            turned = self._law.steer_towards(aim, ego.speed_mps)
        else:
            turned = self._pursue(active, ego)
        state = PlannerState.STOPPED if standing else PlannerState.STALE
        reason = f"the newest plan is {age_s:.2f} s old"
        if self._refusal:
            reason = f"{reason}; {self._refusal}"
        return self._decision(Control(steer=turned, brake=brake), state, reason)

    def _decision(self, control: Control, state: PlannerState, reason: str) -> Decision:
        age_s, desired_mps = -1.0, 0.0
        if self._active is not None and self._ego is not None:
            age_s = self._active.age_s(self._ego.stamp_ns)
            if self._ego.is_finite():
                desired_mps = desired_speed_mps(*_targets(self._active, self._ego.pose, age_s))
        wrong = control_complaint(control.throttle, control.steer, control.brake)
        if wrong is not None:
            return Decision(FULL_BRAKE, PlannerState.STOPPED, age_s, desired_mps, wrong)
        return Decision(control, state, age_s, desired_mps, reason)


def _targets(active: AnchoredPlan, pose: Pose2, age_s: float) -> tuple[Point, Point]:
    return (pose.to_local(active.at(age_s + 0.5)), pose.to_local(active.at(age_s + 1.0)))
