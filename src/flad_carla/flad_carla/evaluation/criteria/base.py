# SPDX-License-Identifier: Apache-2.0
"""What a criterion sees and what it may answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

from flad_carla.evaluation.road import LanePoint
from flad_carla.evaluation.statistics import Event
from flad_carla.run_log import BodyView, LightView, StopSignView


@dataclass(frozen=True, kw_only=True, slots=True)
class Collision:
    """One contact of the ego, as the collision sensor tells it."""

    frame: int
    actor_id: int
    type_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """The state of the world after one tick."""

    frame: int
    sim_time_s: float  # since the start of the route
    ego: BodyView
    lights: Sequence[LightView] = ()
    stop_signs: Sequence[StopSignView] = ()
    collisions: Sequence[Collision] = ()
    speed_limit_mps: float = 0.0
    traffic_speed_mps: float | None = None  # mean of the background vehicles, None without any


class LaneMap(Interface):
    """The part of ``road.Road`` that criteria need."""

    def lane_at(self, x: float, y: float, z: float = 0.0) -> LanePoint | None:
        """The nearest driving lane's centre."""

    def parking_at(self, x: float, y: float, z: float = 0.0) -> LanePoint | None:
        """The nearest parking lane's centre."""

    def ahead(self, x: float, y: float, z: float, step_m: float, count: int) -> list[LanePoint]:
        """Points along the lane from ``(x, y)``."""


class Criterion:
    """Watches one thing. ``failure`` is set (one of ``statistics.FAILURES``) to end the route."""

    failure: str = ""

    def step(self, now: Situation) -> list[Event]:
        """Look at one tick; the events booked in it."""
        raise NotImplementedError

    def finish(self, now: Situation) -> list[Event]:
        """The route is over: events that are only known now."""
        return []


def where(now: Situation) -> str:
    """The words with which the leaderboard's messages give a place."""
    at = now.ego.pose
    return f"at (x={round(at.x, 3)}, y={round(at.y, 3)}, z={round(at.z, 3)})"


def event(
    now: Situation,
    kind: str,
    message: str,
    *,
    percentage: float = 0.0,
    outside_m: float = 0.0,
    actor_id: int = -1,
) -> Event:
    """An event at the ego's place and time."""
    return Event(
        kind=kind,
        message=message,
        x=now.ego.pose.x,
        y=now.ego.pose.y,
        sim_time_s=now.sim_time_s,
        percentage=percentage,
        outside_m=outside_m,
        actor_id=actor_id,
    )
