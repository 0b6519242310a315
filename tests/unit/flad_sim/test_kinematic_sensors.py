# SPDX-License-Identifier: Apache-2.0
"""GNSS, IMU, obstacle and radar against closed forms, and GNSS against the real client."""

import math
from dataclasses import replace

import carla
import numpy as np
import pytest
from moving_bodies import car, flat, speed

from flad_sim.opendrive.geo import parse_geo_reference
from flad_sim.sensors.gnss import GnssFix
from flad_sim.sensors.imu import compass_rad
from flad_sim.sensors.kinematic import GNSS, IMU, OBSTACLE, RADAR, KinematicSensors
from flad_sim.types import (
    SensorRequest,
    StaticBox,
    Tag,
    Transform,
    VehicleControl,
    VisibleActor,
    VisibleWorld,
    Weather,
)

REFERENCE = "+proj=tmerc +lat_0=48.5 +lon_0=9.25 +k=1 +datum=WGS84"
ROAD = f"""<?xml version="1.0"?><OpenDRIVE><header revMajor="1" revMinor="4" name="t">
<geoReference><![CDATA[{REFERENCE}]]></geoReference></header>
<road name="r" length="100" id="1" junction="-1"><planView><geometry s="0" x="0" y="0" hdg="0"
 length="100"><line/></geometry></planView><lanes><laneSection s="0"><center><lane id="0"
 type="none" level="false"/></center><right><lane id="-1" type="driving" level="false"><width
 sOffset="0" a="3.5" b="0" c="0" d="0"/></lane></right></laneSection></lanes></road></OpenDRIVE>"""


def sensors(scenery=(), seed=0):
    return KinematicSensors(scenery, parse_geo_reference(REFERENCE).to_geo, seed)


def world(*actors, frame=1, delta_s=0.05):
    return VisibleWorld(frame, frame * delta_s, delta_s, Weather(), actors)


def request(kind, sensor_id=9, parent_id=1, velocity=(0.0, 0.0, 0.0), at=None, **attributes):
    text = {k: str(v) for k, v in attributes.items()}
    return SensorRequest(sensor_id, kind, text, at or Transform(), parent_id, velocity)


def still(measured, req, w):
    return measured.measure(w, req, (0.0, 0.0, 0.0))


# --- GNSS ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [(0, 0, 0), (120.0, -45.5, 3.2), (-3000.0, 2500.0, -7.0)])
def test_gnss_is_what_the_client_says_of_the_place(place):
    client = carla.Map("t", ROAD)
    there = client.transform_to_geolocation(carla.Location(*map(float, place)))
    fix = still(sensors(), request(GNSS, at=Transform(*place)), world())

    assert fix.latitude_deg == pytest.approx(there.latitude, abs=1e-12)
    assert fix.longitude_deg == pytest.approx(there.longitude, abs=1e-12)
    assert fix.altitude_m == pytest.approx(there.altitude, abs=1e-6)


def test_gnss_noise_has_the_stated_bias_and_deviation_on_each_axis():
    noisy = request(
        GNSS,
        noise_lat_bias=0.5,
        noise_lat_stddev=0.1,
        noise_lon_stddev=0.02,
        noise_alt_bias=-3.0,
        noise_alt_stddev=2.0,
    )
    exact = still(sensors(), request(GNSS), world())
    fixes = np.array(
        [_numbers(still(sensors(), noisy, world(frame=i))) for i in range(1, 2001)]
    ) - _numbers(exact)

    assert fixes.mean(axis=0) == pytest.approx([0.5, 0.0, -3.0], abs=0.15)
    assert fixes.std(axis=0) == pytest.approx([0.1, 0.02, 2.0], rel=0.06)


def _numbers(fix: GnssFix):
    return (fix.latitude_deg, fix.longitude_deg, fix.altitude_m)


def test_noise_repeats_and_differs_by_seed_sensor_and_frame():
    noisy = request(GNSS, noise_alt_stddev=1.0)

    def altitude(seed=0, frame=1, **changes):
        return still(sensors(seed=seed), replace(noisy, **changes), world(frame=frame)).altitude_m

    seeded = {**noisy.attributes, "noise_seed": "4"}
    values = [
        altitude(),
        altitude(seed=1),
        altitude(frame=2),
        altitude(sensor_id=10),
        altitude(attributes=seeded),
    ]
    assert altitude() == values[0]
    assert len(set(values)) == len(values)


# --- IMU ----------------------------------------------------------------------------------------


def _on_a_circle(radius_m, speed_mps, clockwise, dt_s=0.05, frames=40):
    """Readings of an IMU that is carried around a circle, facing along it."""
    measured, rate = sensors(), speed_mps / radius_m * (1.0 if clockwise else -1.0)
    for i in range(1, frames + 1):
        yaw = rate * i * dt_s
        side = 1.0 if clockwise else -1.0  # the centre is on the right when clockwise
        at = Transform(
            x=radius_m * math.sin(yaw) * side,
            y=-radius_m * math.cos(yaw) * side,
            yaw=math.degrees(yaw),
        )
        w = world(frame=i, delta_s=dt_s)
        reading = measured.measure(w, request(IMU, at=at), (0.0, 0.0, math.degrees(rate)))
    return reading


@pytest.mark.parametrize("clockwise", [True, False])
def test_a_circle_feels_v_squared_over_r_towards_its_centre(clockwise):
    reading = _on_a_circle(20.0, 8.0, clockwise)
    right = 1.0 if clockwise else -1.0

    assert reading.acceleration[1] == pytest.approx(right * 8.0**2 / 20.0, rel=0.01)
    assert reading.acceleration[0] == pytest.approx(0.0, abs=0.1)
    assert reading.acceleration[2] == pytest.approx(9.81)
    assert reading.gyroscope == pytest.approx((0.0, 0.0, right * 8.0 / 20.0))


def test_a_driven_circle_feels_the_same():
    """The vehicle's own dynamics: steady cornering, the IMU at its centre of mass."""
    body, measured = car(speed_mps=8.0), sensors()
    for i in range(1, 161):
        throttle = min(1.0, max(0.0, 0.6 * (8.0 - speed(body)) + 0.1))
        body.apply_control(VehicleControl(throttle=throttle, steer=0.2))
        body.step(0.05, flat)
        p = body.pose
        at = p.transform.compose(Transform(x=body.physics_control().center_of_mass[0]))
        w = world(frame=i)
        reading = measured.measure(w, request(IMU, at=at), p.angular_velocity)
    yaw_rate = math.radians(p.angular_velocity[2])

    assert yaw_rate > 0.2
    assert reading.gyroscope[2] == pytest.approx(yaw_rate)
    assert reading.acceleration[1] == pytest.approx(yaw_rate * speed(body), rel=0.03)


def test_speeding_up_is_felt_forward_and_falling_is_weightless():
    measured = sensors()
    for i in range(1, 10):
        t = 0.05 * i
        at = Transform(x=0.5 * 3.0 * t * t, z=100.0)
        reading = still(measured, request(IMU, at=at), world(frame=i))
    assert reading.acceleration == pytest.approx((3.0, 0.0, 9.81), abs=1e-6)

    for i in range(10, 20):
        t = 0.05 * i
        at = Transform(z=100.0 - 0.5 * 9.81 * t * t)
        reading = still(measured, request(IMU, at=at), world(frame=i))
    assert reading.acceleration[2] == pytest.approx(0.0, abs=1e-6)


def test_gravity_follows_a_tilted_sensor():
    nose_up = still(sensors(), request(IMU, at=Transform(pitch=30.0)), world()).acceleration
    rolled = still(sensors(), request(IMU, at=Transform(roll=90.0)), world()).acceleration

    assert nose_up == pytest.approx((9.81 * 0.5, 0.0, 9.81 * math.sqrt(0.75)))
    assert rolled == pytest.approx((0.0, -9.81, 0.0), abs=1e-9)


@pytest.mark.parametrize("yaw, heading", [(-90, 0), (0, 90), (90, 180), (180, 270)])
def test_the_compass_is_zero_towards_north_and_grows_clockwise(yaw, heading):
    assert math.degrees(compass_rad(Transform(yaw=yaw).forward())) == pytest.approx(heading)


def test_imu_noise_has_the_stated_deviation_and_gyro_bias():
    noisy = request(IMU, noise_accel_stddev_y=0.3, noise_gyro_stddev_z=0.05, noise_gyro_bias_x=0.7)
    measured = sensors()
    readings = [still(measured, noisy, world(frame=i)) for i in range(1, 1501)]
    accel = np.array([r.acceleration for r in readings])
    gyro = np.array([r.gyroscope for r in readings])

    assert accel.std(axis=0) == pytest.approx([0.0, 0.3, 0.0], abs=0.03)
    assert gyro.mean(axis=0) == pytest.approx([0.7, 0.0, 0.0], abs=0.01)
    assert gyro.std(axis=0) == pytest.approx([0.0, 0.0, 0.05], abs=0.005)


# --- obstacle -----------------------------------------------------------------------------------


WALL = StaticBox((20.0, 0.0, 2.0), (0.5, 5.0, 2.0), 0.0, Tag.WALLS, "static.wall")
AHEAD = VisibleActor(7, "vehicle.lincoln.mkz_2020", Transform(x=12.0))
SELF = VisibleActor(1, "vehicle.lincoln.mkz_2020", Transform())


def test_the_obstacle_ahead_is_the_nearest_that_is_not_the_carrier():
    at = Transform(z=0.8)
    look = request(OBSTACLE, at=at, distance=50.0, hit_radius=0.1)
    hit = still(sensors([WALL]), look, world(SELF, AHEAD))
    assert (hit.other_id, hit.scenery) == (7, None)
    assert hit.distance_m == pytest.approx(12.0 - 2.445 - 0.1)

    hit = still(sensors([WALL]), look, world(SELF))
    assert (hit.other_id, hit.scenery) == (0, WALL)
    assert hit.distance_m == pytest.approx(20.0 - 0.5 - 0.1)


def test_obstacle_attributes_are_obeyed():
    def look(**attributes):
        ask = request(OBSTACLE, at=Transform(y=5.3, z=0.8), **attributes)
        return still(sensors([WALL]), ask, world(SELF, AHEAD))

    assert look(distance=30.0, hit_radius=0.1) is None  # passes the wall's end by 0.3 m
    assert look(distance=30.0, hit_radius=0.5).scenery is WALL
    assert look(distance=10.0, hit_radius=0.5) is None
    assert look(distance=30.0, hit_radius=0.5, only_dynamics="true") is None
    turned = request(OBSTACLE, at=Transform(yaw=90.0), distance=50.0)
    assert still(sensors([WALL]), turned, world(SELF, AHEAD)) is None


@pytest.mark.parametrize("text", ["-1", "nan", "five"])
def test_a_bad_attribute_is_named(text):
    with pytest.raises(ValueError, match=r"hit_radius.*" + text):
        still(sensors(), request(OBSTACLE, hit_radius=text), world())


# --- radar --------------------------------------------------------------------------------------


def radar_at(velocity=(0.0, 0.0, 0.0), **attributes):
    return request(
        RADAR, at=Transform(x=2.6, z=0.9), velocity=velocity, points_per_second=20000, **attributes
    )


def test_radar_measures_range_and_closing_speed_of_a_wall():
    wide = StaticBox((52.6, 0.0, 0.0), (0.0, 500.0, 500.0), 0.0, Tag.WALLS, "static.wall")
    points = still(sensors([wide]), radar_at((10.0, 0.0, 0.0)), world(SELF))
    away, azimuth, altitude, depth = points.T
    slant = np.cos(azimuth) * np.cos(altitude)

    assert len(points) == 1000
    assert depth * slant == pytest.approx(np.full(1000, 50.0), rel=1e-5)
    assert away == pytest.approx(-10.0 * slant, rel=1e-4)
    half = math.radians(15.0)
    assert np.abs(azimuth).max() <= half
    assert np.abs(altitude).max() <= half
    assert np.abs(azimuth).max() > 0.9 * half  # the cone is filled


def test_radar_tells_what_drives_away_from_what_comes():
    def mean_speed(vx):
        car_ahead = replace(AHEAD, transform=Transform(x=20.0), velocity=(vx, 0.0, 0.0))
        points = still(sensors(), radar_at((5.0, 0.0, 0.0)), world(SELF, car_ahead))
        assert len(points) > 20
        return float(points[:, 0].mean())

    assert mean_speed(15.0) == pytest.approx(10.0, rel=0.01)
    assert mean_speed(-15.0) == pytest.approx(-20.0, rel=0.01)


def test_radar_sees_right_as_positive_azimuth_and_nothing_beyond_its_range():
    right = replace(AHEAD, transform=Transform(x=20.0, y=3.0))
    points = still(sensors(), radar_at(), world(SELF, right))
    assert np.median(points[:, 1]) > 0.05
    assert len(still(sensors(), radar_at(range=10.0), world(SELF, right))) == 0
