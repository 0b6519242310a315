# SPDX-License-Identifier: Apache-2.0
"""Places the scenarios of a route, starts them at their triggers, and clears them away."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any

from flad_carla.evaluation.road import Road
from flad_carla.evaluation.routes import ScenarioConfig
from flad_carla.evaluation.world_view import WorldState
from flad_carla.route_planner import RoutePoint
from flad_carla.scenarios.base import Scenario, Stage, Track
from flad_carla.scenarios.blocked_lane import ConstructionObstacle, ParkedObstacle
from flad_carla.scenarios.pedestrian import PedestrianCrossing
from flad_carla.scenarios.vehicles import CutIn, HardBrake, OncomingDrift

_log = logging.getLogger(__name__)

# Scenario types by the names that leaderboard route files use.
KINDS: Mapping[str, type[Scenario]] = {
    "PedestrianCrossing": PedestrianCrossing,
    "DynamicObjectCrossing": PedestrianCrossing,
    "ParkingCrossingPedestrian": PedestrianCrossing,
    "CutIn": CutIn,
    "HighwayCutIn": CutIn,
    "ParkingCutIn": CutIn,
    "StaticCutIn": CutIn,
    "OncomingDrift": OncomingDrift,
    "InvadingTurn": OncomingDrift,
    "HardBreakRoute": HardBrake,
    "OtherLeadingVehicle": HardBrake,
    "ParkedObstacle": ParkedObstacle,
    "ParkedObstacleTwoWays": ParkedObstacle,
    "Accident": ParkedObstacle,
    "AccidentTwoWays": ParkedObstacle,
    "ConstructionObstacle": ConstructionObstacle,
    "ConstructionObstacleTwoWays": ConstructionObstacle,
}
_ON_ROUTE_M = 2.0


class ScenarioManager:
    """All scenarios of one route run."""

    def __init__(
        self,
        world: Any,
        town_map: Any,
        trace: Sequence[RoutePoint],
        configs: Sequence[ScenarioConfig],
        seed: int,
    ) -> None:
        stage = Stage(world=world, road=Road(town_map), track=Track(trace))
        self._scenarios: list[Scenario] = []
        self._left_out: dict[str, str] = {}
        for config in configs:
            kind = KINDS.get(config.kind)
            s, d = stage.track.project(config.trigger[0], config.trigger[1])
            if kind is None:
                self._leave_out(config, f"type {config.kind} is not implemented")
            elif abs(d) > _ON_ROUTE_M or not -_ON_ROUTE_M < s < stage.track.length_m:
                self._leave_out(config, f"its trigger is {abs(d):.1f} m off the route")
            else:
                rng = random.Random(f"{seed}/{config.name}")
                self._scenarios.append(kind(stage, config, s, rng))

    @property
    def states(self) -> dict[str, str]:
        """What became of each scenario, by name."""
        return {s.config.name: s.state for s in self._scenarios} | self._left_out

    def step(self, sim_time_s: float, state: WorldState, route_m: float) -> None:
        """One tick."""
        for scenario in self._scenarios:
            scenario.step(sim_time_s, state, route_m)

    def clean_up(self) -> None:
        """Remove every actor of the scenarios."""
        for scenario in self._scenarios:
            scenario.clean_up()

    def _leave_out(self, config: ScenarioConfig, why: str) -> None:
        _log.warning("scenario %s left out: %s", config.name, why)
        self._left_out[config.name] = f"left out: {why}"
