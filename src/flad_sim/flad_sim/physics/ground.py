# SPDX-License-Identifier: Apache-2.0
"""Where the road holds a vehicle: height, pitch and roll from a surface, falling and landing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from flad_sim.catalogue import VehicleSpec

Surface = Callable[[float, float], float | None]

_GRAVITY = 9.81
_TILT_TIME_S = 0.1  # the suspension's time to take up a new slope
_STEP_UP_M = 0.5  # a higher step is not climbed but stood on at once: the body was put below it


@dataclass(slots=True)
class Footing:
    """Vertical state of a body: metres, m/s, degrees."""

    z: float
    vz: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    grounded: bool = True

    def settle(
        self,
        surface: Surface,
        spec: VehicleSpec,
        x: float,
        y: float,
        yaw_rad: float,
        speed_mps: float,
        dt_s: float,
        gravity: bool,
    ) -> None:
        """Fall, stand or climb for ``dt_s`` at the place that the horizontal motion has reached.

        Where the surface is unknown (``None``) the body goes on at its height.
        """
        plane = _plane(surface, spec, x, y, yaw_rad)
        if plane is None:
            self.vz, self.grounded = 0.0, True
            return
        ground, pitch, roll = plane
        before = self.z
        if self.z > ground + 1e-3 and gravity:
            self.vz = min(0.0, self.vz) - _GRAVITY * dt_s
            self.z = max(ground, self.z + self.vz * dt_s)
        elif self.z > ground + 1e-3:
            self.z += self.vz * dt_s
        else:
            climb = (1.0 + 0.5 * speed_mps) * dt_s  # a kerb lifts the body within a few steps
            high = ground - self.z > _STEP_UP_M
            self.z = ground if high else min(ground, self.z + climb)
        self.grounded = self.z <= ground + 0.05
        if self.grounded:
            self.vz = (self.z - before) / dt_s if abs(self.z - before) < _STEP_UP_M else 0.0
            share = min(1.0, dt_s / _TILT_TIME_S)
            self.pitch += (pitch - self.pitch) * share
            self.roll += (roll - self.roll) * share


def _plane(
    surface: Surface, spec: VehicleSpec, x: float, y: float, yaw_rad: float
) -> tuple[float, float, float] | None:
    """Height at the origin, pitch and roll in degrees of the plane through the wheels."""
    half_base, half_track = 0.5 * spec.wheelbase_m, 0.5 * spec.track_m
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    front = surface(x + half_base * c, y + half_base * s)
    left = surface(x - half_base * c + half_track * s, y - half_base * s - half_track * c)
    right = (
        surface(x - half_base * c - half_track * s, y - half_base * s + half_track * c)
        if half_track > 0.0
        else left
    )
    known = [z for z in (front, left, right) if z is not None]
    if not known:
        return None
    mean = sum(known) / len(known)
    zf, zl, zr = (mean if z is None else z for z in (front, left, right))
    rear = 0.5 * (zl + zr)
    pitch = math.degrees(math.atan2(zf - rear, spec.wheelbase_m))
    roll = math.degrees(math.atan2(zl - zr, spec.track_m)) if half_track > 0.0 else 0.0
    return (0.5 * (zf + rear), pitch, roll)
