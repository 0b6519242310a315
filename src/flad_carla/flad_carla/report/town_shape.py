# SPDX-License-Identifier: Apache-2.0
"""Lane shapes of a town from the ``carla`` client's own map, so that any server will do."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import carla

from flad_carla.run_log import LaneShape

_SPACING_M = 2.0
_STEP_M = 0.5


def lanes_from_map(town_map: carla.Map) -> tuple[LaneShape, ...]:
    """Sample every driving lane and what lies beside it (pavements, shoulders) every 2 m.

    About a second for CARLA's Town01; make it once per town.
    """
    samples: dict[tuple[int, int, int], dict[float, Any]] = defaultdict(dict)
    for driving in town_map.generate_waypoints(_SPACING_M):
        for waypoint in (
            driving,
            *_outward(driving, "get_right_lane"),
            *_outward(driving, "get_left_lane"),
        ):
            key = (waypoint.road_id, waypoint.section_id, waypoint.lane_id)
            samples[key].setdefault(round(waypoint.s, 2), waypoint)
    shapes = []
    for key in sorted(samples):
        waypoints = [samples[key][s] for s in sorted(samples[key])]
        waypoints += _last_point(waypoints[-1])
        edges = [_edges(waypoint) for waypoint in waypoints]
        shapes.append(
            LaneShape(
                left=tuple(left for left, _ in edges),
                right=tuple(right for _, right in edges),
                kind=str(waypoints[0].lane_type).lower(),
                is_junction=bool(waypoints[0].is_junction),
            )
        )
    return tuple(shapes)


def _outward(waypoint: Any, step: str) -> list[Any]:
    found: list[Any] = []
    while (waypoint := getattr(waypoint, step)()) is not None and len(found) < 8:
        found.append(waypoint)
    return found


def _last_point(waypoint: Any) -> list[Any]:
    """The sample spacing leaves a gap at the end of a lane: the furthest point in it, by 0.5 m."""
    key = (waypoint.road_id, waypoint.section_id, waypoint.lane_id)
    for steps in range(round(_SPACING_M / _STEP_M), 0, -1):
        distance = steps * _STEP_M
        further = waypoint.next(distance) if key[2] < 0 else waypoint.previous(distance)
        for found in further:
            if (found.road_id, found.section_id, found.lane_id) == key and found.s > waypoint.s:
                return [found]
    return []


def _edges(waypoint: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    location, right = waypoint.transform.location, waypoint.transform.get_right_vector()
    half = waypoint.lane_width / 2.0
    return (
        (location.x - half * right.x, location.y - half * right.y),
        (location.x + half * right.x, location.y + half * right.y),
    )
