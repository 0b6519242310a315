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

from flad_common.config import knob, section
from flad_planner.geometry import Point
from flad_planner.tracking import Box, RoadUser, TrackingConfig

_SAMPLE_M = 0.5
_STANDING_MPS = 1.0  # below it a measured speed is mostly noise

Points = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """Who counts, and how near one may come."""

    enabled: bool = knob(True, unit="", doc="Slow down for road users that the encoder detects.")
    min_score: float = knob(0.5, unit="1", doc="Detections below it do not count.")
    half_length_m: float = knob(2.4, unit="m", doc="Of this vehicle.")
    half_width_m: float = knob(1.0, unit="m", doc="Of this vehicle.")
    side_margin_m: float = knob(0.3, unit="m", doc="Free space beside it that is kept.")
    gap_m: float = knob(3.0, unit="m", doc="Gap that is left when standing behind another.")
    brake_mps2: float = knob(2.5, unit="m/s^2", doc="Deceleration that is reckoned with.")
    horizon_s: float = knob(2.0, unit="s", doc="How far ahead others are foreseen.")
    step_s: float = knob(0.25, unit="s", doc="Between two moments that are looked at.")
    meet_m: float = knob(1.5, unit="m", doc="Who passes before or behind by less is met.")
    tracking: TrackingConfig = section(TrackingConfig, doc="How speeds are measured.")

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_score <= 1.0:
            raise ValueError(f"min_score must be in [0, 1], got {self.min_score}")
        for name in ("half_length_m", "half_width_m", "gap_m", "brake_mps2", "step_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("side_margin_m", "horizon_s", "meet_m"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


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
        u for u in users if (u.box.x_m - x_m) * ahead[0] + (u.box.y_m - y_m) * ahead[1] > 0.0
    ]  # who follows looks out
    if not counted:
        return None
    times_s = np.arange(0.0, config.horizon_s + 1e-9, config.step_s)
    places_m, along_mps = _where_in_path(np.asarray(path), counted, times_s, config)
    limits = []
    for user, arc_m, along in zip(counted, places_m, along_mps, strict=True):
        if math.isfinite(arc_m[0]):
            limits.append(_behind(float(along), float(arc_m[0]), config))
        elif user.speed_mps > _STANDING_MPS:
            limits += _before(arc_m, times_s, speed_mps, config)
    return min(limits, key=lambda limit: limit.speed_mps, default=None)


def _where_in_path(
    path: Points, users: Sequence[RoadUser], times_s: Points, config: MonitorConfig
) -> tuple[Points, Points]:
    """Where each user's nearest part is along the path over time, and how fast it goes along it.

    Returns:
        ``[U, T]`` metres, inf outside the corridor; ``[U]`` m/s where it is now.
    """
    steps = np.diff(path, axis=0)
    headings = np.arctan2(steps[:, 1], steps[:, 0])
    outlines = np.stack([_outline(user) for user in users])  # [U, 8, 2]
    moved = np.array([u.velocity_mps or (0.0, 0.0) for u in users])
    places = outlines[:, None] + times_s[None, :, None, None] * moved[:, None, None]
    far = places[..., None, :] - path  # [U, T, 8, N, 2]
    square = (far**2).sum(axis=-1)
    nearest = square.argmin(axis=-1)
    width_m = config.half_width_m + config.side_margin_m
    inside = np.take_along_axis(square, nearest[..., None], axis=-1)[..., 0] < width_m**2
    inside &= nearest > 0  # beside or behind the middle: nothing to brake for
    along_m = np.where(inside, nearest * _SAMPLE_M, np.inf).min(axis=-1)
    at = np.minimum(nearest[:, 0].min(axis=-1), len(headings) - 1)
    course = np.stack([np.cos(headings[at]), np.sin(headings[at])], axis=-1)
    return along_m, (moved * course).sum(axis=-1)


def _outline(user: RoadUser) -> Points:
    """``[8, 2]``: corners and middles of the sides."""
    box = user.box
    c, s = math.cos(box.yaw_rad), math.sin(box.yaw_rad)
    ring = [(1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1)]
    a, b = box.half_length_m, box.half_width_m
    return np.array(
        [(box.x_m + c * a * i - s * b * j, box.y_m + s * a * i + c * b * j) for i, j in ring]
    )


def counts(box: Box, config: MonitorConfig) -> bool:
    """Whether a detection in the vehicle's own frame is somebody else, surely enough."""
    if not (box.is_finite() and box.score >= config.min_score):
        return False
    return abs(box.x_m) > config.half_length_m or abs(box.y_m) > config.half_width_m


def _behind(along_mps: float, arc_m: float, config: MonitorConfig) -> SpeedLimit:
    gap_m = max(0.0, arc_m - config.half_length_m)
    along_mps = max(0.0, along_mps)
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
