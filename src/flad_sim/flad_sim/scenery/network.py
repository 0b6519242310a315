# SPDX-License-Identifier: Apache-2.0
"""What scenery needs to know of a road network (``flad_sim.opendrive.RoadNetwork`` has it all)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flad_sim.types import FloatArray, LaneStrip, RoadMark, Signal

# OpenDRIVE lane types that are not a surface for wheels.
WALKED = frozenset({"sidewalk", "walking", "curb"})
UNPAVED = frozenset({"none", "median", "restricted", "rail", "tram"})


class Network(Protocol):
    """A road network in CARLA's frame."""

    @property
    def lanes(self) -> Sequence[LaneStrip]:
        """Every lane section's lane as two edges."""

    @property
    def marks(self) -> Sequence[RoadMark]:
        """Painted lines."""

    @property
    def signals(self) -> Sequence[Signal]:
        """Lights and signs."""

    @property
    def junction_areas(self) -> Sequence[FloatArray]:
        """Outlines ``[N, 3]`` of the asphalt of junctions."""


def is_road(lane_type: str) -> bool:
    """Whether wheels belong there: lanes, shoulders, parking; not pavements or medians."""
    return lane_type not in WALKED and lane_type not in UNPAVED
