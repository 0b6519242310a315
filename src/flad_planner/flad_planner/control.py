# SPDX-License-Identifier: Apache-2.0
"""What leaves the planner: pedals and steering, always within CARLA's ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Control:
    """Pedals in [0, 1], steering in [-1, 1] where positive is right, as CARLA takes them."""

    throttle: float = 0.0
    steer: float = 0.0
    brake: float = 0.0
    hand_brake: bool = False
    reverse: bool = False


FULL_BRAKE = Control(brake=1.0)


def control_complaint(throttle: float, steer: float, brake: float) -> str | None:
    """Why these values are no control, None if they are one.

    Example:
        >>> control_complaint(0.0, float("nan"), 0.0)
        'steer is nan, allowed are -1 to 1'
    """
    for name, value, least in (
        ("throttle", throttle, 0),
        ("steer", steer, -1),
        ("brake", brake, 0),
    ):
        if not (math.isfinite(value) and least <= value <= 1.0):
            return f"{name} is {value}, allowed are {least} to 1"
    return None


def clamp(value: float, least: float, most: float) -> float:
    """``value`` within ``[least, most]``."""
    return max(least, min(most, value))
