# SPDX-License-Identifier: Apache-2.0
"""SUMO's road network as arrays in CARLA's frame, and routes over it.

Only what the traffic needs: lanes and their shapes, how lanes continue, lights. SUMO itself is
run by `simulation`.
"""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flad_sim.traffic.errors import TrafficError
from flad_sim.types import FloatArray

_CYCLING_LIMIT_MPS = 16.7  # 60 km/h: nobody cycles on faster roads


@dataclass(frozen=True, kw_only=True, slots=True)
class NetLane:
    """One lane; ``points`` ``[N, 3]`` is its centre line in CARLA's frame, ``run`` its length."""

    lane_id: str
    edge: str
    index: int
    length: float
    width: float
    speed_mps: float
    for_cars: bool
    for_bicycles: bool
    points: FloatArray
    run: FloatArray  # [N], arc length of the points, scaled to `length`


@dataclass(frozen=True, kw_only=True, slots=True)
class NetLink:
    """How one lane continues into another, over ``via`` inside a junction."""

    from_lane: str
    to_lane: str
    via: str
    light: str = ""
    light_index: int = -1
    state: str = "M"


@dataclass(frozen=True, kw_only=True, slots=True)
class SumoNet:
    """A network."""

    path: Path
    offset: tuple[float, float]
    lanes: dict[str, NetLane]
    edges: dict[str, tuple[str, ...]]  # edge -> its lanes, right to left; internal ones too
    links: dict[str, tuple[NetLink, ...]]  # by from_lane
    successors: dict[str, tuple[str, ...]]  # edges that cars can go on to, U-turns last
    turns_back: dict[str, frozenset[str]] = field(default_factory=dict)
    cycle_ways: dict[str, tuple[str, ...]] = field(default_factory=dict)  # the same for bicycles

    def to_carla(self, x: float, y: float) -> tuple[float, float]:
        """A SUMO position in CARLA's frame."""
        return (x - self.offset[0], self.offset[1] - y)

    def to_sumo(self, x: float, y: float) -> tuple[float, float]:
        """A CARLA position in SUMO's frame."""
        return (x + self.offset[0], self.offset[1] - y)

    def car_edges(self) -> list[str]:
        """Edges on which cars may be and from which they can go on, sorted."""
        return sorted(e for e, following in self.successors.items() if following)

    def walk(
        self, rng: random.Random, start: str, length_m: float, *, cycling: bool = False
    ) -> list[str]:
        """A random route from ``start`` of at least that length, shorter at a dead end.

        Bicycles keep off fast roads where they can.
        """
        ways = self.cycle_ways if cycling and start in self.cycle_ways else self.successors
        route = [start]
        driven = self.lanes[self.edges[start][0]].length
        while driven < length_m:
            options = ways.get(route[-1], ())
            back = self.turns_back.get(route[-1], frozenset())
            ahead = [e for e in options if e not in back and ways.get(e)]
            if not ahead:
                ahead = [e for e in options if ways.get(e)] or list(options)
            if not ahead:
                break
            route.append(rng.choice(ahead))
            driven += self.lanes[self.edges[route[-1]][0]].length
        return route


def read_sumo_net(path: Path) -> SumoNet:
    """Read a ``.net.xml``.

    Raises:
        TrafficError: if the file is missing or is no SUMO network that cars can drive on.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise TrafficError(f"SUMO network {path} cannot be read ({error.strerror})") from error
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise TrafficError(f"{path} declares a DOCTYPE or entities, which are refused: remove them")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise TrafficError(
            f"{path} is not well-formed XML ({error}): make it again with netconvert"
        ) from error
    location = root.find("location")
    if root.tag != "net" or location is None:
        raise TrafficError(f"{path} is <{root.tag}>, not a SUMO <net>: give a .net.xml file")
    off_x, off_y = (float(v) for v in location.attrib["netOffset"].split(","))
    lanes: dict[str, NetLane] = {}
    edges: dict[str, tuple[str, ...]] = {}
    for edge in root.findall("edge"):
        for element in edge.findall("lane"):
            lane = _lane(element, edge.attrib["id"], off_x, off_y)
            lanes[lane.lane_id] = lane
        ids = [e.attrib["id"] for e in edge.findall("lane")]
        edges[edge.attrib["id"]] = tuple(sorted(ids, key=lambda i: lanes[i].index))
    links: dict[str, list[NetLink]] = defaultdict(list)
    successors: dict[str, list[str]] = defaultdict(list)
    turns_back: dict[str, set[str]] = defaultdict(set)
    for element in root.findall("connection"):
        link = _link(element)
        links[link.from_lane].append(link)
        start, end = lanes[link.from_lane], lanes[link.to_lane]
        if start.edge.startswith(":") or not (start.for_cars and end.for_cars):
            continue
        if end.edge not in successors[start.edge]:
            successors[start.edge].append(end.edge)
        if element.get("dir") == "t":
            turns_back[start.edge].add(end.edge)
    streets = {k: tuple(sorted(v)) for k, v in successors.items()}
    net = SumoNet(
        path=path,
        offset=(off_x, off_y),
        lanes=lanes,
        edges=edges,
        links={k: tuple(v) for k, v in links.items()},
        successors=streets,
        cycle_ways=_cycle_ways(streets, edges, lanes),
        turns_back={k: frozenset(v) for k, v in turns_back.items()},
    )
    if not net.car_edges():
        raise TrafficError(f"{path} has no road that cars can drive on: check its lanes' classes")
    return net


def _cycle_ways(
    streets: dict[str, tuple[str, ...]],
    edges: dict[str, tuple[str, ...]],
    lanes: dict[str, NetLane],
) -> dict[str, tuple[str, ...]]:
    """Slow streets from which slow streets go on for ever."""
    open_to = {
        edge
        for edge in streets
        if any(lanes[i].for_bicycles and lanes[i].for_cars for i in edges[edge])
        and all(lanes[i].speed_mps <= _CYCLING_LIMIT_MPS for i in edges[edge])
    }
    while True:
        kept = {edge for edge in open_to if any(e in open_to for e in streets[edge])}
        if kept == open_to:
            return {e: tuple(f for f in streets[e] if f in kept) for e in sorted(kept)}
        open_to = kept


def _lane(element: ET.Element, edge: str, off_x: float, off_y: float) -> NetLane:
    rows = [[float(v) for v in p.split(",")] for p in element.attrib["shape"].split()]
    points = np.array([[r[0] - off_x, off_y - r[1], r[2] if len(r) > 2 else 0.0] for r in rows])
    run = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1))))
    length = float(element.attrib["length"])
    if run[-1] > 0.0:
        run = run * (length / run[-1])
    return NetLane(
        lane_id=element.attrib["id"],
        edge=edge,
        index=int(element.attrib["index"]),
        length=length,
        width=float(element.get("width", "3.2")),
        speed_mps=float(element.attrib["speed"]),
        for_cars=_allows(element, "passenger"),
        for_bicycles=_allows(element, "bicycle"),
        points=points,
        run=run,
    )


def _allows(element: ET.Element, vehicle_class: str) -> bool:
    allow, disallow = element.get("allow"), element.get("disallow")
    if allow is not None:
        return vehicle_class in allow.split() or allow == "all"
    if disallow is not None:
        return vehicle_class not in disallow.split() and disallow != "all"
    return True


def _link(element: ET.Element) -> NetLink:
    return NetLink(
        from_lane=f"{element.attrib['from']}_{element.attrib['fromLane']}",
        to_lane=f"{element.attrib['to']}_{element.attrib['toLane']}",
        via=element.get("via", ""),
        light=element.get("tl", ""),
        light_index=int(element.get("linkIndex", "-1")),
        state=element.get("state", "M"),
    )
