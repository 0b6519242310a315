# SPDX-License-Identifier: Apache-2.0
"""Blocked: the ego has not moved for a long time."""

from __future__ import annotations

from flad_carla.evaluation.criteria.base import Criterion, Situation, event, where
from flad_carla.evaluation.statistics import BLOCKED, Event

_STANDING_MPS = 0.1
_MAX_S = 180.0


class Blocked(Criterion):
    """Ends the route after 180 s below 0.1 m/s."""

    def __init__(self, max_s: float = _MAX_S) -> None:
        self._max_s = max_s
        self._moved_s = 0.0

    def step(self, now: Situation) -> list[Event]:
        """Look at one tick."""
        if now.ego.speed_mps >= _STANDING_MPS:
            self._moved_s = now.sim_time_s
        if self.failure or now.sim_time_s - self._moved_s <= self._max_s:
            return []
        self.failure = BLOCKED
        return [event(now, "vehicle_blocked", f"Agent got blocked {where(now)}")]
