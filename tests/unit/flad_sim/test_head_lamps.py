# SPDX-License-Identifier: Apache-2.0
"""Traffic switches its head lamps by the sun, and a client sees it."""

from __future__ import annotations

from dataclasses import replace

import carla
import pytest

from flad_sim.actors import TrafficVehicle
from flad_sim.world import World, WorldConfig


@pytest.fixture(scope="module")
def world():
    world = World(WorldConfig(town="Grid", seed=3, num_vehicles=4, num_walkers=0))
    world.settings = replace(world.settings, fixed_delta_s=0.05)
    yield world
    world.close()


@pytest.mark.parametrize(("altitude_deg", "lit"), [(60.0, False), (-30.0, True), (6.0, False)])
def test_head_lamps_follow_the_sun(world: World, altitude_deg: float, lit: bool) -> None:
    world.episode.weather = replace(world.episode.weather, sun_altitude_angle=altitude_deg)
    world.tick(lambda _: False)
    world.tick(lambda _: False)

    traffic = world.episode.actors.of_kind(TrafficVehicle)
    assert traffic
    low_beam = int(carla.VehicleLightState.LowBeam)
    assert all(bool(vehicle.lights & low_beam) == lit for vehicle in traffic)
    shown = {a.actor_id: a.lights for a in world.episode.visible().actors}
    assert all(bool(shown[v.actor_id] & low_beam) == lit for v in traffic)
