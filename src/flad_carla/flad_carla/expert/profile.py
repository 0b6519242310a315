# SPDX-License-Identifier: Apache-2.0
"""A speed profile: the intelligent driver model rolled along the path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flad_carla.expert.config import ExpertConfig
from flad_carla.expert.idm import Lead, idm_acceleration
from flad_carla.expert.scene import FloatArray


@dataclass(frozen=True, slots=True)
class Profile:
    """Way covered [M] and speed [M] at ``times_s`` [M]; the first entry is now."""

    times_s: FloatArray
    way_m: FloatArray
    speed_mps: FloatArray
    accel_mps2: float  # wished now
    lead: Lead | None  # what holds the car back now, None for the free road


class Roller:
    """Rolls profiles; ``envelope`` is the fastest allowed speed at each metre ahead."""

    def __init__(self, config: ExpertConfig) -> None:
        self._config = config

    def roll(
        self,
        speed_mps: float,
        envelope_mps: FloatArray,
        leads: Sequence[Lead],
        *,
        horizon_s: float,
        step_s: float,
    ) -> Profile:
        """The car's motion if every lead keeps its speed."""
        count = round(horizon_s / step_s)
        way, speed = [0.0], [max(speed_mps, 0.0)]
        first, holder = 0.0, None
        limits = envelope_mps.tolist()
        for k in range(count):
            x, v = way[-1], speed[-1]
            accel, lead = self._wish(x, v, k * step_s, limits, leads)
            if k == 0:
                first, holder = accel, lead
            after = max(0.0, v + accel * step_s)
            way.append(x + 0.5 * (v + after) * step_s)
            speed.append(after)
        times = step_s * np.arange(count + 1, dtype=np.float64)
        return Profile(times, np.array(way), np.array(speed), first, holder)

    def _wish(
        self, x: float, v: float, t: float, limits: list[float], leads: Sequence[Lead]
    ) -> tuple[float, Lead | None]:
        c = self._config
        i = min(int(x), len(limits) - 2)
        share = min(x - i, 1.0)
        desired = (1.0 - share) * limits[i] + share * limits[i + 1]
        # look a little ahead: the envelope already contains the braking before bends
        accel = idm_acceleration(v, desired, None, accel_mps2=c.accel_mps2, brake_mps2=c.brake_mps2)
        holder: Lead | None = None
        for lead in leads:
            gap = lead.gap_m + lead.speed_mps * t - x
            wish = idm_acceleration(
                v, desired, lead, accel_mps2=c.accel_mps2, brake_mps2=c.brake_mps2, gap_m=gap
            )
            if wish < accel:
                accel, holder = wish, lead
        accel = max(accel, -c.hardest_brake_mps2)
        if holder is not None and accel < 0.0:
            accel = max(accel, _stopping(v, holder.gap_m + holder.speed_mps * t - x, c))
        return accel, holder


def _stopping(v: float, gap_m: float, c: ExpertConfig) -> float:
    """IDM's braking explodes as the gap closes; at walking pace the needed braking suffices."""
    if v > 1.5 or gap_m <= 0.3:
        return -c.hardest_brake_mps2
    return -min(c.hardest_brake_mps2, max(1.0, v * v / (2.0 * max(gap_m - 0.3, 0.1))) + 1.0)


def resting_speed(profile: Profile, at_s: float) -> float:
    """Speed of a profile at a time."""
    value = float(np.interp(at_s, profile.times_s, profile.speed_mps))
    return value if math.isfinite(value) else 0.0
