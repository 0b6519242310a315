# SPDX-License-Identifier: Apache-2.0
"""Draws routes on a town and writes them as a leaderboard 2.0 route file.

    python -m flad_carla.evaluation.make_routes --xodr Grid.xodr --count 4 --seed 1 > grid.xml

The files in ``config/routes`` were made with it.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import carla

from flad_carla.route_planner import RoadOption, RouteError, RoutePlanner, RoutePoint

_TURNS = (RoadOption.LEFT, RoadOption.RIGHT)
_WEATHERS = (  # cloudiness, precipitation, wetness, sun altitude, sun azimuth
    (10, 0, 0, 60, 40),
    (80, 0, 0, 45, 200),
    (30, 0, 0, 12, 280),
    (70, 40, 60, 40, 120),
)


def draw_routes(
    town_map: carla.Map,
    *,
    count: int,
    seed: int,
    length_m: tuple[float, float],
    num_turns: int,
    max_changes: int,
) -> list[list[RoutePoint]]:
    """Routes between drawn lane points, within ``length_m``, with at least ``num_turns`` turns.

    Raises:
        RouteError: if too few are found in 4000 tries.
    """
    planner = RoutePlanner(town_map)
    rng = random.Random(seed)
    places = [w for w in town_map.generate_waypoints(12.0) if _is_place(w)]
    places.sort(key=lambda w: (w.road_id, w.lane_id, w.s))
    routes: list[list[RoutePoint]] = []
    for _ in range(4000):
        if len(routes) == count:
            return routes
        start, end = rng.sample(places, 2)
        try:
            route = planner.trace([start.transform.location, end.transform.location])
        except RouteError:
            continue
        turns, changes = _count(route, _TURNS), _count(route, tuple(RoadOption)[-2:])
        fits = length_m[0] <= route[-1].distance <= length_m[1]
        if fits and turns >= num_turns and changes <= max_changes:
            routes.append(route)
    raise RouteError(
        f"only {len(routes)} of {count} routes of {length_m[0]:.0f} to {length_m[1]:.0f} m with "
        f"{num_turns} turns were found in {town_map.name}"
    )


def to_xml(town: str, routes: Sequence[Sequence[RoutePoint]], first_id: int = 0) -> str:
    """The route file."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<routes>"]
    for i, route in enumerate(routes):
        turns = [o.name.lower() for o in _sequence(route) if o != RoadOption.LANE_FOLLOW]
        lines += [
            f"  <!-- {route[-1].distance:.0f} m: {', '.join(turns) or 'straight on'} -->",
            f'  <route id="{first_id + i}" town="{town}">',
            f"    <weathers>{_weather(i)}</weathers>",
            "    <waypoints>",
            *(
                f'      <position x="{p.x:.1f}" y="{p.y:.1f}" z="{p.z:.1f}"/>'
                for p in (route[0], route[-1])
            ),
            "    </waypoints>",
            "  </route>",
        ]
    return "\n".join([*lines, "</routes>", ""])


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="make_routes", description=__doc__)
    parser.add_argument("--xodr", type=Path, required=True, help="OpenDRIVE file of the town")
    parser.add_argument("--town", help="its name (default: the file's)")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--min-m", type=float, default=200.0)
    parser.add_argument("--max-m", type=float, default=700.0)
    parser.add_argument("--turns", type=int, default=1, help="at least so many")
    parser.add_argument("--changes", type=int, default=1, help="lane changes, at most")
    args = parser.parse_args(argv)
    town = args.town or args.xodr.stem
    try:
        routes = draw_routes(
            carla.Map(town, args.xodr.read_text()),
            count=args.count,
            seed=args.seed,
            length_m=(args.min_m, args.max_m),
            num_turns=args.turns,
            max_changes=args.changes,
        )
    except (OSError, RouteError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sys.stdout.write(to_xml(town, routes))
    return 0


def _weather(index: int) -> str:
    clouds, rain, wet, altitude, azimuth = _WEATHERS[index % len(_WEATHERS)]
    text = f'<weather route_percentage="0" cloudiness="{clouds}"'
    if rain:
        text += f' precipitation="{rain}" precipitation_deposits="{rain}" wetness="{wet}"'
    return f'{text} sun_altitude_angle="{altitude}" sun_azimuth_angle="{azimuth}"/>'


def _is_place(waypoint: carla.Waypoint) -> bool:
    """Away from junctions: a route neither starts in nor right before one."""
    if waypoint.is_junction or waypoint.lane_width < 2.5:
        return False
    around = [*waypoint.next(15.0), *waypoint.previous(8.0)]
    return len(around) == 2 and not any(w.is_junction for w in around)


def _sequence(route: Sequence[RoutePoint]) -> list[RoadOption]:
    options = [p.option for p in route]
    return [o for i, o in enumerate(options) if i == 0 or o != options[i - 1]]


def _count(route: Sequence[RoutePoint], wanted: Sequence[RoadOption]) -> int:
    return sum(o in wanted for o in _sequence(route))


if __name__ == "__main__":
    sys.exit(main())
