# SPDX-License-Identifier: Apache-2.0
"""Outside route lanes: how much of the route was driven off the lanes or the wrong way.

It is about the lane's direction, not about the planned lane: a parallel lane costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from flad_carla.evaluation.criteria.base import Criterion, LaneMap, Situation, event
from flad_carla.evaluation.road import LanePoint
from flad_carla.evaluation.statistics import Event
from flad_carla.route_planner import RoutePoint

_WINDOW = 3
_LEAVING_JUNCTION_DEG = 120.0
_TURNED_DEG = 150.0


class OutsideLanes(Criterion):
    """Books one event, at the end, with the percentage of the travelled route."""

    def __init__(self, route: Sequence[RoutePoint], lanes: LaneMap, slack_m: float) -> None:
        self._route = route
        self._lanes = lanes
        self._slack_m = slack_m
        self._index = 0
        self._before: LanePoint | None = None
        self._wrong_way = False
        self._outside = False
        self._wrong_m = 0.0
        self._travelled_m = 0.0

    @property
    def is_active(self) -> bool:
        """Whether the ego is off the lanes or on a wrong-way lane now."""
        return self._wrong_way or self._outside

    def step(self, now: Situation) -> list[Event]:
        """Look at one tick."""
        at = now.ego.pose
        lane = self._lanes.lane_at(at.x, at.y, at.z)
        if lane is not None:
            self._outside = self._is_outside(now, lane)
            self._wrong_way = self._is_wrong_way(now, lane)
            self._before = lane
        for i in range(self._index + 1, min(self._index + _WINDOW + 1, len(self._route))):
            point = self._route[i]
            yaw = math.radians(point.yaw)
            if (at.x - point.x) * math.cos(yaw) + (at.y - point.y) * math.sin(yaw) > 0.0:
                passed_m = point.distance - self._route[self._index].distance
                self._travelled_m += passed_m
                self._wrong_m += passed_m if self.is_active else 0.0
                self._index = i
        return []

    def finish(self, now: Situation) -> list[Event]:
        """Book what is known only at the end."""
        if self._wrong_m <= 0.0:
            return []
        percentage = 100.0 * self._wrong_m / self._travelled_m
        message = (
            f"Agent went outside its route lanes for about {round(self._wrong_m, 3)} meters "
            f"({round(percentage, 2)}% of the completed route)"
        )
        return [
            event(
                now,
                "outside_route_lanes",
                message,
                percentage=percentage,
                outside_m=self._wrong_m,
            )
        ]

    def _is_outside(self, now: Situation, lane: LanePoint) -> bool:
        at = now.ego.pose
        distance, width = math.hypot(at.x - lane.x, at.y - lane.y), lane.width
        if distance <= width / 2.0:
            return False  # no parking lane can be nearer in a way that matters
        parking = self._lanes.parking_at(at.x, at.y, at.z)
        if parking is not None:
            beside = math.hypot(at.x - parking.x, at.y - parking.y)
            if beside < distance:
                distance, width = beside, parking.width
        return distance > width / 2.0 + self._slack_m

    def _is_wrong_way(self, now: Situation, lane: LanePoint) -> bool:
        before = self._before
        if lane.is_junction:
            return False
        if before is None or lane.same_lane(before):
            return self._wrong_way
        if before.is_junction:
            return _angle(lane.yaw, now.ego.pose.yaw) >= _LEAVING_JUNCTION_DEG
        if _angle(before.yaw, lane.yaw) >= _TURNED_DEG:
            return not self._wrong_way
        return False


def _angle(a_deg: float, b_deg: float) -> float:
    return abs((a_deg - b_deg + 180.0) % 360.0 - 180.0)
