# SPDX-License-Identifier: Apache-2.0
"""Background traffic in a simulator that has none of its own: TrafficManager and walker AI.

A flad_sim that we start populates itself; a CARLA server that we are given does not.
"""

from __future__ import annotations

import logging
import random
from typing import Any

import carla

from flad_carla.evaluation.world_view import BACKGROUND_ROLES
from flad_carla.session import CarlaSession

_log = logging.getLogger(__name__)


class Background:
    """The traffic of one episode. Its manager must end before any vehicle goes.

    A TrafficManager that outlives a vehicle it has seen takes the whole process with it: on its
    last step it asks for that vehicle's box, and the client turns the refusal into an abort.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def close(self) -> None:
        """End the manager; the actors go with the next episode."""
        manager, self._manager = self._manager, None
        if manager is not None:
            manager.shut_down()


def populate(session: CarlaSession, vehicles: int, walkers: int, seed: int) -> Background:
    """Fill the world up to this many background vehicles and walkers, seeded.

    The actors belong to the episode: the next ``load_town`` takes them away.
    """
    world = session.world
    actors = world.get_actors()
    present = [
        a for a in actors.filter("vehicle.*") if a.attributes.get("role_name") in BACKGROUND_ROLES
    ]
    rng = random.Random(seed)
    manager = None
    if len(present) < vehicles:
        manager = session.client.get_trafficmanager(session.config.traffic_manager_port)
        manager.set_synchronous_mode(True)
        manager.set_random_device_seed(seed)
        _add_vehicles(session, vehicles - len(present), rng)
    if len(actors.filter("walker.*")) < walkers:
        _add_walkers(session, walkers - len(actors.filter("walker.*")), rng)
    return Background(manager)


def _add_vehicles(session: CarlaSession, count: int, rng: random.Random) -> None:
    library = sorted(
        (b for b in session.world.get_blueprint_library().filter("vehicle.*") if _is_car(b)),
        key=lambda b: b.id,
    )
    points = session.map.get_spawn_points()
    rng.shuffle(points)
    placed = 0
    for point in points:
        if placed == count:
            break
        blueprint = rng.choice(library)
        blueprint.set_attribute("role_name", "background")
        actor = session.world.try_spawn_actor(blueprint, point)
        if actor is not None:
            actor.set_autopilot(True, session.config.traffic_manager_port)
            placed += 1
    if placed < count:
        _log.warning("%d background vehicles asked for, room for %d", count, placed)


def _add_walkers(session: CarlaSession, count: int, rng: random.Random) -> None:
    world = session.world
    library = sorted(
        world.get_blueprint_library().filter("walker.pedestrian.*"), key=lambda b: b.id
    )
    controller = world.get_blueprint_library().find("controller.ai.walker")
    placed: list[Any] = []
    for _ in range(3 * count):
        if len(placed) == count:
            break
        location = world.get_random_location_from_navigation()
        if location is None:
            _log.warning("the town has no navigation mesh: no walkers")
            return
        actor = world.try_spawn_actor(rng.choice(library), carla.Transform(location))
        if actor is not None:
            placed.append(actor)
    for actor in placed:
        ai = world.spawn_actor(controller, carla.Transform(), attach_to=actor)
        ai.start()
        ai.go_to_location(world.get_random_location_from_navigation())


def _is_car(blueprint: Any) -> bool:
    if not blueprint.has_attribute("number_of_wheels"):
        return False
    return int(blueprint.get_attribute("number_of_wheels")) == 4
