# SPDX-License-Identifier: Apache-2.0
"""Collisions: contacts of the ego, one event per crash and not one per tick of contact."""

from __future__ import annotations

import math

from flad_carla.evaluation.criteria.base import Collision, Criterion, Situation, event, where
from flad_carla.evaluation.statistics import Event

_SAME_ACTOR_S = 5.0
_NEAR_LB1_M = 3.0
_FORGET_LB1_M = 5.0
_NEAR_LB2_M = 5.0
_STANDING_MPS = 0.1  # leaderboard 2: whoever stands is not at fault


class CollisionCriterion(Criterion):
    """Leaderboard 1.0 or 2.x rules of what counts as a new collision."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._places: list[tuple[float, float]] = []
        self._last_id, self._last_time_s = -1, -math.inf

    def step(self, now: Situation) -> list[Event]:
        """Look at one tick."""
        if self._version == 1:
            x, y = now.ego.pose.x, now.ego.pose.y
            self._places = [
                p for p in self._places if math.hypot(p[0] - x, p[1] - y) <= _FORGET_LB1_M
            ]
        if now.sim_time_s - self._last_time_s > _SAME_ACTOR_S:
            self._last_id = -1
        return [e for c in now.collisions if (e := self._book(now, c)) is not None]

    def _book(self, now: Situation, collision: Collision) -> Event | None:
        kind = _kind(collision.type_id)
        if kind is None or collision.actor_id == self._last_id:
            return None
        x, y = now.ego.pose.x, now.ego.pose.y
        near = _NEAR_LB1_M if self._version == 1 else _NEAR_LB2_M
        if any(math.hypot(p[0] - x, p[1] - y) <= near for p in self._places):
            return None
        if self._version == 2 and now.ego.speed_mps < _STANDING_MPS:
            return None
        place = (x, y)
        self._places = [*self._places, place] if self._version == 1 else [place]
        if collision.actor_id != 0:
            self._last_id, self._last_time_s = collision.actor_id, now.sim_time_s
        return event(
            now,
            kind,
            f"Agent collided against object with type={collision.type_id} and "
            f"id={collision.actor_id} {where(now)}",
            actor_id=collision.actor_id,
        )


def _kind(type_id: str) -> str | None:
    if ("static" in type_id or "traffic" in type_id) and "sidewalk" not in type_id:
        return "collisions_layout"
    if "vehicle" in type_id:
        return "collisions_vehicle"
    if "walker" in type_id:
        return "collisions_pedestrian"
    return None
