# SPDX-License-Identifier: Apache-2.0
"""Where pedestrians can walk: pavements joined at their ends, and crossings at junctions."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from flad_sim.opendrive import RoadNetwork
from flad_sim.opendrive.sections import is_driving
from flad_sim.types import FloatArray, LaneStrip

_JOIN_M = 1.3  # ends of pavements nearer than this are one place
_CORNER_M = 9.0  # free ends are joined over this distance where no road lies between
_MIN_WIDTH_M = 1.0
_KERB_MARGIN_M = 0.55
_CROSSING_M = (4.0, 26.0)  # shortest and longest way over a road
_INTO_JUNCTION_M = 2.0  # crossings lie this far beyond the stop line
_MIN_STRIP_M = 0.3


@dataclass(frozen=True, slots=True)
class Way:
    """A piece that is walked from ``start`` to ``end`` (places), along ``points`` ``[N, 2]``."""

    number: int
    start: int
    end: int
    points: FloatArray
    half_width: float  # how far left or right of the line one may walk
    crossing: int  # number of the crossing, -1 on pavements
    z: float


@dataclass(frozen=True, slots=True)
class Crossing:
    """A way over a road, where the road enters a junction."""

    a: FloatArray  # [2], kerb to kerb
    b: FloatArray
    signal_ids: tuple[str, ...]  # lights at whose stop lines its traffic waits


@dataclass(slots=True)
class Pavements:
    """The graph. Every way is in it in both directions, numbers ``2 k`` and ``2 k + 1``."""

    ways: list[Way] = field(default_factory=list)
    leaving: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    crossings: list[Crossing] = field(default_factory=list)

    def add(
        self, start: int, end: int, points: FloatArray, half_width: float, crossing: int, z: float
    ) -> None:
        """Add a way and its way back."""
        for a, b, line in ((start, end, points), (end, start, points[::-1].copy())):
            number = len(self.ways)
            self.ways.append(Way(number, a, b, line, half_width, crossing, z))
            self.leaving[a].append(number)


def find_pavements(network: RoadNetwork) -> Pavements:
    """Build the graph of a map; it is empty if the map has no pavements."""
    strips = [s for s in network.lanes if s.lane_type == "sidewalk" and _walkable(s)]
    result = Pavements()
    if not strips:
        return result
    lines = [((s.left + s.right) / 2.0) for s in strips]
    ends = np.array([p for line in lines for p in (line[0], line[-1])])
    places = _cluster(ends)
    centers = np.array([ends[places == k].mean(axis=0) for k in range(int(places.max()) + 1)])
    for i, (strip, line) in enumerate(zip(strips, lines, strict=True)):
        width = float(np.linalg.norm(strip.left - strip.right, axis=1).min())
        flat = line[:, :2].copy()
        start, end = int(places[2 * i]), int(places[2 * i + 1])
        flat[0], flat[-1] = centers[start, :2], centers[end, :2]
        room = max(0.0, width / 2.0 - _KERB_MARGIN_M)
        result.add(start, end, flat, room, -1, float(line[:, 2].mean()))
    _join_corners(network, result, centers)
    _add_crossings(network, result, centers)
    return result


def _walkable(strip: LaneStrip) -> bool:
    width = np.linalg.norm(strip.left - strip.right, axis=1)
    line = (strip.left + strip.right) / 2.0
    return bool(
        width.min() >= _MIN_WIDTH_M
        and np.linalg.norm(np.diff(line, axis=0), axis=1).sum() >= _MIN_STRIP_M
    )


def _cluster(ends: FloatArray) -> np.typing.NDArray[np.int64]:
    labels = np.full(len(ends), -1, dtype=np.int64)
    count = 0
    for i in range(len(ends)):
        if labels[i] >= 0:
            continue
        near = np.linalg.norm(ends - ends[i], axis=1) < _JOIN_M
        labels[near & (labels < 0)] = count
        count += 1
    return labels


def _join_corners(network: RoadNetwork, pavements: Pavements, centers: FloatArray) -> None:
    free = [k for k in range(len(centers)) if len(pavements.leaving[k]) == 1]
    for i, a in enumerate(free):
        for b in free[i + 1 :]:
            gap = float(np.linalg.norm(centers[a] - centers[b]))
            line = np.linspace(centers[a], centers[b], 12)
            if gap < _CORNER_M and not _on_road(network, line).any():
                z = float(line[:, 2].mean())
                pavements.add(a, b, line[[0, -1], :2].copy(), 0.1, -1, z)


def _on_road(network: RoadNetwork, line: FloatArray) -> np.typing.NDArray[np.bool_]:
    strips = network.under(line[:, :2], line[:, 2]).strip
    return np.array([i >= 0 and is_driving(network.lanes[i].lane_type) for i in strips])


def _add_crossings(network: RoadNetwork, pavements: Pavements, centers: FloatArray) -> None:
    """One over each mouth of a junction that has pavements on both sides."""
    areas = [area[:, :2].mean(axis=0) for area in network.junction_areas]
    if not areas:
        return
    middles = np.array(areas)
    headings = {k: _heading_at(pavements, k) for k in range(len(centers))}
    for a in range(len(centers)):
        best: tuple[float, int] | None = None
        for b in range(len(centers)):
            way = centers[b] - centers[a]
            length = float(np.linalg.norm(way[:2]))
            if a == b or not _CROSSING_M[0] < length < _CROSSING_M[1] or abs(way[2]) > 1.0:
                continue
            across = way[:2] / length
            square = all(abs(float(across @ headings[k])) < 0.35 for k in (a, b))
            if square and (best is None or length < best[0]):
                best = (length, b)
        if best is None or best[1] < a:
            continue  # found from the other side
        b = best[1]
        middle = (centers[a, :2] + centers[b, :2]) / 2.0
        nearest = middles[int(np.argmin(np.linalg.norm(middles - middle, axis=1)))]
        if np.linalg.norm(nearest - middle) > 25.0:
            continue
        line = np.linspace(centers[a], centers[b], 25)
        if _on_road(network, line).mean() < 0.4:
            continue
        across = (centers[b, :2] - centers[a, :2]) / best[0]
        inward = np.array([-across[1], across[0]])
        if float(inward @ (nearest - middle)) < 0.0:
            inward = -inward
        shift = _INTO_JUNCTION_M * inward
        p, q = centers[a, :2] + shift, centers[b, :2] + shift
        kerbs = _kerbs(network, p, q, float(centers[a, 2]))
        if kerbs is None:
            continue
        signals = tuple(
            s.signal_id
            for s in network.signals
            if s.kind == "1000001" and any(_before(t.x, t.y, kerbs) for t in s.stop_points)
        )
        pavements.crossings.append(Crossing(kerbs[0], kerbs[1], signals))
        points = np.stack([centers[a, :2], kerbs[0], kerbs[1], centers[b, :2]])
        z = float(centers[[a, b], 2].mean())
        pavements.add(a, b, points, 0.4, len(pavements.crossings) - 1, z)


def _heading_at(pavements: Pavements, place: int) -> FloatArray:
    for number in pavements.leaving[place]:
        points = pavements.ways[number].points
        d = points[1] - points[0]
        length = float(np.linalg.norm(d))
        if length > 1e-6:
            return np.asarray(d / length)
    return np.array([1.0, 0.0])


def _kerbs(
    network: RoadNetwork, p: FloatArray, q: FloatArray, z: float
) -> tuple[FloatArray, FloatArray] | None:
    line = np.column_stack([np.linspace(p, q, 101), np.full(101, z)])
    on = np.flatnonzero(_on_road(network, line))
    if len(on) == 0:
        return None
    first, last = max(0, int(on[0]) - 2), min(100, int(on[-1]) + 2)
    return line[first, :2].copy(), line[last, :2].copy()


def _before(x: float, y: float, kerbs: tuple[FloatArray, FloatArray]) -> bool:
    a, b = kerbs
    d = b - a
    share = float((np.array([x, y]) - a) @ d / (d @ d))
    foot = a + share * d
    return 0.0 < share < 1.0 and math.hypot(foot[0] - x, foot[1] - y) < 6.0
