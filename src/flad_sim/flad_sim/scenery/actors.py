# SPDX-License-Identifier: Apache-2.0
"""The shape of everything that moves, by blueprint."""

from __future__ import annotations

from functools import cache

from flad_sim import catalogue
from flad_sim.scenery.materials import BODY
from flad_sim.scenery.mesh import Mesh, MeshBuilder
from flad_sim.types import VisibleActor


@cache
def actor_mesh(blueprint: str) -> Mesh:
    """The mesh of ``blueprint`` in the actor's own frame, inside its bounding box."""
    spec = catalogue.find(blueprint)
    builder = MeshBuilder()
    builder.box(spec.box.center, spec.extent, rgb=(90, 90, 90), tag=spec.tag, material=BODY)
    return builder.build()


def actor_shape(actor: VisibleActor, time_s: float) -> str:
    """Name of the mesh that ``actor`` wears now, for :func:`actor_mesh`."""
    return actor.blueprint
