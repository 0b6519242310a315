# SPDX-License-Identifier: Apache-2.0
"""Drives a scenario's car along the route at a given sideways offset: pure pursuit, P on speed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import carla

from flad_carla.run_log import BodyView
from flad_carla.scenarios.base import Track

_LOOKAHEAD_S = 0.6
_LOOKAHEAD_M = (4.0, 10.0)
_THROTTLE_PER_MPS = 0.35
_BRAKE_PER_MPS = 0.4
_HOLD_THROTTLE = 0.25


@dataclass(frozen=True, kw_only=True)
class CarShape:
    """What steering depends on."""

    wheelbase_m: float = 2.85
    full_steer_rad: float = math.radians(60.0)


def car_shape(actor: carla.Vehicle) -> CarShape:
    """A car's geometry, as the simulator tells it."""
    wheels = actor.get_physics_control().wheels
    angle = wheels[0].max_steer_angle if wheels else 0.0
    length = 2.0 * actor.bounding_box.extent.x
    return CarShape(
        wheelbase_m=0.58 * length, full_steer_rad=math.radians(angle if angle > 1.0 else 60.0)
    )


class PathDriver:
    """Follows the track; ``direction`` -1 drives it backwards (an oncoming car)."""

    def __init__(self, track: Track, start_s: float, direction: int, shape: CarShape) -> None:
        self._track = track
        self._direction = direction
        self._shape = shape
        self.s = start_s

    def control(self, body: BodyView, d: float, speed_mps: float) -> carla.VehicleControl:
        """The control towards offset ``d`` (right of the route) at ``speed_mps``."""
        self.s, _ = self._track.project(body.pose.x, body.pose.y, self.s)
        ahead = min(max(_LOOKAHEAD_S * body.speed_mps, _LOOKAHEAD_M[0]), _LOOKAHEAD_M[1])
        x, y, _, _ = self._track.place(self.s + self._direction * ahead, d)
        forward, right = body.pose.to_local(x, y)
        distance = max(math.hypot(forward, right), 1.0)
        wheel = math.atan(2.0 * self._shape.wheelbase_m * (right / distance) / distance)
        steer = max(-1.0, min(1.0, wheel / self._shape.full_steer_rad))
        return pedals(body, speed_mps, steer)


def pedals(body: BodyView, speed_mps: float, steer: float = 0.0) -> carla.VehicleControl:
    """Throttle or brake towards a speed; 0 stops as hard as the car can."""
    if speed_mps <= 0.0:
        return carla.VehicleControl(throttle=0.0, brake=1.0, steer=steer)
    error = speed_mps - body.speed_mps
    throttle = min(0.8, max(0.0, _HOLD_THROTTLE + _THROTTLE_PER_MPS * error))
    brake = min(1.0, max(0.0, -_BRAKE_PER_MPS * (error + 0.5)))
    return carla.VehicleControl(
        throttle=throttle if brake == 0.0 else 0.0, brake=brake, steer=steer
    )
