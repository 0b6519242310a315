# SPDX-License-Identifier: Apache-2.0
"""Pure pursuit: the circle that leads the rear axle to a point of the path (Coulter, 1992)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flad_common.config import knob
from flad_planner.control import clamp
from flad_planner.geometry import Point


@dataclass(frozen=True, kw_only=True)
class PursuitConfig:
    """How far ahead the path is looked at, and the car that is steered."""

    lookahead_s: float = knob(
        0.7, unit="s", doc="Way of so long is looked ahead, from the rear axle."
    )
    least_m: float = knob(3.2, unit="m", doc="Shortest lookahead.")
    most_m: float = knob(8.0, unit="m", doc="Longest lookahead.")
    least_path_m: float = knob(0.5, unit="m", doc="On less path the steering stays as it is.")
    understeer: float = knob(
        0.15, unit="1", doc="Share by which the car turns less than its wheels are turned."
    )
    wheelbase_m: float = knob(2.85, unit="m", doc="Of the car, until it says so (vehicle_info).")
    full_steer_deg: float = knob(
        45.0, unit="deg", doc="Angle of its front wheels at full lock, until it says so."
    )

    def __post_init__(self) -> None:
        for name in ("lookahead_s", "least_m", "least_path_m", "wheelbase_m"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0.5 * self.wheelbase_m < self.least_m <= self.most_m:
            raise ValueError(
                f"half the wheelbase < least_m <= most_m must hold, got {self.wheelbase_m / 2}, "
                f"{self.least_m} and {self.most_m}"
            )
        if not self.understeer >= 0.0:
            raise ValueError(f"understeer must not be negative, got {self.understeer}")
        if not 0.0 < self.full_steer_deg < 90.0:
            raise ValueError(f"full_steer_deg must be in (0, 90), got {self.full_steer_deg}")


def ahead_m(speed_mps: float, config: PursuitConfig) -> float:
    """How far ahead of the car's centre the path is looked at, along the path."""
    c = config
    return clamp(c.lookahead_s * speed_mps, c.least_m, c.most_m) - 0.5 * c.wheelbase_m


def steer(target: Point, config: PursuitConfig) -> float:
    """Steering, in [-1, 1] and right positive, of the circle through ``target``.

    The point is in the vehicle's frame (centre, x forward, y left), in metres. The circle touches
    the car's axis at the rear axle: curvature 2 y / d^2, front wheels at atan(wheelbase *
    curvature), and by the understeer more.
    """
    forward = target[0] + 0.5 * config.wheelbase_m
    square = max(forward * forward + target[1] * target[1], 0.25)
    wheel = math.atan(config.wheelbase_m * 2.0 * -target[1] / square) * (1.0 + config.understeer)
    return clamp(wheel / math.radians(config.full_steer_deg), -1.0, 1.0)
