# SPDX-License-Identifier: Apache-2.0
"""Route completion: which points of the dense route have been passed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flad_carla.evaluation.criteria.base import Criterion, Situation
from flad_carla.evaluation.statistics import Event
from flad_carla.route_planner import RoutePoint

_WINDOW = 2  # points looked at beyond the current one
_REACHED_PERCENT = 99.0
_REACHED_M = 10.0


class RouteProgress(Criterion):
    """A point is passed when the ego lies ahead of it; only forward moves count."""

    def __init__(self, route: Sequence[RoutePoint]) -> None:
        if len(route) < 2 or route[-1].distance <= 0.0:
            raise ValueError(f"a route needs at least 2 points some way apart, got {len(route)}")
        self._route = route
        self.index = 0
        self.reached = False

    @property
    def percent(self) -> float:
        """Route completion, 0..100."""
        if self.reached:
            return 100.0
        return 100.0 * self._route[self.index].distance / self._route[-1].distance

    @property
    def distance_m(self) -> float:
        """Metres of route passed."""
        return self._route[self.index].distance

    @property
    def length_m(self) -> float:
        """Metres of the whole route."""
        return self._route[-1].distance

    def step(self, now: Situation) -> list[Event]:
        """Look at one tick."""
        at = now.ego.pose
        for i in range(self.index, min(self.index + _WINDOW + 1, len(self._route))):
            point = self._route[i]
            yaw = math.radians(point.yaw)
            if (at.x - point.x) * math.cos(yaw) + (at.y - point.y) * math.sin(yaw) > 0.0:
                self.index = i
        end = self._route[-1]
        if not self.reached and self.percent > _REACHED_PERCENT:
            self.reached = math.hypot(at.x - end.x, at.y - end.y) < _REACHED_M
        return []
