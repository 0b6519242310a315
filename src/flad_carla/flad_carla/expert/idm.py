# SPDX-License-Identifier: Apache-2.0
"""The intelligent driver model (Treiber, Hennecke, Helbing 2000, arXiv:cond-mat/0002177)."""

from __future__ import annotations

import math
from dataclasses import dataclass

_LEAST_GAP_M = 0.1


@dataclass(frozen=True, slots=True)
class Lead:
    """Something ahead that must not be reached: a vehicle, a line, a pedestrian's path."""

    gap_m: float  # free road before it, from the front bumper
    speed_mps: float  # along the route; 0 for what stands or crosses
    standstill_m: float  # IDM's s0
    headway_s: float  # IDM's T
    reason: str = ""
    actor_id: int = -1


def idm_acceleration(
    speed_mps: float,
    desired_mps: float,
    lead: Lead | None,
    *,
    accel_mps2: float,
    brake_mps2: float,
    gap_m: float | None = None,
) -> float:
    r"""Acceleration of a driver at ``speed_mps`` who would like ``desired_mps``.

    :math:`\dot v = a (1 - (v/v_0)^4 - (s^*/s)^2)`,
    :math:`s^* = s_0 + v T + v \Delta v / (2 \sqrt{a b})`.

    Args:
        gap_m: overrides the lead's gap, as it shrinks in a forecast.

    Example:
        >>> free = idm_acceleration(0.0, 8.0, None, accel_mps2=2.0, brake_mps2=3.0)
        >>> at_speed = idm_acceleration(8.0, 8.0, None, accel_mps2=2.0, brake_mps2=3.0)
        >>> free, at_speed
        (2.0, 0.0)
    """
    ratio = speed_mps / max(desired_mps, 0.1)
    free = 1.0 - ratio**4 if ratio <= 1.0 else -min(ratio**2 - 1.0, brake_mps2 / accel_mps2)
    if lead is None:
        return accel_mps2 * free
    gap = max(lead.gap_m if gap_m is None else gap_m, _LEAST_GAP_M)
    closing = speed_mps - lead.speed_mps
    wished = lead.standstill_m + max(
        0.0,
        speed_mps * lead.headway_s
        + speed_mps * closing / (2.0 * math.sqrt(accel_mps2 * brake_mps2)),
    )
    return accel_mps2 * (free - (wished / gap) ** 2)
