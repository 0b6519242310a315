# SPDX-License-Identifier: Apache-2.0
"""Where the poles of lights and signs stand: beside the road, never on a lane."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flad_sim.opendrive import RoadNetwork
from flad_sim.opendrive.sections import is_driving
from flad_sim.types import FloatArray, Transform

_BESIDE_KERB_M = 0.7
_CLEARANCE_M = 0.45  # from every driving lane, also in the client's eyes
_LOOK_M = 45.0  # no junction is wider
_ASIDE_M = 9.0  # a far pole stands at most so much further aside than usual,
_BACK_M = 9.0  # and so far behind the junction's asphalt
_FACED = 0.16  # of its distance, aside: within the field of a zoom camera (21.6 degrees)


@dataclass(frozen=True, slots=True)
class Foot:
    """A pole in OpenDRIVE's terms."""

    road_id: int
    s: float
    t: float
    h_offset_rad: float  # turns the road's tangent into the direction of the ruled traffic
    lanes: tuple[int, int] | None = None  # ruled lanes of the same road, if any


def near_pole(network: RoadNetwork, road_id: int, s: float, lanes: tuple[int, int]) -> Foot:
    """Right of the outermost lane of the road that it rules."""
    road = network.roads[road_id]
    s = min(max(s, 0.0), road.record.length)
    edge = float(road.edge_t(road.section_index(s), lanes[0], np.array([s]))[0])
    return Foot(road_id, s, edge - _BESIDE_KERB_M, 0.0, lanes)


def far_pole(network: RoadNetwork, road_id: int, lanes: tuple[int, int], junction_id: int) -> Foot:
    """Beyond the junction, right of the line of the outermost lane.

    Where a bent street or a side street lies there, the nearest place to it from which a car at
    the stop line is still faced: further right or back, then left. Without any, the near side.
    """
    road = network.roads[road_id].record
    stop = network.lane_center(road_id, lanes[0], road.length)
    half = network.roads[road_id].lane_width(len(road.sections) - 1, lanes[0], road.length) / 2.0
    end = _far_end(network, stop, junction_id)
    right = half + _BESIDE_KERB_M
    for laterals, beyond_m in (
        (np.arange(right, half + 4.0, 0.25), 4.0),
        (np.arange(right, right - _ASIDE_M, -0.5), _BACK_M),
        (np.arange(right, right + _ASIDE_M, 0.5), _BACK_M),
    ):
        for lateral in laterals:
            for ahead in np.arange(end + 0.75, end + beyond_m, 0.5):
                if abs(lateral) > _FACED * ahead:
                    continue
                point = stop.to_world(np.array([[ahead, lateral, 0.0]]))[0, :2]
                if _near_lane(network, point):
                    continue
                foot = _foot_at(network, point, junction_id, stop.yaw)
                if foot is not None:
                    return foot
    near = near_pole(network, road_id, road.length - 0.5, lanes)
    return Foot(near.road_id, near.s, near.t, 0.0, (0, 0))


def _far_end(network: RoadNetwork, stop: Transform, junction_id: int) -> float:
    """How far straight ahead of the stop line the junction's asphalt reaches, metres."""
    ahead = np.arange(0.5, _LOOK_M, 0.25)
    line = stop.to_world(np.column_stack([ahead, 0.0 * ahead, 0.0 * ahead]))[:, :2]
    strips = network.under(line, np.full(len(ahead), stop.z)).strip
    inside = [
        i >= 0
        and network.lanes[i].junction_id == junction_id
        and is_driving(network.lanes[i].lane_type)
        for i in strips
    ]
    return float(ahead[np.flatnonzero(inside)[-1]]) if any(inside) else 0.0


def _near_lane(network: RoadNetwork, point: FloatArray) -> bool:
    angles = np.arange(0.0, 2.0 * math.pi, math.pi / 4.0)
    ring = point + _CLEARANCE_M * np.column_stack([np.cos(angles), np.sin(angles)])
    strips = network.under(np.vstack([point, ring])).strip
    return any(i >= 0 and is_driving(network.lanes[i].lane_type) for i in strips)


def _foot_at(
    network: RoadNetwork, point: FloatArray, junction_id: int, travel_yaw_deg: float
) -> Foot | None:
    """The road beside which ``point`` lies, of those that touch the junction."""
    best: Foot | None = None
    for road_id, road in network.roads.items():
        record = road.record
        links = [record.predecessor, record.successor]
        touches = record.junction_id == junction_id or any(
            k is not None and k.element == "junction" and k.element_id == junction_id for k in links
        )
        if not touches:
            continue
        s = np.linspace(0.0, record.length, max(2, int(record.length / 0.05)))
        line = road.points(s, np.zeros_like(s))[:, :2]
        i = int(np.argmin(np.linalg.norm(line - point, axis=1)))
        if i in (0, len(s) - 1):
            continue
        yaw = road.heading_deg(float(s[i]))
        here = Transform(float(line[i, 0]), float(line[i, 1]), yaw=yaw)
        local = here.to_local(np.array([[*point, 0.0]]))[0]
        if abs(local[0]) > 0.05 or (best is not None and abs(local[1]) >= abs(best.t)):
            continue
        # t is positive to the left, CARLA's local y to the right; headings mirror likewise
        best = Foot(
            road_id, float(s[i]), -float(local[1]), math.radians(yaw - travel_yaw_deg), (0, 0)
        )
    return best
