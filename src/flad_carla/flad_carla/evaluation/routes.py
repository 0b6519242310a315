# SPDX-License-Identifier: Apache-2.0
"""Route files of leaderboard 1.0 and 2.0, read into one shape.

Positions are in CARLA's frame (metres, degrees). The planner that turns them into lanes is
``flad_carla.route_planner``.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Position = tuple[float, float, float]

# A route without weather: leaderboard 1.0's default.
DEFAULT_WEATHER: Mapping[str, float] = {"cloudiness": 30.0, "sun_altitude_angle": 70.0}
_WEATHER_KEYS = frozenset(
    {
        "cloudiness",
        "precipitation",
        "precipitation_deposits",
        "wind_intensity",
        "sun_azimuth_angle",
        "sun_altitude_angle",
        "fog_density",
        "fog_distance",
        "fog_falloff",
        "wetness",
        "scattering_intensity",
        "mie_scattering_scale",
        "rayleigh_scattering_scale",
        "dust_storm",
    }
)


class RouteFileError(ValueError):
    """A route file that cannot be used; the text says which file, where and what is allowed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeatherPoint:
    """Weather at one percentage of the route; in between it is interpolated."""

    route_percentage: float
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenarioConfig:
    """One scenario of a route: its type, where it starts, and its own parameters."""

    name: str
    kind: str
    trigger: Position
    trigger_yaw: float = 0.0
    parameters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def number(self, name: str, default: float) -> float:
        """The parameter ``name`` as a number."""
        text = self.parameters.get(name, {}).get("value")
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise RouteFileError(f"scenario {self.name}: {name}={text!r} is not a number")
        return value

    def text(self, name: str, default: str) -> str:
        """The parameter ``name`` as text."""
        return self.parameters.get(name, {}).get("value", default)


@dataclass(frozen=True, kw_only=True, slots=True)
class RouteConfig:
    """One route as the file has it."""

    route_id: str
    town: str
    positions: tuple[Position, ...]
    weathers: tuple[WeatherPoint, ...] = ()
    scenarios: tuple[ScenarioConfig, ...] = ()

    @property
    def digest(self) -> str:
        """8 hexadecimal digits of where it leads and what happens there, whatever the weather.

        Two files may both have a route 1; this tells them apart, wherever the files lie.
        """
        text = repr((self.town, self.positions, self.scenarios))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def weather_at(self, percentage: float) -> dict[str, float]:
        """Weather at ``percentage`` of the route, linear between the points given."""
        points = self.weathers
        if not points:
            return dict(DEFAULT_WEATHER)
        if percentage <= points[0].route_percentage:
            return dict(points[0].values)
        for a, b in itertools.pairwise(points):
            if percentage <= b.route_percentage:
                span = max(b.route_percentage - a.route_percentage, 1e-9)
                t = (percentage - a.route_percentage) / span
                keys = a.values.keys() | b.values.keys()
                return {k: (1 - t) * a.values.get(k, 0.0) + t * b.values.get(k, 0.0) for k in keys}
        return dict(points[-1].values)


def read_routes(path: Path, only: Sequence[str] = ()) -> list[RouteConfig]:
    """The routes of ``path``, in the file's order; ``only`` keeps these ids.

    Raises:
        RouteFileError: if the file is missing, is no XML, or a route in it cannot be used.
    """
    try:
        root = ET.parse(path).getroot()
    except FileNotFoundError:
        raise RouteFileError(f"there is no route file {path}; give --routes FILE.xml") from None
    except (OSError, ET.ParseError) as error:
        raise RouteFileError(f"{path} cannot be read as XML: {error}") from None
    routes = [_read_route(path, element) for element in root.iter("route")]
    if not routes:
        raise RouteFileError(f"{path} has no <route> element; it must be <routes><route ...>")
    ids = [route.route_id for route in routes]
    if doubled := sorted({i for i in ids if ids.count(i) > 1}):
        raise RouteFileError(f"{path} has more than one route with id {', '.join(doubled)}")
    if missing := sorted(set(only) - set(ids)):
        raise RouteFileError(f"{path} has no route {', '.join(missing)}; it has {', '.join(ids)}")
    return [route for route in routes if not only or route.route_id in only]


def _read_route(path: Path, element: ET.Element) -> RouteConfig:
    where = f"{path}, route {element.get('id', '?')}"
    for name in ("id", "town"):
        if not element.get(name):
            raise RouteFileError(f"{where}: attribute {name!r} is missing")
    positions = tuple(
        _position(where, p)
        for p in [*element.findall("waypoint"), *element.findall("waypoints/position")]
    )
    if len(positions) < 2:
        raise RouteFileError(
            f"{where}: needs at least 2 <waypoint> (leaderboard 1.0) or <waypoints><position> "
            f"(leaderboard 2.0), got {len(positions)}"
        )
    weathers = [*element.findall("weather"), *element.findall("weathers/weather")]
    return RouteConfig(
        route_id=element.attrib["id"],
        town=element.attrib["town"],
        positions=positions,
        weathers=tuple(
            sorted((_weather(where, w) for w in weathers), key=lambda w: w.route_percentage)
        ),
        scenarios=tuple(_scenarios(where, element)),
    )


def _scenarios(where: str, element: ET.Element) -> Iterator[ScenarioConfig]:
    for child in element.findall("scenarios/scenario"):
        name, kind = child.get("name", ""), child.get("type", "")
        trigger = child.find("trigger_point")
        if not kind or trigger is None:
            raise RouteFileError(f"{where}: scenario {name!r} needs a type and a <trigger_point>")
        yield ScenarioConfig(
            name=name or kind,
            kind=kind,
            trigger=_position(f"{where}, scenario {name}", trigger),
            trigger_yaw=_number(where, trigger, "yaw", 0.0),
            parameters={p.tag: dict(p.attrib) for p in child if p.tag != "trigger_point"},
        )


def _weather(where: str, element: ET.Element) -> WeatherPoint:
    values = dict.fromkeys(_WEATHER_KEYS & element.attrib.keys(), 0.0)
    return WeatherPoint(
        route_percentage=_number(where, element, "route_percentage", 0.0),
        values=dict(DEFAULT_WEATHER) | {k: _number(where, element, k, 0.0) for k in values},
    )


def _position(where: str, element: ET.Element) -> Position:
    x, y, z = (_number(where, element, axis, math.nan) for axis in "xyz")
    if math.isnan(x) or math.isnan(y):
        raise RouteFileError(f"{where}: <{element.tag}> needs x and y, got {element.attrib}")
    return (x, y, 0.0 if math.isnan(z) else z)


def _number(where: str, element: ET.Element, name: str, default: float) -> float:
    text = element.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise RouteFileError(f"{where}: {name}={text!r} in <{element.tag}> is not a finite number")
    return value
