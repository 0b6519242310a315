# SPDX-License-Identifier: Apache-2.0
"""Routes made of straights and turns, drives along them, and what a recorder would have written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flad_planner.language.route_view import OutlinePoint, RoadCommand, RouteOutline

FOLLOW, LEFT, RIGHT, STRAIGHT = (
    RoadCommand.LANE_FOLLOW,
    RoadCommand.LEFT,
    RoadCommand.RIGHT,
    RoadCommand.STRAIGHT,
)
_SEEN_POINTS = 50
_TURN_DEG = {LEFT: -90.0, RIGHT: 90.0}


def route_points(*parts: tuple[RoadCommand, int]) -> list[OutlinePoint]:
    """A point per metre for each part, a command and its metres; turns are quarter circles."""
    x = y = heading = 0.0
    points = []
    for command, metres in parts:
        for _ in range(metres):
            points.append(OutlinePoint(x, y, int(command)))
            heading += math.radians(_TURN_DEG.get(command, 0.0)) / metres
            x, y = x + math.cos(heading), y + math.sin(heading)
    return points


def steady_drive(
    outline: RouteOutline, *, speed_mps: float = 8.0, dt_s: float = 0.1
) -> list[tuple[float, float]]:
    """``(along_m, speed_mps)`` per step: from standstill at 2.5 m/s^2, then steady."""
    along, speed, steps = 0.0, 0.0, []
    while along < outline.length_m - 1.0:
        steps.append((along, speed))
        speed = min(speed_mps, speed + 2.5 * dt_s)
        along += speed * dt_s
    return steps


def measurements(
    points: Sequence[OutlinePoint],
    drive: Sequence[tuple[float, float]],
    light_at_m: float | None = None,
) -> list[dict[str, Any]]:
    """What LMDrive's recorder would write of a drive, as far as language is made of it."""
    outline = RouteOutline(points)
    return [_measurement(points, outline, *step, light_at_m) for step in drive]


def _measurement(
    points: Sequence[OutlinePoint],
    outline: RouteOutline,
    along_m: float,
    speed_mps: float,
    light_at_m: float | None,
) -> dict[str, Any]:
    index = min(int(along_m / outline.length_m * (len(points) - 1)), len(points) - 2)
    while outline.stations_m[index] > along_m:
        index -= 1
    a, b = points[index], points[index + 1]
    share = (along_m - outline.stations_m[index]) / math.dist((a.x_m, a.y_m), (b.x_m, b.y_m))
    north, east = a.x_m + share * (b.x_m - a.x_m), a.y_m + share * (b.y_m - a.y_m)
    is_lit = light_at_m is not None and 0.0 <= light_at_m - along_m <= 50.0
    return {
        "x": east,
        "y": -north,
        "speed": speed_mps,
        "future_waypoints": [
            [p.x_m, p.y_m, p.command] for p in points[index : index + _SEEN_POINTS]
        ],
        "affected_light_id": 7 if is_lit else -1,
        "should_brake": 0,
        "is_red_light_present": [],
        "is_pedestrian_present": [],
        "is_bike_present": [],
        "is_lane_vehicle_present": [],
    }
