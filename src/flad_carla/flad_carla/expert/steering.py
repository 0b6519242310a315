# SPDX-License-Identifier: Apache-2.0
"""Aiming: where to put the first two waypoints so that the planner's law steers along the path.

The law (``flad_planner.lmdrive_law``) turns the angle to the middle of the first two waypoints
into steering, through a PID whose mean over four seconds swings the car out of bends. Knowing that
law, the aim is set so that its output is pure pursuit's; it stays near the path.
"""

from __future__ import annotations

import math
from collections import deque

from flad_planner.lmdrive_law import LmdriveLawConfig

_MIN_SPEED_MPS = 0.5
_MAX_DISPLACEMENT_M = 0.8
_MAX_ANGLE_RAD = 1.2
_LOOKAHEAD_S = 0.7
_LOOKAHEAD_M = (3.2, 8.0)  # least, most


class Aim:
    """Mirrors the planner's steering PID. To be stepped once per plan, at the law's 10 Hz."""

    def __init__(self, wheelbase_m: float, full_steer_rad: float, law: LmdriveLawConfig) -> None:
        self._wheelbase_m = wheelbase_m
        self._full_steer_rad = full_steer_rad
        self._share = law.steer_share
        self._pid = law.turn
        self._errors: deque[float] = deque([0.0] * law.turn.window, maxlen=law.turn.window)

    def lookahead_m(self, speed_mps: float) -> float:
        """How far ahead of the rear axle the path is looked at."""
        return min(max(_LOOKAHEAD_S * speed_mps, _LOOKAHEAD_M[0]), _LOOKAHEAD_M[1])

    def turn(self, speed_mps: float, near: tuple[float, float], aim: tuple[float, float]) -> float:
        """By which angle the first two waypoints shall be turned about the car (right positive).

        Args:
            near: the path's point at the lookahead, from the rear axle (forward, right).
            aim: the middle of the first two waypoints, from the car's centre (forward, right).
        """
        nominal = math.atan2(aim[1], max(aim[0], 1e-3))
        if speed_mps < _MIN_SPEED_MPS:
            self._errors.append(nominal / (math.pi / 2) if speed_mps > 0.01 else 0.0)
            return 0.0
        wished = self._error_for(self._pursuit(near)) * math.pi / 2
        limit = min(_MAX_ANGLE_RAD, _MAX_DISPLACEMENT_M / max(math.hypot(*aim), 0.5))
        turned = max(-limit, min(limit, wished - nominal))
        self._errors.append((nominal + turned) / (math.pi / 2))
        return turned

    def _pursuit(self, near: tuple[float, float]) -> float:
        """Pure pursuit's steering (1 is full lock, right positive)."""
        distance = max(math.hypot(*near), 0.5)
        wheel = math.atan(2.0 * self._wheelbase_m * (near[1] / distance) / distance)
        return max(-1.0, min(1.0, wheel / self._full_steer_rad))

    def _error_for(self, steer: float) -> float:
        """The error with which the law answers ``steer`` now."""
        p, count = self._pid, self._pid.window
        kept = sum(self._errors) - self._errors[0]  # the oldest falls out with the next
        known = p.ki * kept / count - p.kd * self._errors[-1]
        return (steer / self._share - known) / (p.kp + p.ki / count + p.kd)
