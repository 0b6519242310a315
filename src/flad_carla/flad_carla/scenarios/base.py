# SPDX-License-Identifier: Apache-2.0
"""What all scenarios share: the route they happen on, their actors, and when they are gone."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import carla

from flad_carla.evaluation.road import Road
from flad_carla.evaluation.routes import ScenarioConfig
from flad_carla.evaluation.world_view import BACKGROUND_ROLES, WorldState
from flad_carla.route_planner import RoutePoint
from flad_carla.run_log import BodyView

_log = logging.getLogger(__name__)

ROLE = "scenario"
_CLEAR_SIDE_M = 5.0


class Track:
    """The route as scenarios use it: places by distance along it and to its right."""

    def __init__(self, route: Sequence[RoutePoint]) -> None:
        self._route = route

    @property
    def length_m(self) -> float:
        """Length of the route."""
        return self._route[-1].distance

    def point(self, s: float) -> RoutePoint:
        """The route point at (or next after) ``s``."""
        s = min(max(s, 0.0), self.length_m)
        index = min(round(s), len(self._route) - 1)
        while index > 0 and self._route[index].distance > s:
            index -= 1
        while index + 1 < len(self._route) and self._route[index].distance < s:
            index += 1
        return self._route[index]

    def transform(self, s: float, d: float = 0.0, turn_deg: float = 0.0, up: float = 0.3) -> Any:
        """The pose at ``s``, ``d`` metres to the right, turned by ``turn_deg``."""
        x, y, z, yaw = self.place(s, d)
        return carla.Transform(carla.Location(x, y, z + up), carla.Rotation(yaw=yaw + turn_deg))

    def place(self, s: float, d: float = 0.0) -> tuple[float, float, float, float]:
        """``(x, y, z, yaw)`` at ``s``, ``d`` to the right; straight on beyond the ends."""
        p = self.point(s)
        along = s - p.distance
        yaw = math.radians(p.yaw)
        x = p.x + along * math.cos(yaw) - d * math.sin(yaw)
        y = p.y + along * math.sin(yaw) + d * math.cos(yaw)
        return x, y, p.z, p.yaw

    def project(self, x: float, y: float, near: float | None = None) -> tuple[float, float]:
        """``(s, d)`` of a point, looked for within 40 m of ``near`` where that is given."""
        points = self._route
        if near is not None:
            points = [p for p in points if abs(p.distance - near) < 40.0] or points
        p = min(points, key=lambda q: (q.x - x) ** 2 + (q.y - y) ** 2)
        yaw = math.radians(p.yaw)
        dx, dy = x - p.x, y - p.y
        along, side = (
            dx * math.cos(yaw) + dy * math.sin(yaw),
            -dx * math.sin(yaw) + dy * math.cos(yaw),
        )
        return p.distance + along, side


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where scenarios play."""

    world: Any  # carla.World
    road: Road
    track: Track


class Scenario:
    """One scenario: ``place`` puts its actors there, ``play`` moves them, ``end`` removes them.

    ``start_s`` is the trigger's distance along the route.
    """

    approach_m = 70.0  # placed when the ego is this near to the trigger
    over_m = 120.0  # removed when the ego is this far past it

    def __init__(
        self, stage: Stage, config: ScenarioConfig, start_s: float, rng: random.Random
    ) -> None:
        self.stage = stage
        self.config = config
        self.start_s = start_s
        self.rng = rng
        self.state = "waiting"  # waiting, placed, over, failed
        self._actors: list[Any] = []

    def step(self, now_s: float, state: WorldState, ego_s: float) -> None:
        """One tick."""
        if self.state == "waiting" and ego_s > self.start_s - self.approach_m:
            self.state = "placed" if self.place(state, ego_s) else "failed"
            if self.state == "failed":
                _log.warning("scenario %s: no room for its actors", self.config.name)
                self.clean_up()
        elif self.state == "placed":
            if ego_s > self.start_s + self.over_m:
                self.end()
            else:
                self.play(now_s, state, ego_s)

    def place(self, state: WorldState, ego_s: float) -> bool:
        """Spawn the actors; false if there is no room."""
        raise NotImplementedError

    def play(self, now_s: float, state: WorldState, ego_s: float) -> None:
        """Move them."""

    def end(self) -> None:
        """It is over: the actors go."""
        self.clean_up()
        self.state = "over"

    def clean_up(self) -> None:
        """Remove the actors."""
        for actor in self._actors:
            try:
                actor.destroy()
            except RuntimeError as error:
                _log.warning("scenario %s: %s", self.config.name, error)
        self._actors = []

    # --- for the scenarios ----------------------------------------------------------------------

    def spawn(self, blueprint_id: str, transform: Any) -> Any:
        """A new actor of ours, None if there is no room or no such blueprint."""
        library = self.stage.world.get_blueprint_library()
        found = sorted(library.filter(blueprint_id), key=lambda b: b.id)
        if not found:
            return None
        blueprint = self.rng.choice(found)
        if blueprint.has_attribute("role_name"):
            blueprint.set_attribute("role_name", ROLE)
        if blueprint.has_attribute("is_invincible"):
            blueprint.set_attribute("is_invincible", "false")
        for attribute in ("color", "driver_id"):
            if blueprint.has_attribute(attribute):
                values = blueprint.get_attribute(attribute).recommended_values
                if values:
                    blueprint.set_attribute(attribute, self.rng.choice(values))
        actor = self.stage.world.try_spawn_actor(blueprint, transform)
        if actor is not None:
            self._actors.append(actor)
        return actor

    def clear_traffic(
        self, state: WorldState, from_s: float, to_s: float, side_m: float = _CLEAR_SIDE_M
    ) -> None:
        """Take background traffic away from a stretch of the route, so that the scene can play."""
        near = 0.5 * (from_s + to_s)
        ids = []
        for body in state.actors:
            if not body.type_id.startswith("vehicle."):
                continue
            s, d = self.stage.track.project(body.pose.x, body.pose.y, near)
            if from_s - 3.0 < s < to_s + 3.0 and abs(d) < side_m:
                ids.append(body.actor_id)
        for actor in self.stage.world.get_actors(ids) if ids else ():
            if actor.attributes.get("role_name") in BACKGROUND_ROLES:
                actor.destroy()

    def body(self, state: WorldState, actor: Any) -> BodyView | None:
        """An actor's state in this tick."""
        return next((b for b in state.actors if b.actor_id == actor.id), None)
