# SPDX-License-Identifier: Apache-2.0
"""LMDrive's control law: two waypoints in, pedals and steering out (its agent, section 3.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from flad_common.config import knob, section
from flad_planner.control import Control, clamp
from flad_planner.geometry import Point
from flad_planner.pid import WindowPid, WindowPidConfig


@dataclass(frozen=True, kw_only=True)
class TurnPidConfig(WindowPidConfig):
    """Steering; its error is the angle to the aim, 1 is a right angle."""

    kp: float = knob(1.25, unit="1", doc="Steering per error.")
    ki: float = knob(0.75, unit="1", doc="Steering per mean error of the window.")
    kd: float = knob(0.3, unit="1", doc="Steering per error gained since the last call.")


@dataclass(frozen=True, kw_only=True)
class SpeedPidConfig(WindowPidConfig):
    """Throttle; its error is the speed that is lacking."""

    kp: float = knob(5.0, unit="s/m", doc="Throttle per error.")
    ki: float = knob(0.5, unit="s/m", doc="Throttle per mean error of the window.")
    kd: float = knob(1.0, unit="s/m", doc="Throttle per error gained since the last call.")


@dataclass(frozen=True, kw_only=True)
class LmdriveLawConfig:
    """Every number of the law; the defaults are LMDrive's (``lmdriver_config.py``)."""

    turn: TurnPidConfig = section(TurnPidConfig, doc="Steering, called at 10 Hz.")
    speed: SpeedPidConfig = section(SpeedPidConfig, doc="Throttle, called at 10 Hz.")
    clip_delta_mps: float = knob(0.35, unit="m/s", doc="Most speed error the throttle PID sees.")
    max_throttle: float = knob(0.75, unit="1", doc="Most throttle.")
    steer_share: float = knob(0.8, unit="1", doc="Share of the steering PID's output that is used.")
    brake_below_mps: float = knob(0.1, unit="m/s", doc="Brake when less speed is desired.")
    brake_ratio: float = knob(1.1, unit="1", doc="Brake when the speed is this many times desired.")
    steer_above_mps: float = knob(0.01, unit="m/s", doc="Slower, the steering error is zero.")

    def __post_init__(self) -> None:
        if self.brake_below_mps <= 0.0:  # the ratio divides by speeds above it
            raise ValueError(f"brake_below_mps must be positive, got {self.brake_below_mps}")
        for name in ("max_throttle", "steer_share"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")


class LmdriveLaw:
    """The two PIDs and the rules around them. To be stepped at 10 Hz."""

    def __init__(self, config: LmdriveLawConfig) -> None:
        self._config = config
        self._turn = WindowPid(config.turn)
        self._speed = WindowPid(config.speed)

    def reset(self) -> None:
        """Forget the past, as after a pause in which something else drove."""
        self._turn.reset()
        self._speed.reset()

    def step(
        self, near: Point, far: Point, speed_mps: float, most_mps: float = math.inf
    ) -> Control:
        """Control towards where the vehicle shall be in 0.5 s (``near``) and 1 s (``far``).

        Both points are in the vehicle's frame, x forward and y left, in metres; ``most_mps`` is the
        speed that must not be exceeded whatever they imply.
        """
        aim = ((near[0] + far[0]) / 2.0, (near[1] + far[1]) / 2.0)
        steer = self.steer_towards(aim, speed_mps)
        return replace(self.pedals(near, far, speed_mps, most_mps), steer=steer)

    def pedals(
        self, near: Point, far: Point, speed_mps: float, most_mps: float = math.inf
    ) -> Control:
        """The same without its steering, for who steers otherwise."""
        c = self._config
        desired_mps = min(most_mps, desired_speed_mps(near, far))
        brakes = desired_mps < c.brake_below_mps or speed_mps / desired_mps > c.brake_ratio
        throttle = self._speed.step(clamp(desired_mps - speed_mps, 0.0, c.clip_delta_mps))
        throttle = 0.0 if brakes else clamp(throttle, 0.0, c.max_throttle)
        return Control(throttle=throttle, brake=1.0 if brakes else 0.0)

    def steer_towards(self, aim: Point, speed_mps: float) -> float:
        """Steering towards a point in the vehicle's frame; positive is right."""
        right_angle = -math.degrees(math.atan2(aim[1], aim[0])) / 90.0  # 1 is a right angle
        if speed_mps < self._config.steer_above_mps:
            right_angle = 0.0
        return clamp(self._turn.step(right_angle), -1.0, 1.0) * self._config.steer_share


def desired_speed_mps(near: Point, far: Point) -> float:
    """Speed implied by two waypoints that are half a second apart."""
    return math.dist(near, far) * 2.0
