# SPDX-License-Identifier: Apache-2.0
"""Light times of a recording: what each light of a made-up junction is told, and when."""

from __future__ import annotations

import carla
import pytest

from flad_carla.recorder.favoured_lights import FavouredLights, FavouredLightsConfig
from flad_carla.run_log import ExpertView
from flad_sim.traffic.lights import LightTimes

GREEN, RED = carla.TrafficLightState.Green, carla.TrafficLightState.Red
CONFIG = FavouredLightsConfig(green_s=12.0, cross_green_s=5.0, yellow_s=2.5, all_red_s=1.5)


class Light:
    """A light that remembers its times."""

    type_id = "traffic.traffic_light"

    def __init__(self, number):
        self.id, self.state, self.times = number, RED, {}

    def get_state(self):
        return self.state

    def set_green_time(self, seconds):
        self.times["green"] = seconds

    def set_yellow_time(self, seconds):
        self.times["yellow"] = seconds

    def set_red_time(self, seconds):
        self.times["red"] = seconds


class World:
    """The lights 0, 1 and 2, by CARLA's calls."""

    def __init__(self):
        self.lights = [Light(number) for number in range(3)]

    def get_actors(self):
        return self

    def filter(self, pattern):
        assert pattern == "traffic.traffic_light*"
        return self.lights

    def get_actor(self, number):
        return self.lights[number] if 0 <= number < len(self.lights) else None

    @property
    def greens(self):
        return [light.times["green"] for light in self.lights]


@pytest.fixture
def world():
    return World()


@pytest.fixture
def favoured(world):
    lights = FavouredLights(CONFIG)
    lights.start(world)
    return lights


def look(favoured, world, ahead):
    favoured.step(world, ExpertView(target_speed_mps=8.0, affected_light_id=ahead))


def test_every_light_starts_with_the_short_times(favoured, world):
    assert [light.times for light in world.lights] == [
        {"green": 5.0, "yellow": 2.5, "red": 1.5} for _ in world.lights
    ]


def test_only_the_light_ahead_has_the_long_green(favoured, world):
    look(favoured, world, 0)  # an id of 0 is a light too
    assert world.greens == [12.0, 5.0, 5.0]
    look(favoured, world, 2)
    assert world.greens == [5.0, 5.0, 12.0]
    look(favoured, world, -1)
    assert world.greens == [5.0, 5.0, 5.0]


def test_a_green_that_the_car_drives_through_is_not_cut_short(favoured, world):
    world.lights[1].state = GREEN
    look(favoured, world, 1)
    look(favoured, world, -1)
    look(favoured, world, 2)
    assert world.greens == [5.0, 12.0, 12.0]
    world.lights[1].state = carla.TrafficLightState.Yellow
    look(favoured, world, 2)
    assert world.greens == [5.0, 5.0, 12.0]


def test_a_light_that_is_ahead_again_stays_favoured(favoured, world):
    world.lights[1].state = GREEN
    for ahead in (1, -1, 1):
        look(favoured, world, ahead)
    world.lights[1].state = RED
    look(favoured, world, 1)
    assert world.greens == [5.0, 12.0, 5.0]


def test_a_light_that_has_gone_is_let_be(favoured, world):
    look(favoured, world, 7)
    look(favoured, world, -1)
    assert world.greens == [5.0, 5.0, 5.0]


def test_another_run_starts_anew(favoured, world):
    world.lights[1].state = GREEN
    look(favoured, world, 1)
    look(favoured, world, -1)
    fresh = World()
    favoured.start(fresh)
    fresh.lights[1].times.clear()
    look(favoured, fresh, -1)
    assert fresh.lights[1].times == {}


def test_yellow_and_all_red_are_not_shorter_than_the_towns_own():
    config, town = FavouredLightsConfig(), LightTimes()
    assert config.yellow_s >= town.yellow_s and config.all_red_s >= town.red_s


@pytest.mark.parametrize("name", ["green_s", "cross_green_s", "yellow_s", "all_red_s"])
def test_a_time_that_is_not_positive_is_named(name):
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
        FavouredLightsConfig(**{name: 0.0})
