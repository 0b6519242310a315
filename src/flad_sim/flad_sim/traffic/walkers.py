# SPDX-License-Identifier: Apache-2.0
"""Pedestrians: they walk along pavements, choose a way at each end, and cross when it is safe.

Each keeps a lateral place on the pavement and steers towards a point ahead on it, so bodies turn
smoothly; they step aside for each other and stop for what stands in their way.
"""

from __future__ import annotations

import bisect
import logging
import math
import random
from dataclasses import dataclass

import numpy as np

from flad_sim.catalogue import WALKERS, WalkerSpec
from flad_sim.opendrive import RoadNetwork
from flad_sim.traffic.pavements import Crossing, Pavements, Way
from flad_sim.types import FloatArray, Pose, Transform

_LOOK_M = 0.9  # the point ahead that is steered to
_TURN_DEG_S = 150.0
_STEP_UP_MPS = 0.8  # how fast a body follows a kerb
_SPACING_M = 4.0  # between pedestrians at the start
_CROSSING_SHARE = 0.3  # of the chances to cross that are taken
_GIVE_UP_S = 25.0  # then the crossing is left for another way
_LOOK_AROUND_S = 0.25
_PERSONAL_M = 1.0
_ASIDE_M = 0.5
_ACCELERATION = 2.0  # m/s^2, both ways
_SMOOTHING = 0.2  # of the newest difference in the reported acceleration

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Walker:
    """One pedestrian."""

    key: str
    spec: WalkerSpec
    speed_mps: float  # wanted
    way: Way
    along_m: float
    lateral: float  # -1 .. 1 of the way's half width, right positive
    x: float
    y: float
    z: float  # of the ground under it
    yaw: float  # radians
    now_mps: float
    pose: Pose
    last: Pose
    waiting_s: float = 0.0  # at a kerb, for a gap
    aside_m: float = 0.0
    next_look_s: float = 0.0


class Walkers:
    """All pedestrians. Single-threaded; the numbers come only from the seed and what happens."""

    def __init__(self, network: RoadNetwork, pavements: Pavements, seed: int, count: int) -> None:
        self._network = network
        self._pavements = pavements
        self._rng = random.Random(f"walkers {seed}")
        self._runs = [_run(way.points).tolist() for way in pavements.ways]
        self._points: list[list[list[float]]] = [way.points.tolist() for way in pavements.ways]
        self._time_s = 0.0
        self.walkers: dict[str, Walker] = {}
        if count and not pavements.ways:
            _log.warning("the map has no pavements: no pedestrians")
        elif count:
            self._place(count)

    def remove(self, key: str) -> None:
        """Take one away; it is not replaced."""
        self.walkers.pop(key, None)

    def crossings_at(self) -> set[int]:
        """Crossings on which somebody is."""
        return {w.way.crossing for w in self.walkers.values() if w.way.crossing >= 0}

    def on_road(self) -> list[Walker]:
        """Those who are on a crossing."""
        return [w for w in self.walkers.values() if w.way.crossing >= 0 and w.waiting_s == 0.0]

    def waiting_for(self) -> list[tuple[Walker, Crossing, float]]:
        """Who wants to know whether a crossing is safe: walker, crossing, seconds to cross."""
        result = []
        for w in self.walkers.values():
            if w.waiting_s > 0.0 and self._time_s >= w.next_look_s:
                crossing = self._pavements.crossings[w.way.crossing]
                length = float(np.linalg.norm(crossing.b - crossing.a))
                result.append((w, crossing, length / w.speed_mps))
        return result

    def answer(self, walker: Walker, safe: bool) -> None:
        """Tell a waiting pedestrian whether to go."""
        walker.next_look_s = self._time_s + _LOOK_AROUND_S
        if safe:
            walker.waiting_s = 0.0
        elif walker.waiting_s > _GIVE_UP_S:
            self._turn_round(walker)

    def step(self, dt_s: float, bodies: FloatArray) -> None:
        """Advance; ``bodies`` ``[B, 3]`` (x, y, radius): vehicles and the client's walkers."""
        self._time_s += dt_s
        everyone = list(self.walkers.values())
        if not everyone:
            return
        places = np.array([[w.x, w.y] for w in everyone])
        ahead = np.array([[math.cos(w.yaw), math.sin(w.yaw)] for w in everyone])
        others = _nearest_ahead(places, ahead, places)
        blocked = _blocked(places, ahead, bodies)
        for i, w in enumerate(everyone):
            self._walk(w, dt_s, others[i], bool(blocked[i]))
        near = np.array([w.z for w in everyone])
        ground = self._network.heights(np.array([[w.x, w.y] for w in everyone]), near)
        for w, z in zip(everyone, ground.tolist(), strict=True):
            if not math.isnan(z):
                w.z += max(-_STEP_UP_MPS * dt_s, min(_STEP_UP_MPS * dt_s, z - w.z))
            _set_pose(w, dt_s)

    def _walk(self, w: Walker, dt_s: float, other: tuple[float, float], blocked: bool) -> None:
        gap, side = other
        wanted = w.speed_mps
        aside = 0.0
        if gap < 3.0:
            aside = -_ASIDE_M if side >= 0.0 else _ASIDE_M
            if gap < _PERSONAL_M:
                wanted = min(wanted, 0.35)
        if blocked or w.waiting_s > 0.0:
            wanted = 0.0
        if w.waiting_s > 0.0:
            w.waiting_s += dt_s
        w.aside_m += max(-0.5 * dt_s, min(0.5 * dt_s, aside - w.aside_m))
        change = _ACCELERATION * dt_s
        w.now_mps += max(-change, min(change, wanted - w.now_mps))
        tx, ty = self._aim(w)
        aim = math.atan2(ty - w.y, tx - w.x)
        turn = (aim - w.yaw + math.pi) % (2.0 * math.pi) - math.pi
        most = math.radians(_TURN_DEG_S) * dt_s
        if w.now_mps > 0.02:
            w.yaw += max(-most, min(most, turn))
        # a body that still has to turn far takes small steps
        pace = w.now_mps * max(0.15, math.cos(min(abs(turn), math.pi / 2.0)))
        w.x += pace * math.cos(w.yaw) * dt_s
        w.y += pace * math.sin(w.yaw) * dt_s
        self._progress(w, pace * dt_s)

    def _aim(self, w: Walker) -> tuple[float, float]:
        """The point `_LOOK_M` ahead on the way, at the walker's lateral place."""
        run, points = self._runs[w.way.number], self._points[w.way.number]
        at = min(w.along_m + _LOOK_M, run[-1])
        i = min(max(bisect.bisect_right(run, at) - 1, 0), len(run) - 2)
        (px, py), (qx, qy) = points[i], points[i + 1]
        dx, dy = qx - px, qy - py
        length = math.hypot(dx, dy) or 1.0
        share = (at - run[i]) / (run[i + 1] - run[i]) if run[i + 1] > run[i] else 0.0
        room = w.way.half_width
        lateral = max(-room, min(room, w.lateral * room + w.aside_m))
        return (
            px + share * dx - dy / length * lateral,
            py + share * dy + dx / length * lateral,
        )

    def _progress(self, w: Walker, moved_m: float) -> None:
        run, points = self._runs[w.way.number], self._points[w.way.number]
        i = min(max(bisect.bisect_right(run, w.along_m) - 1, 0), len(run) - 2)
        (px, py), (qx, qy) = points[i], points[i + 1]
        dx, dy = qx - px, qy - py
        length = math.hypot(dx, dy)
        if length > 1e-9:
            # how much of the step went along the way; never backwards, never more than walked
            foot = run[i] + ((w.x - px) * dx + (w.y - py) * dy) / length
            w.along_m += max(0.0, min(moved_m * 1.5, foot - w.along_m))
            if foot >= run[i + 1]:
                w.along_m = max(w.along_m, min(run[i + 1] + 1e-6, w.along_m + moved_m))
        else:
            w.along_m += moved_m
        if w.along_m >= run[-1] - 0.3:
            self._choose(w)

    def _choose(self, w: Walker) -> None:
        """At a place: the next way."""
        back = w.way.number ^ 1
        options = [k for k in self._pavements.leaving[w.way.end] if k != back]
        streets = [k for k in options if self._pavements.ways[k].crossing < 0]
        crossings = [k for k in options if self._pavements.ways[k].crossing >= 0]
        came_over = w.way.crossing >= 0
        if crossings and not came_over and (not streets or self._rng.random() < _CROSSING_SHARE):
            chosen = self._rng.choice(crossings)
            w.waiting_s = 1e-6
            w.next_look_s = self._time_s + _LOOK_AROUND_S
        else:
            chosen = self._rng.choice(streets or [back])
        self._enter(w, chosen)

    def _turn_round(self, w: Walker) -> None:
        start = w.way.start
        streets = [
            k for k in self._pavements.leaving[start] if self._pavements.ways[k].crossing < 0
        ]
        if streets:
            w.waiting_s = 0.0
            self._enter(w, self._rng.choice(streets))

    def _enter(self, w: Walker, number: int) -> None:
        turns_back = number == (w.way.number ^ 1)
        w.way = self._pavements.ways[number]
        w.along_m = 0.0
        if turns_back:
            w.lateral = -w.lateral

    def _place(self, count: int) -> None:
        rng = self._rng
        ways = [w for w in self._pavements.ways if w.crossing < 0]
        lengths = [float(self._runs[w.number][-1]) for w in ways]
        taken: list[tuple[float, float]] = []
        for number in range(count):
            spec = rng.choice(list(WALKERS.values()))
            for _ in range(30):
                way = rng.choices(ways, lengths)[0]
                run = self._runs[way.number]
                along = rng.uniform(0.0, float(run[-1]))
                x = float(np.interp(along, run, way.points[:, 0]))
                y = float(np.interp(along, run, way.points[:, 1]))
                if all(math.hypot(x - p, y - q) > _SPACING_M for p, q in taken):
                    break
            taken.append((x, y))
            i = min(int(np.searchsorted(run, along, side="right")) - 1, len(run) - 2)
            dx, dy = way.points[i + 1] - way.points[i]
            yaw = math.atan2(dy, dx)
            lateral = rng.uniform(-1.0, 1.0)
            x -= math.sin(yaw) * lateral * way.half_width
            y += math.cos(yaw) * lateral * way.half_width
            ground = self._network.height(x, y, way.z)
            z = way.z if ground is None else ground
            usual = spec.speeds[1]
            speed = min(1.6, max(0.8, rng.gauss(usual, 0.12)))
            pose = Pose(
                Transform(x, y, z + spec.origin_height_m, yaw=_degrees(yaw)),
                (speed * math.cos(yaw), speed * math.sin(yaw), 0.0),
            )
            key = f"walker_{number}"
            self.walkers[key] = Walker(
                key, spec, speed, way, along, lateral, x, y, z, yaw, speed, pose, pose
            )


def _set_pose(w: Walker, dt_s: float) -> None:
    before = w.pose.transform
    here = Transform(w.x, w.y, w.z + w.spec.origin_height_m, yaw=_degrees(w.yaw))
    velocity = (
        (here.x - before.x) / dt_s,
        (here.y - before.y) / dt_s,
        (here.z - before.z) / dt_s,
    )
    turn = ((here.yaw - before.yaw + 180.0) % 360.0 - 180.0) / dt_s
    old, smooth = w.pose.velocity, w.pose.acceleration
    change = [(v - u) / dt_s for v, u in zip(velocity, old, strict=True)]
    ax, ay, az = (a + _SMOOTHING * (c - a) for a, c in zip(smooth, change, strict=True))
    acceleration = (ax, ay, az)
    w.last = w.pose
    w.pose = Pose(here, velocity, (0.0, 0.0, turn), acceleration)


def _nearest_ahead(
    places: FloatArray, ahead: FloatArray, others: FloatArray
) -> list[tuple[float, float]]:
    """For each place: distance along its heading to the nearest other in its lane, and its side."""
    rel = others[None, :, :] - places[:, None, :]
    along = rel[:, :, 0] * ahead[:, None, 0] + rel[:, :, 1] * ahead[:, None, 1]
    side = rel[:, :, 1] * ahead[:, None, 0] - rel[:, :, 0] * ahead[:, None, 1]
    relevant = (along > 0.05) & (along < 3.0) & (np.abs(side) < 0.6)
    np.fill_diagonal(relevant, False)
    along = np.where(relevant, along, math.inf)
    nearest = np.argmin(along, axis=1)
    rows = np.arange(len(places))
    return list(zip(along[rows, nearest].tolist(), side[rows, nearest].tolist(), strict=True))


def _blocked(places: FloatArray, ahead: FloatArray, bodies: FloatArray) -> FloatArray:
    """Whether a body is right in front of each place."""
    if len(bodies) == 0:
        return np.zeros(len(places), dtype=bool)
    rel = bodies[None, :, :2] - places[:, None, :]
    along = rel[:, :, 0] * ahead[:, None, 0] + rel[:, :, 1] * ahead[:, None, 1]
    side = np.abs(rel[:, :, 1] * ahead[:, None, 0] - rel[:, :, 0] * ahead[:, None, 1])
    radius = bodies[None, :, 2]
    result: FloatArray = np.any(
        (along > 0.0) & (along < radius + 1.0) & (side < radius + 0.2), axis=1
    )
    return result


def _run(points: FloatArray) -> FloatArray:
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return np.concatenate(([0.0], np.cumsum(steps)))


def _degrees(yaw: float) -> float:
    return (math.degrees(yaw) + 180.0) % 360.0 - 180.0
