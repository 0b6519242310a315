# SPDX-License-Identifier: Apache-2.0
"""How what a client drives moves, and what happens when it meets something.

``VehicleBody`` and ``WalkerBody`` are stepped one by one, then ``ContactSolver`` parts what met.
"""

from __future__ import annotations

from flad_sim.physics.ackermann import AckermannControl, AckermannSettings
from flad_sim.physics.contacts import Body, Contact, ContactSolver, Obstacle
from flad_sim.physics.ground import Surface
from flad_sim.physics.parameters import Gear, VehiclePhysics, Wheel, default_physics
from flad_sim.physics.prepare import prepare
from flad_sim.physics.telemetry import Telemetry, WheelTelemetry
from flad_sim.physics.vehicle import VehicleBody
from flad_sim.physics.walker import WalkerBody, WalkerControl

__all__ = [
    "AckermannControl",
    "AckermannSettings",
    "Body",
    "Contact",
    "ContactSolver",
    "Gear",
    "Obstacle",
    "Surface",
    "Telemetry",
    "VehicleBody",
    "VehiclePhysics",
    "WalkerBody",
    "WalkerControl",
    "Wheel",
    "WheelTelemetry",
    "default_physics",
    "prepare",
]
