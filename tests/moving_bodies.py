# SPDX-License-Identifier: Apache-2.0
"""Vehicles on a flat world and the way to drive them: shared by the tests of ``flad_sim``."""

from __future__ import annotations

import math

from flad_sim.catalogue import DEFAULT_VEHICLE, VEHICLES
from flad_sim.physics import Body, VehicleBody
from flad_sim.types import Transform, VehicleControl

DT_S = 0.05


def flat(x: float, y: float) -> float:
    """The height of a flat world."""
    return 0.0


def car(
    blueprint: str = DEFAULT_VEHICLE, speed_mps: float = 0.0, **transform: float
) -> VehicleBody:
    """A vehicle at ``transform`` that rolls forward at ``speed_mps``."""
    body = VehicleBody(VEHICLES[blueprint], Transform(**transform))
    forward = body.pose.transform.forward()
    body.set_target_velocity((speed_mps * forward[0], speed_mps * forward[1], 0.0))
    return body


def drive(body, seconds, surface=flat, dt_s=DT_S, **control):
    """Step ``body`` under a constant VehicleControl; without one the last stays in force."""
    if control:
        body.apply_control(VehicleControl(**control))
    for _ in range(round(seconds / dt_s)):
        body.step(dt_s, surface)
    return body


def speed(body: Body) -> float:
    """Speed over ground, m/s."""
    return math.hypot(*body.pose.velocity[:2])
