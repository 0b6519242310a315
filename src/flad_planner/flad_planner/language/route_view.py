# SPDX-License-Identifier: Apache-2.0
"""What the navigator sees of a route: its manoeuvres, from one rule for driving and recordings.

A route is a list of points about a metre apart, each with CARLA's command; a run of one command
other than "follow" is a manoeuvre. What a map knows besides (junction shapes, lights) comes as
:class:`PlaceFacts`; a recording without its map gives what it has.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from itertools import groupby, pairwise

Point = tuple[float, float]

SIGHT_M = 80.0  # manoeuvres farther away are not in a view
_TARGET_M = 30.0  # how far ahead the point of GO_TO_POINT is looked for
_BEND_M = 50.0


class RoadCommand(IntEnum):
    """What to do at a route point, with CARLA's numbers (its RoadOption)."""

    VOID = -1
    LEFT = 1
    RIGHT = 2
    STRAIGHT = 3
    LANE_FOLLOW = 4
    CHANGE_LANE_LEFT = 5
    CHANGE_LANE_RIGHT = 6


LANE_CHANGES = (RoadCommand.CHANGE_LANE_LEFT, RoadCommand.CHANGE_LANE_RIGHT)


class Place(Enum):
    """The shape of the place where a manoeuvre happens."""

    UNKNOWN = "unknown"
    CROSSING = "crossing"
    T_JUNCTION = "T-junction"
    ROUNDABOUT = "roundabout"
    HIGHWAY_ENTRY = "highway entry"
    HIGHWAY_EXIT = "highway exit"


class Request(Enum):
    """What is asked of the speed, over the route's head: by an operator, or seen in hindsight."""

    DRIVE = "drive"
    SLOW_DOWN = "slow down"
    STOP = "stop"


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaceFacts:
    """What is known of one manoeuvre's place besides its command."""

    place: Place = Place.UNKNOWN
    has_light: bool = False
    exit_number: int | None = None  # of a roundabout, from 1
    exits: frozenset[RoadCommand] | None = None  # ways that leave here at all; None: not known


NO_FACTS = PlaceFacts()


@dataclass(frozen=True, kw_only=True, slots=True)
class Manoeuvre:
    """One turn, crossing or lane change; metres along the route from its start."""

    start_m: float
    end_m: float
    command: RoadCommand
    facts: PlaceFacts = NO_FACTS


@dataclass(frozen=True, kw_only=True, slots=True)
class RouteView:
    """The route ahead at one moment.

    ``None`` means "not known": nothing is then said, or called impossible, on its account.

    Raises:
        ValueError: if distance or speed is not finite.
    """

    along_m: float  # driven along the route
    remaining_m: float
    speed_mps: float
    manoeuvres: tuple[Manoeuvre, ...] = ()  # unfinished, by distance, up to SIGHT_M
    route_id: int = 0  # another number is another route
    bend_deg: float = 0.0  # how far the road swings in the next 50 m, or up to the manoeuvre
    target: Point | None = None  # a route point some 30 m ahead: metres forward, metres left
    has_route: bool = True  # False: no destination, any way will do
    on_highway: bool = False
    request: Request = Request.DRIVE
    is_braking: bool = False
    has_left_lane: bool | None = None  # a lane to change to
    has_right_lane: bool | None = None
    has_roundabout: bool | None = None  # anywhere near
    has_highway: bool | None = None

    def __post_init__(self) -> None:
        for name in ("along_m", "remaining_m", "speed_mps"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} of a route view is {getattr(self, name)}, not a number")


@dataclass(frozen=True, slots=True)
class OutlinePoint:
    """One route point in any metric plane whose y axis points right of x (CARLA's, GPS)."""

    x_m: float
    y_m: float
    command: int


class RouteOutline:
    """A route prepared for views: distances, manoeuvres, headings. Made once per route.

    >>> points = [OutlinePoint(float(x), 0.0, 3 if 60 <= x < 80 else 4) for x in range(200)]
    >>> view = RouteOutline(points).view(along_m=10.0, speed_mps=8.0)
    >>> [(m.command.name, m.start_m, m.end_m) for m in view.manoeuvres]
    [('STRAIGHT', 60.0, 80.0)]
    """

    def __init__(
        self,
        points: Sequence[OutlinePoint],
        facts: Mapping[int, PlaceFacts] | None = None,
        route_id: int = 0,
    ) -> None:
        """Prepare a route.

        Args:
            points: at least two.
            facts: by number of the manoeuvre on this route, from 0.
            route_id: told in every view.

        Raises:
            ValueError: on fewer than two points, or facts of a manoeuvre that is not there.
        """
        if len(points) < 2:
            raise ValueError(f"a route needs at least 2 points, got {len(points)}")
        self._points = points
        self._route_id = route_id
        self.stations_m = _stations(points)
        self.manoeuvres = _manoeuvres(points, self.stations_m)
        if facts:
            self.manoeuvres = _with_facts(self.manoeuvres, facts)

    @property
    def length_m(self) -> float:
        """Length of the route."""
        return self.stations_m[-1]

    def view(self, along_m: float, speed_mps: float) -> RouteView:
        """What lies ahead at a distance along the route; map facts about lanes are not in it."""
        ahead = tuple(
            m for m in self.manoeuvres if m.end_m > along_m and m.start_m - along_m <= SIGHT_M
        )
        until = min(along_m + _BEND_M, ahead[0].start_m if ahead else math.inf)
        return RouteView(
            along_m=along_m,
            remaining_m=max(0.0, self.length_m - along_m),
            speed_mps=speed_mps,
            manoeuvres=ahead,
            route_id=self._route_id,
            bend_deg=self._bend_deg(along_m, until),
            target=self._target(along_m),
        )

    def index_at(self, along_m: float) -> int:
        """The point nearest to a distance along the route."""
        after = min(bisect_left(self.stations_m, along_m), len(self.stations_m) - 1)
        before = max(0, after - 1)
        return min((before, after), key=lambda i: abs(self.stations_m[i] - along_m))

    def _bend_deg(self, start_m: float, end_m: float) -> float:
        """The widest deviation of the heading between two distances from that at the first."""
        first = self.index_at(start_m)
        last = self.index_at(min(end_m, self.length_m))
        headings = [self._heading_deg(i) for i in range(first, max(first, last) + 1, 3)]
        return max((_wrap(h - headings[0]) for h in headings), key=abs)

    def _target(self, along_m: float) -> Point | None:
        if self.length_m - along_m < _TARGET_M:
            return None
        here, there = self.index_at(along_m), self.index_at(along_m + _TARGET_M)
        heading = math.radians(self._heading_deg(here))
        dx = self._points[there].x_m - self._points[here].x_m
        dy = self._points[there].y_m - self._points[here].y_m
        c, s = math.cos(heading), math.sin(heading)
        return (c * dx + s * dy, s * dx - c * dy)

    def _heading_deg(self, i: int) -> float:
        a = self._points[max(0, min(i, len(self._points) - 2))]
        b = self._points[max(1, min(i + 1, len(self._points) - 1))]
        return math.degrees(math.atan2(b.y_m - a.y_m, b.x_m - a.x_m))


def _stations(points: Sequence[OutlinePoint]) -> tuple[float, ...]:
    along = [0.0]
    for a, b in pairwise(points):
        along.append(along[-1] + math.hypot(b.x_m - a.x_m, b.y_m - a.y_m))
    return tuple(along)


def _manoeuvres(
    points: Sequence[OutlinePoint], stations_m: Sequence[float]
) -> tuple[Manoeuvre, ...]:
    found = []
    at = 0
    for command, run in groupby(p.command for p in points):
        first, at = at, at + len(list(run))
        if command in (RoadCommand.LANE_FOLLOW, RoadCommand.VOID):
            continue
        end = stations_m[min(at, len(points) - 1)]
        found.append(Manoeuvre(start_m=stations_m[first], end_m=end, command=RoadCommand(command)))
    return tuple(found)


def _with_facts(
    manoeuvres: tuple[Manoeuvre, ...], facts: Mapping[int, PlaceFacts]
) -> tuple[Manoeuvre, ...]:
    if beyond := sorted(i for i in facts if not 0 <= i < len(manoeuvres)):
        raise ValueError(f"facts of manoeuvres {beyond}, the route has {len(manoeuvres)}")
    return tuple(replace(m, facts=facts.get(i, NO_FACTS)) for i, m in enumerate(manoeuvres))


def _wrap(degrees: float) -> float:
    return (degrees + 180.0) % 360.0 - 180.0
