# SPDX-License-Identifier: Apache-2.0
"""What can be spawned, and its physical figures: vehicles, walkers and props by CARLA's ids.

Sensors and controllers have no body and stand in ``flad_sim.blueprints``, which also turns these
specifications into CARLA's actor definitions. ``flad_sim.physics`` reads masses and drivetrains,
the ray tracer and the collision test read the boxes.
"""

from __future__ import annotations

from flad_sim.catalogue.props import PROPS
from flad_sim.catalogue.specs import (
    ActorSpec,
    Attribute,
    Drivetrain,
    PropSpec,
    VehicleSpec,
    WalkerSpec,
)
from flad_sim.catalogue.vehicles import VEHICLES
from flad_sim.catalogue.walkers import WALKERS

__all__ = [
    "DEFAULT_VEHICLE",
    "PROPS",
    "VEHICLES",
    "WALKERS",
    "ActorSpec",
    "Attribute",
    "Drivetrain",
    "PropSpec",
    "VehicleSpec",
    "WalkerSpec",
    "find",
]

DEFAULT_VEHICLE = "vehicle.lincoln.mkz_2020"

_ALL: dict[str, ActorSpec] = {**VEHICLES, **WALKERS, **PROPS}


def find(blueprint: str) -> ActorSpec:
    """The specification of ``blueprint``.

    Raises:
        ValueError: if nothing with a body has that id; the closest ids are in the message.

    Example:
        >>> find("vehicle.audi.tt").base_type
        'car'
    """
    spec = _ALL.get(blueprint)
    if spec is None:
        raise ValueError(
            f"no blueprint {blueprint!r} in the catalogue of {len(VEHICLES)} vehicles, "
            f"{len(WALKERS)} walkers and {len(PROPS)} props; the closest are {_closest(blueprint)}"
        )
    return spec


def _closest(blueprint: str) -> list[str]:
    import difflib  # only on the error path

    return difflib.get_close_matches(blueprint, _ALL, n=3, cutoff=0.0)
