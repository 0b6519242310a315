# SPDX-License-Identifier: Apache-2.0
"""Traffic lights: the real client against the server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import carla
import pytest
from contract.carla_world import CarlaWorld

STATES = [
    carla.TrafficLightState.Red,
    carla.TrafficLightState.Yellow,
    carla.TrafficLightState.Green,
    carla.TrafficLightState.Off,
]


@pytest.fixture
def lights(carla_world: CarlaWorld) -> Iterator[list[Any]]:
    yield list(carla_world.world.get_actors().filter("traffic.traffic_light"))
    carla_world.world.freeze_all_traffic_lights(False)
    carla_world.world.reset_all_traffic_lights()
    carla_world.tick()


def test_a_light_shows_what_it_is_told(carla_world: CarlaWorld, lights: list[Any]) -> None:
    lights[0].freeze(True)
    for state in STATES:
        lights[0].set_state(state)
        carla_world.tick()
        assert lights[0].get_state() == state
        carla_world.tick(40)
        assert lights[0].get_state() == state  # frozen


def test_frozen_lights_do_not_change_and_others_do(
    carla_world: CarlaWorld, lights: list[Any]
) -> None:
    carla_world.world.freeze_all_traffic_lights(True)
    carla_world.tick()
    assert all(light.is_frozen() for light in lights)
    before = [light.get_state() for light in lights]
    carla_world.tick(400)
    assert [light.get_state() for light in lights] == before
    carla_world.world.freeze_all_traffic_lights(False)
    carla_world.tick(400)
    assert [light.get_state() for light in lights] != before


def test_times_come_back_as_they_were_set(carla_world: CarlaWorld, lights: list[Any]) -> None:
    light = lights[3]
    light.set_green_time(11.0)
    light.set_yellow_time(2.5)
    light.set_red_time(1.5)
    carla_world.tick()
    assert light.get_green_time() == 11.0
    assert light.get_yellow_time() == 2.5
    assert light.get_red_time() == 1.5


def test_never_two_greens_in_a_group(carla_world: CarlaWorld, lights: list[Any]) -> None:
    groups = {tuple(sorted(x.id for x in light.get_group_traffic_lights())) for light in lights}
    assert sum(len(g) for g in groups) == len(lights)
    by_id = {light.id: light for light in lights}
    green_seen = set()
    for _ in range(120):
        carla_world.tick(5)
        for group in groups:
            greens = [i for i in group if by_id[i].get_state() == carla.TrafficLightState.Green]
            assert len(greens) <= 1
            green_seen.update(greens)
    assert len(green_seen) > len(groups)


def test_a_car_in_the_trigger_box_is_at_that_light(
    carla_world: CarlaWorld, lights: list[Any]
) -> None:
    car = carla_world.car()
    assert not car.is_at_traffic_light()
    carla_world.world.freeze_all_traffic_lights(True)
    for light in lights[:8]:
        stop = light.get_stop_waypoints()[0]
        car.set_transform(
            carla.Transform(
                stop.transform.location
                - stop.transform.get_forward_vector() * 2.0
                + carla.Location(z=0.1),
                stop.transform.rotation,
            )
        )
        for state in STATES[:3]:
            light.set_state(state)
            carla_world.tick()
            assert car.is_at_traffic_light()
            assert car.get_traffic_light().id == light.id
            assert car.get_traffic_light_state() == state


def test_lights_are_found_by_their_opendrive_id(carla_world: CarlaWorld, lights: list[Any]) -> None:
    for light in lights[:5]:
        found = carla_world.world.get_traffic_light_from_opendrive_id(light.get_opendrive_id())
        assert found.id == light.id


def test_heads_hang_near_their_pole_above_the_road(
    carla_world: CarlaWorld, lights: list[Any]
) -> None:
    for light in lights:
        (box,) = light.get_light_boxes()
        foot = light.get_location()
        assert 2.0 < box.location.z - foot.z < 8.0


def test_the_trigger_box_lies_across_the_lanes_of_its_stop_points(lights: list[Any]) -> None:
    """As the leaderboard reads it: x of the box along the actor's x axis crosses every lane."""
    several = 0
    for light in lights:
        stops = light.get_stop_waypoints()
        box, pose = light.trigger_volume, light.get_transform()
        assert abs(box.rotation.yaw) < 1.0
        assert box.extent.x > 1.4 * len({(w.road_id, w.lane_id) for w in stops})
        axis = pose.rotation.yaw
        for stop in stops:
            across = (stop.transform.rotation.yaw - axis) % 180.0
            assert across == pytest.approx(90.0, abs=15.0)
        several += len(stops) > 1
    assert several > 0
