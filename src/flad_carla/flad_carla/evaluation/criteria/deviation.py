# SPDX-License-Identifier: Apache-2.0
"""Route deviation: too far from the route at once, or somewhat too far for too long."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flad_carla.evaluation.criteria.base import Criterion, Situation, event, where
from flad_carla.evaluation.statistics import DEVIATED, Event
from flad_carla.route_planner import RoutePoint

_WINDOW = 5
_MAX_M = 30.0
_FAR_M = 15.0
_MAX_FAR_SHARE = 0.3


class Deviation(Criterion):
    """Ends the route at 30 m off, or when 30 % of it were passed from 15 m away."""

    def __init__(self, route: Sequence[RoutePoint]) -> None:
        self._route = route
        self._index = 0
        self._far_m = 0.0

    def step(self, now: Situation) -> list[Event]:
        """Look at one tick."""
        at = now.ego.pose
        window = range(self._index, min(self._index + _WINDOW + 1, len(self._route)))
        distances = [math.hypot(at.x - self._route[i].x, at.y - self._route[i].y) for i in window]
        nearest = min(range(len(distances)), key=distances.__getitem__)
        if nearest > 0:
            new = self._index + nearest
            if distances[nearest] >= _FAR_M:
                self._far_m += self._route[new].distance - self._route[self._index].distance
            self._index = new
        share = self._far_m / max(self._route[-1].distance, 1e-6)
        if self.failure or (distances[nearest] < _MAX_M and share <= _MAX_FAR_SHARE):
            return []
        self.failure = DEVIATED
        return [event(now, "route_dev", f"Agent deviated from the route {where(now)}")]
