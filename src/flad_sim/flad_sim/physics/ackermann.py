# SPDX-License-Identifier: Apache-2.0
"""Ackermann control: a steering angle, a speed and an acceleration turned into pedals.

The cascade of CARLA's controller: a speed PID moves the target acceleration, an acceleration PID
moves the pedal. Its gains are those that a client reads and sets as AckermannControllerSettings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flad_sim.physics.checks import finite
from flad_sim.types import VehicleControl

_STANDING_MPS = 0.1
_MAX_ACCEL_MPS2 = 3.0
_MAX_DECEL_MPS2 = 8.0


@dataclass(frozen=True, slots=True)
class AckermannControl:
    """CARLA's VehicleAckermannControl, in the order of the wire: rad, rad/s, m/s, m/s^2, m/s^3."""

    steer: float = 0.0
    steer_speed: float = 0.0  # 0: at once
    speed: float = 0.0  # negative: backwards
    acceleration: float = 0.0  # 0: as the speed controller wants
    jerk: float = 0.0  # kept; CARLA's controller does not use it either

    def __post_init__(self) -> None:
        """Refuse what is not finite."""
        for name in ("steer", "steer_speed", "speed", "acceleration", "jerk"):
            finite(f"ackermann.{name}", getattr(self, name))


@dataclass(frozen=True, slots=True)
class AckermannSettings:
    """CARLA's AckermannControllerSettings, in the order of the wire, with its defaults."""

    speed_kp: float = 0.15
    speed_ki: float = 0.0
    speed_kd: float = 0.25
    accel_kp: float = 0.01
    accel_ki: float = 0.0
    accel_kd: float = 0.01

    def __post_init__(self) -> None:
        """Refuse what is not finite."""
        for name in ("speed_kp", "speed_ki", "speed_kd", "accel_kp", "accel_ki", "accel_kd"):
            finite(f"ackermann_settings.{name}", getattr(self, name))


class AckermannController:
    """The control law and its memory; one per vehicle."""

    def __init__(self, settings: AckermannSettings) -> None:
        self.settings = settings
        self.target = AckermannControl()
        self.reset()

    def reset(self) -> None:
        """Forget the past, as when the vehicle was driven by pedals meanwhile."""
        self._accel_mps2 = 0.0
        self._pedal = 0.0
        self._steer_rad = 0.0
        self._speed_pid = _Pid()
        self._accel_pid = _Pid()

    def step(
        self, speed_mps: float, accel_mps2: float, max_steer_rad: float, dt_s: float
    ) -> VehicleControl:
        """Pedals and wheel for the next ``dt_s``; speed and acceleration along the vehicle."""
        target = self.target
        steer = self._steer(max_steer_rad, dt_s)
        standing = abs(speed_mps) < _STANDING_MPS
        if standing and abs(target.speed) < _STANDING_MPS:
            self._accel_mps2 = self._pedal = 0.0
            return VehicleControl(steer=steer, brake=1.0)
        reverse = target.speed < 0.0 if standing else speed_mps < 0.0
        direction = -1.0 if reverse else 1.0
        # Against the present motion: stop first.
        wanted = max(0.0, direction * target.speed)
        gains = self.settings
        if abs(target.acceleration) > 1e-4:
            limit = abs(target.acceleration)
            error = wanted - direction * speed_mps
            self._accel_mps2 = max(-limit, min(limit, error / max(dt_s, 0.1)))
        else:
            change = self._speed_pid.step(
                wanted - direction * speed_mps,
                (gains.speed_kp, gains.speed_ki, gains.speed_kd),
                dt_s,
            )
            self._accel_mps2 += change
        self._accel_mps2 = max(-_MAX_DECEL_MPS2, min(_MAX_ACCEL_MPS2, self._accel_mps2))
        self._pedal += self._accel_pid.step(
            self._accel_mps2 - direction * accel_mps2,
            (gains.accel_kp, gains.accel_ki, gains.accel_kd),
            dt_s,
        )
        self._pedal = max(-1.0, min(1.0, self._pedal))
        return VehicleControl(
            throttle=max(0.0, self._pedal),
            steer=steer,
            brake=max(0.0, -self._pedal),
            reverse=reverse,
        )

    def _steer(self, max_steer_rad: float, dt_s: float) -> float:
        if max_steer_rad <= 0.0:
            return 0.0
        step = abs(self.target.steer_speed) * dt_s or math.inf
        wanted = max(-max_steer_rad, min(max_steer_rad, self.target.steer))
        self._steer_rad += max(-step, min(step, wanted - self._steer_rad))
        return self._steer_rad / max_steer_rad


class _Pid:
    def __init__(self) -> None:
        self._integral = 0.0
        self._last: float | None = None

    def step(self, error: float, gains: tuple[float, float, float], dt_s: float) -> float:
        kp, ki, kd = gains
        self._integral = max(-10.0, min(10.0, self._integral + error * dt_s))
        slope = 0.0 if self._last is None else (error - self._last) / dt_s
        self._last = error
        return kp * error + ki * self._integral + kd * slope
