# SPDX-License-Identifier: Apache-2.0
"""A plan: where the vehicle shall be at which time, and what a plan must not ask for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from flad_common.config import knob
from flad_planner.geometry import Point, Pose2


@dataclass(frozen=True, slots=True)
class Plan:
    """Waypoints in the frame of the vehicle at ``stamp_ns``: x forward, y left, metres.

    Point ``i`` is where the vehicle shall be ``(i + 1) * step_s`` after the stamp.
    """

    stamp_ns: int
    points: tuple[Point, ...]
    step_s: float
    source: str = ""


@dataclass(frozen=True, slots=True)
class RawPlan:
    """A plan as it arrived: nothing is known about its values yet."""

    stamp_ns: int
    xs: Sequence[float]
    ys: Sequence[float]
    step_s: float
    source: str = ""

    @property
    def is_none(self) -> bool:
        """Whether it only says that the driver has no plan for its stamp."""
        return not self.xs and not self.ys

    def checked(self) -> Plan:
        """The same as a plan; only after :func:`complaint` had none."""
        points = tuple((float(x), float(y)) for x, y in zip(self.xs, self.ys, strict=True))
        return Plan(self.stamp_ns, points, self.step_s, self.source)


@dataclass(frozen=True, kw_only=True)
class PlanLimits:
    """What a plan may ask for; beyond it the plan is refused."""

    stale_after_s: float = knob(0.5, unit="s", doc="Age at which a plan is no longer followed.")
    min_points: int = knob(2, unit="1", doc="Fewest waypoints of a plan.")
    max_points: int = knob(50, unit="1", doc="Most waypoints of a plan.")
    max_speed_mps: float = knob(40.0, unit="m/s", doc="Fastest that waypoints may imply.")
    max_sideways_m: float = knob(15.0, unit="m", doc="Widest jump to the side between waypoints.")
    max_future_s: float = knob(0.5, unit="s", doc="How far a stamp may be ahead of the odometry.")

    def __post_init__(self) -> None:
        for name in ("stale_after_s", "max_speed_mps", "max_sideways_m"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 2 <= self.min_points <= self.max_points:
            raise ValueError(
                f"2 <= min_points <= max_points must hold, got {self.min_points} and "
                f"{self.max_points}"
            )


def complaint(plan: RawPlan, limits: PlanLimits) -> str | None:
    """Why this plan is refused, None if it may be followed.

    The path must reach one second past the age at which it goes stale, because that is how far
    the control law looks ahead.
    """
    xs, ys, step_s = plan.xs, plan.ys, plan.step_s
    if len(xs) != len(ys):
        return f"{len(xs)} x values but {len(ys)} y values"
    if not limits.min_points <= len(xs) <= limits.max_points:
        return f"{len(xs)} waypoints, allowed are {limits.min_points} to {limits.max_points}"
    if not (math.isfinite(step_s) and step_s > 0.0):
        return f"step_s must be positive and finite, got {step_s}"
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        if not (math.isfinite(x) and math.isfinite(y)):
            return f"waypoint {i} is ({x}, {y}), not finite"
    for i, (a, b) in enumerate(pairwise([(0.0, 0.0), *zip(xs, ys, strict=True)])):
        if abs(b[1] - a[1]) > limits.max_sideways_m:
            return (
                f"waypoint {i} is {abs(b[1] - a[1]):.1f} m to the side of the one before, "
                f"allowed are {limits.max_sideways_m:g} m"
            )
        if (speed_mps := math.dist(a, b) / step_s) > limits.max_speed_mps:
            return f"waypoint {i} implies {speed_mps:.1f} m/s, allowed are {limits.max_speed_mps:g}"
    if len(xs) * step_s < limits.stale_after_s + 1.0 - 1e-6:
        return (
            f"the plan reaches {len(xs) * step_s:g} s, it must reach "
            f"{limits.stale_after_s + 1.0:g} s"
        )
    return None


class AnchoredPlan:
    """A plan fixed to the ground by the pose that the vehicle had at the plan's stamp."""

    def __init__(self, plan: Plan, pose_at_stamp: Pose2) -> None:
        self.plan = plan
        self.path: tuple[Point, ...] = (
            (pose_at_stamp.x_m, pose_at_stamp.y_m),
            *(pose_at_stamp.to_world(p) for p in plan.points),
        )

    @property
    def length_m(self) -> float:
        """Of the whole path."""
        return sum(math.dist(a, b) for a, b in pairwise(self.path))

    def age_s(self, now_ns: int) -> float:
        """Seconds since the plan's stamp."""
        return (now_ns - self.plan.stamp_ns) * 1e-9

    def at(self, time_s: float) -> Point:
        """Where the vehicle shall be ``time_s`` after the stamp; the last waypoint beyond it."""
        i, share = divmod(max(0.0, time_s) / self.plan.step_s, 1.0)
        k = int(i)
        if k >= len(self.path) - 1:
            return self.path[-1]
        a, b = self.path[k], self.path[k + 1]
        return (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]))

    def ahead(self, position: Point, distance_m: float) -> Point:
        """The point of the path ``distance_m`` of arc past the one nearest to ``position``.

        Beyond the end it goes straight on along the last piece that has a length.
        """
        nearest_m, walked_m = 0.0, 0.0
        least = math.inf
        for a, b in pairwise(self.path):
            length = math.dist(a, b)
            share = _foot(a, b, position)
            foot = (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]))
            if (gap := math.dist(foot, position)) < least:
                least, nearest_m = gap, walked_m + share * length
            walked_m += length
        return self._at_arc(nearest_m + distance_m)

    def _at_arc(self, arc_m: float) -> Point:
        end = self.path[-1]
        direction: Point | None = None
        for a, b in pairwise(self.path):
            length = math.dist(a, b)
            if length < 1e-3:
                continue
            direction = ((b[0] - a[0]) / length, (b[1] - a[1]) / length)
            if arc_m <= length:
                return (a[0] + arc_m * direction[0], a[1] + arc_m * direction[1])
            arc_m -= length
        if direction is None:
            return end
        return (end[0] + arc_m * direction[0], end[1] + arc_m * direction[1])


def _foot(a: Point, b: Point, p: Point) -> float:
    """Where on the segment ``p`` projects to, as a share in [0, 1]."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    square = dx * dx + dy * dy
    if square < 1e-9:
        return 0.0
    return max(0.0, min(1.0, ((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / square))
