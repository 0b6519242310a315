# SPDX-License-Identifier: Apache-2.0
"""Quarter: skewed crossings and T-junctions, nearly all signalled, on bent and straight streets."""

from __future__ import annotations

from flad_sim.towns.plan import Crossing, Street, TownPlan, bow, two_way

# node: x, y, control; letters go from west to east, digits from south to north
_CROSSINGS: dict[str, tuple[float, float, str]] = {
    "A0": (0.0, 12.0, "priority"),
    "B0": (118.0, -14.0, "traffic_light"),
    "C0": (243.0, 8.0, "traffic_light"),
    "D0": (352.0, -22.0, "traffic_light"),
    "E0": (470.0, 18.0, "priority"),
    "A1": (-22.0, 121.0, "traffic_light"),
    "B1": (104.0, 106.0, "traffic_light"),
    "C1": (216.0, 131.0, "traffic_light"),
    "D1": (360.0, 98.0, "traffic_light"),
    "E1": (498.0, 127.0, "traffic_light"),
    "A2": (14.0, 236.0, "traffic_light"),
    "B2": (132.0, 229.0, "priority_stop"),
    "C2": (249.0, 252.0, "traffic_light"),
    "D2": (371.0, 221.0, "traffic_light"),
    "E2": (482.0, 248.0, "traffic_light"),
    "A3": (-8.0, 352.0, "priority"),
    "B3": (121.0, 344.0, "traffic_light"),
    "C3": (228.0, 366.0, "traffic_light"),
    "D3": (346.0, 339.0, "traffic_light"),
    "E3": (476.0, 361.0, "priority"),
}
# from, to, bulge, lanes, speed in km/h, width of the pavement
_STREETS = (
    ("A0", "B0", -6.0, 1, 40.0, 2.0),
    ("B0", "C0", 4.0, 1, 40.0, 2.0),
    ("C0", "D0", -5.0, 1, 40.0, 3.5),
    ("D0", "E0", 0.0, 1, 50.0, 3.5),
    ("A1", "B1", 5.0, 2, 50.0, 3.0),
    ("B1", "C1", 0.0, 2, 50.0, 3.0),
    ("C1", "D1", -7.0, 2, 50.0, 3.0),
    ("D1", "E1", 0.0, 2, 50.0, 2.0),
    ("A2", "B2", 0.0, 1, 30.0, 2.0),
    ("C2", "D2", 6.0, 1, 30.0, 2.0),
    ("D2", "E2", -4.0, 1, 40.0, 4.0),
    ("A3", "B3", 7.0, 1, 40.0, 2.5),
    ("B3", "C3", -4.0, 1, 40.0, 2.5),
    ("C3", "D3", 0.0, 2, 50.0, 2.5),
    ("D3", "E3", 5.0, 1, 40.0, 2.5),
    ("A0", "A1", 0.0, 1, 40.0, 2.5),
    ("A1", "A2", -5.0, 1, 40.0, 2.5),
    ("A2", "A3", 4.0, 1, 40.0, 2.5),
    ("B0", "B1", 6.0, 1, 30.0, 2.0),
    ("B1", "B2", 0.0, 1, 30.0, 2.0),
    ("B2", "B3", -5.0, 1, 30.0, 3.0),
    ("C0", "C1", -8.0, 1, 40.0, 3.0),
    ("C1", "C2", 0.0, 1, 40.0, 3.0),
    ("C2", "C3", 5.0, 1, 40.0, 3.0),
    ("D0", "D1", 0.0, 2, 50.0, 4.0),
    ("D1", "D2", 4.0, 2, 50.0, 4.0),
    ("D2", "D3", -6.0, 1, 40.0, 4.0),
    ("E0", "E1", 6.0, 1, 50.0, 2.0),
    ("E1", "E2", 0.0, 1, 50.0, 2.0),
    ("E2", "E3", -4.0, 1, 40.0, 2.0),
)


def quarter_plan() -> TownPlan:
    """The plan; ``B2`` to ``C2`` and a few corners are missing, so four crossings are T-shaped."""
    streets: list[Street] = []
    for start, end, bulge, lanes, speed_kmh, sidewalk in _STREETS:
        streets += two_way(
            start,
            end,
            bow(_at(start), _at(end), bulge) if bulge else (),
            lanes=lanes,
            speed_kmh=speed_kmh,
            priority=lanes,
            sidewalk=sidewalk,
            posted=speed_kmh != 40.0,
        )
    return TownPlan(
        name="Quarter",
        crossings=tuple(
            Crossing(
                node=node,
                x=x,
                y=y,
                control=control,
                radius=14.0 if control == "priority" else 7.0,
            )
            for node, (x, y, control) in _CROSSINGS.items()
        ),
        streets=tuple(streets),
        geo_reference="+proj=tmerc +lat_0=50.9 +lon_0=4.4 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m",
    )


def _at(node: str) -> tuple[float, float]:
    return _CROSSINGS[node][:2]
