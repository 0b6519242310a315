# SPDX-License-Identifier: Apache-2.0
"""Which way a vehicle took at each junction of its route, beside what it was told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flad_carla.run_log import PoseView
from flad_planner.language.route_view import RoadCommand

_ENTERED_M = 6.0  # of the junction's begin, at any place of the road's width
_LEFT_IT_M = 25.0  # from its begin: a turn is over by then
_STRAIGHT_DEG = 40.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One junction of a route; ``x``, ``y`` and ``yaw_deg`` are where it begins, in the world."""

    planned: RoadCommand
    told: RoadCommand
    x: float
    y: float
    yaw_deg: float
    ways: tuple[tuple[RoadCommand, float], ...] = ()
    """The ways out and the degrees by which each turns, as the map has them; none: not known."""

    def way_of(self, turned_deg: float) -> RoadCommand:
        """Which of them a vehicle took that has turned by so much: the nearest one."""
        if not self.ways:
            return way_of(turned_deg)
        return min(self.ways, key=lambda way: abs(_wrapped(way[1] - turned_deg)))[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenTurn:
    """What became of one."""

    planned: str
    told: str
    taken: str

    @property
    def as_told(self) -> bool:
        """Whether the vehicle did what it was told."""
        return self.taken == self.told


class TurnWatch:
    """Follows a vehicle through its route's junctions; those it never came to are left out."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._ahead = list(turns)
        self._now: Turn | None = None
        self.taken: list[TakenTurn] = []

    def step(self, pose: PoseView) -> None:
        """Look at one tick."""
        if self._now is None:
            for i, turn in enumerate(self._ahead):
                if math.hypot(pose.x - turn.x, pose.y - turn.y) < _ENTERED_M:
                    self._now = turn
                    del self._ahead[: i + 1]
                    break
            return
        turn = self._now
        if math.hypot(pose.x - turn.x, pose.y - turn.y) < _LEFT_IT_M:
            return
        self.taken.append(
            TakenTurn(
                planned=turn.planned.name.lower(),
                told=turn.told.name.lower(),
                taken=turn.way_of(pose.yaw - turn.yaw_deg).name.lower(),
            )
        )
        self._now = None


def way_of(turned_deg: float) -> RoadCommand:
    """The way that a change of heading is where the map is not known, in CARLA's degrees.

    To the right is positive.

    Example:
        >>> [way_of(d).name for d in (85.0, -95.0, 350.0)]
        ['RIGHT', 'LEFT', 'STRAIGHT']
    """
    turned = _wrapped(turned_deg)
    if abs(turned) < _STRAIGHT_DEG:
        return RoadCommand.STRAIGHT
    return RoadCommand.RIGHT if turned > 0.0 else RoadCommand.LEFT


def _wrapped(degrees: float) -> float:
    """The same direction within -180 to 180."""
    return (degrees + 180.0) % 360.0 - 180.0
