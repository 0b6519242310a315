# SPDX-License-Identifier: Apache-2.0
"""What touches what, and what that does: impulses on the bodies that clients drive.

``boxes`` finds the hits; here they become impulses (sequential impulses after Catto, "Iterative
Dynamics with Temporal Coherence", GDC 2005), positions are corrected, and each pair is reported
once a step. Traffic movers and scenery are not moved: they have their own masters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from flad_sim.catalogue import ActorSpec, find
from flad_sim.physics import boxes as b
from flad_sim.types import BoundingBox, FloatArray, MovingActor, Pose, StaticBox, Transform, Vec3

_CELL_M = 16.0
_RESTITUTION = 0.15  # cars crumple; only above _BOUNCE_MPS
_BOUNCE_MPS = 1.0
_FRICTION = 0.4
_ITERATIONS = 6
_MAX_PUSH_OUT_M = 0.2  # per step, out of an overlap that was there before (a spawn into another)
# A mover lighter than this share of the body (a pedestrian, a cone) does not hold it back.
_LIGHT_SHARE = 0.2


class Body(Protocol):
    """What a contact needs of a body: VehicleBody and WalkerBody have it."""

    collides: bool
    simulated: bool

    @property
    def spec(self) -> ActorSpec:
        """The blueprint."""

    @property
    def pose(self) -> Pose:
        """Where it is."""

    @property
    def mass_kg(self) -> float:
        """Mass."""

    @property
    def yaw_inertia_kgm2(self) -> float:
        """Inertia about the vertical through the centre of mass."""

    @property
    def planar_motion(self) -> tuple[float, float, float, float, float]:
        """``(x, y, vx, vy, yaw_rate)`` of the centre of mass, m, m/s, rad/s."""

    def push(self, impulse_ns: tuple[float, float], point: tuple[float, float]) -> None:
        """Change its motion by an impulse at a point of the world."""

    def shift(self, dx: float, dy: float) -> None:
        """Move it."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """An actor that moves by someone else's will: traffic, a prop, a body a client has frozen."""

    actor_id: int
    pose: Pose
    box: BoundingBox
    mass_kg: float

    @staticmethod
    def of(actor_id: int, mover: MovingActor) -> Obstacle:
        """The obstacle that a traffic mover is."""
        spec = find(mover.blueprint)
        return Obstacle(actor_id, mover.pose, spec.box, spec.mass_kg)


@dataclass(frozen=True, slots=True)
class Contact:
    """One touch within one step, as the collision sensor of ``self_id`` reports it.

    The other is an actor (``other_id``) or a piece of scenery (``scenery``, then ``other_id`` is
    0). ``normal`` points from the other to self, ``impulse`` acted on self, N s, both in the world.
    """

    self_id: int
    other_id: int
    scenery: StaticBox | None
    point: Vec3
    normal: Vec3
    impulse: Vec3


class ContactSolver:
    """Contacts in one town: knows its scenery, is handed everything that moves at each step."""

    def __init__(self, scenery: Sequence[StaticBox]) -> None:
        self._scenery = tuple(scenery)
        self._statics = _rows(
            [(*s.center, *s.extent, math.radians(s.yaw), 0.0, 0.0) for s in self._scenery]
        )
        self._grid, self._starts, self._items = _grid_of(self._statics)

    def resolve(
        self, bodies: Mapping[int, Body], obstacles: Sequence[Obstacle], dt_s: float
    ) -> list[Contact]:
        """Part what met during the last ``dt_s``; returns a contact for each side that is an actor.

        Bodies that do not simulate physics are solid but stay; those that do not collide are air.
        """
        moving = {i: x for i, x in sorted(bodies.items()) if x.collides and x.simulated}
        if not moving:
            return []
        frozen = [
            Obstacle(i, x.pose, x.spec.box, math.inf)  # as hard as a wall
            for i, x in sorted(bodies.items())
            if x.collides and not x.simulated
        ]
        others = [*frozen, *obstacles]
        ids = list(moving)
        hits = b.find_hits(
            _rows([_row(x.pose, x.spec.box) for x in moving.values()]),
            _rows([_row(o.pose, o.box) for o in others]),
            self._statics,
            self._starts,
            self._items,
            self._grid,
            dt_s,
        )
        touches = [self._touch(hit, ids, moving, others) for hit in hits]
        for _ in range(_ITERATIONS):
            for touch in touches:
                touch.exchange()
        for touch in touches:
            touch.part()
        return [contact for touch in touches for contact in touch.reports()]

    def blocker(
        self, transform: Transform, box: BoundingBox, others: Sequence[Obstacle]
    ) -> int | StaticBox | None:
        """What a box put there would overlap: an actor's id, a piece of scenery, or None."""
        hits = b.find_hits(
            _rows([_row(Pose(transform), box)]),
            _rows([_row(Pose(o.pose.transform), o.box) for o in others]),
            self._statics,
            self._starts,
            self._items,
            self._grid,
            0.0,
        )
        for hit in hits:
            index = int(hit[1])
            return others[index].actor_id if hit[2] == b.OTHER_MOVER else self._scenery[index]
        return None

    def _touch(
        self, hit: FloatArray, ids: list[int], moving: Mapping[int, Body], others: list[Obstacle]
    ) -> _Touch:
        kind, index = float(hit[2]), int(hit[1])
        me = ids[int(hit[0])]
        touch = _Touch(me, moving[me], hit)
        if kind == b.OTHER_BODY:
            touch.meet_body(ids[index], moving[ids[index]])
        elif kind == b.OTHER_MOVER:
            touch.meet_obstacle(others[index])
        else:
            touch.meet_scenery(self._scenery[index])
        return touch


class _Touch:
    """One pair while its impulses are found."""

    def __init__(self, self_id: int, body: Body, hit: FloatArray) -> None:
        self._id = self_id
        self._body = body
        self._normal = (float(hit[3]), float(hit[4]))
        self._point = (float(hit[5]), float(hit[6]))
        self._overlap = float(hit[7])
        self._already = bool(hit[8])
        self._other_id = 0
        self._other_body: Body | None = None
        self._scenery: StaticBox | None = None
        self._height = 0.0
        self._other_inverse_mass = 0.0
        self._other_motion = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._along_normal = self._along_tangent = 0.0  # impulses so far, N s
        self._bounce_mps: float | None = None
        self._gave_way = False
        # Share of the overlap that this body makes good, and that the other body does.
        self._share, self._other_share = 1.0, 0.0

    def meet_body(self, other_id: int, other: Body) -> None:
        self._other_id, self._other_body = other_id, other
        total = self._body.mass_kg + other.mass_kg
        self._share, self._other_share = other.mass_kg / total, self._body.mass_kg / total
        self._set_height(_z_range(other.pose, other.spec.box))

    def meet_obstacle(self, other: Obstacle) -> None:
        self._other_id = other.actor_id
        self._other_inverse_mass = 1.0 / other.mass_kg
        t, v = other.pose.transform, other.pose.velocity
        turn = math.radians(other.pose.angular_velocity[2])
        self._other_motion = (t.x, t.y, v[0], v[1], turn)
        if other.mass_kg < _LIGHT_SHARE * self._body.mass_kg:
            self._share = other.mass_kg / (other.mass_kg + self._body.mass_kg)
            self._gave_way = self._already  # it was hit when they met; now it lies under the car
        self._set_height(_z_range(other.pose, other.box))

    def meet_scenery(self, other: StaticBox) -> None:
        self._scenery = other
        self._set_height((other.center[2] - other.extent[2], other.center[2] + other.extent[2]))

    def exchange(self) -> None:
        """One round of impulses: as much as stops the approach and, within friction, the slip."""
        if self._gave_way:
            return
        nx, ny = self._normal
        approach = self._speed_along(nx, ny)
        if self._bounce_mps is None:
            self._bounce_mps = -_RESTITUTION * approach if approach < -_BOUNCE_MPS else 0.0
        wanted = (self._bounce_mps - approach) / self._resistance(nx, ny)
        total = max(0.0, self._along_normal + wanted)
        self._apply(total - self._along_normal, nx, ny)
        self._along_normal = total
        limit = _FRICTION * total
        tx, ty = -ny, nx
        wanted = -self._speed_along(tx, ty) / self._resistance(tx, ty)
        total = max(-limit, min(limit, self._along_tangent + wanted))
        self._apply(total - self._along_tangent, tx, ty)
        self._along_tangent = total

    def part(self) -> None:
        """Undo the overlap."""
        depth = min(self._overlap, _MAX_PUSH_OUT_M) if self._already else self._overlap
        if depth <= 0.0:
            return
        nx, ny = self._normal
        self._body.shift(nx * depth * self._share, ny * depth * self._share)
        if self._other_body is not None:
            back = depth * self._other_share
            self._other_body.shift(-nx * back, -ny * back)

    def reports(self) -> list[Contact]:
        """Contacts of both sides, if they pressed on each other at all."""
        if self._along_normal <= 0.0:
            return []
        nx, ny = self._normal
        ix = nx * self._along_normal - ny * self._along_tangent
        iy = ny * self._along_normal + nx * self._along_tangent
        point = (*self._point, self._height)
        mine = Contact(self._id, self._other_id, self._scenery, point, (nx, ny, 0.0), (ix, iy, 0.0))
        if self._scenery is not None:
            return [mine]
        theirs = Contact(self._other_id, self._id, None, point, (-nx, -ny, 0.0), (-ix, -iy, 0.0))
        return [mine, theirs]

    def _speed_along(self, ux: float, uy: float) -> float:
        """Velocity of self relative to the other at the point, along u."""
        mine = _velocity_at(self._body.planar_motion, self._point)
        theirs = _velocity_at(self._their_motion(), self._point)
        return (mine[0] - theirs[0]) * ux + (mine[1] - theirs[1]) * uy

    def _resistance(self, ux: float, uy: float) -> float:
        """Change of that velocity for 1 N s along u."""
        found = _softness(self._body, self._point, ux, uy)
        if self._other_body is not None:
            return found + _softness(self._other_body, self._point, ux, uy)
        return found + self._other_inverse_mass

    def _their_motion(self) -> tuple[float, float, float, float, float]:
        return self._other_motion if self._other_body is None else self._other_body.planar_motion

    def _apply(self, impulse: float, ux: float, uy: float) -> None:
        if impulse == 0.0:
            return
        self._body.push((impulse * ux, impulse * uy), self._point)
        if self._other_body is not None:
            self._other_body.push((-impulse * ux, -impulse * uy), self._point)
        elif self._other_inverse_mass > 0.0:
            # The mover does not move, but within this step it counts as having given way.
            x, y, vx, vy, r = self._other_motion
            gave = impulse * self._other_inverse_mass
            self._other_motion = (x, y, vx - gave * ux, vy - gave * uy, r)

    def _set_height(self, z_range: tuple[float, float]) -> None:
        low, high = _z_range(self._body.pose, self._body.spec.box)
        self._height = 0.5 * (max(low, z_range[0]) + min(high, z_range[1]))


def _velocity_at(
    motion: tuple[float, float, float, float, float], point: tuple[float, float]
) -> tuple[float, float]:
    x, y, vx, vy, r = motion
    return vx - r * (point[1] - y), vy + r * (point[0] - x)


def _softness(body: Body, point: tuple[float, float], ux: float, uy: float) -> float:
    x, y, *_ = body.planar_motion
    lever = (point[0] - x) * uy - (point[1] - y) * ux
    return 1.0 / body.mass_kg + lever * lever / body.yaw_inertia_kgm2


def _z_range(pose: Pose, box: BoundingBox) -> tuple[float, float]:
    middle = pose.transform.z + box.center[2]
    return (middle - box.extent[2], middle + box.extent[2])


def _row(pose: Pose, box: BoundingBox) -> tuple[float, ...]:
    t, v = pose.transform, pose.velocity
    yaw = math.radians(t.yaw)
    c, s = math.cos(yaw), math.sin(yaw)
    cx, cy, cz = box.center
    return (
        t.x + c * cx - s * cy,
        t.y + s * cx + c * cy,
        t.z + cz,
        *box.extent,
        yaw + math.radians(box.yaw),
        v[0],
        v[1],
    )


def _rows(rows: Sequence[tuple[float, ...]]) -> FloatArray:
    return np.array(rows, dtype=np.float64).reshape(len(rows), b.ROW)


def _grid_of(statics: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """``(grid, cell_start, cell_items)`` as :func:`boxes.find_hits` wants them."""
    if len(statics) == 0:
        return np.array([0.0, 0.0, _CELL_M, 0.0, 0.0]), np.zeros(1), np.zeros(0)
    c, s = np.abs(np.cos(statics[:, 6])), np.abs(np.sin(statics[:, 6]))
    half = np.stack(
        [c * statics[:, 3] + s * statics[:, 4], s * statics[:, 3] + c * statics[:, 4]], axis=1
    )
    origin = (statics[:, :2] - half).min(axis=0)
    low = np.floor((statics[:, :2] - half - origin) / _CELL_M).astype(int)
    high = np.floor((statics[:, :2] + half - origin) / _CELL_M).astype(int)
    nx, ny = (high.max(axis=0) + 1).tolist()
    cells: list[list[int]] = [[] for _ in range(nx * ny)]
    for i, ((x0, y0), (x1, y1)) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                cells[y * nx + x].append(i)
    starts = np.cumsum([0, *map(len, cells)]).astype(np.float64)
    items = np.array([i for cell in cells for i in cell], dtype=np.float64)
    return np.array([origin[0], origin[1], _CELL_M, nx, ny]), starts, items
