# SPDX-License-Identifier: Apache-2.0
"""Minimum speed (leaderboard 2): keep up with the traffic, judged on four parts of the route."""

from __future__ import annotations

from flad_carla.evaluation.criteria.base import Criterion, Situation, event
from flad_carla.evaluation.criteria.progress import RouteProgress
from flad_carla.evaluation.statistics import Event

_CHECKPOINTS = 4
_LAST_CLOSES_AT = 95.0  # percent of the route


class MinSpeed(Criterion):
    """Mean ego speed over mean traffic speed per part; below 100 % is an event."""

    def __init__(self, progress: RouteProgress) -> None:
        self._progress = progress
        self._part = 0
        self._reset()

    def step(self, now: Situation) -> list[Event]:
        """Look at one tick."""
        if now.traffic_speed_mps is not None:
            self._ego_sum += now.ego.speed_mps
            self._traffic_sum += now.traffic_speed_mps
            self._count += 1
        part = int(self._progress.percent / (100.0 / _CHECKPOINTS))
        if part <= self._part or self._part >= _CHECKPOINTS - 1:
            return []
        self._part = part
        return self._close(now)

    def finish(self, now: Situation) -> list[Event]:
        """Book what is known only at the end."""
        return self._close(now) if self._progress.percent > _LAST_CLOSES_AT else []

    def _close(self, now: Situation) -> list[Event]:
        ego, traffic, count = self._ego_sum, self._traffic_sum, self._count
        self._reset()
        if count == 0 or traffic <= 0.0:
            return []
        percentage = round(100.0 * ego / traffic, 2)
        if percentage >= 100.0:
            return []
        message = f"Average speed is {percentage}% of the surrounding traffic's one"
        return [event(now, "min_speed_infractions", message, percentage=percentage)]

    def _reset(self) -> None:
        self._ego_sum, self._traffic_sum, self._count = 0.0, 0.0, 0
