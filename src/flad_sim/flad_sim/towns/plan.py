# SPDX-License-Identifier: Apache-2.0
"""What a town of our own is made from: junctions and streets, in OpenDRIVE's frame (y north).

`grid`, `old_town` and `ring` hold the three plans; `build` turns a plan into files.
"""

from __future__ import annotations

from dataclasses import dataclass


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


def two_way(start: str, end: str, **street: object) -> tuple[Street, Street]:
    """Both directions of a street; ``shape`` is given from ``start`` to ``end``."""
    shape = street.pop("shape", ())
    return (
        Street(start=start, end=end, shape=tuple(shape), **street),  # type: ignore[arg-type]
        Street(start=end, end=start, shape=tuple(reversed(tuple(shape))), **street),  # type: ignore[arg-type]
    )
