# SPDX-License-Identifier: Apache-2.0
"""Compiling ahead: so that the first tick of a server is not the one that waits for a compiler."""

from __future__ import annotations

from flad_sim.catalogue import DEFAULT_VEHICLE, VEHICLES
from flad_sim.physics.contacts import ContactSolver
from flad_sim.physics.vehicle import VehicleBody
from flad_sim.types import StaticBox, Tag, Transform


def prepare() -> None:
    """Compile the kernels of this package, or load them from the cache on disk.

    Takes some ten seconds the first time on a machine, a quarter of a second after.
    """
    body = VehicleBody(VEHICLES[DEFAULT_VEHICLE], Transform())
    body.step(0.05, lambda x, y: 0.0)
    box = StaticBox((0.0, 0.0, 1.0), (1.0, 1.0, 1.0), 0.0, Tag.STATIC, "static.box")
    ContactSolver([box]).resolve({1: body}, [], 0.05)
    _ = body.wheel_steer_deg
