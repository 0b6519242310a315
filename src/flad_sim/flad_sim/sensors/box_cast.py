# SPDX-License-Identifier: Apache-2.0
"""Rays against boxes: what the obstacle sensor and the radar need, without the ray tracer.

Bodies are their bounding boxes, upright; the ground is not there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flad_sim.catalogue import find
from flad_sim.types import FloatArray, StaticBox, VisibleActor, VisibleWorld

_RAYS_AT_ONCE = 2048  # bounds the memory of a dense radar


@dataclass(frozen=True, slots=True)
class CastHits:
    """For each of N rays: distance ``[N]`` (inf: nothing) and index of the box ``[N]`` (-1)."""

    distance_m: FloatArray
    index: NDArray[np.int64]


class BoxScene:
    """The boxes of one frame: the actors' first, then the scenery's."""

    def __init__(self, scenery: Sequence[StaticBox]) -> None:
        self.scenery = tuple(scenery)
        self._statics = _rows((*s.center, *s.extent, math.radians(s.yaw)) for s in self.scenery)
        self._frame = -1
        self.actors: tuple[VisibleActor, ...] = ()
        self._movers = _rows([])

    def place(self, world: VisibleWorld) -> None:
        """Put the actors where they are in this frame; done once a frame."""
        if world.frame == self._frame:
            return
        self._frame = world.frame
        self.actors = world.actors
        self._movers = _rows(_row_of(actor) for actor in world.actors)

    def cast(
        self,
        origin: FloatArray,
        directions: FloatArray,
        range_m: float,
        *,
        skip_actor: int,
        radius_m: float = 0.0,
        dynamic_only: bool = False,
    ) -> CastHits:
        """The first box each ray meets.

        Args:
            origin: where the rays start, ``[3]``.
            directions: unit vectors in the world, ``[N, 3]``.
            range_m: how far they go.
            skip_actor: id of an actor that they pass through: the one the sensor is mounted on.
            radius_m: thickness of the rays; boxes grow by it, corners stay square.
            dynamic_only: whether scenery is left out.
        """
        rows = self._movers if dynamic_only else np.concatenate([self._movers, self._statics])
        reach = range_m + radius_m + np.linalg.norm(rows[:, 3:6], axis=1)
        near = np.linalg.norm(rows[:, :3] - origin, axis=1) <= reach
        for i, actor in enumerate(self.actors):
            near[i] &= actor.actor_id != skip_actor
        chosen = np.flatnonzero(near)
        count = len(directions)
        if len(chosen) == 0:
            return CastHits(np.full(count, np.inf), np.full(count, -1))
        first = np.empty(count, dtype=np.int64)
        nearest = np.empty(count)
        for at in range(0, count, _RAYS_AT_ONCE):
            part = slice(at, at + _RAYS_AT_ONCE)
            distance = _slabs(rows[chosen], origin, directions[part], radius_m)  # [N, M]
            first[part], nearest[part] = distance.argmin(axis=1), distance.min(axis=1)
        hit = nearest <= range_m
        return CastHits(np.where(hit, nearest, np.inf), np.where(hit, chosen[first], -1))


def _slabs(
    rows: FloatArray, origin: FloatArray, directions: FloatArray, radius_m: float
) -> FloatArray:
    """Distances ``[N, M]`` of N rays to M boxes, inf where they miss; 0 from inside."""
    c, s = np.cos(rows[:, 6]), np.sin(rows[:, 6])
    px, py, pz = (origin - rows[:, :3]).T
    start = np.stack([px * c + py * s, py * c - px * s, pz], axis=-1)  # [M, 3]
    dx, dy, dz = (directions[:, k, None] for k in range(3))
    ahead = np.stack([dx * c + dy * s, dy * c - dx * s, dz + 0.0 * c], axis=-1)  # [N, M, 3]
    half = rows[:, 3:6] + radius_m
    with np.errstate(divide="ignore", invalid="ignore"):
        a = (-half - start) / ahead
        b = (half - start) / ahead
    parallel = ahead == 0.0
    outside = np.abs(start) > half
    near = np.where(parallel, np.where(outside, np.inf, -np.inf), np.minimum(a, b)).max(axis=-1)
    far = np.where(parallel, np.where(outside, -np.inf, np.inf), np.maximum(a, b)).min(axis=-1)
    found: FloatArray = np.where((near <= far) & (far >= 0.0), np.maximum(near, 0.0), np.inf)
    return found


def _row_of(actor: VisibleActor) -> tuple[float, ...]:
    box, t = find(actor.blueprint).box, actor.transform
    yaw = math.radians(t.yaw)
    c, s = math.cos(yaw), math.sin(yaw)
    x, y, z = box.center
    return (t.x + c * x - s * y, t.y + s * x + c * y, t.z + z, *box.extent, yaw)


def _rows(rows: Iterable[tuple[float, ...]]) -> FloatArray:
    return np.array(list(rows), dtype=np.float64).reshape(-1, 7)
