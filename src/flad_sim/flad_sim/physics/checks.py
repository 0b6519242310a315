# SPDX-License-Identifier: Apache-2.0
"""What a client sends is checked here, once, before it touches a body."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flad_sim.types import Vec3

# Beyond this a value cannot travel in the protocol's 32-bit floats and still mean something.
LIMIT = 1e9


def finite(name: str, value: float) -> float:
    """``value`` as a float.

    Raises:
        ValueError: if it is not a finite number within +-1e9; ``name`` is in the message.
    """
    number = float(value)
    if not math.isfinite(number) or abs(number) > LIMIT:
        raise ValueError(f"{name} must be a finite number within +-{LIMIT:g}, got {number}")
    return number


def within(name: str, value: float, low: float, high: float) -> float:
    """``value`` clamped to ``[low, high]``, as CARLA does with controls; not finite is refused."""
    return min(high, max(low, finite(name, value)))


def positive(name: str, value: float) -> float:
    """``value``, which a formula divides by.

    Raises:
        ValueError: if it is not finite and greater than zero.
    """
    number = finite(name, value)
    if number <= 0.0:
        raise ValueError(f"{name} must be positive, got {number}")
    return number


def vector(name: str, value: Sequence[float]) -> Vec3:
    """Three finite numbers; the component is named in the message."""
    x, y, z = value
    return (finite(f"{name}.x", x), finite(f"{name}.y", y), finite(f"{name}.z", z))
