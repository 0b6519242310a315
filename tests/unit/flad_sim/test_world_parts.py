# SPDX-License-Identifier: Apache-2.0
"""Ids, trigger boxes and road heights: the world's own small parts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flad_sim.actors import Actor, Sensor, TrafficLight, TrafficVehicle, Vehicle
from flad_sim.blueprints import BlueprintLibrary
from flad_sim.errors import RequestRefused
from flad_sim.height_field import HeightField
from flad_sim.registry import ActorRegistry
from flad_sim.signals import actor_transform, trigger_in_own_frame
from flad_sim.towns import load_town
from flad_sim.triggers import LightTriggers
from flad_sim.types import (
    BoundingBox,
    LightState,
    LightStatus,
    MovingActor,
    Pose,
    Signal,
    Transform,
)

LIBRARY = BlueprintLibrary()


def _vehicle(x: float, y: float, yaw: float) -> TrafficVehicle:
    blueprint = LIBRARY["vehicle.tesla.model3"]
    pose = Pose(Transform(x, y, yaw=yaw))
    mover = MovingActor("a", blueprint.blueprint_id, pose)
    return TrafficVehicle(
        actor_id=1, blueprint=blueprint, attributes={}, box=blueprint.box, pose=pose, mover=mover
    )


def _light(trigger: BoundingBox, heading: float) -> TrafficLight:
    signal = Signal(
        "s1", "1000001", 0.0, 1, 0.0, Transform(30.0, -4.0, yaw=123.0), 5.0, trigger,
        (Transform(20.0, 0.0, yaw=heading),), 1,
    )  # fmt: skip
    status = LightStatus("s1", LightState.YELLOW)
    return TrafficLight(
        actor_id=77,
        blueprint=LIBRARY["traffic.traffic_light"],
        attributes={},
        signal=signal,
        status=status,
    )


def test_ids_are_never_used_twice() -> None:
    registry = ActorRegistry()
    ids = []
    for _ in range(5):
        actor = Actor(actor_id=registry.new_id(), blueprint=LIBRARY["spectator"], attributes={})
        registry.add(actor)
        ids.append(actor.actor_id)
        registry.remove(actor.actor_id)
    assert len(set(ids)) == 5
    assert len(registry) == 0


def test_an_actor_of_another_kind_is_refused_by_name() -> None:
    registry = ActorRegistry()
    actor = registry.add(
        Actor(actor_id=registry.new_id(), blueprint=LIBRARY["spectator"], attributes={})
    )
    with pytest.raises(RequestRefused, match="spectator"):
        registry.get(actor.actor_id, Vehicle)
    with pytest.raises(RequestRefused, match="no actor 99"):
        registry.get(99, Actor)


@pytest.mark.parametrize("turn", [0.0, 37.0, 90.0, 200.0])
@pytest.mark.parametrize(
    ("x", "y", "yaw", "at"),
    [
        (20.0, 0.0, 0.0, True),
        (16.0, 0.0, 0.0, True),  # only the nose is inside
        (10.0, 0.0, 0.0, False),
        (24.5, 0.0, 0.0, False),
        (20.0, 2.5, 0.0, False),  # the next lane
        (20.0, 0.0, 180.0, False),  # driving away
        (20.0, 0.0, 50.0, True),
        (20.0, 0.0, 80.0, False),
    ],
)
def test_a_vehicle_is_at_the_light_whose_box_holds_it_and_that_it_faces(
    turn: float, x: float, y: float, yaw: float, at: bool
) -> None:
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    box = BoundingBox((20.0 * c, 20.0 * s, 0.0), (2.0, 1.75, 1.0), turn)
    triggers = LightTriggers([_light(box, turn)])
    vehicle = _vehicle(x * c - y * s, x * s + y * c, yaw + turn)
    triggers.update([vehicle])
    assert (vehicle.light_id, vehicle.light_state) == (
        (77, LightState.YELLOW) if at else (0, LightState.GREEN)
    )


def test_a_vehicle_that_leaves_the_box_is_free_again() -> None:
    triggers = LightTriggers([_light(BoundingBox((0.0, 0.0, 0.0), (2.0, 2.0, 1.0)), 0.0)])
    vehicle = _vehicle(0.0, 0.0, 0.0)
    triggers.update([vehicle])
    assert vehicle.light_id == 77
    vehicle.pose = Pose(Transform(50.0, 0.0))
    triggers.update([vehicle])
    assert (vehicle.light_id, vehicle.light_state) == (0, LightState.GREEN)


def test_the_trigger_box_in_the_light_s_frame_is_the_same_box() -> None:
    light = _light(BoundingBox((20.0, 3.0, 0.5), (2.0, 1.0, 1.0), 40.0), 40.0)
    own, pose = trigger_in_own_frame(light.signal), actor_transform(light.signal)
    back = pose.to_world(np.array([own.center]))[0]
    assert back == pytest.approx((20.0, 3.0, 0.5))
    assert (own.yaw + pose.yaw - 40.0) % 180.0 == pytest.approx(0.0)


@pytest.mark.parametrize("period_s", [0.0, 0.03, 0.05, 0.1, 0.15, 0.5])
@pytest.mark.parametrize("start", [0, 7])
def test_a_sensor_measures_at_its_period_from_its_first_frame(period_s: float, start: int) -> None:
    sensor = Sensor(
        actor_id=1, blueprint=LIBRARY["sensor.other.gnss"], attributes={}, period_s=period_s
    )
    due = [i for i in range(start, start + 100) if sensor.due(i * 0.05)]
    assert due[0] == start
    assert set(np.diff(due).tolist()) == {max(1, math.ceil(period_s / 0.05 - 1e-6))}


def test_the_height_field_is_the_map_s_surface() -> None:
    network = load_town("Grid").network
    field = HeightField(network)
    rng = np.random.default_rng(0)
    for point in network.spawn_points()[::7]:
        x, y = point.x + rng.uniform(-1.0, 1.0), point.y + rng.uniform(-1.0, 1.0)
        expected = network.height(x, y, point.z)
        assert field.near(point.z)(x, y) == pytest.approx(expected, abs=0.03)
    assert field.near(0.0)(1.0e5, 1.0e5) is None
