# SPDX-License-Identifier: Apache-2.0
"""Places the scenarios of a route, starts them at their triggers, and clears them away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flad_carla.evaluation.routes import ScenarioConfig
from flad_carla.evaluation.world_view import WorldState
from flad_carla.route_planner import RoutePoint


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
        pass

    def step(self, sim_time_s: float, state: WorldState, route_m: float) -> None:
        """One tick."""

    def clean_up(self) -> None:
        """Remove every actor of the scenarios."""
