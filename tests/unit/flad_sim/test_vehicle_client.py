# SPDX-License-Identifier: Apache-2.0
"""What CARLA's client can do to a vehicle must do what CARLA says, and bad values are refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
from moving_bodies import DT_S, car, drive, flat, speed

from flad_sim.catalogue import DEFAULT_VEHICLE, VEHICLES
from flad_sim.physics import AckermannControl, VehicleBody
from flad_sim.types import Transform, VehicleControl

NAN, INF = math.nan, math.inf


def test_impulses_and_forces_follow_newton():
    body = car()
    body.add_impulse((body.mass_kg * 3.0, 0.0, 0.0))
    assert speed(body) == pytest.approx(3.0)

    pushed = car()
    for _ in range(20):
        pushed.add_force((0.2 * 9.81 * pushed.mass_kg, 0.0, 0.0))
        pushed.step(DT_S, flat)
    # Newton less rolling resistance and engine drag.
    assert 1.5 < speed(pushed) < 0.2 * 9.81

    spun = car()
    spun.add_angular_impulse((0.0, 0.0, 0.5 * spun.yaw_inertia_kgm2))
    assert spun.pose.angular_velocity[2] == pytest.approx(math.degrees(0.5))


def test_a_force_acts_for_one_step_only():
    body = car()
    body.add_force((20000.0, 0.0, 0.0))
    body.step(DT_S, flat)
    first = speed(body)
    body.step(DT_S, flat)

    assert 0.0 < speed(body) <= first


def test_constant_velocity_is_held_in_the_vehicles_frame():
    body = car(yaw=90.0)
    body.enable_constant_velocity((7.0, 0.0, 0.0))
    drive(body, 2.0, brake=1.0)
    assert body.pose.velocity == pytest.approx((0.0, 7.0, 0.0), abs=1e-9)
    assert body.pose.transform.y == pytest.approx(14.0, abs=1e-6)
    drive(body, 2.0, steer=0.3)
    assert speed(body) == pytest.approx(7.0, rel=0.1)
    assert body.pose.transform.yaw > 95.0
    body.disable_constant_velocity()
    assert speed(drive(body, 3.0, brake=1.0)) == 0.0


def test_without_physics_it_stays_where_it_is_put():
    body = car(speed_mps=20.0)
    body.set_simulate_physics(False)
    body.set_transform(Transform(4.0, 5.0, 6.0, yaw=7.0))
    drive(body, 1.0, throttle=1.0)

    assert body.pose.transform == Transform(4.0, 5.0, 6.0, yaw=pytest.approx(7.0))
    assert body.pose.velocity == (0.0, 0.0, 0.0)


def test_set_transform_keeps_the_velocity():
    body = car(speed_mps=9.0)
    body.set_transform(Transform(100.0, 50.0, 0.0, yaw=180.0))

    assert body.pose.velocity == pytest.approx((9.0, 0.0, 0.0))


def test_reverse_and_manual_gears():
    assert drive(car(), 2.0, throttle=0.5, reverse=True).pose.velocity[0] < -1.0
    neutral = drive(car(), 2.0, throttle=1.0, manual_gear_shift=True, gear=0)
    assert speed(neutral) == 0.0
    second = drive(car(), 3.0, throttle=1.0, manual_gear_shift=True, gear=2)
    assert second.control.gear == 2
    assert 1.0 < speed(second) < speed(drive(car(), 3.0, throttle=1.0))


def test_control_is_clamped_and_told_back():
    body = car()
    body.apply_control(VehicleControl(throttle=7.0, steer=-3.0, brake=-1.0))

    assert (body.control.throttle, body.control.steer, body.control.brake) == (1.0, -1.0, 0.0)


def test_a_control_that_is_not_sticky_lasts_one_step():
    body = VehicleBody(VEHICLES[DEFAULT_VEHICLE], Transform(), sticky_control=False)
    body.apply_control(VehicleControl(throttle=1.0))
    body.step(DT_S, flat)

    assert body.control.throttle == 0.0


@pytest.mark.parametrize("target_mps", [3.0, 12.0, -3.0])
def test_ackermann_reaches_speed_and_angle(target_mps):
    body = car()
    body.apply_ackermann(AckermannControl(steer=0.05, speed=target_mps))
    drive(body, 30.0)
    yaw = math.radians(body.pose.transform.yaw)
    forward = body.pose.velocity[0] * math.cos(yaw) + body.pose.velocity[1] * math.sin(yaw)

    assert forward == pytest.approx(target_mps, abs=0.5)
    assert math.radians(body.wheel_steer_deg) == pytest.approx(0.05, rel=0.02)
    body.apply_ackermann(AckermannControl())
    assert speed(drive(body, 20.0)) == pytest.approx(0.0, abs=0.01)


def test_physics_control_round_trip_changes_nothing():
    same, changed = car(), car()
    changed.apply_physics_control(changed.physics_control())
    a = drive(same, 5.0, throttle=0.7, steer=0.2).pose
    b = drive(changed, 5.0, throttle=0.7, steer=0.2).pose

    assert a == b


def test_wheels_stand_where_the_car_stands():
    body = car(x=10.0, y=20.0, yaw=90.0)
    wheels = body.physics_control().wheels
    center = np.mean([w.position for w in wheels], axis=0) / 100.0

    assert center[:2] == pytest.approx([10.0, 20.0])
    front_left = wheels[0].position
    assert front_left[1] / 100.0 == pytest.approx(20.0 + 0.5 * body.spec.wheelbase_m)
    assert front_left[0] > 1000.0  # facing +y, left is +x


def test_telemetry_adds_up():
    body = drive(car(), 3.0, throttle=0.5)
    data = body.telemetry

    assert data.speed == pytest.approx(speed(body))
    assert sum(w.tire_load for w in data.wheels) == pytest.approx(body.mass_kg * 9.81)
    assert sum(w.long_force for w in data.wheels) > 0.0
    assert 800.0 <= data.engine_rpm <= body.spec.drivetrain.redline_rpm


def test_the_same_calls_give_the_same_bits():
    def run():
        rng = np.random.default_rng(3)
        body = car()
        for _ in range(400):
            throttle, steer, brake = rng.uniform([0, -1, 0], [1, 1, 0.3]).tolist()
            body.apply_control(VehicleControl(throttle=throttle, steer=steer, brake=brake))
            body.step(DT_S, flat)
        return body.pose

    assert run() == run()


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [NAN, INF, -INF, 1e30])
@pytest.mark.parametrize(
    "call, field",
    [
        (lambda b, v: b.apply_control(VehicleControl(throttle=v)), "control.throttle"),
        (lambda b, v: b.apply_control(VehicleControl(steer=v)), "control.steer"),
        (lambda b, v: b.apply_control(VehicleControl(brake=v)), "control.brake"),
        (lambda b, v: b.apply_ackermann(AckermannControl(speed=v)), "ackermann.speed"),
        (lambda b, v: b.set_transform(Transform(y=v)), "transform.y"),
        (lambda b, v: b.set_transform(Transform(yaw=v)), "transform.yaw"),
        (lambda b, v: b.set_location((0.0, 0.0, v)), "location.z"),
        (lambda b, v: b.set_target_velocity((0.0, v, 0.0)), "velocity.y"),
        (lambda b, v: b.set_target_angular_velocity((0.0, 0.0, v)), "angular_velocity.z"),
        (lambda b, v: b.enable_constant_velocity((v, 0.0, 0.0)), "velocity.x"),
        (lambda b, v: b.add_impulse((v, 0.0, 0.0)), "impulse.x"),
        (lambda b, v: b.add_force((0.0, v, 0.0)), "force.y"),
        (lambda b, v: b.add_angular_impulse((0.0, 0.0, v)), "angular_impulse.z"),
        (lambda b, v: b.add_torque((0.0, 0.0, v)), "torque.z"),
    ],
)
def test_what_is_not_finite_is_named_and_changes_nothing(call, field, bad):
    body = drive(car(speed_mps=5.0), 1.0)
    before = body.pose
    with pytest.raises(ValueError, match=field.replace(".", r"\.")):
        call(body, bad)

    assert body.pose == before
    assert np.isfinite(drive(body, 1.0).pose.velocity).all()


@pytest.mark.parametrize(
    "change, field",
    [
        ({"mass": 0.0}, "mass"),
        ({"mass": NAN}, "mass"),
        ({"max_rpm": -1.0}, "max_rpm"),
        ({"forward_gears": ()}, "forward_gears"),
        ({"torque_curve": ((0.0, NAN),)}, r"torque_curve\[0\]"),
        ({"steering_curve": ((50.0, 1.0), (20.0, 0.5))}, r"steering_curve\[1\]"),
        ({"center_of_mass": (0.0, NAN, 0.0)}, r"center_of_mass\.y"),
    ],
)
def test_impossible_physics_are_refused_by_name(change, field):
    with pytest.raises(ValueError, match=field):
        replace(car().physics_control(), **change)


@pytest.mark.parametrize("impulse", [1e8, -1e8])
def test_a_monstrous_impulse_leaves_a_sane_body(impulse):
    body = car()
    body.add_impulse((impulse, impulse, 0.0))
    body.add_angular_impulse((0.0, 0.0, impulse))
    drive(body, 2.0)

    assert speed(body) < 300.0
    assert np.isfinite([*body.pose.transform.location, body.pose.transform.yaw]).all()


@pytest.mark.parametrize("seed", range(5))
def test_random_abuse_never_makes_a_body_not_finite(seed):
    rng = np.random.default_rng(seed)
    body = car(rng.choice(sorted(VEHICLES)))
    for _ in range(200):
        throttle, steer, brake = rng.uniform(-2, 2, 3).tolist()
        reverse, hand = (rng.random(2) < 0.3).tolist()
        body.apply_control(VehicleControl(throttle, steer, brake, hand, reverse))
        if rng.random() < 0.1:
            body.add_impulse(tuple(rng.normal(0, 2e4, 3).tolist()))
            body.add_angular_impulse(tuple(rng.normal(0, 2e4, 3).tolist()))
        body.step(
            float(rng.uniform(0.001, 0.3)), lambda x, y: math.sin(0.1 * x) if y < 30 else None
        )
    pose = body.pose

    assert np.isfinite([*pose.transform.location, *pose.velocity, *pose.acceleration]).all()
    assert -180.0 <= pose.transform.yaw <= 180.0


@pytest.mark.parametrize("dt_s", [0.0, -0.1, NAN])
def test_time_must_advance(dt_s):
    with pytest.raises(ValueError, match="dt_s"):
        car().step(dt_s, flat)
