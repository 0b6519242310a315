# SPDX-License-Identifier: Apache-2.0
"""How fast the plan's path may be driven, given who else is on it.

A language model at the edge says where to go; whether something stands there is checked on the
vehicle, by what its own encoder detects, with no network in between. The monitor only ever slows
down: it never steers, never speeds up, and knows nothing of lights or lanes.

Who is in the path now may be approached at no more than

    v(g) = sqrt(u^2 + 2 b max(0, g - g0)),    v(g) = u g / g0  for g < g0,

with g the gap, u the other's speed along the path, b and g0 the configuration's deceleration and
standstill gap: from v(g) the vehicle stops, or falls back to u, g0 behind. Who will be in the path
within the horizon, going straight on as now, must not be met there: the vehicle comes later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flad_common.config import knob
from flad_planner.geometry import Point, Pose2

_SAMPLE_M = 0.5
_STANDING_MPS = 0.5

Points = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """Who counts, and how near one may come."""

    enabled: bool = knob(True, unit="", doc="Slow down for road users that the encoder detects.")
    min_score: float = knob(0.5, unit="1", doc="Detections below it do not count.")
    stale_after_s: float = knob(0.5, unit="s", doc="Older detections do not count.")
    half_length_m: float = knob(2.4, unit="m", doc="Of this vehicle.")
    half_width_m: float = knob(1.0, unit="m", doc="Of this vehicle.")
    side_margin_m: float = knob(0.3, unit="m", doc="Free space beside it that is kept.")
    gap_m: float = knob(3.0, unit="m", doc="Gap that is left when standing behind another.")
    brake_mps2: float = knob(2.5, unit="m/s^2", doc="Deceleration that is reckoned with.")
    horizon_s: float = knob(2.0, unit="s", doc="How far ahead others are foreseen.")
    step_s: float = knob(0.25, unit="s", doc="Between two moments that are looked at.")
    meet_m: float = knob(1.5, unit="m", doc="Who passes before or behind by less is met.")

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_score <= 1.0:
            raise ValueError(f"min_score must be in [0, 1], got {self.min_score}")
        for name in ("half_length_m", "half_width_m", "gap_m", "brake_mps2", "step_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("stale_after_s", "side_margin_m", "horizon_s", "meet_m"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class RoadUser:
    """Somebody whom the encoder detected, in the frame that the context says."""

    x_m: float
    y_m: float
    yaw_rad: float
    half_length_m: float
    half_width_m: float
    speed_mps: float
    score: float

    def is_finite(self) -> bool:
        """Whether this can be reckoned with."""
        values = (self.x_m, self.y_m, self.yaw_rad, self.half_length_m, self.half_width_m)
        return all(map(math.isfinite, (*values, self.speed_mps, self.score)))


@dataclass(frozen=True, slots=True)
class SpeedLimit:
    """What the monitor allows, and for whom."""

    speed_mps: float
    gap_m: float
    """From this vehicle's front to where the other is, or will be."""
    is_foreseen: bool
    """Whether the other is not in the path yet."""

    def __str__(self) -> str:
        who = "will be" if self.is_foreseen else "is"
        return f"slows to {self.speed_mps:.1f} m/s: a road user {who} {self.gap_m:.1f} m ahead"


def later(user: RoadUser, from_pose: Pose2, age_s: float) -> RoadUser:
    """A road user seen from ``from_pose`` ``age_s`` ago, now and in the frame of that pose."""
    yaw_rad = from_pose.yaw_rad + user.yaw_rad
    x_m, y_m = from_pose.to_world((user.x_m, user.y_m))
    gone_m = age_s * user.speed_mps
    return RoadUser(
        x_m + gone_m * math.cos(yaw_rad),
        y_m + gone_m * math.sin(yaw_rad),
        yaw_rad,
        user.half_length_m,
        user.half_width_m,
        user.speed_mps,
        user.score,
    )


def arcs_m(speed_mps: float, config: MonitorConfig) -> list[float]:
    """Where along the path :func:`speed_limit` wants points: as far as one gets, and stops."""
    ahead_m = speed_mps * config.horizon_s + speed_mps**2 / (2.0 * config.brake_mps2)
    reach_m = config.half_length_m + config.gap_m + ahead_m
    return [_SAMPLE_M * i for i in range(1 + int(reach_m / _SAMPLE_M))]


def speed_limit(
    path: Sequence[Point], speed_mps: float, users: Sequence[RoadUser], config: MonitorConfig
) -> SpeedLimit | None:
    """The least of what each road user allows; None if nobody is met.

    Args:
        path: points at :func:`arcs_m` from the vehicle's middle on, in any frame.
        speed_mps: that the vehicle would go.
        users: in the same frame, now.
        config: of the monitor.
    """
    if len(path) < 2:
        return None
    (x_m, y_m), (next_x_m, next_y_m) = path[:2]
    ahead = (next_x_m - x_m, next_y_m - y_m)
    counted = [
        u
        for u in users
        if u.is_finite()
        and u.score >= config.min_score
        and (u.x_m - x_m) * ahead[0] + (u.y_m - y_m) * ahead[1] > 0.0  # who follows looks out
    ]
    if not counted:
        return None
    times_s = np.arange(0.0, config.horizon_s + 1e-9, config.step_s)
    places_m, courses_rad = _where_in_path(np.asarray(path), counted, times_s, config)
    limits = []
    for user, arc_m, course_rad in zip(counted, places_m, courses_rad, strict=True):
        if math.isfinite(arc_m[0]):
            limits.append(_behind(user, float(arc_m[0]), float(course_rad), config))
        elif user.speed_mps > _STANDING_MPS:
            limits += _before(arc_m, times_s, speed_mps, config)
    return min(limits, key=lambda limit: limit.speed_mps, default=None)


def _where_in_path(
    path: Points, users: Sequence[RoadUser], times_s: Points, config: MonitorConfig
) -> tuple[Points, Points]:
    """Where each user's nearest part is along the path over time, and where it heads.

    Returns:
        ``[U, T]`` metres, inf outside the corridor; ``[U]`` angle off the path's where it is now.
    """
    steps = np.diff(path, axis=0)
    headings = np.arctan2(steps[:, 1], steps[:, 0])
    outlines = np.stack([_outline(user) for user in users])  # [U, 8, 2]
    yaws = np.array([u.yaw_rad for u in users])
    speeds = np.array([u.speed_mps for u in users])
    moved = np.stack([np.cos(yaws), np.sin(yaws)], axis=-1) * speeds[:, None]
    places = outlines[:, None] + times_s[None, :, None, None] * moved[:, None, None]
    far = places[..., None, :] - path  # [U, T, 8, N, 2]
    square = (far**2).sum(axis=-1)
    nearest = square.argmin(axis=-1)
    width_m = config.half_width_m + config.side_margin_m
    inside = np.take_along_axis(square, nearest[..., None], axis=-1)[..., 0] < width_m**2
    inside &= nearest > 0  # beside or behind the middle: nothing to brake for
    along_m = np.where(inside, nearest * _SAMPLE_M, np.inf).min(axis=-1)
    at = np.minimum(nearest[:, 0].min(axis=-1), len(headings) - 1)
    return along_m, yaws - headings[at]


def _outline(user: RoadUser) -> Points:
    """``[8, 2]``: corners and middles of the sides."""
    c, s = math.cos(user.yaw_rad), math.sin(user.yaw_rad)
    ring = [(1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1)]
    a, b = user.half_length_m, user.half_width_m
    return np.array(
        [(user.x_m + c * a * i - s * b * j, user.y_m + s * a * i + c * b * j) for i, j in ring]
    )


def _behind(user: RoadUser, arc_m: float, course_rad: float, config: MonitorConfig) -> SpeedLimit:
    gap_m = max(0.0, arc_m - config.half_length_m)
    along_mps = max(0.0, user.speed_mps * math.cos(course_rad))
    if gap_m < config.gap_m:
        return SpeedLimit(along_mps * gap_m / config.gap_m, gap_m, False)
    square = along_mps**2 + 2.0 * config.brake_mps2 * (gap_m - config.gap_m)
    return SpeedLimit(math.sqrt(square), gap_m, False)


def _before(
    arc_m: Points, times_s: Points, speed_mps: float, config: MonitorConfig
) -> list[SpeedLimit]:
    limits = []
    for at_m, time_s in zip(arc_m.tolist(), times_s.tolist(), strict=True):
        near_m = config.half_length_m + config.meet_m
        if abs(speed_mps * time_s - at_m) < near_m:  # never where it is outside: inf
            allowed = max(0.0, at_m - near_m) / time_s
            limits.append(SpeedLimit(allowed, max(0.0, at_m - config.half_length_m), True))
    return limits
