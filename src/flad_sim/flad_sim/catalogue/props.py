# SPDX-License-Identifier: Apache-2.0
"""Things a client may put on the road; CARLA's ids, sizes and masses of the usual real thing."""

from __future__ import annotations

from flad_sim.catalogue.specs import PropSpec
from flad_sim.types import BoundingBox, Tag

_ORANGE = (230, 90, 20)
_GREY = (120, 120, 125)
_WOOD = (140, 100, 60)
_CARDBOARD = (170, 130, 85)
_WHITE = (225, 225, 225)
_RED = (190, 30, 30)
_GREEN = (45, 95, 50)

# name, full sizes x, y, z in metres, mass in kg, size class, tag, colour
_TABLE: tuple[
    tuple[str, tuple[float, float, float], float, str, Tag, tuple[int, int, int]], ...
] = (
    ("trafficcone01", (0.36, 0.36, 0.75), 3.0, "small", Tag.DYNAMIC, _ORANGE),
    ("trafficcone02", (0.30, 0.30, 0.50), 2.0, "small", Tag.DYNAMIC, _ORANGE),
    ("constructioncone", (0.34, 0.34, 0.60), 2.5, "small", Tag.DYNAMIC, _ORANGE),
    ("streetbarrier", (0.40, 1.20, 1.05), 20.0, "medium", Tag.DYNAMIC, _RED),
    ("chainbarrier", (0.30, 1.40, 0.90), 15.0, "medium", Tag.DYNAMIC, _GREY),
    ("warningaccident", (0.50, 0.80, 1.10), 6.0, "medium", Tag.TRAFFIC_SIGNS, _RED),
    ("warningconstruction", (0.50, 0.80, 1.10), 6.0, "medium", Tag.TRAFFIC_SIGNS, _ORANGE),
    ("trafficwarning", (1.60, 1.90, 2.60), 350.0, "big", Tag.TRAFFIC_SIGNS, _ORANGE),
    ("box01", (0.50, 0.50, 0.45), 8.0, "small", Tag.DYNAMIC, _CARDBOARD),
    ("box02", (0.60, 0.45, 0.40), 8.0, "small", Tag.DYNAMIC, _CARDBOARD),
    ("box03", (0.70, 0.70, 0.65), 12.0, "medium", Tag.DYNAMIC, _CARDBOARD),
    ("creasedbox01", (0.55, 0.50, 0.35), 5.0, "small", Tag.DYNAMIC, _CARDBOARD),
    ("barrel", (0.60, 0.60, 0.90), 25.0, "medium", Tag.DYNAMIC, _GREY),
    ("bin", (0.55, 0.60, 1.05), 20.0, "medium", Tag.DYNAMIC, _GREEN),
    ("trashcan01", (0.50, 0.50, 0.95), 25.0, "medium", Tag.DYNAMIC, _GREY),
    ("trashbag", (0.55, 0.55, 0.50), 6.0, "small", Tag.DYNAMIC, (30, 30, 30)),
    ("shoppingcart", (0.95, 0.55, 1.00), 20.0, "medium", Tag.DYNAMIC, _GREY),
    ("dirtdebris01", (1.20, 1.20, 0.10), 60.0, "medium", Tag.STATIC, _WOOD),
    ("bench01", (0.60, 1.70, 0.85), 60.0, "medium", Tag.STATIC, _WOOD),
    ("table", (0.90, 1.60, 0.75), 40.0, "medium", Tag.STATIC, _WOOD),
    ("plantpot01", (0.80, 0.80, 0.90), 120.0, "medium", Tag.STATIC, _GREEN),
    ("mailbox", (0.50, 0.55, 1.30), 80.0, "medium", Tag.STATIC, _RED),
    ("vendingmachine", (0.85, 1.00, 1.85), 300.0, "big", Tag.STATIC, _WHITE),
    ("busstop", (1.60, 4.00, 2.60), 900.0, "big", Tag.STATIC, _GREY),
    ("container", (2.45, 6.05, 2.60), 2300.0, "big", Tag.STATIC, _RED),
)


def _prop(
    name: str,
    size_m: tuple[float, float, float],
    mass_kg: float,
    size: str,
    tag: Tag,
    color: tuple[int, int, int],
) -> PropSpec:
    x, y, z = (0.5 * side for side in size_m)
    return PropSpec(
        blueprint=f"static.prop.{name}",
        box=BoundingBox(center=(0.0, 0.0, z), extent=(x, y, z)),
        mass_kg=mass_kg,
        tag=tag,
        size=size,
        color=color,
    )


PROPS: dict[str, PropSpec] = {prop.blueprint: prop for prop in (_prop(*row) for row in _TABLE)}
