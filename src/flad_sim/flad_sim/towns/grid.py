# SPDX-License-Identifier: Apache-2.0
"""Grid: 4 by 4 streets, every inner crossing signalled, two avenues with two lanes each way."""

from __future__ import annotations

from flad_sim.towns.plan import Crossing, Street, TownPlan, two_way

_X = (0.0, 150.0, 320.0, 470.0)
_Y = (0.0, 140.0, 300.0, 430.0)
_AVENUE_COLUMN = 2
_AVENUE_ROW = 1


def grid_plan() -> TownPlan:
    """The plan; columns are A to D from west to east, rows 0 to 3 from south to north."""
    crossings = []
    for i, x in enumerate(_X):
        for j, y in enumerate(_Y):
            corner = i in (0, len(_X) - 1) and j in (0, len(_Y) - 1)
            crossings.append(
                Crossing(
                    node=_node(i, j),
                    x=x,
                    y=y,
                    control="priority" if corner else "traffic_light",
                    radius=14.0 if corner else 7.0,
                )
            )
    streets: list[Street] = []
    for i in range(len(_X)):
        for j in range(len(_Y)):
            if i + 1 < len(_X):
                streets += _street(_node(i, j), _node(i + 1, j), j == _AVENUE_ROW, i == 0)
            if j + 1 < len(_Y):
                streets += _street(_node(i, j), _node(i, j + 1), i == _AVENUE_COLUMN, j == 0)
    return TownPlan(
        name="Grid",
        crossings=tuple(crossings),
        streets=tuple(streets),
        geo_reference="+proj=tmerc +lat_0=49.0 +lon_0=8.4 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m",
    )


def _node(i: int, j: int) -> str:
    return f"{'ABCD'[i]}{j}"


def _street(start: str, end: str, avenue: bool, posted: bool) -> tuple[Street, Street]:
    return two_way(
        start,
        end,
        lanes=2 if avenue else 1,
        speed_kmh=50.0 if avenue else 40.0,
        priority=2 if avenue else 1,
        sidewalk=3.0 if avenue else 2.5,
        posted=posted,
    )
