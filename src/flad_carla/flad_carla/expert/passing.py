# SPDX-License-Identifier: Apache-2.0
"""Leaving the lane: round what blocks it, and into the next one where the route changes lanes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from flad_carla.expert.config import ExpertConfig
from flad_carla.expert.scene import Agents, EgoState, FloatArray, Kind

_LANE_HALF_M = 1.5  # who is nearer than this to a lane's centre is in it
_STANDING_MPS = 0.3
_AFTER_M = 3.0  # straight on past the obstacle before swerving back


class Side(IntEnum):
    """What lies beside the route's lane."""

    NONE = 0
    SAME = 1  # a driving lane in our direction
    OPPOSITE = 2  # a driving lane against us


@dataclass(frozen=True, slots=True)
class SideLane:
    """A neighbour of the route's lane: what it is and where its centre is (d, right positive)."""

    side: Side
    d: float


@dataclass(frozen=True, slots=True)
class Shift:
    """A swerve: out between s0 and s1, beside until s2, back at s3."""

    s0: float
    s1: float
    s2: float
    s3: float
    d: float
    opposite: bool

    def offset(self, s: FloatArray) -> FloatArray:
        """Sideways offset of the path at ``s``."""
        out = _smooth((s - self.s0) / max(self.s1 - self.s0, 0.1))
        back = _smooth((s - self.s2) / max(self.s3 - self.s2, 0.1))
        return np.asarray(self.d * (out - back))


def plan_shift(
    ego_s: float, front: float, near_s: float, end_s: float, lane: SideLane, c: ExpertConfig
) -> Shift:
    """A swerve round ``near_s``..``end_s`` that starts now or later."""
    half = front
    s1 = near_s - half - 1.0
    s0 = max(ego_s, s1 - c.shift_m)
    s1 = max(s1, s0 + 8.0)
    s2 = end_s + half + _AFTER_M
    return Shift(s0, s1, s2, s2 + c.shift_m, lane.d, lane.side == Side.OPPOSITE)


def is_clear(
    shift: Shift,
    agents: Agents,
    s: FloatArray,
    d: FloatArray,
    vs: FloatArray,
    ego: EgoState,
    ego_s: float,
    skip: Sequence[int],
    c: ExpertConfig,
) -> bool:
    """Whether the lane that the swerve uses is free for as long as it is used.

    Args:
        s, d, vs: place and speed [N] of the agents along the path.
        skip: rows of the obstacles themselves.
    """
    in_lane = np.abs(d - shift.d) < _LANE_HALF_M + agents.half_width * 0.5
    in_lane[list(skip)] = False
    if shift.opposite:
        pace = max(2.0, 0.5 * (ego.speed + c.pass_speed_mps))
        needed_s = (shift.s3 - ego_s) / pace + 1.0 + c.gap_oncoming_s
        ahead = in_lane & (s > ego_s - ego.half_length) & (agents.kind != Kind.WALKER)
        meets = s + np.minimum(vs, 0.0) * needed_s - agents.half_length < shift.s3
        return not bool((ahead & meets).any())
    return _lane_is_free(in_lane, agents, s, vs, ego, ego_s, shift.s3, c)


def lane_is_free(
    target_d: float,
    agents: Agents,
    s: FloatArray,
    d: FloatArray,
    vs: FloatArray,
    ego: EgoState,
    ego_s: float,
    c: ExpertConfig,
) -> bool:
    """Whether the ego may move into the lane at ``target_d`` now."""
    in_lane = np.abs(d - target_d) < _LANE_HALF_M + agents.half_width * 0.5
    return _lane_is_free(in_lane, agents, s, vs, ego, ego_s, ego_s + 12.0, c)


def _lane_is_free(
    in_lane: NDArray[np.bool_],
    agents: Agents,
    s: FloatArray,
    vs: FloatArray,
    ego: EgoState,
    ego_s: float,
    until_s: float,
    c: ExpertConfig,
) -> bool:
    gap_behind = (ego_s - ego.half_length) - (s + agents.half_length)
    behind = s < ego_s
    pace = max(ego.speed, 3.0)
    needed = 2.0 + np.maximum(0.0, vs - pace) * c.gap_rear_s + 0.3 * np.maximum(vs, 0.0)
    if bool((in_lane & behind & (gap_behind < needed)).any()):
        return False
    gap_ahead = (s - agents.half_length) - (ego_s + ego.half_length)
    close = in_lane & ~behind & (gap_ahead < 2.0 + 0.5 * np.maximum(ego.speed - vs, 0.0))
    standing = in_lane & ~behind & (vs < _STANDING_MPS) & (s - agents.half_length < until_s)
    return not bool((close | standing).any())


def _smooth(t: FloatArray) -> FloatArray:
    t = np.clip(t, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


def bend_speed(shift: Shift, c: ExpertConfig) -> float:
    """Speed at which the swerve's own curvature is comfortable."""
    length = min(shift.s1 - shift.s0, shift.s3 - shift.s2)
    curvature = 6.0 * abs(shift.d) / max(length, 1.0) ** 2
    return min(c.pass_speed_mps, math.sqrt(c.lateral_mps2 / max(curvature, 1e-3)))
