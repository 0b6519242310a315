# SPDX-License-Identifier: Apache-2.0
"""What a vehicle tells its edge of itself, so that SWIFT can plan with it.

The edge's side is :mod:`flad_edge.swift.fleet`; which of its ways a vehicle will take it knows
itself, and a better guess of its stay than the straight one here (:mod:`flad_edge.mobility.dwell`)
comes in as ``dwell_s``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flad_common.config import knob, section
from flad_edge.mobility.traces import Coverage
from flad_edge.swift.fleet import Member


@dataclass(frozen=True, kw_only=True)
class PresenceConfig:
    """What a vehicle is, and what it says of its stay."""

    device: str = knob("nano", unit="", doc="Of config/devices.yaml: what it computes with.")
    available_bytes: float = knob(
        0.0, unit="B", doc="Memory that training may take; 0: what its device has."
    )
    dwell_s: float = knob(
        0.0, unit="s", doc="How long it stays from activation on; 0: until straight on leads out."
    )
    slowest_mps: float = knob(
        3.0, unit="m/s", doc="A vehicle that is slower, at a light, will go on with it."
    )
    coverage: Coverage = section(Coverage, doc="Of the edge.")

    def __post_init__(self) -> None:
        for name in ("available_bytes", "dwell_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} must be finite and >= 0, got {value}")
        if not self.slowest_mps > 0.0:
            raise ValueError(f"slowest_mps must be positive, got {self.slowest_mps}")


def presence(
    config: PresenceConfig,
    name: str,
    x_m: float,
    y_m: float,
    speed_mps: float,
    heading_rad: float,
    active_s: float,
) -> Member:
    """What a vehicle says.

    Args:
        config: of the vehicle.
        name: its role.
        x_m: in the map's frame.
        y_m: likewise.
        speed_mps: along its own x axis; one that rolls back counts as one that moves.
        heading_rad: counter-clockwise from x.
        active_s: since it began to speak.

    Raises:
        ValueError: if it does not know where it is.
    """
    if config.dwell_s > 0.0:
        stays_s = max(0.0, config.dwell_s - active_s)
    else:
        speed = max(config.slowest_mps, abs(speed_mps))
        stays_s = leaves_m(config.coverage, x_m, y_m, heading_rad) / speed
    return Member(
        name=name,
        device=config.device,
        available_bytes=config.available_bytes,
        x_m=x_m,
        y_m=y_m,
        speed_mps=abs(speed_mps),
        heading_rad=heading_rad,
        dwell_s=stays_s,
    )


def leaves_m(coverage: Coverage, x_m: float, y_m: float, heading_rad: float) -> float:
    """How far straight on leads out of the coverage; 0 outside.

    Example:
        >>> leaves_m(Coverage(radius_m=100.0), 40.0, 0.0, 0.0)
        60.0
    """
    x, y = x_m - coverage.x_m, y_m - coverage.y_m
    outside = x * x + y * y - coverage.radius_m**2
    if outside >= 0.0:
        return 0.0
    along = x * math.cos(heading_rad) + y * math.sin(heading_rad)
    return math.sqrt(along * along - outside) - along
