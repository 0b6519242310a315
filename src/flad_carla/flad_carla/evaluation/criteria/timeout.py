# SPDX-License-Identifier: Apache-2.0
"""Route timeout, in game time."""

from __future__ import annotations

from flad_carla.evaluation.criteria.base import Criterion, Situation, event, where
from flad_carla.evaluation.criteria.progress import RouteProgress
from flad_carla.evaluation.protocol import Protocol
from flad_carla.evaluation.statistics import TIMED_OUT, Event

_LIMIT_SHARE = 0.1  # leaderboard 2: a metre buys the time it takes at 10 % of the speed limit


class Timeout(Criterion):
    """Leaderboard 1.0: a budget by route length. 2.x: it grows with every metre passed."""

    def __init__(self, protocol: Protocol, progress: RouteProgress) -> None:
        self._grows = protocol.version == 2
        self._progress = progress
        self._passed_m = 0.0
        self.budget_s = protocol.timeout_s(progress.length_m)

    def step(self, now: Situation) -> list[Event]:
        """Look at one tick."""
        passed_m = self._progress.distance_m - self._passed_m
        if self._grows and passed_m > 0.0 and now.speed_limit_mps > 0.0:
            self.budget_s += passed_m / (_LIMIT_SHARE * now.speed_limit_mps)
        self._passed_m = self._progress.distance_m
        if self.failure or now.sim_time_s <= self.budget_s:
            return []
        self.failure = TIMED_OUT
        return [event(now, "route_timeout", f"Agent timed out {where(now)}")]
