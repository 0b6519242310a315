# SPDX-License-Identifier: Apache-2.0
"""Routes over the lanes of a ``carla.Map``: A* on a lane graph, then a dense trace for driving.

The graph's nodes are lanes (road, section, lane id), its edges lead into a following lane or, where
the road marking allows it, into the neighbour. It needs a map and nothing else, no server.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import carla
import networkx as nx
import numpy as np
from numpy.typing import NDArray

LaneKey = tuple[int, int, int]  # road, section, lane
FloatArray = NDArray[np.float64]

_SAMPLE_M = 1.0
_LANE_CHANGE_M = 25.0  # length of the sideways blend where the lane is long enough
_LANE_CHANGE_COST_M = 30.0  # a change must save at least this much driving
_LEAST_CHANGE_M = 12.0  # a lane change needs this much road
_HERE, _GOAL = "here", "goal"  # nodes that are no lanes
_ARM_M = 8.0  # lanes of one arm begin this close to each other
_TURN_DEG = 35.0  # CARLA's own planner tells a turn from "straight" here
_MOST_BEND_DEG = 65.0  # a way that bends by more is a turn, whatever else there is
_SAME_WAY_DEG = 20.0  # ways of several lanes into one road differ by less
_TURN_BACK_DEG = 150.0
_MAX_SNAP_M = 12.0  # published route files hold points a few metres beside their lane


class RoadOption(IntEnum):
    """What to do at a route point, with CARLA's numbers."""

    VOID = -1
    LEFT = 1
    RIGHT = 2
    STRAIGHT = 3
    LANE_FOLLOW = 4
    CHANGE_LANE_LEFT = 5
    CHANGE_LANE_RIGHT = 6


class RouteError(ValueError):
    """A route that cannot be planned; the text says which leg and why."""


@dataclass(frozen=True, slots=True)
class RoutePoint:
    """One point of a dense route, in CARLA's frame (metres, degrees)."""

    x: float
    y: float
    z: float
    yaw: float
    option: RoadOption
    lane: LaneKey
    lane_width: float
    junction: int  # -1 outside junctions
    distance: float  # along the route from its start


@dataclass(frozen=True, slots=True)
class _Lane:
    """One lane sampled from its entry to its end."""

    key: LaneKey
    points: FloatArray  # [N, 4]: x, y, z, width
    length: float
    junction: int
    turn_deg: float  # exit heading minus entry heading

    def distances(self) -> FloatArray:
        steps = np.hypot(*np.diff(self.points[:, :2], axis=0).T)
        return np.concatenate([[0.0], np.cumsum(steps)])


@dataclass(frozen=True, slots=True)
class _Place:
    lane: LaneKey
    distance: float


class RoutePlanner:
    """Plans over one map; make it once per town."""

    def __init__(self, town_map: carla.Map) -> None:
        self._map = town_map
        self._lanes: dict[LaneKey, _Lane] = {}
        self._graph = self._build_graph()

    @property
    def map(self) -> carla.Map:
        """The map that routes lie on."""
        return self._map

    def trace(self, locations: Sequence[carla.Location]) -> list[RoutePoint]:
        """A dense route (one point per metre) through ``locations``, in this order.

        Raises:
            RouteError: if a location is off the road or no lane leads from one to the next.
        """
        if len(locations) < 2:
            raise RouteError(f"a route needs at least 2 points, got {len(locations)}")
        places = [self._locate(i, location) for i, location in enumerate(locations)]
        path: list[_Piece] = []
        for i, (start, end) in enumerate(itertools.pairwise(places)):
            path += self._leg(i, start, end)
        return _resample(_merge(path))

    def exits(self, lane: LaneKey) -> frozenset[RoadOption]:
        """The ways that lead on from a lane's end into a junction; of all lanes of its direction.

        A lane for the left turn only does not make the others impossible: one can change lanes.
        """
        return frozenset(option for option, _ in self.ways(lane))

    def ways(self, lane: LaneKey) -> list[tuple[RoadOption, float]]:
        """The same one by one, each with the degrees that it turns; to the right is positive."""
        return [(self._option(out), out.turn_deg) for out in self._ways_out(lane)]

    def lane_changes(self, lane: LaneKey) -> frozenset[RoadOption]:
        """The lane changes that the map allows from a lane."""
        edges = self._graph.adj[lane].values()
        return frozenset(edge["change"] for edge in edges if edge["change"] is not None)

    def num_arms(self, junction: int) -> int:
        """How many roads meet at a junction; 0 for one that does not exist.

        Two roads that are the two directions of one street count once: they end within a lane's
        width or two of each other and point opposite ways.
        """
        ends: list[tuple[float, float, float]] = []
        for lane in self._lanes.values():
            if lane.junction != junction or junction < 0:
                continue
            for row, ahead in (
                (lane.points[0], lane.points[1]),
                (lane.points[-1], lane.points[-2]),
            ):
                inward = math.atan2(ahead[1] - row[1], ahead[0] - row[0])
                ends.append((float(row[0]), float(row[1]), inward))
        return _num_groups(ends)

    def _locate(self, index: int, location: carla.Location) -> _Place:
        waypoint = self._map.get_waypoint(location)
        if waypoint is None or waypoint.transform.location.distance(location) > _MAX_SNAP_M:
            raise RouteError(
                f"route point {index} at ({location.x:.1f}, {location.y:.1f}) is more than "
                f"{_MAX_SNAP_M:.0f} m from any driving lane of {self._map.name}"
            )
        key = _key(waypoint)
        if key not in self._lanes:
            raise RouteError(f"route point {index} lies on lane {key}, which no lane leads to")
        lane = self._lanes[key]
        at = waypoint.transform.location
        return _Place(key, _project(lane.points, at.x, at.y))

    def _leg(self, index: int, start: _Place, end: _Place) -> list[_Piece]:
        """The pieces of lanes from ``start`` to ``end``."""
        keys = self._search(index, start, end)
        pieces: list[_Piece] = []
        at = start.distance
        for n, key in enumerate(keys):
            lane = self._lanes[key]
            last = n == len(keys) - 1
            if last:
                pieces.append(_cut(lane, at, end.distance, self._option(lane)))
                break
            change = self._graph.edges[key, keys[n + 1]]["change"]
            if change is None:
                pieces.append(_cut(lane, at, lane.length, self._option(lane)))
                at = 0.0
            else:
                beside = self._lanes[keys[n + 1]]
                limit = end.distance if keys[n + 1] == end.lane and n == len(keys) - 2 else None
                piece, at = _change(lane, beside, at, limit, change)
                pieces.append(piece)
        return pieces

    def _search(self, index: int, start: _Place, end: _Place) -> list[LaneKey]:
        """The lanes to drive along, from the start's to the end's.

        The lanes that can be had by changing lanes from the start on are nodes of their own
        (``_HERE``): an end behind the start is not on them, though it is on the same lane.
        """
        graph = self._graph.copy()
        changes = {start.lane: 0}
        queue = [start.lane]
        for key in queue:  # grows while it is walked
            lane = self._lanes[key]
            at = start.distance * lane.length / self._lanes[start.lane].length
            for following, edge in self._graph.adj[key].items():
                if edge["change"] is None:
                    graph.add_edge((_HERE, key), following, length=max(lane.length - at, 0.0))
                elif following not in changes:
                    changes[following] = changes[key] + 1
                    queue.append(following)
                if edge["change"] is not None:
                    graph.add_edge((_HERE, key), (_HERE, following), length=edge["length"])
            ahead = end.distance - at
            if key == end.lane and ahead > max(-0.5, _LEAST_CHANGE_M * changes[key]):
                graph.add_edge((_HERE, key), _GOAL, length=max(ahead, 0.0))
        graph.add_edge(end.lane, _GOAL, length=end.distance)
        goal = self._lanes[end.lane].points[0]

        def straight_line(node: Any, _: Any) -> float:
            if node == _GOAL:
                return 0.0
            lane = self._lanes[node[1] if node[0] == _HERE else node]
            here = lane.points[-1]
            return max(0.0, math.hypot(here[0] - goal[0], here[1] - goal[1]) - lane.length)

        try:
            nodes = nx.astar_path(graph, (_HERE, start.lane), _GOAL, straight_line, "length")
        except nx.NetworkXNoPath:
            raise RouteError(
                f"no lane leads from route point {index} (lane {start.lane}) to point {index + 1} "
                f"(lane {end.lane}) of {self._map.name}"
            ) from None
        return [node[1] if node[0] == _HERE else node for node in nodes[:-1]]

    def _option(self, lane: _Lane) -> RoadOption:
        if lane.junction < 0:
            return RoadOption.LANE_FOLLOW
        if abs(lane.turn_deg) <= _TURN_DEG:
            return RoadOption.STRAIGHT if self._has_choice(lane) else RoadOption.LANE_FOLLOW
        if self._is_the_way_on(lane):
            return RoadOption.STRAIGHT
        return RoadOption.LEFT if lane.turn_deg < 0.0 else RoadOption.RIGHT

    def _is_the_way_on(self, lane: _Lane) -> bool:
        """Whether a way that bends is no turn: "left" or "right" would name a sharper one.

        CARLA's planner calls both a left turn; whoever is told so cannot know which is meant.
        """
        side, bend = math.copysign(1.0, lane.turn_deg), abs(lane.turn_deg)
        others = [
            out.turn_deg
            for before in self._graph.predecessors(lane.key)
            for out in self._ways_out(before)
        ]
        is_least = all(abs(other) > bend - _SAME_WAY_DEG for other in others)
        has_sharper = any(bend + _SAME_WAY_DEG < side * other < _TURN_BACK_DEG for other in others)
        return bend <= _MOST_BEND_DEG and is_least and has_sharper

    def _ways_out(self, lane: LaneKey) -> list[_Lane]:
        """Lanes of the junction that a lane, or one that can be changed to from it, leads into."""
        beside, queue = {lane}, [lane]
        for key in queue:  # grows while it is walked
            new = [k for k, e in self._graph.adj[key].items() if e["change"] and k not in beside]
            beside.update(new)
            queue += new
        return [
            self._lanes[key]
            for start in beside
            for key, edge in self._graph.adj[start].items()
            if edge["change"] is None and self._lanes[key].junction >= 0
        ]

    def _has_choice(self, lane: _Lane) -> bool:
        before = self._graph.predecessors(lane.key)
        return any(self._graph.out_degree(key) > 1 for key in before)

    def _build_graph(self) -> nx.DiGraph:
        graph = nx.DiGraph()
        topology = self._map.get_topology()
        for entry, _ in topology:
            self._add_lane(entry)
        for entry, following in topology:
            if _key(following) not in self._lanes:
                self._add_lane(following)
            lane = self._lanes[_key(entry)]
            if _key(following) != lane.key:
                graph.add_edge(lane.key, _key(following), length=lane.length, change=None)
        for entry, _ in topology:
            self._add_changes(graph, entry)
        graph.add_nodes_from(self._lanes)
        return graph

    def _add_lane(self, entry: carla.Waypoint) -> None:
        key = _key(entry)
        if key in self._lanes:
            return
        waypoints = [entry, *entry.next_until_lane_end(_SAMPLE_M)]
        rows = [_row(w) for w in waypoints if _key(w) == key]
        points = np.array(rows)
        keep = np.ones(len(points), dtype=bool)
        keep[1:] = np.hypot(*np.diff(points[:, :2], axis=0).T) > 0.05
        points = points[keep]
        if len(points) < 2:  # a sliver of a section: give it a direction
            forward = entry.transform.get_forward_vector()
            ahead = points[0] + np.array([0.1 * forward.x, 0.1 * forward.y, 0.0, 0.0])
            points = np.vstack([points[0], ahead])
        length = float(np.hypot(*np.diff(points[:, :2], axis=0).T).sum())
        turn = _wrap(waypoints[-1].transform.rotation.yaw - entry.transform.rotation.yaw)
        junction = entry.junction_id if entry.is_junction else -1
        self._lanes[key] = _Lane(key, points, length, junction, turn)

    def _add_changes(self, graph: nx.DiGraph, entry: carla.Waypoint) -> None:
        lane = self._lanes[_key(entry)]
        if entry.is_junction or lane.length < 15.0:
            return
        middle = (entry.next(lane.length / 2) or [entry])[0]
        if _key(middle) != lane.key:
            return
        for change, beside in (
            (RoadOption.CHANGE_LANE_LEFT, middle.get_left_lane()),
            (RoadOption.CHANGE_LANE_RIGHT, middle.get_right_lane()),
        ):
            if beside is None or beside.lane_type != carla.LaneType.Driving:
                continue
            if beside.lane_id * middle.lane_id < 0 or _key(beside) not in self._lanes:
                continue
            if _allows(middle.lane_change, change):
                cost = _LANE_CHANGE_COST_M
                graph.add_edge(lane.key, _key(beside), length=cost, change=change)


def _num_groups(ends: Sequence[tuple[float, float, float]]) -> int:
    """Ends of lanes that look into a junction, grouped into arms: near, and facing the same way."""
    unseen, groups = list(ends), 0
    while unseen:
        groups += 1
        queue = [unseen.pop()]
        for x, y, yaw in queue:  # grows while it is walked
            near = [
                end
                for end in unseen
                if math.hypot(end[0] - x, end[1] - y) < _ARM_M and math.cos(end[2] - yaw) > 0.7
            ]
            queue += near
            unseen = [end for end in unseen if end not in near]
    return groups


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of route before resampling."""

    points: FloatArray  # [N, 4]
    lanes: tuple[LaneKey, ...]
    options: tuple[RoadOption, ...]
    junctions: tuple[int, ...]


def _cut(lane: _Lane, start: float, end: float, option: RoadOption) -> _Piece:
    along = lane.distances()
    inner = along[(along > start + 0.05) & (along < end - 0.05)]
    stations = np.concatenate([[start], inner, [max(end, start + 0.01)]])
    points = _at(lane, stations)
    n = len(points)
    return _Piece(points, (lane.key,) * n, (option,) * n, (lane.junction,) * n)


def _change(
    lane: _Lane, beside: _Lane, at: float, limit: float | None, option: RoadOption
) -> tuple[_Piece, float]:
    """Blend from ``lane`` at distance ``at`` into ``beside``; also where it ends there."""
    scale = beside.length / lane.length
    end = lane.length if limit is None else min(lane.length, limit / scale)
    start = min(at + 3.0, max(at, end - 5.0))
    finish = min(start + _LANE_CHANGE_M, max(end - 1.0, start + 5.0), lane.length)
    before = np.arange(at, start, _SAMPLE_M)
    blend = np.arange(start, finish + 0.01, _SAMPLE_M)
    t = (blend - start) / max(finish - start, 0.1)
    weight = (t * t * (3.0 - 2.0 * t))[:, None]
    mixed = (1.0 - weight) * _at(lane, blend) + weight * _at(beside, blend * scale)
    points = np.vstack([_at(lane, before), mixed]) if len(before) else mixed
    keys = (lane.key,) * len(before) + tuple(
        beside.key if w > 0.5 else lane.key for w in weight[:, 0]
    )
    options = (RoadOption.LANE_FOLLOW,) * len(before) + (option,) * len(blend)
    return _Piece(points, keys, options, (lane.junction,) * len(points)), float(blend[-1] * scale)


def _merge(pieces: Iterable[_Piece]) -> _Piece:
    pieces = list(pieces)
    return _Piece(
        np.vstack([p.points for p in pieces]),
        tuple(k for p in pieces for k in p.lanes),
        tuple(o for p in pieces for o in p.options),
        tuple(j for p in pieces for j in p.junctions),
    )


def _resample(piece: _Piece) -> list[RoutePoint]:
    steps = np.hypot(*np.diff(piece.points[:, :2], axis=0).T)
    keep = np.concatenate([[True], steps > 1e-3])
    points = piece.points[keep]
    index = np.flatnonzero(keep)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points[:, :2], axis=0).T))])
    stations = np.arange(0.0, along[-1], _SAMPLE_M)
    if along[-1] - stations[-1] > 0.3 * _SAMPLE_M:
        stations = np.append(stations, along[-1])
    dense = np.stack([np.interp(stations, along, points[:, c]) for c in range(4)], axis=1)
    source = index[np.minimum(np.searchsorted(along, stations + 1e-6), len(index) - 1)]
    ahead = np.diff(dense[:, :2], axis=0, append=2 * dense[-1:, :2] - dense[-2:-1, :2])
    yaws = np.degrees(np.arctan2(ahead[:, 1], ahead[:, 0]))
    return [
        RoutePoint(
            x=float(p[0]),
            y=float(p[1]),
            z=float(p[2]),
            yaw=float(yaw),
            option=piece.options[i],
            lane=piece.lanes[i],
            lane_width=float(p[3]),
            junction=piece.junctions[i],
            distance=float(d),
        )
        for p, yaw, i, d in zip(dense, yaws, source, stations, strict=True)
    ]


def _at(lane: _Lane, stations: FloatArray) -> FloatArray:
    along = lane.distances()
    return np.stack([np.interp(stations, along, lane.points[:, c]) for c in range(4)], axis=1)


def _project(points: FloatArray, x: float, y: float) -> float:
    """Distance along a polyline of the point nearest to ``(x, y)``."""
    a, b = points[:-1, :2], points[1:, :2]
    d = b - a
    lengths = np.hypot(*d.T)
    t = np.clip(((np.array([x, y]) - a) * d).sum(axis=1) / np.maximum(lengths**2, 1e-9), 0.0, 1.0)
    nearest = a + t[:, None] * d
    i = int(np.argmin(np.hypot(nearest[:, 0] - x, nearest[:, 1] - y)))
    return float(lengths[:i].sum() + t[i] * lengths[i])


def _key(waypoint: carla.Waypoint) -> LaneKey:
    return (waypoint.road_id, waypoint.section_id, waypoint.lane_id)


def _row(waypoint: carla.Waypoint) -> tuple[float, float, float, float]:
    at = waypoint.transform.location
    return (at.x, at.y, at.z, waypoint.lane_width)


def _wrap(degrees: float) -> float:
    return (degrees + 180.0) % 360.0 - 180.0


def _allows(allowed: carla.LaneChange, change: RoadOption) -> bool:
    side = (
        carla.LaneChange.Left if change == RoadOption.CHANGE_LANE_LEFT else carla.LaneChange.Right
    )
    return allowed in (side, carla.LaneChange.Both)
