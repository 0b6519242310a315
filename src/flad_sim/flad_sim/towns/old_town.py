# SPDX-License-Identifier: Apache-2.0
"""OldTown: crooked streets, few lights, stop and yield signs, slow lanes inside a loop."""

from __future__ import annotations

from flad_sim.towns.plan import Crossing, Street, TownPlan, bow, rounded, two_way

_CORNER_CUT_M = 26.0  # of street given to a bend on either side
_LOOP_PRIORITY = 3

# node: x, y, control
_CROSSINGS: dict[str, tuple[float, float, str]] = {
    "b": (130.0, 0.0, "priority_stop"),
    "c": (270.0, 30.0, "traffic_light"),
    "d": (400.0, -10.0, "priority"),
    "f": (30.0, 170.0, "priority_stop"),
    "g": (155.0, 145.0, "right_before_left"),
    "h": (285.0, 165.0, "traffic_light"),
    "i": (395.0, 135.0, "allway_stop"),
    "j": (540.0, 190.0, "priority"),
    "k": (-10.0, 310.0, "priority"),
    "l": (120.0, 290.0, "right_before_left"),
    "m": (250.0, 310.0, "priority_stop"),
    "n": (380.0, 270.0, "traffic_light"),
    "o": (520.0, 330.0, "priority_stop"),
    "q": (210.0, 440.0, "priority_stop"),
    "r": (350.0, 410.0, "traffic_light"),
}
# the loop around the town, counter-clockwise, and how far each street bulges outwards
_LOOP = (
    ("b", "c", 5.0),
    ("c", "d", -8.0),
    ("j", "o", -10.0),
    ("r", "q", -9.0),
    ("k", "f", 5.0),
)
# its corners: from, to, where the bend lies, bulges before and after it
_CORNERS = (
    ("f", "b", (0.0, 40.0), -6.0, -6.0),
    ("d", "j", (520.0, 60.0), 6.0, -5.0),
    ("o", "r", (470.0, 450.0), -14.0, 7.0),
    ("q", "k", (60.0, 430.0), -7.0, -10.0),
)
# street, bulge, priority: the higher one is the main street of a crossing
_INNER = (
    ("b", "g", 4.0, 1),
    ("c", "h", -6.0, 2),
    ("d", "i", 7.0, 1),
    ("f", "g", 5.0, 1),
    ("g", "h", -8.0, 1),
    ("h", "i", 6.0, 2),
    ("i", "j", -7.0, 1),
    ("g", "l", 6.0, 1),
    ("k", "l", 5.0, 1),
    ("l", "m", -6.0, 1),
    ("h", "m", 9.0, 2),
    ("m", "n", 5.0, 1),
    ("i", "n", -6.0, 2),
    ("n", "o", 8.0, 1),
    ("m", "q", -7.0, 2),
    ("n", "r", 5.0, 2),
)


def old_town_plan() -> TownPlan:
    """The plan."""
    streets: list[Street] = []
    for start, end, bulge in _LOOP:
        streets += _street(
            start, end, bow(_at(start), _at(end), bulge), _LOOP_PRIORITY, start in "dk"
        )
    for start, end, corner, before, after in _CORNERS:
        line = rounded(
            (_at(start), *bow(_at(start), corner, before), corner),
            (corner, *bow(corner, _at(end), after), _at(end)),
            _CORNER_CUT_M,
        )
        streets += _street(start, end, line[1:-1], _LOOP_PRIORITY, True)
    for start, end, bulge, priority in _INNER:
        streets += _street(start, end, bow(_at(start), _at(end), bulge), priority, True)
    return TownPlan(
        name="OldTown",
        crossings=tuple(
            Crossing(node=node, x=x, y=y, control=control, radius=7.0)
            for node, (x, y, control) in _CROSSINGS.items()
        ),
        streets=tuple(streets),
        geo_reference="+proj=tmerc +lat_0=47.4 +lon_0=9.6 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m",
    )


def _at(node: str) -> tuple[float, float]:
    return _CROSSINGS[node][:2]


def _street(
    start: str, end: str, shape: tuple[tuple[float, ...], ...], priority: int, posted: bool
) -> tuple[Street, Street]:
    return two_way(
        start,
        end,
        shape,
        speed_kmh=50.0 if priority == _LOOP_PRIORITY else 30.0,
        priority=priority,
        sidewalk=2.0,
        posted=posted,
    )
