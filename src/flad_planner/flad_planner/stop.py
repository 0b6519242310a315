# SPDX-License-Identifier: Apache-2.0
"""Braking to a stop without a plan: bounded deceleration, then the brake is held."""

from __future__ import annotations

from dataclasses import dataclass

from flad_common.config import knob
from flad_planner.control import clamp


@dataclass(frozen=True, kw_only=True)
class StopConfig:
    """How a vehicle that has lost its plan comes to rest."""

    deceleration_mps2: float = knob(3.0, unit="m/s^2", doc="Deceleration that is aimed for.")
    full_brake_mps2: float = knob(8.0, unit="m/s^2", doc="What the full pedal gives, about.")
    gain_s_per_m: float = knob(0.2, unit="s/m", doc="Pedal per m/s above the falling target.")
    standing_mps: float = knob(0.1, unit="m/s", doc="Slower than this is standing.")

    def __post_init__(self) -> None:
        for name in ("deceleration_mps2", "full_brake_mps2", "gain_s_per_m", "standing_mps"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


class Stop:
    """One braking manoeuvre: a target speed falls at a fixed rate, the pedal follows it."""

    def __init__(self, config: StopConfig, speed_mps: float) -> None:
        self._config = config
        self._target_mps = speed_mps

    def step(self, speed_mps: float, dt_s: float) -> float:
        """The brake pedal in [0, 1] after ``dt_s``; 1 once the vehicle stands."""
        c = self._config
        if speed_mps < c.standing_mps:
            return 1.0
        self._target_mps = max(0.0, self._target_mps - c.deceleration_mps2 * max(0.0, dt_s))
        pedal = c.deceleration_mps2 / c.full_brake_mps2
        return clamp(pedal + c.gain_s_per_m * (speed_mps - self._target_mps), 0.0, 1.0)
