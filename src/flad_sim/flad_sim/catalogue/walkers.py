# SPDX-License-Identifier: Apache-2.0
"""The pedestrians: ``walker.pedestrian.0001`` to ``0048``, with CARLA's ids and body boxes.

Who is a child, a man or a woman follows CARLA's catalogue where it states it; the clothes are the
ray tracer's business. Walking and running speeds are those of Bohannon 1997 ("Comfortable and
maximum walking speed of adults aged 20-79 years"), slower for children and elderly people.
"""

from __future__ import annotations

from typing import Literal

from flad_sim.catalogue.specs import WalkerSpec
from flad_sim.types import BoundingBox, Tag

Age = Literal["adult", "child", "teenager", "elderly"]

# half width, half height, mass, (standing, walking, running)
_BODIES: dict[Age, tuple[float, float, float, tuple[float, float, float]]] = {
    "adult": (0.19, 0.93, 75.0, (0.0, 1.4, 2.6)),
    "teenager": (0.18, 0.80, 55.0, (0.0, 1.4, 3.0)),
    "child": (0.17, 0.55, 28.0, (0.0, 1.1, 2.4)),
    "elderly": (0.19, 0.90, 72.0, (0.0, 1.0, 1.6)),
}
_CHILDREN = frozenset({9, 10, 11, 12, 13, 14, 48})
_TEENAGERS = frozenset({43, 44})
_ELDERLY = frozenset({5, 16, 25, 34, 41})
_WOMEN = frozenset({1, 4, 6, 8, 10, 12, 14, 15, 18, 20, 22, 25, 27, 30, 33, 36, 39, 42, 44, 47})


def _walker(number: int) -> WalkerSpec:
    age = _age(number)
    half_width, half_height, mass_kg, speeds = _BODIES[age]
    return WalkerSpec(
        blueprint=f"walker.pedestrian.{number:04d}",
        box=BoundingBox(extent=(half_width, half_width, half_height)),
        mass_kg=mass_kg,
        tag=Tag.PEDESTRIANS,
        generation=1 if number < 15 else 2,
        gender="female" if number in _WOMEN else "male",
        age=age,
        speeds=speeds,
    )


def _age(number: int) -> Age:
    if number in _CHILDREN:
        return "child"
    if number in _TEENAGERS:
        return "teenager"
    return "elderly" if number in _ELDERLY else "adult"


WALKERS: dict[str, WalkerSpec] = {w.blueprint: w for w in map(_walker, range(1, 49))}
