# SPDX-License-Identifier: Apache-2.0
"""Seeded disturbances: bursts of steering that push the car sideways, and brakes that come late.

The expert then shows how to get back into its lane, or how to stop when it is too near and too
fast, which driving without mistakes never does. Labels stay the expert's; frames with a kick carry
its size in ``flad.perturbation``, and where a brake is late ``flad.driven`` brakes less than
``flad.label``.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flad_carla.run_log import ControlView, RunInfo


@dataclass(frozen=True, kw_only=True)
class KickConfig:
    """How often and how hard; a burst is one half wave of a sine."""

    mean_interval_s: float = 9.0  # between the end of one and the start of the next
    min_interval_s: float = 4.0
    duration_s: tuple[float, float] = (0.4, 0.9)
    # The kick's peak lateral acceleration: what the driver feels is the same at any speed.
    lateral_mps2: tuple[float, float] = (1.0, 2.5)
    max_steer: float = 0.5
    min_speed_mps: float = 2.0
    wheelbase_m: float = 2.9
    max_wheel_angle_deg: float = 70.0  # of the wheels at steer 1, as CARLA's default car has it
    late_share: float = 0.0  # of beginnings of braking that are withheld for a while
    late_s: tuple[float, float] = (0.4, 1.6)
    late_throttle: float = 0.35  # meanwhile; about what holds the speed in town
    late_min_interval_s: float = 3.0  # from the end of one to the next
    late_min_speed_mps: float = 3.0

    def __post_init__(self) -> None:
        if not 0.0 < self.min_interval_s <= self.mean_interval_s:
            raise ValueError(
                f"min_interval_s ({self.min_interval_s}) must be positive and at most "
                f"mean_interval_s ({self.mean_interval_s})"
            )
        if not 0.0 <= self.late_share <= 1.0:
            raise ValueError(f"late_share must be in [0, 1], got {self.late_share}")
        for name in ("duration_s", "lateral_mps2", "late_s"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high:
                raise ValueError(
                    f"{name} must be a rising pair of positive numbers, got {low, high}"
                )


HARD = KickConfig(
    mean_interval_s=4.0, min_interval_s=2.0, duration_s=(0.5, 1.0), lateral_mps2=(1.0, 3.0)
)
"""For a model that has to keep its lane: a third of the time is spent on the way back."""

LATE = KickConfig(lateral_mps2=(0.6, 1.5), late_share=0.7)
"""For a model that has to brake in time: it will often be nearer and faster than an expert is."""


@dataclass(frozen=True)
class _Kick:
    start_s: float
    end_s: float
    lateral_mps2: float  # signed: positive is right


class KickFilter:
    """Adds kicks to what the planner asks for. One run's kicks depend on its seed and name only."""

    def __init__(self, config: KickConfig | None = None) -> None:
        self._config = config or KickConfig()
        self._rng = np.random.default_rng(0)
        self._kick = _Kick(math.inf, math.inf, 0.0)
        self._late = LateBrakes(self._config, seed=(0,))

    def start(self, info: RunInfo) -> None:
        """Begin a run."""
        name = f"{info.route_id}/{info.repetition}".encode()
        seed = (info.seed & 0xFFFFFFFF, zlib.crc32(name))
        self._rng = np.random.default_rng(seed)
        self._kick = self._next_after(0.0)
        self._late = LateBrakes(self._config, seed=(*seed, 1))

    def apply(self, sim_time_s: float, speed_mps: float, control: ControlView) -> ControlView:
        """Add the kick that is due, if the car is fast enough to feel it; delay the brake."""
        control = self._late.apply(sim_time_s, speed_mps, control)
        if sim_time_s >= self._kick.end_s:
            self._kick = self._next_after(self._kick.end_s)
        kick = self._kick
        if sim_time_s < kick.start_s or speed_mps < self._config.min_speed_mps:
            return control
        phase = (sim_time_s - kick.start_s) / (kick.end_s - kick.start_s)
        steer = control.steer + self._steer(
            kick.lateral_mps2 * math.sin(math.pi * phase), speed_mps
        )
        return dataclasses.replace(control, steer=max(-1.0, min(1.0, steer)))

    def _steer(self, lateral_mps2: float, speed_mps: float) -> float:
        """Bicycle model: a = v^2 tan(angle) / wheelbase."""
        c = self._config
        angle_deg = math.degrees(math.atan(lateral_mps2 * c.wheelbase_m / speed_mps**2))
        return max(-c.max_steer, min(c.max_steer, angle_deg / c.max_wheel_angle_deg))

    def _next_after(self, time_s: float) -> _Kick:
        c = self._config
        pause_s = c.min_interval_s + self._rng.exponential(c.mean_interval_s - c.min_interval_s)
        start_s = time_s + pause_s
        side = 1.0 if self._rng.random() < 0.5 else -1.0
        return _Kick(
            start_s,
            start_s + self._rng.uniform(*c.duration_s),
            side * self._rng.uniform(*c.lateral_mps2),
        )


class LateBrakes:
    """Withholds the brake for a while when a moving car begins to brake, now and then."""

    def __init__(self, config: KickConfig, seed: Sequence[int]) -> None:
        self._config = config
        self._rng = np.random.default_rng(list(seed))
        self._until_s = -math.inf
        self._was_braking = False

    def apply(self, sim_time_s: float, speed_mps: float, control: ControlView) -> ControlView:
        """What the car is given instead of ``control``."""
        c = self._config
        begins = control.brake > 0.0 and not self._was_braking
        self._was_braking = control.brake > 0.0
        rested = sim_time_s >= self._until_s + c.late_min_interval_s
        if begins and rested and speed_mps >= c.late_min_speed_mps:
            share, length_s = self._rng.random(), self._rng.uniform(*c.late_s)
            if share < c.late_share:
                self._until_s = sim_time_s + length_s
        if sim_time_s >= self._until_s or control.brake == 0.0:
            return control
        return dataclasses.replace(control, throttle=c.late_throttle, brake=0.0)
