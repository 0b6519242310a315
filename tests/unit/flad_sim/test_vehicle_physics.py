# SPDX-License-Identifier: Apache-2.0
"""A car must accelerate, brake, turn and stand as the real one, and obey what a client sends."""

import math
from dataclasses import replace

import numpy as np
import pytest
from moving_bodies import DT_S, car, drive, flat, speed

from flad_sim.catalogue import VEHICLES
from flad_sim.types import Transform, VehicleControl

MPH = 0.44704
FOOT = 0.3048


# --- the published tests of the default car (physics/README.md names them) -----------------------


@pytest.fixture(scope="module")
def full_throttle():
    """Times and distances of one run from standstill: rows of (t, x, v)."""
    body = drive(car(), 1.0)
    body.apply_control(VehicleControl(throttle=1.0))
    start = body.pose.transform.x
    rows = []
    for i in range(1, 1200):
        body.step(DT_S, flat)
        rows.append((i * DT_S, body.pose.transform.x - start, body.pose.velocity[0]))
    return np.array(rows)


def test_sprints_as_the_published_tests(full_throttle):
    t, x, v = full_throttle.T

    assert 4.6 <= np.interp(60 * MPH, v, t) <= 5.5
    assert 4.8 <= np.interp(100 / 3.6, v, t) <= 5.8
    assert 10.8 <= np.interp(100 * MPH, v, t) <= 12.6
    assert 12.9 <= np.interp(1320 * FOOT, x, t) <= 13.9
    assert 102 <= np.interp(1320 * FOOT, x, v) / MPH <= 110


def test_top_speed_is_the_governors(full_throttle):
    assert 145 <= full_throttle[-1, 2] / MPH <= 151


@pytest.mark.parametrize(
    "from_mps, shortest_m, longest_m",
    [(70 * MPH, 148 * FOOT, 168 * FOOT), (100 / 3.6, 36.0, 41.0)],
)
def test_brakes_as_the_published_tests(from_mps, shortest_m, longest_m):
    body = drive(car(speed_mps=from_mps), 6.0, brake=1.0)

    assert speed(body) == 0.0
    assert shortest_m <= body.pose.transform.x <= longest_m


def test_corners_as_the_skidpad():
    body = car(speed_mps=12.0)
    lateral = []
    for _ in range(200):
        throttle = min(1.0, max(0.0, 0.5 * (12.0 - speed(body)) + 0.15))
        body.apply_control(VehicleControl(throttle=throttle, steer=0.35))
        body.step(DT_S, flat)
        lateral.append(speed(body) * math.radians(body.pose.angular_velocity[2]) / 9.81)

    assert 0.88 <= np.mean(lateral[-40:]) <= 0.98


# --- physics -------------------------------------------------------------------------------------


@pytest.mark.parametrize("blueprint", sorted(VEHICLES))
def test_every_vehicle_starts_stops_and_stays(blueprint):
    body = drive(car(blueprint), 8.0, throttle=1.0)
    assert speed(body) > 4.0
    drive(body, 12.0, brake=1.0)
    rested = body.pose.transform
    drive(body, 5.0, steer=1.0, brake=1.0)

    assert body.pose.transform == rested
    assert body.pose.velocity == (0.0, 0.0, 0.0)


def test_full_lock_at_standstill_turns_nothing():
    body = drive(car(x=3.0, yaw=30.0), 3.0, steer=-1.0)

    assert body.pose.transform.x == 3.0
    assert body.pose.transform.yaw == pytest.approx(30.0, abs=1e-12)


@pytest.mark.parametrize("steer", [-0.4, -0.1, 0.1, 0.4])
@pytest.mark.parametrize("reverse", [False, True])
def test_creeping_follows_the_steering_geometry(steer, reverse):
    """At 1 m/s no tyre slips, so the rear axle's circle is wheelbase / tan(angle)."""
    body = car()
    for _ in range(200):
        throttle = 0.3 if speed(body) < 1.0 else 0.0
        body.apply_control(VehicleControl(throttle=throttle, steer=steer, reverse=reverse))
        body.step(DT_S, flat)
    yaw = math.radians(body.pose.transform.yaw)
    forward = body.pose.velocity[0] * math.cos(yaw) + body.pose.velocity[1] * math.sin(yaw)
    curvature = math.radians(body.pose.angular_velocity[2]) / forward

    assert (forward < 0.0) == reverse
    assert curvature == pytest.approx(
        math.tan(math.radians(body.wheel_steer_deg)) / body.spec.wheelbase_m, rel=0.03
    )


def test_left_and_right_are_mirror_images():
    right = drive(car(speed_mps=15.0), 4.0, steer=0.15, throttle=0.3).pose
    left = drive(car(speed_mps=15.0), 4.0, steer=-0.15, throttle=0.3).pose

    assert left.transform.x == pytest.approx(right.transform.x, abs=1e-9)
    assert left.transform.y == pytest.approx(-right.transform.y, abs=1e-9)
    assert right.transform.y > 1.0  # steering right goes to +y


def test_the_path_does_not_depend_on_where_it_is_driven():
    here = drive(car(speed_mps=12.0), 5.0, steer=0.2, throttle=0.4).pose.transform
    there = drive(car(speed_mps=12.0, x=500.0, y=-80.0, yaw=90.0), 5.0, steer=0.2, throttle=0.4)

    # Turned by 90 degrees clockwise x becomes y and y becomes -x.
    assert there.pose.transform.x == pytest.approx(500.0 - here.y, abs=1e-6)
    assert there.pose.transform.y == pytest.approx(-80.0 + here.x, abs=1e-6)


@pytest.mark.parametrize("dt_s", [0.005, 0.02, 0.1])
def test_frame_length_hardly_matters(dt_s):
    control = {"throttle": 0.6, "steer": 0.1}
    reference = drive(car(speed_mps=8.0), 4.0, **control).pose.transform
    other = drive(car(speed_mps=8.0), 4.0, dt_s=dt_s, **control).pose.transform

    assert math.dist(reference.location, other.location) < 0.02


def test_velocity_is_the_derivative_of_position():
    body = car(speed_mps=14.0)
    body.apply_control(VehicleControl(throttle=0.5, steer=0.3))
    for _ in range(80):
        before = body.pose
        body.step(0.01, flat)
        after = body.pose
        moved = np.subtract(after.transform.location, before.transform.location) / 0.01
        mean = np.add(after.velocity, before.velocity) / 2
        assert moved == pytest.approx(mean, abs=0.05)


@pytest.mark.parametrize("grade", [-0.12, 0.12])
def test_brakes_and_hand_brake_hold_on_a_slope(grade):
    for control in ({"brake": 0.5}, {"hand_brake": True}):
        body = car()
        drive(body, 1.0, lambda x, y: grade * x, **control)
        start = body.pose.transform.x
        drive(body, 10.0, lambda x, y: grade * x, **control)
        assert body.pose.transform.x == pytest.approx(start, abs=1e-6)

    loose = drive(car(), 5.0, lambda x, y: grade * x)
    assert loose.pose.transform.x * grade < -1.0  # rolls downhill
    assert loose.pose.transform.pitch == pytest.approx(math.degrees(math.atan(grade)), abs=0.1)


def test_a_crosswise_slope_rolls_the_body_and_does_not_slide_it():
    body = drive(car(), 5.0, lambda x, y: 0.05 * y, brake=0.3)

    assert body.pose.transform.roll == pytest.approx(-math.degrees(math.atan(0.05)), abs=0.1)
    assert body.pose.transform.y == pytest.approx(0.0, abs=0.01)


def test_rolling_out_slows_down_and_stops():
    body, last = car(speed_mps=15.0), 15.0
    for _ in range(3000):
        body.step(DT_S, flat)
        assert speed(body) <= last
        last = speed(body)

    assert last == 0.0


def test_sliding_sideways_comes_to_rest_within_friction():
    body = car()
    body.set_target_velocity((0.0, 10.0, 0.0))
    drive(body, 3.0)

    # v^2 / (2 mu g) with mu between a slid and a peak tyre.
    assert 4.5 < body.pose.transform.y < 8.0
    assert speed(body) == pytest.approx(0.0, abs=1e-3)


def test_sliding_goes_farther_downhill_than_uphill():
    def slid(velocity_mps):
        body = drive(car(), 1.0, lambda x, y: 0.1 * y)
        start = body.pose.transform.y
        body.set_target_velocity((0.0, velocity_mps, 0.0))
        return abs(drive(body, 4.0, lambda x, y: 0.1 * y).pose.transform.y - start)

    # Friction and slope act together uphill (+y), against each other downhill.
    assert slid(-8.0) / slid(8.0) == pytest.approx((0.95 + 0.1) / (0.95 - 0.1), rel=0.1)


@pytest.mark.parametrize("from_mps", [15.0, 30.0, 60.0])
def test_coasting_in_neutral_loses_air_drag_and_rolling_resistance(from_mps):
    body = car(speed_mps=from_mps)
    body.apply_control(VehicleControl(manual_gear_shift=True, gear=0))
    body.step(0.005, flat)
    lost_n = (from_mps - speed(body)) / 0.005 * body.mass_kg
    data = body.spec.drivetrain
    air_n = 0.5 * 1.2 * data.drag_coefficient * data.frontal_area_m2 * from_mps**2

    assert lost_n == pytest.approx(air_n + data.rolling_resistance * body.mass_kg * 9.81, rel=1e-3)


def test_a_heavier_car_accelerates_less():
    light, heavy = car(), car()
    physics = heavy.physics_control()
    heavy.apply_physics_control(replace(physics, mass=2.0 * physics.mass))

    ratio = speed(drive(light, 8.0, throttle=1.0)) / speed(drive(heavy, 8.0, throttle=1.0))
    assert 1.3 < ratio < 2.0


def test_it_falls_lands_and_does_not_sink():
    body = car(z=2.0)
    drive(body, 0.5)
    assert body.pose.transform.z == pytest.approx(2.0 - 0.5 * 9.81 * 0.25, abs=0.3)
    drive(body, 2.0)
    assert body.pose.transform.z == 0.0
    body.set_enable_gravity(False)
    body.set_transform(Transform(z=5.0))
    assert drive(body, 1.0).pose.transform.z == 5.0


def test_unknown_ground_keeps_the_height():
    body = drive(car(z=0.3, speed_mps=10.0), 2.0, lambda x, y: 1.5 if x < 5.0 else None)

    assert body.pose.transform.z == pytest.approx(1.5, abs=0.01)
    assert body.pose.transform.x > 10.0
