# SPDX-License-Identifier: Apache-2.0
"""What the navigator is told of a planned route: junction shapes, lights, lanes from the map.

:mod:`flad_planner.language` decides what is said; :mod:`flad_carla.route_planner` knows the lanes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from flad_carla.evaluation.road import LanePoint
from flad_carla.route_planner import RoutePlanner, RoutePoint
from flad_planner.language.route_view import (
    LANE_CHANGES,
    Manoeuvre,
    OutlinePoint,
    Place,
    PlaceFacts,
    Request,
    RoadCommand,
    RouteOutline,
    RouteView,
)

_LIGHT_BEFORE_M = 15.0  # a stop line this close before a junction is the junction's
_LINE_BESIDE_M = 2.0
_FACING_DEG = 45.0
_SHAPES = {3: Place.T_JUNCTION, 4: Place.CROSSING}


@dataclass(frozen=True, kw_only=True, slots=True)
class TownFacts:
    """What holds for a whole town; ``None`` is "not known"."""

    has_roundabout: bool | None = None
    has_highway: bool | None = None


class RouteViewer:
    """Makes the navigator's views of one planned route."""

    def __init__(
        self,
        planner: RoutePlanner,
        route: Sequence[RoutePoint],
        stop_lines: Iterable[LanePoint] = (),
        town: TownFacts | None = None,
        route_id: int = 0,
    ) -> None:
        """Look at a route once.

        Args:
            planner: the one that planned it.
            route: at least two points.
            stop_lines: of all traffic lights; those on the route are found here.
            town: what is known of the town.
            route_id: told in every view.
        """
        self._planner = planner
        self._route = route
        self._town = town or TownFacts()
        points = outline_points(route)
        manoeuvres = RouteOutline(points).manoeuvres
        facts = place_facts(planner, route, manoeuvres, list(stop_lines))
        self.outline = RouteOutline(points, facts, route_id)

    def view(
        self,
        along_m: float,
        speed_mps: float,
        *,
        request: Request = Request.DRIVE,
        is_braking: bool = False,
    ) -> RouteView:
        """What lies ahead at ``along_m``, measured along the points as RoutePath's ``s`` is."""
        lane = self._route[self.outline.index_at(along_m)].lane
        changes = self._planner.lane_changes(lane)
        return replace(
            self.outline.view(along_m, speed_mps),
            request=request,
            is_braking=is_braking,
            has_left_lane=int(RoadCommand.CHANGE_LANE_LEFT) in changes,
            has_right_lane=int(RoadCommand.CHANGE_LANE_RIGHT) in changes,
            has_roundabout=self._town.has_roundabout,
            has_highway=self._town.has_highway,
        )


def outline_points(route: Sequence[RoutePoint]) -> list[OutlinePoint]:
    """A planned route as the navigator takes it."""
    return [OutlinePoint(p.x, p.y, int(p.option)) for p in route]


def place_facts(
    planner: RoutePlanner,
    route: Sequence[RoutePoint],
    manoeuvres: Sequence[Manoeuvre],
    stop_lines: Sequence[LanePoint],
) -> Mapping[int, PlaceFacts]:
    """What the map knows of each manoeuvre's place, by its number.

    Roundabouts and highway ramps are not recognised: OpenDRIVE does not name them. They stay
    :attr:`Place.UNKNOWN`, or whatever their number of arms makes of them.
    """
    lit_m = [along for line in stop_lines if (along := _station(route, line)) is not None]
    facts = {}
    for number, manoeuvre in enumerate(manoeuvres):
        if manoeuvre.command in LANE_CHANGES:
            continue
        inside = next(p for p in route if p.distance >= manoeuvre.start_m - 0.5)
        before = [p for p in route if p.distance < inside.distance and p.junction < 0]
        facts[number] = PlaceFacts(
            place=_SHAPES.get(planner.num_arms(inside.junction), Place.UNKNOWN),
            has_light=any(-2.0 <= manoeuvre.start_m - s <= _LIGHT_BEFORE_M for s in lit_m),
            exits=_exits(planner, before[-1]) if before else None,
        )
    return facts


def _exits(planner: RoutePlanner, before: RoutePoint) -> frozenset[RoadCommand]:
    return frozenset(RoadCommand(int(option)) for option in planner.exits(before.lane))


def _station(route: Sequence[RoutePoint], line: LanePoint) -> float | None:
    """Where a stop line crosses the route, None if it is another lane's."""
    nearest = min(route, key=lambda p: math.hypot(p.x - line.x, p.y - line.y))
    beside = math.hypot(nearest.x - line.x, nearest.y - line.y)
    turned = abs((nearest.yaw - line.yaw + 180.0) % 360.0 - 180.0)
    return nearest.distance if beside < _LINE_BESIDE_M and turned < _FACING_DEG else None
