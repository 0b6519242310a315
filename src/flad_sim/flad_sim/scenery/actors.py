# SPDX-License-Identifier: Apache-2.0
"""The shape of everything that moves, by blueprint; a walker's also by the moment of its stride."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np

from flad_sim import catalogue
from flad_sim.catalogue import PropSpec, VehicleSpec, WalkerSpec
from flad_sim.scenery.mesh import Mesh, MeshBuilder
from flad_sim.scenery.people import NUM_POSES, STRIDE_M, two_wheeler_mesh, walker_mesh
from flad_sim.scenery.vehicles import vehicle_mesh
from flad_sim.types import BoundingBox, VisibleActor


def actor_shape(actor: VisibleActor, time_s: float) -> str:
    """Name of the mesh that ``actor`` wears at ``time_s``, for :func:`actor_mesh`."""
    if not actor.blueprint.startswith("walker."):
        return actor.blueprint
    speed = math.hypot(actor.velocity[0], actor.velocity[1])
    if speed < 0.2:
        return f"{actor.blueprint}#0"
    # Everyone walks out of step: the id shifts the phase.
    phase = time_s * speed / STRIDE_M + 0.37 * (actor.actor_id % 17)
    return f"{actor.blueprint}#{1 + int(phase * (NUM_POSES - 1)) % (NUM_POSES - 1)}"


@cache
def actor_mesh(shape: str) -> Mesh:
    """The mesh of a shape in the actor's own frame, inside its bounding box."""
    blueprint, _, pose = shape.partition("#")
    spec = catalogue.find(blueprint)
    if isinstance(spec, WalkerSpec):
        return _trimmed(walker_mesh(spec, int(pose or 0)), spec.box)
    if isinstance(spec, VehicleSpec):
        two_wheels = spec.number_of_wheels == 2
        return _trimmed(two_wheeler_mesh(spec) if two_wheels else vehicle_mesh(spec), spec.box)
    assert isinstance(spec, PropSpec)
    return _prop_mesh(spec)


def _trimmed(mesh: Mesh, box: BoundingBox) -> Mesh:
    """A toe or an elbow that sticks out of the box is pressed in: boxes are what others avoid."""
    center, extent = np.array(box.center), np.array(box.extent)
    inside = np.clip(mesh.vertices, center - extent, center + extent).astype(np.float32)
    return replace(mesh, vertices=inside)


def _prop_mesh(spec: PropSpec) -> Mesh:
    b = MeshBuilder()
    (x, y, z), (ex, ey, ez) = spec.box.center, spec.extent
    name = spec.blueprint
    if "cone" in name:
        b.box((x, y, z - 0.94 * ez), (ex, ey, 0.06 * ez), rgb=(40, 40, 40), tag=spec.tag)
        top, foot = (x, y, z + ez), (x, y, z - 0.9 * ez)
        b.tube(foot, top, 0.8 * ex, end_radius=0.12 * ex, rgb=spec.color, tag=spec.tag, sides=12)
        low, high = (x, y, z - 0.1 * ez), (x, y, z + 0.35 * ez)
        b.tube(low, high, 0.52 * ex, end_radius=0.38 * ex, rgb=(235, 235, 235), tag=spec.tag)
    elif any(word in name for word in ("barrel", "bin", "can", "pot", "bag")):
        radius = min(ex, ey)
        b.tube((x, y, z - ez), (x, y, z + ez), radius, rgb=spec.color, tag=spec.tag, sides=12)
    else:
        b.box(spec.box.center, spec.extent, rgb=spec.color, tag=spec.tag)
    return b.build()
