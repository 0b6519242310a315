# SPDX-License-Identifier: Apache-2.0
"""What criteria, expert and scenarios ask of a ``carla.Map``, as plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import carla

from flad_carla.run_log import BoxView

_WALK_STEP_M = 0.5
_MAX_WALK_M = 60.0


@dataclass(frozen=True, slots=True)
class LanePoint:
    """A point on the centre of a lane (metres, degrees, CARLA's frame)."""

    road: int
    section: int
    lane: int
    x: float
    y: float
    z: float
    yaw: float
    width: float
    is_junction: bool

    def same_lane(self, other: LanePoint) -> bool:
        """Whether both lie on one lane of one road."""
        return self.road == other.road and self.lane == other.lane


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A driving lane beside another."""

    point: LanePoint
    d: float  # sideways distance of its centre, right positive
    is_opposite: bool


class Road:
    """Lane queries on a ``carla.Map``."""

    def __init__(self, town_map: carla.Map) -> None:
        self._map = town_map

    def lane_at(self, x: float, y: float, z: float = 0.0) -> LanePoint | None:
        """The nearest driving lane's centre."""
        return _point(self._map.get_waypoint(carla.Location(x, y, z)))

    def parking_at(self, x: float, y: float, z: float = 0.0) -> LanePoint | None:
        """The nearest parking lane's centre, where the map has one."""
        location = carla.Location(x, y, z)
        return _point(self._map.get_waypoint(location, lane_type=carla.LaneType.Parking))

    def beside(self, here: LanePoint, sign: int) -> Neighbour | None:
        """The driving lane to the left (-1) or right (1) of ``here``, either direction.

        Found by place and not by lane id: many maps, netconvert's among them, make each direction
        of a street a road of its own.
        """
        yaw = math.radians(here.yaw)
        reach = sign * here.width
        x, y = here.x - reach * math.sin(yaw), here.y + reach * math.cos(yaw)
        other = self.lane_at(x, y, here.z)
        if other is None or (other.same_lane(here) and other.section == here.section):
            return None
        d = -(other.x - here.x) * math.sin(yaw) + (other.y - here.y) * math.cos(yaw)
        along = (other.x - here.x) * math.cos(yaw) + (other.y - here.y) * math.sin(yaw)
        facing = math.cos(math.radians(other.yaw - here.yaw))
        expected = 0.5 * (here.width + other.width)
        if abs(along) > 1.5 or abs(facing) < 0.9 or abs(sign * d - expected) > 0.8:
            return None
        return Neighbour(other, d, facing < 0.0)

    def stop_lines(self, trigger: BoxView) -> tuple[LanePoint, ...]:
        """Where the lanes under a traffic light's trigger volume reach their junction.

        As CARLA's red light test does it: 90 % of the box across the lanes in steps of 1 m, each
        lane then walked to the last point before the junction.
        """
        lines: list[LanePoint] = []
        for x, y in _across(trigger, self.lane_at(*trigger.center)):
            waypoint = self._map.get_waypoint(carla.Location(x, y, trigger.center[2]))
            if waypoint is None:
                continue
            if waypoint.is_junction and abs(waypoint.transform.location.x - x) > 4.0:
                continue
            end = _point(_walk_to_junction(waypoint))
            if end is not None and not any(end.same_lane(other) for other in lines):
                lines.append(end)
        return tuple(lines)

    def ahead(self, x: float, y: float, z: float, step_m: float, count: int) -> list[LanePoint]:
        """The lane point at ``(x, y)`` and ``count`` more, ``step_m`` apart along the lane."""
        waypoint = self._map.get_waypoint(carla.Location(x, y, z))
        points: list[LanePoint] = []
        for _ in range(count + 1):
            point = _point(waypoint)
            if point is None:
                break
            points.append(point)
            following = waypoint.next(step_m)
            waypoint = following[0] if following else None
        return points


def _across(trigger: BoxView, lane: LanePoint | None) -> Sequence[tuple[float, float]]:
    """Points on the box's axis that lies across the lane (its x axis in CARLA's own towns)."""
    axis, extent = trigger.yaw, trigger.extent[0]
    if lane is not None and abs(math.cos(math.radians(lane.yaw - trigger.yaw))) > 0.707:
        axis, extent = trigger.yaw + 90.0, trigger.extent[1]
    c, s = math.cos(math.radians(axis)), math.sin(math.radians(axis))
    reach = 0.9 * extent
    count = max(1, math.ceil(2 * reach))
    offsets = [-reach + min(i * 1.0, 2 * reach) for i in range(count)] if reach > 0.5 else [0.0]
    return [(trigger.center[0] + c * o, trigger.center[1] + s * o) for o in offsets]


def _walk_to_junction(waypoint: carla.Waypoint) -> carla.Waypoint:
    walked = 0.0
    while not waypoint.is_junction and walked < _MAX_WALK_M:
        following = waypoint.next(_WALK_STEP_M)
        if not following or following[0].is_junction:
            break
        waypoint = following[0]
        walked += _WALK_STEP_M
    return waypoint


def _point(waypoint: carla.Waypoint | None) -> LanePoint | None:
    if waypoint is None:
        return None
    pose = waypoint.transform
    at = pose.location
    return LanePoint(
        waypoint.road_id,
        waypoint.section_id,
        waypoint.lane_id,
        at.x,
        at.y,
        at.z,
        pose.rotation.yaw,
        waypoint.lane_width,
        waypoint.is_junction,
    )
