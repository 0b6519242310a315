# SPDX-License-Identifier: Apache-2.0
"""Completes netconvert's OpenDRIVE: place on Earth, names, paint, lights, signs, controllers.

Lights stand on the far side of the junction, so that a car at the stop line sees its own; the
signal's reference on the incoming road carries the lanes and the stop line.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from flad_sim.opendrive import RoadNetwork, read_opendrive
from flad_sim.opendrive.sections import is_driving
from flad_sim.opendrive.signals import LIGHT, SPEED, STOP, YIELD
from flad_sim.towns.plan import Street, TownPlan
from flad_sim.towns.poles import Foot, far_pole, near_pole

_STOP_STATES = {"s", "w"}  # SUMO's link states for stop and all-way stop
_FIRST_SIGNAL_ID = 1000
_STOP_LINE_M = 0.1  # before the end of the road, so that the reference lies on it


@dataclass(frozen=True, slots=True)
class _Approach:
    """A road that ends at a junction, and the street it stands for."""

    road_id: int
    length: float
    junction_id: int
    junction: str
    street: Street
    lanes: tuple[int, int]  # outermost and innermost driving lane


def finish_opendrive(text: str, plan: TownPlan, net_text: str) -> str:
    """The finished OpenDRIVE text of ``plan``."""
    root = ET.fromstring(text)
    for road in root.findall("road"):
        for signals in road.findall("signals"):
            road.remove(signals)
    _set_header(root, plan)
    network = read_opendrive(ET.tostring(root, encoding="unicode"))
    _drop_pavements_on_roads(root, network)
    network = read_opendrive(ET.tostring(root, encoding="unicode"))
    approaches = _approaches(root, network, plan)
    _name_roads(root, approaches)
    _paint(root)
    _place_signals(root, network, approaches, plan, _edges_by_state(net_text))
    ET.indent(root, space=" ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _drop_pavements_on_roads(root: ET.Element, network: RoadNetwork) -> None:
    """Take out pavements that netconvert led over the mouth of a street without one."""
    for strip in network.lanes:
        if strip.junction_id < 0 or strip.lane_type != "sidewalk":
            continue
        middle = (strip.left + strip.right) / 2.0
        under = network.under(middle[:, :2], middle[:, 2]).strip
        if not any(i >= 0 and is_driving(network.lanes[i].lane_type) for i in under):
            continue
        road = root.find(f"road[@id='{strip.road_id}']")
        assert road is not None, "strips come from roads"
        for parent in road.iter("right"):
            for lane in parent.findall(f"lane[@id='{strip.lane_id}']"):
                parent.remove(lane)
        for connection in root.iter("connection"):
            if connection.get("connectingRoad") == str(strip.road_id):
                for link in connection.findall(f"laneLink[@to='{strip.lane_id}']"):
                    connection.remove(link)


def _set_header(root: ET.Element, plan: TownPlan) -> None:
    header = root.find("header")
    assert header is not None, "netconvert writes a header"
    header.set("name", plan.name)
    header.set("date", "2026-01-01T00:00:00")  # a fixed one: equal parameters give equal files
    header.set("vendor", "FLAD")
    ET.SubElement(header, "geoReference").text = plan.geo_reference


def _approaches(root: ET.Element, network: RoadNetwork, plan: TownPlan) -> list[_Approach]:
    junctions = {int(e.attrib["id"]): e.attrib["name"] for e in root.findall("junction")}
    streets = {(s.start, s.end): s for s in plan.streets}
    found = []
    for road_id, geometry in network.roads.items():
        road = geometry.record
        if road.junction_id >= 0 or road.predecessor is None or road.successor is None:
            continue
        ends = (
            junctions[road.predecessor.element_id],
            junctions[road.successor.element_id],
        )
        lanes = road.sections[-1].lanes
        driving = [k for k, lane in lanes.items() if k and is_driving(lane.lane_type)]
        found.append(
            _Approach(
                road_id=road_id,
                length=road.length,
                junction_id=road.successor.element_id,
                junction=ends[1],
                street=streets[ends],
                lanes=(min(driving), max(driving)),
            )
        )
    return found


def _name_roads(root: ET.Element, approaches: list[_Approach]) -> None:
    by_id = {a.road_id: a for a in approaches}
    for road in root.findall("road"):
        approach = by_id.get(int(road.attrib["id"]))
        if approach is None:
            continue
        road.set("name", approach.street.edge)
        kind = road.find("type")
        assert kind is not None, "netconvert writes a type"
        kind.set("type", "motorway" if approach.street.speed_kmh > 60.0 else "town")
        ET.SubElement(kind, "speed", max=f"{approach.street.speed_kmh / 3.6:.4f}", unit="m/s")


def _paint(root: ET.Element) -> None:
    for road in root.findall("road"):
        crossing = road.get("junction", "-1") != "-1"
        for section in road.iter("laneSection"):
            lanes = {int(e.attrib["id"]): e for e in section.iter("lane")}
            driving = sorted(k for k, e in lanes.items() if e.get("type") == "driving")
            for lane_id, lane in lanes.items():
                for mark in lane.findall("roadMark"):
                    lane.remove(mark)
                kind, color = ("none", "white") if crossing else _mark(lane_id, driving, lanes)
                ET.SubElement(
                    lane,
                    "roadMark",
                    sOffset="0",
                    type=kind,
                    weight="standard",
                    color=color,
                    width="0.13",
                    laneChange="both" if kind == "broken" else "none",
                )


def _mark(lane_id: int, driving: list[int], lanes: dict[int, ET.Element]) -> tuple[str, str]:
    if lane_id == 0:
        return ("broken" if len(driving) == 1 else "solid", "yellow")
    if lane_id not in driving:
        return ("none", "white")
    if lane_id - 1 in driving:
        return ("broken", "white")
    return ("curb" if lane_id - 1 in lanes else "solid", "white")


def _edges_by_state(net_text: str) -> dict[str, set[str]]:
    """The link states of each SUMO edge: what its vehicles have to obey at its end."""
    states: dict[str, set[str]] = defaultdict(set)
    for connection in ET.fromstring(net_text).findall("connection"):
        states[connection.attrib["from"]].add(connection.get("state", ""))
    return states


def _place_signals(
    root: ET.Element,
    network: RoadNetwork,
    approaches: list[_Approach],
    plan: TownPlan,
    states: dict[str, set[str]],
) -> None:
    stopping = {edge for edge, seen in states.items() if seen & _STOP_STATES}
    giving_way = {edge for edge, seen in states.items() if seen <= {"m"}}
    lit = {c.node for c in plan.crossings if c.control.startswith("traffic_light")}
    roads = {int(e.attrib["id"]): e for e in root.findall("road")}
    ids = _counter(_FIRST_SIGNAL_ID)
    controllers: dict[int, list[str]] = defaultdict(list)
    for a in approaches:
        if a.junction in lit:
            signal_id = next(ids)
            foot = far_pole(network, a.road_id, a.lanes, a.junction_id)
            _add_signal(roads, foot, signal_id, LIGHT, "Signal_3Light_Post01", dynamic=True)
            reference = ET.SubElement(
                _signals(roads[a.road_id]),
                "signalReference",
                id=signal_id,
                s=f"{a.length - _STOP_LINE_M:.4f}",
                t="0",
                orientation="+",
            )
            ET.SubElement(reference, "validity", fromLane=str(a.lanes[0]), toLane=str(a.lanes[1]))
            controllers[a.junction_id].append(signal_id)
        elif a.street.edge in stopping:
            foot = near_pole(network, a.road_id, a.length - 1.0, a.lanes)
            _add_signal(roads, foot, next(ids), STOP, "Sign_Stop")
        elif a.street.edge in giving_way:
            foot = near_pole(network, a.road_id, a.length - 1.0, a.lanes)
            _add_signal(roads, foot, next(ids), YIELD, "Sign_Yield")
        if a.street.posted:
            foot = near_pole(network, a.road_id, 12.0, a.lanes)
            _add_signal(roads, foot, next(ids), SPEED, "Sign_Speed", a.street.speed_kmh)
    _add_controllers(root, controllers, ids)


def _add_signal(
    roads: dict[int, ET.Element],
    foot: Foot,
    signal_id: str,
    kind: str,
    name: str,
    value: float = -1.0,
    dynamic: bool = False,
) -> None:
    signal = ET.SubElement(
        _signals(roads[foot.road_id]),
        "signal",
        {
            "name": name,
            "id": signal_id,
            "s": f"{foot.s:.4f}",
            "t": f"{foot.t:.4f}",
            "zOffset": "0",
            "hOffset": f"{foot.h_offset_rad:.6f}",
            "roll": "0",
            "pitch": "0",
            "orientation": "+",
            "dynamic": "yes" if dynamic else "no",
            "country": "OpenDRIVE",
            "type": kind,
            "subtype": "-1",
            "value": f"{value:g}",
            "unit": "km/h" if value > 0.0 else "",
            "text": "",
            "height": "1.0",
            "width": "0.5",
        },
    )
    lanes = foot.lanes if foot.lanes is not None else (0, 0)
    ET.SubElement(signal, "validity", fromLane=str(lanes[0]), toLane=str(lanes[1]))


def _signals(road: ET.Element) -> ET.Element:
    found = road.find("signals")
    return ET.SubElement(road, "signals") if found is None else found


def _add_controllers(
    root: ET.Element, by_junction: dict[int, list[str]], ids: Iterator[str]
) -> None:
    elements = {int(e.attrib["id"]): e for e in root.findall("junction")}
    first_junction = list(root).index(root.find("junction"))  # type: ignore[arg-type]
    for junction_id, signal_ids in sorted(by_junction.items()):
        for sequence, signal_id in enumerate(signal_ids):
            controller_id = next(ids)
            controller = ET.Element(
                "controller", name=f"ctrl{controller_id}", id=controller_id, sequence=str(sequence)
            )
            ET.SubElement(controller, "control", signalId=signal_id, type="")
            root.insert(first_junction, controller)
            first_junction += 1
            ET.SubElement(
                elements[junction_id],
                "controller",
                id=controller_id,
                type="0",
                sequence=str(sequence),
            )


def _counter(first: int) -> Iterator[str]:
    while True:
        yield str(first)
        first += 1
