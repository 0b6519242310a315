# SPDX-License-Identifier: Apache-2.0
"""Slowing down for a red light that the vehicle's own encoder sees, until it is gone.

Where the stop line is, the encoder does not say, and close to it the lamp is out of the cameras'
sight. So the vehicle comes to rest at a fixed deceleration from where the light was surely seen,
rather too early than too late, and waits there.
"""

from __future__ import annotations

from dataclasses import dataclass

from flad_common.config import knob


@dataclass(frozen=True, kw_only=True)
class LightGuardConfig:
    """When a light counts as red, and how to stop for it; only where the monitor looks out."""

    enabled: bool = knob(True, unit="", doc="Slow down for red lights that the encoder sees.")
    red_above: float = knob(0.8, unit="1", doc="Probability from which on it is red.")
    free_below: float = knob(0.5, unit="1", doc="Probability up to which it is not.")
    count: int = knob(3, unit="frames", doc="So many in a row are believed.")
    deceleration_mps2: float = knob(1.5, unit="m/s^2", doc="Of the way to the stop.")

    def __post_init__(self) -> None:
        if not 0.0 < self.free_below <= self.red_above <= 1.0:
            raise ValueError(
                f"0 < free_below <= red_above <= 1 must hold, got {self.free_below} and "
                f"{self.red_above}"
            )
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")
        if not self.deceleration_mps2 > 0.0:
            raise ValueError(f"deceleration_mps2 must be positive, got {self.deceleration_mps2}")


class LightGuard:
    """What the encoder says of lights, over time. Single-threaded; reads no clock."""

    def __init__(self, config: LightGuardConfig) -> None:
        self._config = config
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._red = self._free = 0
        self._is_red = False
        self._began: tuple[float, float] | None = None  # when, and how fast it was

    def see(self, red: float) -> None:
        """Take the probability of one frame; what is none counts as nothing seen."""
        c = self._config
        self._red = self._red + 1 if red >= c.red_above else 0
        self._free = 0 if red > c.free_below else self._free + 1
        if self._red >= c.count:
            self._is_red = True
        elif self._free >= c.count:
            self._is_red, self._began = False, None

    def limit_mps(self, now_s: float, speed_mps: float) -> float | None:
        """The speed that a red light allows; None without one."""
        if not (self._config.enabled and self._is_red):
            return None
        if self._began is None:
            self._began = (now_s, speed_mps)
        since_s, from_mps = self._began
        return max(0.0, from_mps - self._config.deceleration_mps2 * (now_s - since_s))
