# SPDX-License-Identifier: Apache-2.0
"""The expert without an errand: one random destination after the other, for a standing bridge."""

from __future__ import annotations

import random

import carla

from flad_carla.evaluation.world_view import WorldView
from flad_carla.expert.driver import Decision
from flad_carla.expert_carla import MapExpert
from flad_carla.route_planner import RouteError, RoutePlanner, RoutePoint
from flad_carla.session import CarlaSession, Ego, Tick

_NEAR_END_M = 15.0
_LEAST_ROUTE_M = 150.0  # one point per metre
_TRIES = 20


class Cruise:
    """Drives one ego for ever. Single-threaded; make it when the ego stands in the world.

    Raises:
        RouteError: if the town has no route from here to anywhere.
    """

    def __init__(self, session: CarlaSession, ego: Ego, seed: int) -> None:
        self._session = session
        self._random = random.Random(f"{seed} {ego.role}")
        self._view = WorldView(session.world, ego.actor)
        self._planner = RoutePlanner(session.map)
        self._targets = [point.location for point in session.map.get_spawn_points()]
        self._set_out(ego.actor.get_location())

    def decide(self, tick: Tick) -> Decision:
        """What the expert wants now; it sets out for another place before it arrives."""
        state = self._view.read(tick.snapshot)
        decision = self._expert.decide(state, tick.sim_time_s)
        if decision.ego_s > len(self._route) - 1 - _NEAR_END_M:
            # From a point ahead on the old route, so that the new one begins as the old one ends.
            here = self._route[min(int(decision.ego_s), len(self._route) - 1)]
            self._set_out(carla.Location(here.x, here.y, here.z))
            decision = self._expert.decide(state, tick.sim_time_s)
        return decision

    def _set_out(self, start: carla.Location) -> None:
        self._route = self._random_route(start)
        self._expert = MapExpert(self._session.map, self._route, self._view)

    def _random_route(self, start: carla.Location) -> list[RoutePoint]:
        error: RouteError | None = None
        longest: list[RoutePoint] = []
        for _ in range(_TRIES):
            try:
                route = self._planner.trace([start, self._random.choice(self._targets)])
            except RouteError as refused:
                error = refused
                continue
            if len(route) > _LEAST_ROUTE_M:
                return route
            longest = max(longest, route, key=len)
        if not longest:
            raise RouteError(f"no way from {start} to any of {_TRIES} places: {error}")
        return longest
