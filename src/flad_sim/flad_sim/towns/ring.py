# SPDX-License-Identifier: Apache-2.0
"""Ring: a fast oval of two carriageways, two interchanges with bridges, streets in the middle.

Traffic keeps right, so the outer carriageway runs counter-clockwise. At either side of the oval a
bridge leads over it; ramps join outer carriageway and outer bridgehead, inner and inner.
"""

from __future__ import annotations

import math

from flad_sim.towns.plan import Crossing, Street, TownPlan, two_way

_RADIUS_X, _RADIUS_Y = 300.0, 220.0
_HALF_MEDIAN = 7.0  # from the oval's centre line to the middle of a carriageway
_RAMP_DEG = 32.0  # where ramps leave and join, seen from the oval's middle
_HEAD_OFFSET = 125.0  # of the bridgeheads from the oval: 6.5 m of height at a grade of 8 %
_DECK_M = 6.5
_STEP_M = 12.0


def ring_plan() -> TownPlan:
    """The plan; W and E are the two sides, i and o mean inside and outside."""
    crossings = [
        *(_ramp_node(f"{side}i_{k}", -_HALF_MEDIAN, a) for side, k, a in _inner_ramps()),
        *(_ramp_node(f"{side}o_{k}", _HALF_MEDIAN, a) for side, k, a in _outer_ramps()),
        *_heads(),
        Crossing(node="nw", x=-80.0, y=70.0, control="traffic_light", radius=7.0),
        Crossing(node="ne", x=90.0, y=75.0, control="priority_stop", radius=7.0),
        Crossing(node="se", x=85.0, y=-70.0, control="traffic_light", radius=7.0),
        Crossing(node="sw", x=-90.0, y=-65.0, control="priority_stop", radius=7.0),
    ]
    return TownPlan(
        name="Ring",
        crossings=tuple(crossings),
        streets=(*_carriageways(), *_ramps(), *_bridges(), *_middle()),
        geo_reference="+proj=tmerc +lat_0=52.3 +lon_0=10.5 +k=1 +x_0=0 +y_0=0 +datum=WGS84",
    )


def _inner_ramps() -> tuple[tuple[str, str, float], ...]:
    """Side, kind and angle, in the order of travel (clockwise)."""
    a = _RAMP_DEG
    return (("W", "off", 180.0 + a), ("W", "on", 180.0 - a), ("E", "off", a), ("E", "on", -a))


def _outer_ramps() -> tuple[tuple[str, str, float], ...]:
    """Side, kind and angle, in the order of travel (counter-clockwise)."""
    a = _RAMP_DEG
    return (("E", "off", -a), ("E", "on", a), ("W", "off", 180.0 - a), ("W", "on", 180.0 + a))


def _ramp_node(node: str, offset: float, angle: float) -> Crossing:
    x, y = _oval(offset, angle)
    return Crossing(node=node, x=x, y=y, radius=4.0)


def _heads() -> list[Crossing]:
    inner, outer = _RADIUS_X - _HEAD_OFFSET, _RADIUS_X + _HEAD_OFFSET
    return [
        Crossing(node="Wi", x=-inner, y=0.0, control="traffic_light", radius=8.0),
        Crossing(node="Ei", x=inner, y=0.0, control="traffic_light", radius=8.0),
        Crossing(node="Wo", x=-outer, y=0.0, radius=8.0),
        Crossing(node="Eo", x=outer, y=0.0, radius=8.0),
    ]


def _carriageways() -> list[Street]:
    streets = []
    for ring, offset, ramps, way in (
        ("i", -_HALF_MEDIAN, _inner_ramps(), -1.0),
        ("o", _HALF_MEDIAN, _outer_ramps(), 1.0),
    ):
        following = ramps[1:] + ramps[:1]
        for (side, kind, a), (side_b, kind_b, b) in zip(ramps, following, strict=True):
            sweep = way * ((way * (b - a)) % 360.0)
            count = max(2, round(abs(math.radians(sweep)) * _RADIUS_X / _STEP_M))
            streets.append(
                Street(
                    start=f"{side}{ring}_{kind}",
                    end=f"{side_b}{ring}_{kind_b}",
                    lanes=2,
                    speed_kmh=80.0,
                    priority=5,
                    sidewalk=0.0,
                    spread="center",
                    shape=tuple(_oval(offset, a + sweep * k / count) for k in range(1, count)),
                    posted=kind == "on",
                )
            )
    return streets


def _ramps() -> list[Street]:
    streets = []
    for ring, ramps, sign in (("i", _inner_ramps(), -1.0), ("o", _outer_ramps(), 1.0)):
        for side, kind, angle in ramps:
            node, head = f"{side}{ring}_{kind}", f"{side}{ring}"
            start, end = (node, head) if kind == "off" else (head, node)
            line = _ramp_line(angle, sign, side)
            streets.append(
                Street(
                    start=start,
                    end=end,
                    speed_kmh=50.0,
                    priority=3,
                    sidewalk=0.0,
                    spread="center",
                    shape=line if kind == "off" else tuple(reversed(line)),
                )
            )
    return streets


def _ramp_line(angle: float, sign: float, side: str) -> tuple[tuple[float, ...], ...]:
    """From the carriageway to the bridgehead: leaves along the oval, arrives across the bridge."""
    middle = 180.0 if side == "W" else 0.0
    x0, y0 = _oval(sign * _HALF_MEDIAN, angle)
    head = (_RADIUS_X + sign * _HEAD_OFFSET) * (-1.0 if side == "W" else 1.0)
    # first control point along the carriageway towards the bridge, second beside the head
    near = angle + 0.45 * (middle - angle)
    x1, y1 = _oval(sign * (_HALF_MEDIAN + 9.0), near)
    x2, y2 = head, math.copysign(0.35 * abs(y0) + 10.0, y0)
    points = []
    for k in range(1, 13):
        t = k / 13.0
        w = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
        points.append(
            (
                w[0] * x0 + w[1] * x1 + w[2] * x2 + w[3] * head,
                w[0] * y0 + w[1] * y1 + w[2] * y2,
            )
        )
    return tuple(points)


def _bridges() -> list[Street]:
    streets: list[Street] = []
    for side, sign in (("W", -1.0), ("E", 1.0)):
        shape = []
        for k in range(1, 25):
            t = k / 25.0
            x = sign * (_RADIUS_X + _HEAD_OFFSET * (2.0 * t - 1.0))
            rise = _DECK_M * 0.5 * (1.0 - math.cos(2.0 * math.pi * t))
            shape.append((x, 0.0, rise))
        streets += two_way(f"{side}i", f"{side}o", tuple(shape), speed_kmh=50.0, sidewalk=2.0)
    return streets


def _middle() -> list[Street]:
    streets: list[Street] = []
    for start, end, priority in (
        ("Wi", "nw", 2),
        ("Wi", "sw", 2),
        ("nw", "ne", 2),
        ("sw", "se", 2),
        ("ne", "Ei", 2),
        ("se", "Ei", 2),
        ("nw", "sw", 1),
        ("ne", "se", 1),
    ):
        streets += two_way(start, end, speed_kmh=50.0, priority=priority, posted=start != "ne")
    return streets


def _oval(offset: float, angle_deg: float) -> tuple[float, float]:
    a = math.radians(angle_deg)
    return ((_RADIUS_X + offset) * math.cos(a), (_RADIUS_Y + offset) * math.sin(a))
