# SPDX-License-Identifier: Apache-2.0
"""Blueprints, spawning and destroying: the real client against the server."""

from __future__ import annotations

import carla
import pytest
from contract.carla_world import CarlaWorld, SimProcess, transform


def test_the_library_has_carla_s_ids_and_attributes(carla_world: CarlaWorld) -> None:
    library = carla_world.library
    for blueprint in (
        "vehicle.lincoln.mkz_2020",
        "vehicle.tesla.model3",
        "walker.pedestrian.0001",
        "static.prop.trafficcone01",
        "sensor.camera.rgb",
        "sensor.lidar.ray_cast",
        "sensor.other.lane_invasion",
        "controller.ai.walker",
    ):
        assert library.find(blueprint).id == blueprint
    mkz = library.find("vehicle.lincoln.mkz_2020")
    assert mkz.get_attribute("number_of_wheels").as_int() == 4
    assert mkz.get_attribute("base_type").as_str() == "car"
    assert mkz.get_attribute("role_name").is_modifiable
    assert {"vehicle", "lincoln", "mkz_2020"} <= set(mkz.tags)
    camera = library.find("sensor.camera.rgb")
    assert camera.get_attribute("image_size_x").as_int() == 800
    assert camera.get_attribute("fov").as_float() == 90.0


def test_an_actor_keeps_what_it_was_spawned_with(carla_world: CarlaWorld) -> None:
    car = carla_world.spawn("vehicle.lincoln.mkz_2020", role_name="hero", color="10,20,30")
    carla_world.tick()
    found = carla_world.world.get_actor(car.id)
    assert isinstance(found, carla.Vehicle)
    assert found.type_id == "vehicle.lincoln.mkz_2020"
    assert (found.attributes["role_name"], found.attributes["color"]) == ("hero", "10,20,30")
    extent = found.bounding_box.extent
    assert (2 * extent.x, 2 * extent.y) == (pytest.approx(4.89), pytest.approx(1.84))
    assert int(found.semantic_tags[0]) == int(carla.CityObjectLabel.Car)


def test_two_cars_cannot_stand_in_one_place(carla_world: CarlaWorld) -> None:
    point = carla_world.map.get_spawn_points()[10]
    carla_world.spawn("vehicle.lincoln.mkz_2020", point)
    with pytest.raises(RuntimeError, match="Spawn failed because of collision at spawn position"):
        carla_world.spawn("vehicle.tesla.model3", point)
    definition = carla_world.library.find("vehicle.tesla.model3")
    assert carla_world.world.try_spawn_actor(definition, point) is None


def test_a_destroyed_actor_is_gone_for_good(carla_world: CarlaWorld) -> None:
    first = carla_world.spawn("vehicle.lincoln.mkz_2020")
    carla_world.tick()
    assert first.destroy()
    carla_world.tick()
    assert first.id not in [a.id for a in carla_world.world.get_actors()]
    second = carla_world.spawn("vehicle.lincoln.mkz_2020")
    assert second.id > first.id


def test_the_town_s_own_actors_cannot_be_destroyed(
    carla_world: CarlaWorld, sim: SimProcess
) -> None:
    light = carla_world.world.get_actors().filter("traffic.traffic_light")[0]
    assert not light.destroy()
    carla_world.tick()
    assert carla_world.world.get_snapshot().has_actor(light.id)


def test_a_sensor_rides_on_its_parent(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    camera = carla_world.spawn("sensor.camera.rgb", transform(1.5, 0.5, 2.4, yaw=30.0), on=car)
    assert camera.parent.id == car.id
    car.apply_control(carla.VehicleControl(throttle=0.6, steer=0.2))
    for _ in range(20):
        carla_world.tick()
        place, base = camera.get_transform(), car.get_transform()
        there = base.transform(carla.Location(1.5, 0.5, 2.4))
        assert place.location.distance(there) < 1e-4
        turned = place.rotation.yaw - base.rotation.yaw
        assert (turned + 180.0) % 360.0 - 180.0 == pytest.approx(30.0, abs=1e-3)


def test_a_prop_is_solid(carla_world: CarlaWorld) -> None:
    point = carla_world.map.get_spawn_points()[10]
    carla_world.spawn("static.prop.streetbarrier", point)
    definition = carla_world.library.find("vehicle.tesla.model3")
    assert carla_world.world.try_spawn_actor(definition, point) is None


@pytest.mark.parametrize(
    ("blueprint", "attribute", "value", "complaint"),
    [
        ("sensor.camera.rgb", "image_size_x", "0", "image_size_x"),
        ("sensor.camera.rgb", "image_size_x", "1000000", "image_size_x"),
        ("sensor.camera.rgb", "fov", "nan", "fov"),
        ("sensor.camera.depth", "fov", "360", "fov"),
        ("sensor.lidar.ray_cast", "channels", "0", "channels"),
        ("sensor.lidar.ray_cast", "range", "-1", "range"),
        ("sensor.other.radar", "range", "nan", "range"),
    ],
)
def test_a_sensor_that_cannot_measure_is_refused_with_the_reason(
    carla_world: CarlaWorld, blueprint: str, attribute: str, value: str, complaint: str
) -> None:
    with pytest.raises(RuntimeError, match=complaint):
        carla_world.spawn(blueprint, transform(0, 0, 5), **{attribute: value})


def test_a_batch_spawns_in_order_and_runs_what_follows(carla_world: CarlaWorld) -> None:
    points = carla_world.map.get_spawn_points()
    definition = carla_world.library.find("vehicle.tesla.model3")
    spawn, future = carla.command.SpawnActor, carla.command.FutureActor
    full = carla.VehicleControl(throttle=1.0)
    results = carla_world.client.apply_batch_sync(
        [
            spawn(definition, points[20]).then(carla.command.ApplyVehicleControl(future, full)),
            spawn(definition, points[20]),
            spawn(definition, points[24]),
            carla.command.DestroyActor(4_000_000),
        ],
        True,
    )
    assert [bool(r.error) for r in results] == [False, True, False, True]
    assert "collision" in results[1].error
    assert "4000000" in results[3].error
    first, third = (carla_world.world.get_actor(results[i].actor_id) for i in (0, 2))
    carla_world.tick(20)
    assert first.get_velocity().length() > 2.0
    assert third.get_velocity().length() < 0.1
    gone = carla_world.client.apply_batch_sync(
        [carla.command.DestroyActor(x) for x in (first, third)], True
    )
    assert not any(r.error for r in gone)
    assert not carla_world.world.get_snapshot().has_actor(first.id)


def test_every_command_that_python_can_send_in_a_batch_works(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    walker = carla_world.spawn("walker.pedestrian.0002", transform(10.0, -3.0, 1.0))
    c, v = carla.command, carla.Vector3D
    somewhere = carla_world.map.get_spawn_points()[40]
    results = carla_world.client.apply_batch_sync(
        [
            c.ApplyTransform(car, somewhere),
            c.ApplyVehicleControl(car, carla.VehicleControl(brake=1.0)),
            c.ApplyVehicleAckermannControl(car, carla.VehicleAckermannControl(speed=3.0)),
            c.ApplyWalkerControl(walker, carla.WalkerControl(v(0, 1, 0), 1.0)),
            c.ApplyVehiclePhysicsControl(car, car.get_physics_control()),
            c.ApplyWalkerState(walker, transform(10.0, -3.5, 1.0), 0.5),
            c.ApplyTargetVelocity(car, v(0.0, 0.0, 0.0)),
            c.ApplyTargetAngularVelocity(car, v(0.0, 0.0, 0.0)),
            c.ApplyImpulse(car, v(1.0, 0.0, 0.0)),
            c.ApplyForce(car, v(1.0, 0.0, 0.0)),
            c.ApplyAngularImpulse(car, v(0.0, 0.0, 1.0)),
            c.ApplyTorque(car, v(0.0, 0.0, 1.0)),
            c.SetSimulatePhysics(car, True),
            c.SetEnableGravity(car, True),
            c.SetVehicleLightState(car, carla.VehicleLightState.LowBeam),
        ],
        True,
    )
    assert [r.error for r in results] == [""] * len(results)
    assert car.get_location().distance(somewhere.location) < 0.5
    # The wheel's own command turns every light state into 1 before it sends it.
    assert car.get_light_state() == carla.VehicleLightState.Position
