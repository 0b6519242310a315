# SPDX-License-Identifier: Apache-2.0
"""One seed, one world: to the last bit after any history, and another for another seed."""

from __future__ import annotations

import pytest

from flad_sim import spawning
from flad_sim.actors import Vehicle
from flad_sim.errors import RequestRefused
from flad_sim.protocol.structs import ActorDescription
from flad_sim.types import VehicleControl
from flad_sim.world import World, WorldConfig

NUM_TICKS = 60
HEAD = 48 + 36


def _drive(world: World) -> list[bytes]:
    """Rows of the snapshots of a short drive."""
    point = world.episode.spawn_points[5]
    description = ActorDescription(0, "vehicle.lincoln.mkz_2020", {"role_name": "ego"})
    car = spawning.spawn(world.episode, description, point.moved(z=point.z + 5.0))
    vehicle = spawning.take_over(world.episode, car.actor_id)
    rows = []
    for i in range(NUM_TICKS):
        vehicle.body.apply_control(VehicleControl(throttle=0.7, steer=0.05 * (i % 5 - 2)))
        rows.append(world.tick().snapshot[HEAD:])
    return rows


def test_a_seed_is_a_world_and_a_reload_begins_it_anew() -> None:
    config = WorldConfig(town="Grid", seed=7, num_vehicles=20, num_walkers=5)
    world = World(config)
    first = _drive(world)
    moving = [v for v in world.episode.actors.of_kind(Vehicle) if v.pose.velocity != (0, 0, 0)]
    assert len(moving) > 5
    world.load("", reset_settings=False)
    second = _drive(world)
    world.close()
    other = World(WorldConfig(town="Grid", seed=8, num_vehicles=20, num_walkers=5))
    third = _drive(other)
    other.close()
    assert first == second
    assert first != third


def test_an_unknown_town_leaves_the_present_one_in_place() -> None:

    world = World(WorldConfig(town="Grid"))
    try:
        before = world.episode
        with pytest.raises(RequestRefused, match="Grid"):
            world.load("Atlantis")
        assert world.episode is before
        frame = world.frame
        assert world.tick().frame == frame + 1
    finally:
        world.close()
