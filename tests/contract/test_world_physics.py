# SPDX-License-Identifier: Apache-2.0
"""What the client sees of motion is what the physics core computes: nothing is lost on the way."""

from __future__ import annotations

import math
import queue
from typing import Any

import carla
import numpy as np
import pytest
from contract.carla_world import DELTA_S, CarlaWorld, speed, transform

from flad_sim.catalogue import DEFAULT_VEHICLE, VEHICLES
from flad_sim.physics import VehicleBody
from flad_sim.types import Transform, VehicleControl


def _straight(world: CarlaWorld, length_m: float) -> Any:
    """A spawn point with that much straight road ahead."""
    for point in world.map.get_spawn_points():
        here = world.map.get_waypoint(point.location)
        ahead = here.next(length_m)
        turned = ahead and abs(ahead[0].transform.rotation.yaw - here.transform.rotation.yaw) % 360
        if ahead and turned < 0.5:
            return point
    raise AssertionError(f"no {length_m} m of straight road in {world.map.name}")


def test_a_driven_run_through_the_client_is_the_cores(carla_world: CarlaWorld) -> None:
    point = _straight(carla_world, 60.0)
    car = carla_world.spawn(DEFAULT_VEHICLE, point)
    p = point
    core = VehicleBody(
        VEHICLES[DEFAULT_VEHICLE],
        Transform(p.location.x, p.location.y, p.location.z, 0.0, p.rotation.yaw, 0.0),
    )
    ground = carla_world.map.get_waypoint(p.location).transform.location.z
    # Values that a 32-bit float holds exactly, as they cross the wire; no kerb lies on the left.
    phases = [
        (20, 0.0, 0.0, 0.0),
        (60, 1.0, 0.0, 0.0),
        (10, 0.5, -0.0625, 0.0),
        (10, 0.5, 0.0625, 0.0),
        (60, 0.0, 0.0, 1.0),
    ]
    fastest = 0.0
    for frames, throttle, steer, brake in phases:
        car.apply_control(carla.VehicleControl(throttle=throttle, steer=steer, brake=brake))
        core.apply_control(VehicleControl(throttle=throttle, steer=steer, brake=brake))
        for _ in range(frames):
            carla_world.tick()
            core.step(DELTA_S, lambda x, y: ground)
            seen, told = car.get_transform(), core.pose
            assert (seen.location.x, seen.location.y) == pytest.approx(
                told.transform.location[:2], abs=1e-4
            )
            assert seen.rotation.yaw == pytest.approx(told.transform.yaw, abs=1e-4)
            v = car.get_velocity()
            assert (v.x, v.y) == pytest.approx(told.velocity[:2], abs=1e-4)
            fastest = max(fastest, speed(car))
    assert fastest > 12.0
    assert speed(car) == 0.0


def test_an_imu_feels_the_circle_that_its_car_drives(carla_world: CarlaWorld) -> None:
    car = carla_world.car(_straight(carla_world, 60.0))
    imu = carla_world.spawn("sensor.other.imu", on=car)
    measure = carla_world.listen(imu)
    at_rest = measure()
    assert at_rest.accelerometer.z == pytest.approx(9.81, abs=1e-3)
    assert abs(at_rest.gyroscope.z) < 1e-6
    car.enable_constant_velocity(carla.Vector3D(5.0, 0.0, 0.0))
    car.apply_control(carla.VehicleControl(steer=0.25))
    for _ in range(10):
        data = measure()
    rate = math.radians(car.get_angular_velocity().z)

    assert rate > 0.2  # steering right turns clockwise, which is positive
    assert data.gyroscope.z == pytest.approx(rate, rel=1e-3)
    assert data.accelerometer.y == pytest.approx(5.0 * rate, rel=0.02)
    assert abs(data.accelerometer.x) < 0.2
    forward = car.get_transform().get_forward_vector()
    north_to_forward = math.atan2(forward.x, -forward.y) % math.tau
    assert data.compass == pytest.approx(north_to_forward, abs=1e-4)


def test_gnss_says_what_the_map_says(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    place = carla.Transform(carla.Location(x=1.5, y=-0.5, z=2.0))
    gnss = carla_world.spawn("sensor.other.gnss", place, on=car)
    data = carla_world.listen(gnss)()
    expected = carla_world.map.transform_to_geolocation(data.transform.location)

    assert data.latitude == pytest.approx(expected.latitude, abs=1e-9)
    assert data.longitude == pytest.approx(expected.longitude, abs=1e-9)
    assert data.altitude == pytest.approx(expected.altitude, abs=1e-4)


def test_a_collision_tells_the_momentum_that_was_exchanged(carla_world: CarlaWorld) -> None:
    car = carla_world.car(_straight(carla_world, 60.0))
    pose = car.get_transform()
    forward = pose.get_forward_vector()
    there = carla.Transform(pose.location + forward * 15.0 + carla.Location(z=0.3), pose.rotation)
    other = carla_world.spawn("vehicle.tesla.model3", there)
    events: queue.Queue[Any] = queue.Queue()
    carla_world.spawn("sensor.other.collision", on=car).listen(events.put)
    carla_world.tick(10)
    assert events.empty()
    car.set_target_velocity(forward * 12.0)
    frames = []
    before = 12.0
    for _ in range(40):
        frames.append(carla_world.tick())
        if speed(other) > 0.5:
            break
        before = speed(car)
    event = events.get(timeout=10.0)
    mass = car.get_physics_control().mass
    impulse = event.normal_impulse

    assert event.frame == frames[-1]
    assert (event.actor.id, event.other_actor.id) == (car.id, other.id)
    along = impulse.x * forward.x + impulse.y * forward.y
    assert along < 0.0
    # Rolling resistance of a frame aside, the impulse is the change of momentum.
    assert -along / mass == pytest.approx(before - speed(car), abs=0.1)


def test_the_obstacle_detector_and_the_radar_see_the_car_ahead(carla_world: CarlaWorld) -> None:
    car = carla_world.car(_straight(carla_world, 60.0))
    pose = car.get_transform()
    ahead = pose.location + pose.get_forward_vector() * 20.0 + carla.Location(z=0.3)
    other = carla_world.spawn("vehicle.tesla.model3", carla.Transform(ahead, pose.rotation))
    mount = transform(0.0, 0.0, 0.8)
    detector = carla_world.spawn(
        "sensor.other.obstacle", mount, on=car, distance=30, hit_radius=0.2
    )
    seen = carla_world.listen(detector)
    for _ in range(10):
        data = seen()
    gap = 20.0 - other.bounding_box.extent.x - 0.2
    assert data.other_actor.id == other.id
    assert data.distance == pytest.approx(gap, abs=0.1)

    radar = carla_world.spawn(
        "sensor.other.radar",
        transform(car.bounding_box.extent.x + 0.1, 0.0, 0.8),
        on=car,
        horizontal_fov=4,
        vertical_fov=2,
        points_per_second=4000,
        range=40,
    )
    look = carla_world.listen(radar)
    car.enable_constant_velocity(carla.Vector3D(4.0, 0.0, 0.0))
    for _ in range(5):
        points = look()
    read = np.array([(p.velocity, p.depth, p.azimuth) for p in points])
    distance = car.get_location().distance(other.get_location())
    assert len(read) > 50
    assert np.median(read[:, 0]) == pytest.approx(-4.0, abs=0.05)
    assert np.median(read[:, 1]) == pytest.approx(
        distance - car.bounding_box.extent.x - other.bounding_box.extent.x - 0.1, abs=0.1
    )
