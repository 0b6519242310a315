# SPDX-License-Identifier: Apache-2.0
"""The town and its actors as one Embree scene: slots come and go with the actors, and move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flad_sim.catalogue import find
from flad_sim.scenery.actors import actor_mesh, actor_shape
from flad_sim.scenery.materials import linear
from flad_sim.scenery.mesh import Mesh
from flad_sim.scenery.scenery import Scenery
from flad_sim.sensors.embree import Device, MeshScene
from flad_sim.sensors.frame import FOOT_COLUMNS, Movers, Surfaces
from flad_sim.types import VisibleActor

_SPARE_TRIANGLES = 120_000  # room for the shapes of actors before the arrays are moved


@dataclass(frozen=True, slots=True)
class _Shape:
    scene: MeshScene
    base: int  # first triangle in Surfaces


class Stage:
    """Owner of the Embree scenes; not thread-safe, rays may be cast while nothing is placed."""

    def __init__(self, scenery: Scenery) -> None:
        self._device = Device()
        self._world = self._device.world_scene()
        self._shapes: dict[str, _Shape] = {}
        self._standing: dict[int, tuple[int, str]] = {}  # actor id -> slot, shape
        self._free: list[int] = []
        self._num_triangles = 0
        self.surfaces = _reserve(scenery, len(scenery.mesh.material) + _SPARE_TRIANGLES)
        self.movers = _slots(64)
        town = self._add_shape("", scenery.mesh)
        self._world.attach(0, town.scene)
        self._num_slots = 1
        self._world.commit()

    @property
    def num_slots(self) -> int:
        """Slots ever used; free ones among them hold no actor."""
        return self._num_slots

    @property
    def handle(self) -> int:
        """Address of the scene, for kernels."""
        address: int = self._world.handle
        return address

    def place(self, actors: Sequence[VisibleActor], time_s: float) -> None:
        """Make the scene show exactly ``actors``."""
        wanted = {a.actor_id: (a, actor_shape(a, time_s)) for a in actors}
        for actor_id, (slot, name) in list(self._standing.items()):
            if actor_id not in wanted or wanted[actor_id][1] != name:
                self._world.detach(slot)
                self._free.append(slot)
                self.movers.actor[slot] = 0
                del self._standing[actor_id]
        self._free.sort(reverse=True)
        for actor_id, (actor, name) in wanted.items():
            if actor_id not in self._standing:
                self._enter(actor_id, name)
            self._describe(self._standing[actor_id][0], actor, name)
        self._world.commit()

    def close(self) -> None:
        """Release everything Embree holds."""
        self._world.close()
        for shape in self._shapes.values():
            shape.scene.close()
        self._device.close()

    def _enter(self, actor_id: int, name: str) -> None:
        if name not in self._shapes:
            self._add_shape(name, actor_mesh(name))
        if self._free:
            slot = self._free.pop()
        else:
            slot = self._num_slots
            self._num_slots += 1
            if slot >= len(self.movers.base):
                self.movers = _grown(self.movers)
        self._world.attach(slot, self._shapes[name].scene)
        self._standing[actor_id] = (slot, name)

    def _describe(self, slot: int, actor: VisibleActor, name: str) -> None:
        m = self.movers
        t = actor.transform
        self._world.move(slot, t)
        m.base[slot] = self._shapes[name].base
        m.rotation[slot] = t.rotation_matrix()
        m.rgb[slot] = linear(actor.color)
        m.lights[slot] = actor.lights | (8 if actor.brake_light else 0)
        m.actor[slot] = actor.actor_id
        box = find(actor.blueprint).box
        x, y, z = t.to_world(np.array([box.center]))[0]
        yaw = math.radians(t.yaw)
        z -= box.extent[2]
        m.foot[slot] = (x, y, z, math.cos(yaw), math.sin(yaw), box.extent[0], box.extent[1])

    def _add_shape(self, name: str, mesh: Mesh) -> _Shape:
        base, count = self._num_triangles, len(mesh.material)
        if base + count > len(self.surfaces.material):
            self.surfaces = _extended(self.surfaces, base + count + _SPARE_TRIANGLES)
        s = self.surfaces
        for target, source in (
            (s.material, mesh.material),
            (s.albedo, mesh.albedo),
            (s.tag, mesh.tag),
            (s.aux, mesh.aux),
        ):
            target[base : base + count] = source
        self._num_triangles += count
        shape = _Shape(self._device.mesh_scene(mesh), base)
        self._shapes[name] = shape
        return shape


def _reserve(scenery: Scenery, num_triangles: int) -> Surfaces:
    return Surfaces(
        material=np.zeros(num_triangles, dtype=np.uint8),
        albedo=np.zeros((num_triangles, 3), dtype=np.float32),
        tag=np.zeros(num_triangles, dtype=np.uint8),
        aux=np.zeros(num_triangles, dtype=np.int32),
        facades=np.ascontiguousarray(scenery.facades, dtype=np.float32).reshape(-1, 12),
        paint_index=np.ascontiguousarray(scenery.paint.index),
        paint_tiles=np.ascontiguousarray(scenery.paint.tiles),
        paint_x0=np.float32(scenery.paint.origin[0]),
        paint_y0=np.float32(scenery.paint.origin[1]),
        paint_nx=scenery.paint.index.shape[0],
        paint_ny=scenery.paint.index.shape[1],
    )


def _extended(surfaces: Surfaces, num_triangles: int) -> Surfaces:
    def longer(array: np.ndarray) -> np.ndarray:
        room = np.zeros((num_triangles, *array.shape[1:]), dtype=array.dtype)
        room[: len(array)] = array
        return room

    return surfaces._replace(
        material=longer(surfaces.material),
        albedo=longer(surfaces.albedo),
        tag=longer(surfaces.tag),
        aux=longer(surfaces.aux),
    )


def _slots(count: int) -> Movers:
    return Movers(
        base=np.zeros(count, dtype=np.int32),
        rotation=np.tile(np.eye(3, dtype=np.float32), (count, 1, 1)),
        rgb=np.zeros((count, 3), dtype=np.float32),
        lights=np.zeros(count, dtype=np.int32),
        actor=np.zeros(count, dtype=np.int32),
        foot=np.zeros((count, FOOT_COLUMNS), dtype=np.float32),
    )


def _grown(movers: Movers) -> Movers:
    grown = _slots(2 * len(movers.base))
    for new, old in zip(grown, movers, strict=True):
        new[: len(old)] = old
    return grown
