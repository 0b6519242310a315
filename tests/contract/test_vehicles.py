# SPDX-License-Identifier: Apache-2.0
"""Driving, physics, lights and pedestrians: the real client against the server."""

from __future__ import annotations

import math

import carla
import pytest
from contract.carla_world import DELTA_S, CarlaWorld, SimProcess, speed


def test_controls_are_seen_in_the_next_frame(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    car.apply_control(carla.VehicleControl(throttle=0.5, steer=-0.25, brake=0.0, hand_brake=False))
    carla_world.tick()
    back = car.get_control()
    assert (back.throttle, back.steer, back.brake) == (0.5, -0.25, 0.0)


def test_throttle_moves_along_the_car_and_brake_stops_it(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    start, forward = car.get_location(), car.get_transform().get_forward_vector()
    car.apply_control(carla.VehicleControl(throttle=0.7))
    carla_world.tick(60)
    way = car.get_location() - start
    assert way.x * forward.x + way.y * forward.y > 5.0
    assert abs(way.x * forward.y - way.y * forward.x) < 0.1
    car.apply_control(carla.VehicleControl(brake=1.0))
    carla_world.tick(60)
    assert speed(car) < 0.01


def test_velocity_is_the_slope_of_the_way(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    car.apply_control(carla.VehicleControl(throttle=0.6))
    carla_world.tick(40)
    before = car.get_location()
    carla_world.tick()
    way = before.distance(car.get_location()) / DELTA_S
    assert speed(car) == pytest.approx(way, abs=0.2)
    a = car.get_acceleration()
    assert math.hypot(a.x, a.y) > 0.2


def test_steering_right_turns_clockwise(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    yaw = car.get_transform().rotation.yaw
    car.apply_control(carla.VehicleControl(throttle=0.5, steer=0.4))
    carla_world.tick(30)
    turned = (car.get_transform().rotation.yaw - yaw + 180.0) % 360.0 - 180.0
    assert turned > 3.0
    assert car.get_angular_velocity().z > 1.0
    front = carla.VehicleWheelLocation.FL_Wheel
    assert car.get_wheel_steer_angle(front) > 1.0
    assert car.get_wheel_steer_angle(carla.VehicleWheelLocation.BL_Wheel) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_control_that_is_no_number_never_reaches_the_car(
    carla_world: CarlaWorld, sim: SimProcess, bad: float
) -> None:
    car = carla_world.car()
    for control in (
        carla.VehicleControl(throttle=bad),
        carla.VehicleControl(throttle=1.0, steer=bad),
        carla.VehicleControl(throttle=1.0, brake=bad),
    ):
        car.apply_control(control)
    carla_world.tick(10)
    assert car.get_control().throttle == 0.0
    assert speed(car) < 0.05
    assert f"apply_control_to_vehicle({car.id}) refused" in sim.log
    assert "must be finite" in sim.log


def test_a_control_out_of_range_is_clamped_and_said_once(
    carla_world: CarlaWorld, sim: SimProcess
) -> None:
    car = carla_world.car()
    for _ in range(5):
        car.apply_control(carla.VehicleControl(throttle=7.0, steer=-9.0, brake=-3.0))
        carla_world.tick()
    back = car.get_control()
    assert (back.throttle, back.steer, back.brake) == (1.0, -1.0, 0.0)
    assert sim.log.count(f"vehicle {car.id}: controls out of range") == 1


def test_poses_that_are_no_numbers_are_refused(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    before = car.get_transform()
    car.set_location(carla.Location(math.nan, 0.0, 0.0))
    car.set_target_velocity(carla.Vector3D(math.inf, 0.0, 0.0))
    car.add_impulse(carla.Vector3D(math.nan, 0.0, 0.0))
    carla_world.tick()
    assert car.get_location().distance(before.location) < 0.01


def test_a_car_goes_where_it_is_put(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    there = carla_world.map.get_spawn_points()[30]
    car.set_transform(there)
    carla_world.tick(20)
    pose = car.get_transform()
    assert pose.location.distance(there.location) < 0.4  # it falls from 0.3 m
    assert abs((pose.rotation.yaw - there.rotation.yaw + 180) % 360 - 180) < 0.1


def test_target_velocity_and_constant_velocity(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    forward = car.get_transform().get_forward_vector()
    car.set_target_velocity(forward * 8.0)
    carla_world.tick()
    assert speed(car) == pytest.approx(8.0, abs=0.5)
    car.enable_constant_velocity(carla.Vector3D(5.0, 0.0, 0.0))
    carla_world.tick(20)
    assert speed(car) == pytest.approx(5.0, abs=0.01)
    car.disable_constant_velocity()
    car.apply_control(carla.VehicleControl(brake=1.0))
    carla_world.tick(60)
    assert speed(car) < 0.1


def test_an_impulse_is_mass_times_velocity(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    mass = car.get_physics_control().mass
    forward = car.get_transform().get_forward_vector()
    car.add_impulse(forward * (mass * 3.0))
    carla_world.tick()
    assert speed(car) == pytest.approx(3.0, abs=0.3)


def test_without_physics_a_car_stays(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    car.set_simulate_physics(False)
    car.apply_control(carla.VehicleControl(throttle=1.0))
    before = car.get_location()
    carla_world.tick(20)
    assert car.get_location().distance(before) < 1e-4


def test_physics_control_comes_back_as_it_was_applied(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    physics = car.get_physics_control()
    assert physics.mass > 1000.0
    assert len(physics.wheels) == 4
    assert physics.wheels[0].max_steer_angle > 20.0
    physics.mass = 3210.0
    wheels = physics.wheels
    wheels[0].tire_friction = wheels[1].tire_friction = 0.5
    physics.wheels = wheels
    car.apply_physics_control(physics)
    carla_world.tick()
    back = car.get_physics_control()
    assert back.mass == 3210.0
    assert back.wheels[0].tire_friction == 0.5
    assert back.wheels[2].tire_friction == physics.wheels[2].tire_friction
    assert [g.ratio for g in back.forward_gears] == [g.ratio for g in physics.forward_gears]


def test_impossible_physics_are_refused(carla_world: CarlaWorld, sim: SimProcess) -> None:
    car = carla_world.car()
    physics = car.get_physics_control()
    mass = physics.mass
    physics.mass = -5.0
    car.apply_physics_control(physics)
    carla_world.tick()
    assert car.get_physics_control().mass == mass
    assert "mass must be positive" in sim.log


def test_telemetry_tells_what_the_car_does(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    car.apply_control(carla.VehicleControl(throttle=0.8))
    carla_world.tick(40)
    told = car.get_telemetry_data()
    assert told.speed == pytest.approx(speed(car), abs=0.1)
    assert told.throttle == pytest.approx(0.8)
    assert told.engine_rpm > 700.0
    assert len(told.wheels) == 4


def test_ackermann_control_reaches_its_speed(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    gains = car.get_ackermann_controller_settings()
    gains.speed_kp = 0.2
    car.apply_ackermann_controller_settings(gains)
    carla_world.tick()
    assert car.get_ackermann_controller_settings().speed_kp == pytest.approx(0.2)
    car.apply_ackermann_control(carla.VehicleAckermannControl(speed=4.0))
    carla_world.tick(200)
    assert speed(car) == pytest.approx(4.0, abs=0.7)


def test_lights_are_switched_and_listed(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    wanted = carla.VehicleLightState(
        carla.VehicleLightState.LowBeam | carla.VehicleLightState.LeftBlinker
    )
    car.set_light_state(wanted)
    carla_world.tick()
    assert car.get_light_state() == wanted
    assert carla_world.world.get_vehicles_light_states()[car.id] == wanted


def test_doors_are_accepted(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    car.open_door(carla.VehicleDoor.All)
    car.close_door(carla.VehicleDoor.FL)
    carla_world.tick()


def test_two_cars_that_meet_do_not_pass_through_each_other(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    pose = car.get_transform()
    ahead = carla.Transform(
        pose.location + pose.get_forward_vector() * 12.0 + carla.Location(z=0.3), pose.rotation
    )
    other = carla_world.spawn("vehicle.tesla.model3", ahead)
    other.apply_control(carla.VehicleControl(hand_brake=True, brake=1.0))
    car.set_target_velocity(pose.get_forward_vector() * 15.0)
    carla_world.tick(30)
    gap = car.get_location().distance(other.get_location())
    assert gap > car.bounding_box.extent.x + other.bounding_box.extent.x - 0.3
    assert speed(car) < 13.0


def test_a_walker_walks_as_it_is_told(carla_world: CarlaWorld) -> None:
    point = carla_world.map.get_spawn_points()[20].location
    walker = carla_world.spawn(
        "walker.pedestrian.0001", carla.Transform(point + carla.Location(z=1.0))
    )
    carla_world.tick(5)
    start = walker.get_location()
    walker.apply_control(carla.WalkerControl(carla.Vector3D(0.0, 1.0, 0.0), 1.5))
    carla_world.tick(40)
    way = walker.get_location() - start
    assert (way.x, way.y) == (pytest.approx(0.0, abs=0.05), pytest.approx(3.0, abs=0.1))
    assert walker.get_transform().rotation.yaw == pytest.approx(90.0, abs=1.0)
    assert walker.get_control().speed == pytest.approx(1.5)


def test_an_ai_walker_controller_can_be_started_and_stopped(carla_world: CarlaWorld) -> None:
    point = carla_world.map.get_spawn_points()[20].location
    walker = carla_world.spawn(
        "walker.pedestrian.0001", carla.Transform(point + carla.Location(z=1.0))
    )
    controller = carla_world.spawn("controller.ai.walker", on=walker)
    carla_world.tick()
    controller.start()
    carla_world.tick()
    controller.stop()
    carla_world.tick()
