# SPDX-License-Identifier: Apache-2.0
"""OpenDRIVE signals and references, resolved to lanes, stop lines and trigger boxes.

A light may stand on one road and rule lanes of another (by signalReference, often on a junction's
connecting roads, as in CARLA's towns); what counts is where its lanes enter the junction.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from flad_sim.opendrive.parse import MapRecord, RoadRecord, SignalRecord
from flad_sim.opendrive.sections import RoadGeometry, is_driving
from flad_sim.opendrive.surface import Surface
from flad_sim.types import BoundingBox, Signal, Transform

LIGHT, STOP, YIELD, SPEED = "1000001", "206", "205", "274"
_HEAD_HEIGHT_M = {LIGHT: 4.0}  # pole-mounted heads in towns; signs hang lower
_SIGN_HEIGHT_M = 2.3
_TRIGGER_LENGTH_M = {LIGHT: 3.0, STOP: 4.0}
_TRIGGER_HALF_HEIGHT_M = 1.0
_NEAR_END_M = 30.0  # a signal this close to where its lanes end means the end


@dataclass(frozen=True, slots=True)
class _Approach:
    """A lane that a signal rules, and where it has to stop."""

    road_id: int
    lane_id: int
    stop: Transform
    width: float
    junction_id: int


def resolve_signals(
    record: MapRecord, roads: dict[int, RoadGeometry], surface: Surface
) -> tuple[Signal, ...]:
    """All signals that stand in the world, sorted by road and s."""
    references: dict[str, list[SignalRecord]] = defaultdict(list)
    for road in record.roads.values():
        for reference in road.references:
            references[reference.signal_id].append(reference)
    signals = []
    for road_id, road in sorted(record.roads.items()):
        for signal in sorted(road.signals, key=lambda r: (r.s, r.signal_id)):
            where = [signal, *references[signal.signal_id]]
            approaches = _approaches(where, record, roads)
            signals.append(_signal(signal, roads[road_id], approaches, surface))
    return tuple(signals)


def _approaches(
    where: list[SignalRecord], record: MapRecord, roads: dict[int, RoadGeometry]
) -> list[_Approach]:
    found: dict[tuple[int, int], _Approach] = {}
    for place in where:
        road = record.roads[place.road_id]
        geometry = roads[place.road_id]
        s = min(max(place.s, 0.0), road.length)
        index = geometry.section_index(s)
        for lane_id in _ruled_lanes(place, road, index):
            approach = _approach(record, roads, road, index, lane_id, s)
            found.setdefault((approach.road_id, approach.lane_id), approach)
    return [found[key] for key in sorted(found)]


def _ruled_lanes(place: SignalRecord, road: RoadRecord, index: int) -> list[int]:
    lanes = road.sections[index].lanes
    driving = sorted(k for k, lane in lanes.items() if k != 0 and is_driving(lane.lane_type))
    if place.validity:
        return [k for k in driving if any(min(v) <= k <= max(v) for v in place.validity)]
    if place.orientation == "+":
        return [k for k in driving if k < 0]
    if place.orientation == "-":
        return [k for k in driving if k > 0]
    return driving


def _approach(
    record: MapRecord,
    roads: dict[int, RoadGeometry],
    road: RoadRecord,
    index: int,
    lane_id: int,
    s: float,
) -> _Approach:
    forward = lane_id < 0
    geometry = roads[road.road_id]
    if road.junction_id >= 0:
        # on a connecting road: its lane begins where the incoming lane ends
        at, index = (0.0, 0) if forward else (road.length, len(road.sections) - 1)
        link = road.predecessor if forward else road.successor
        lane = road.sections[index].lanes.get(lane_id)
        linked = None if lane is None else (lane.predecessor if forward else lane.successor)
        incoming = link.element_id if link is not None and link.element == "road" else -1
        return _Approach(
            road_id=incoming if linked is not None else road.road_id,
            lane_id=linked if linked is not None else lane_id,
            stop=geometry.lane_center(index, lane_id, at),
            width=geometry.lane_width(index, lane_id, at),
            junction_id=road.junction_id,
        )
    end = road.length if forward else 0.0
    link = road.successor if forward else road.predecessor
    at_junction = link is not None and link.element == "junction"
    if at_junction and abs(end - s) < _NEAR_END_M:
        last = len(road.sections) - 1 if forward else 0
        if lane_id in road.sections[last].lanes:
            s, index = end, last
    return _Approach(
        road_id=road.road_id,
        lane_id=lane_id,
        stop=geometry.lane_center(index, lane_id, s),
        width=geometry.lane_width(index, lane_id, s),
        junction_id=link.element_id if link is not None and at_junction else -1,
    )


def _signal(
    record: SignalRecord, road: RoadGeometry, approaches: list[_Approach], surface: Surface
) -> Signal:
    s = np.array([min(max(record.s, 0.0), road.record.length)])
    x, y, z = (float(v) for v in road.points(s, np.array([record.t]))[0])
    ground = float(surface.at(np.array([[x, y]]), np.array([z])).z[0])
    if approaches:
        yaw = _mean_yaw([a.stop.yaw for a in approaches]) + 180.0  # heads look at who must obey
    else:
        yaw = road.heading_deg(float(s[0])) - math.degrees(record.h_offset)
        yaw += 180.0 if record.orientation != "-" else 0.0
    yaw = (yaw + 180.0) % 360.0 - 180.0
    foot = Transform(x, y, z if math.isnan(ground) else ground, yaw=yaw)
    return Signal(
        signal_id=record.signal_id,
        kind=record.kind,
        value=_speed_kmh(record) if record.kind == SPEED else 0.0,
        road_id=record.road_id,
        s=record.s,
        transform=foot,
        height=_HEAD_HEIGHT_M.get(record.kind, _SIGN_HEIGHT_M),
        trigger=_trigger(record.kind, approaches, foot),
        stop_points=tuple(a.stop for a in approaches),
        group=next((a.junction_id for a in approaches), -1),
    )


def _trigger(kind: str, approaches: list[_Approach], foot: Transform) -> BoundingBox:
    """The asphalt in front of the stop line: local x across the lanes, as CARLA's boxes lie."""
    length = _TRIGGER_LENGTH_M.get(kind, 2.0)
    if not approaches:
        return BoundingBox(foot.location, (1.0, length / 2.0, _TRIGGER_HALF_HEIGHT_M), foot.yaw)
    first = approaches[0]
    same_road = [a for a in approaches if _turned(a.stop.yaw, first.stop.yaw) < 45.0]
    yaw = _mean_yaw([a.stop.yaw for a in same_road])
    frame = Transform(*first.stop.location, yaw=yaw)
    lateral, ahead, z = [], [], []
    for a in same_road:
        local = frame.to_local(np.array([a.stop.location]))[0]
        lateral += [local[1] - a.width / 2.0, local[1] + a.width / 2.0]
        ahead.append(local[0])
        z.append(a.stop.z)
    middle = np.array([[min(ahead) - length / 2.0 - 0.3, (min(lateral) + max(lateral)) / 2.0, 0.0]])
    x, y, _ = frame.to_world(middle)[0]
    across = 0.9 * (max(lateral) - min(lateral)) / 2.0  # CARLA's boxes keep off the next lane
    return BoundingBox(
        center=(float(x), float(y), float(np.mean(z)) + _TRIGGER_HALF_HEIGHT_M),
        extent=(float(across), length / 2.0, _TRIGGER_HALF_HEIGHT_M),
        yaw=(yaw + 180.0 + 90.0 + 180.0) % 360.0 - 180.0,
    )


def _speed_kmh(record: SignalRecord) -> float:
    # CARLA reads 274's value as km/h whatever its unit says (its towns tag 30/60/90 "mph")
    return record.value * (3.6 if record.unit == "m/s" else 1.0)


def _mean_yaw(yaws: list[float]) -> float:
    x = sum(math.cos(math.radians(a)) for a in yaws)
    y = sum(math.sin(math.radians(a)) for a in yaws)
    return math.degrees(math.atan2(y, x))


def _turned(a: float, b: float) -> float:
    return abs((a - b + 180.0) % 360.0 - 180.0)
