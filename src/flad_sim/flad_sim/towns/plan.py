# SPDX-License-Identifier: Apache-2.0
"""What a town of our own is made from: junctions and streets, in OpenDRIVE's frame (y north).

`grid`, `old_town`, `quarter` and `ring` hold the four plans; `build` turns a plan into files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossing:
    """A junction, or a bend."""

    node: str
    x: float
    y: float
    z: float = 0.0
    control: str = "priority"  # netconvert's node types
    radius: float = 6.0  # of the kerb at corners, metres


@dataclass(frozen=True, kw_only=True, slots=True)
class Street:
    """One direction of a street."""

    start: str
    end: str
    lanes: int = 1
    speed_kmh: float = 40.0
    priority: int = 1
    sidewalk: float = 2.5  # metres, 0 for none
    shape: tuple[tuple[float, ...], ...] = ()  # (x, y) or (x, y, z) between the ends
    spread: str = "right"  # where the lanes lie of the line: right of it, or centred
    posted: bool = False  # a speed sign stands at its beginning

    @property
    def edge(self) -> str:
        """Name of the street's SUMO edge."""
        return f"{self.start}_{self.end}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TownPlan:
    """A whole town."""

    name: str
    crossings: tuple[Crossing, ...]
    streets: tuple[Street, ...]
    geo_reference: str
    lane_width: float = 3.5


def two_way(
    start: str, end: str, shape: tuple[tuple[float, ...], ...] = (), **street: Any
) -> tuple[Street, Street]:
    """Both directions of a street; ``shape`` is given from ``start`` to ``end``."""
    return (
        Street(start=start, end=end, shape=shape, **street),
        Street(start=end, end=start, shape=tuple(reversed(shape)), **street),
    )


def bow(
    a: tuple[float, float], b: tuple[float, float], bulge_m: float, step_m: float = 8.0
) -> tuple[tuple[float, ...], ...]:
    """Points of a smooth bend from ``a`` to ``b`` (ends left out).

    ``bulge_m`` is how far its middle lies left of the straight line (right if negative).
    """
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = math.hypot(dx, dy)
    # the middle of a quadratic Bezier curve lies half as far out as its control point
    cx = (a[0] + b[0]) / 2.0 - 2.0 * bulge_m * dy / length
    cy = (a[1] + b[1]) / 2.0 + 2.0 * bulge_m * dx / length
    count = max(2, round(length / step_m))
    points = []
    for k in range(1, count):
        t = k / count
        w0, w1, w2 = (1.0 - t) ** 2, 2.0 * t * (1.0 - t), t * t
        points.append((w0 * a[0] + w1 * cx + w2 * b[0], w0 * a[1] + w1 * cy + w2 * b[1]))
    return tuple(points)


def rounded(
    before: tuple[tuple[float, ...], ...], after: tuple[tuple[float, ...], ...], cut_m: float
) -> tuple[tuple[float, ...], ...]:
    """Two lines that meet at a corner as one, the corner replaced by a smooth bend.

    The bend begins and ends ``cut_m`` away from the corner.
    """
    corner = before[-1]
    head = [p for p in before if math.dist(p, corner) > cut_m + 2.0]
    tail = [p for p in after if math.dist(p, corner) > cut_m + 2.0]
    a, b = _towards(corner, head[-1], cut_m), _towards(corner, tail[0], cut_m)
    bend = []
    for k in range(13):
        t = k / 12.0
        w0, w1, w2 = (1.0 - t) ** 2, 2.0 * t * (1.0 - t), t * t
        bend.append(tuple(w0 * p + w1 * q + w2 * r for p, q, r in zip(a, corner, b, strict=True)))
    return (*head, *bend, *tail)


def _towards(
    start: tuple[float, ...], aim: tuple[float, ...], distance: float
) -> tuple[float, ...]:
    share = distance / math.dist(start, aim)
    return tuple(p + share * (q - p) for p, q in zip(start, aim, strict=True))
