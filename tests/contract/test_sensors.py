# SPDX-License-Identifier: Apache-2.0
"""Every sensor, read by the real client, against an answer that is known beforehand."""

from __future__ import annotations

import math
import queue
from typing import Any

import carla
import numpy as np
import pytest
from contract.carla_world import DELTA_S, CarlaWorld, transform
from numpy.typing import NDArray

WIDTH, HEIGHT = 160, 120
SIZE = {"image_size_x": WIDTH, "image_size_y": HEIGHT}


def pixels(image: Any) -> NDArray[np.uint8]:
    """BGRA ``[H, W, 4]``."""
    data: NDArray[np.uint8] = np.frombuffer(image.raw_data, np.uint8)
    return data.reshape(image.height, image.width, 4)


def depth_m(image: Any) -> NDArray[np.float64]:
    """Metres ``[H, W]``, by CARLA's encoding."""
    p = pixels(image).astype(np.float64)
    result: NDArray[np.float64] = (
        (p[..., 2] + 256.0 * p[..., 1] + 65536.0 * p[..., 0]) / (256.0**3 - 1.0) * 1000.0
    )
    return result


def points(sweep: Any, columns: int = 4) -> NDArray[np.float32]:
    """The floats of a sweep ``[N, columns]``."""
    data: NDArray[np.float32] = np.frombuffer(sweep.raw_data, np.float32)
    return data.reshape(-1, columns)


@pytest.fixture
def wall(carla_world: CarlaWorld) -> Any:
    """A truck across the view: its side is a plane at a known distance of its middle."""
    point = carla_world.map.get_spawn_points()[10]
    forward = point.get_forward_vector()
    place = carla.Transform(
        point.location + forward * 14.0,
        carla.Rotation(yaw=point.rotation.yaw + 90.0),
    )
    truck = carla_world.spawn("vehicle.carlamotors.carlacola", place)
    truck.set_simulate_physics(False)
    carla_world.tick(2)
    return truck


def facing(carla_world: CarlaWorld, wall: Any, distance_m: float, height_m: float = 1.2) -> Any:
    """A pose that looks square at the wall's near side from ``distance_m`` away."""
    point = carla_world.map.get_spawn_points()[10]
    forward = point.get_forward_vector()
    near = wall.bounding_box.extent.y + distance_m
    eye = wall.get_location() - carla.Location(forward.x * near, forward.y * near, 0.0)
    return carla.Transform(eye + carla.Location(z=height_m), point.rotation)


def test_a_wall_ten_metres_away_is_ten_metres_in_the_depth_image(
    carla_world: CarlaWorld, wall: Any
) -> None:
    eye = facing(carla_world, wall, 10.0)
    camera = carla_world.spawn("sensor.camera.depth", eye, **SIZE)
    image = carla_world.listen(camera)()
    assert (image.width, image.height, image.fov) == (WIDTH, HEIGHT, 90.0)
    middle = depth_m(image)[HEIGHT // 2 - 3 : HEIGHT // 2 + 3, WIDTH // 2 - 3 : WIDTH // 2 + 3]
    assert np.median(middle) == pytest.approx(10.0, abs=0.25)


def test_the_same_wall_is_ten_metres_in_the_lidar(carla_world: CarlaWorld, wall: Any) -> None:
    eye = facing(carla_world, wall, 10.0)
    lidar = carla_world.spawn(
        "sensor.lidar.ray_cast",
        eye,
        channels=8,
        range=50,
        upper_fov=2,
        lower_fov=-2,
        points_per_second=8 * 360 * 20,
        rotation_frequency=1.0 / DELTA_S,
        dropoff_general_rate=0.0,
        dropoff_intensity_limit=0.0,
        dropoff_zero_intensity=0.0,
    )
    sweep = carla_world.listen(lidar)()
    assert sweep.channels == 8
    assert sum(sweep.get_point_count(c) for c in range(8)) == len(sweep)
    xyz = points(sweep)
    ahead = xyz[(np.abs(xyz[:, 1]) < 0.5) & (xyz[:, 0] > 0.0)]
    assert len(ahead) > 8
    assert np.median(ahead[:, 0]) == pytest.approx(10.0, abs=0.25)
    assert ((xyz[:, 3] > 0.0) & (xyz[:, 3] <= 1.0)).all()


def test_the_semantic_lidar_names_what_it_hits(carla_world: CarlaWorld, wall: Any) -> None:
    eye = facing(carla_world, wall, 10.0)
    lidar = carla_world.spawn(
        "sensor.lidar.ray_cast_semantic",
        eye,
        channels=8,
        range=50,
        upper_fov=2,
        lower_fov=-20,
        points_per_second=8 * 360 * 20,
        rotation_frequency=1.0 / DELTA_S,
    )
    detections = list(carla_world.listen(lidar)())
    on_wall = [d for d in detections if d.object_idx == wall.id]
    assert on_wall
    assert {d.object_tag for d in on_wall} == {int(carla.CityObjectLabel.Truck)}
    ahead = [d for d in on_wall if abs(d.point.y) < 0.5 and abs(d.point.z) < 0.3]
    assert np.median([d.point.x for d in ahead]) == pytest.approx(10.0, abs=0.25)
    assert np.median([d.cos_inc_angle for d in ahead]) > 0.9
    assert int(carla.CityObjectLabel.Roads) in {d.object_tag for d in detections}


def test_a_car_has_its_pixels_where_a_pinhole_says(carla_world: CarlaWorld, wall: Any) -> None:
    eye = facing(carla_world, wall, 12.0)
    camera = carla_world.spawn("sensor.camera.semantic_segmentation", eye, **SIZE)
    image = carla_world.listen(camera)()
    truck = pixels(image)[..., 2] == int(carla.CityObjectLabel.Truck)
    rows, columns = np.nonzero(truck)
    focal = WIDTH / 2.0  # 90 degrees
    box = wall.bounding_box
    half_width = focal * box.extent.x / 12.0
    assert columns.min() == pytest.approx(WIDTH / 2 - half_width, abs=6.0)
    assert columns.max() == pytest.approx(WIDTH / 2 + half_width, abs=6.0)
    top = box.location.z + box.extent.z + wall.get_location().z - eye.location.z
    assert rows.min() == pytest.approx(HEIGHT / 2 - focal * top / 12.0, abs=4.0)


def test_the_instance_image_tells_two_cars_apart(carla_world: CarlaWorld) -> None:
    point = carla_world.map.get_spawn_points()[10]
    forward = point.get_forward_vector()
    cars = [
        carla_world.spawn(
            "vehicle.tesla.model3",
            carla.Transform(point.location + forward * d, point.rotation),
        )
        for d in (10.0, 22.0)
    ]
    carla_world.tick(10)
    above = carla.Transform(
        point.location + forward * 16.0 + carla.Location(z=18.0),
        carla.Rotation(pitch=-90.0, yaw=point.rotation.yaw),
    )
    camera = carla_world.spawn("sensor.camera.instance_segmentation", above, **SIZE)
    image = pixels(carla_world.listen(camera)())
    car = image[..., 2] == int(carla.CityObjectLabel.Car)
    assert len(np.unique(image[car][:, :2], axis=0)) == len(cars)


def test_the_camera_sees_day_and_night(carla_world: CarlaWorld) -> None:
    point = carla_world.map.get_spawn_points()[10]
    camera = carla_world.spawn(
        "sensor.camera.rgb",
        carla.Transform(point.location + carla.Location(z=1.5), point.rotation),
        **SIZE,
    )
    see = carla_world.listen(camera)
    carla_world.world.set_weather(carla.WeatherParameters(sun_altitude_angle=60.0))
    day = pixels(see())
    carla_world.world.set_weather(carla.WeatherParameters(sun_altitude_angle=-60.0))
    night = pixels(see())
    assert (day[..., 3] == 255).all()
    assert day[..., :3].mean() > 2.0 * night[..., :3].mean()
    assert day[: HEIGHT // 4, :, 0].mean() > day[-HEIGHT // 4 :, :, 0].mean()  # sky over road


def test_a_red_light_is_seen_as_red_and_a_green_one_as_green(carla_world: CarlaWorld) -> None:
    light = carla_world.world.get_actors().filter("traffic.traffic_light")[0]
    (head,) = light.get_light_boxes()
    stop = light.get_stop_waypoints()[0].transform
    eye = stop.location + carla.Location(z=2.0) - stop.get_forward_vector() * 5.0
    to = head.location - eye
    look = carla.Rotation(
        pitch=math.degrees(math.atan2(to.z, math.hypot(to.x, to.y))),
        yaw=math.degrees(math.atan2(to.y, to.x)),
    )
    camera = carla_world.spawn(
        "sensor.camera.rgb",
        carla.Transform(eye, look),
        image_size_x=128,
        image_size_y=128,
        fov=12.0,
    )
    see = carla_world.listen(camera)
    light.freeze(True)
    glow = {}
    for state in (carla.TrafficLightState.Red, carla.TrafficLightState.Green):
        light.set_state(state)
        image = pixels(see()).astype(int)
        glow[state] = (
            int(((image[..., 2] > 180) & (image[..., 1] < 110)).sum()),
            int(((image[..., 1] > 150) & (image[..., 2] < 110)).sum()),
        )
    light.freeze(False)
    carla_world.world.reset_all_traffic_lights()
    red, green = glow[carla.TrafficLightState.Red], glow[carla.TrafficLightState.Green]
    assert red[0] > 20
    assert green[1] > 20
    assert red[0] > green[0]
    assert green[1] > red[1]


def test_gnss_is_the_inverse_of_the_client_s_own_conversion(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    sensor = carla_world.spawn("sensor.other.gnss", transform(0.0, 0.0, 1.0), on=car)
    fix = carla_world.listen(sensor)()
    expected = carla_world.map.transform_to_geolocation(sensor.get_location())
    assert fix.latitude == pytest.approx(expected.latitude, abs=1e-7)
    assert fix.longitude == pytest.approx(expected.longitude, abs=1e-7)
    assert fix.altitude == pytest.approx(expected.altitude, abs=1e-3)


def test_the_imu_at_rest_feels_only_gravity_and_knows_north(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    sensor = carla_world.spawn("sensor.other.imu", on=car)
    measure = carla_world.listen(sensor)
    for _ in range(20):
        imu = measure()
    assert imu.accelerometer.z == pytest.approx(9.81, abs=0.05)
    assert math.hypot(imu.accelerometer.x, imu.accelerometer.y) < 0.1
    assert abs(imu.gyroscope.z) < 1e-3
    north = math.radians((car.get_transform().rotation.yaw + 90.0) % 360.0)
    assert math.cos(imu.compass - north) > 0.9999


def test_the_imu_of_a_circle_feels_its_centre(carla_world: CarlaWorld) -> None:
    car = carla_world.car(carla_world.map.get_spawn_points()[10])
    sensor = carla_world.spawn("sensor.other.imu", on=car)
    measure = carla_world.listen(sensor)
    car.apply_control(carla.VehicleControl(steer=0.3))
    car.enable_constant_velocity(carla.Vector3D(4.0, 0.0, 0.0))
    for _ in range(15):
        imu = measure()
    rate = math.radians(car.get_angular_velocity().z)
    assert rate > 0.2
    assert imu.gyroscope.z == pytest.approx(rate, abs=0.02)
    assert imu.accelerometer.y == pytest.approx(4.0 * rate, rel=0.1)  # inwards: to the right
    car.disable_constant_velocity()


def test_the_radar_hears_what_comes_closer(carla_world: CarlaWorld, wall: Any) -> None:
    eye = facing(carla_world, wall, 10.0)
    radar = carla_world.spawn(
        "sensor.other.radar", eye, horizontal_fov=5, vertical_fov=5, points_per_second=2000
    )
    detections = list(carla_world.listen(radar)())
    assert detections
    assert np.median([d.depth for d in detections]) == pytest.approx(10.0, abs=0.3)
    assert max(abs(d.velocity) for d in detections) < 0.1
    assert max(abs(d.azimuth) for d in detections) < math.radians(2.6)


def test_the_obstacle_detector_names_the_obstacle(carla_world: CarlaWorld, wall: Any) -> None:
    eye = facing(carla_world, wall, 6.0)
    sensor = carla_world.spawn("sensor.other.obstacle", eye, distance=20, hit_radius=0.2)
    event = carla_world.listen(sensor)()
    assert event.other_actor.id == wall.id
    assert event.distance == pytest.approx(6.0, abs=0.5)


def test_a_crash_is_reported_with_both_sides_and_an_impulse(
    carla_world: CarlaWorld, wall: Any
) -> None:
    point = carla_world.map.get_spawn_points()[10]
    car = carla_world.car(point)
    sensor = carla_world.spawn("sensor.other.collision", on=car)
    events: queue.Queue[Any] = queue.Queue()
    sensor.listen(events.put)
    mass = car.get_physics_control().mass
    car.set_target_velocity(car.get_transform().get_forward_vector() * 10.0)
    carla_world.tick(40)
    first = events.get(timeout=10.0)
    assert first.actor.id == car.id
    assert first.other_actor.id == wall.id
    assert first.other_actor.type_id == "vehicle.carlamotors.carlacola"
    assert 0.1 * mass * 10.0 < first.normal_impulse.length() < 3.0 * mass * 10.0


def test_a_crash_into_a_building_names_it(carla_world: CarlaWorld) -> None:
    boxes = carla_world.world.get_level_bbs(carla.CityObjectLabel.Buildings)
    box = max(boxes, key=lambda b: b.extent.y)
    yaw = math.radians(box.rotation.yaw)
    out = carla.Location(math.cos(yaw), math.sin(yaw), 0.0)
    start = box.location + carla.Location(
        out.x * (box.extent.x + 4.0), out.y * (box.extent.x + 4.0), 0.0
    )
    pose = transform(start.x, start.y, 0.5, yaw=box.rotation.yaw + 180.0)
    car = carla_world.spawn("vehicle.lincoln.mkz_2020", pose)
    sensor = carla_world.spawn("sensor.other.collision", on=car)
    events: queue.Queue[Any] = queue.Queue()
    sensor.listen(events.put)
    car.set_target_velocity(out * -12.0)
    carla_world.tick(30)
    first = events.get(timeout=10.0)
    assert (first.other_actor.id, first.other_actor.type_id) == (0, "static.building")
    assert first.normal_impulse.x * out.x + first.normal_impulse.y * out.y > 0.0


def test_a_lane_that_is_crossed_is_noticed_by_the_client(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    sensor = carla_world.spawn("sensor.other.lane_invasion", on=car)
    events: queue.Queue[Any] = queue.Queue()
    sensor.listen(events.put)
    right = car.get_transform().get_right_vector()
    for _ in range(30):
        car.set_location(car.get_location() + right * 0.3)
        carla_world.tick()
    crossed = events.get(timeout=10.0).crossed_lane_markings
    assert crossed


def test_a_sensor_measures_at_its_own_rate(carla_world: CarlaWorld) -> None:
    sensor = carla_world.spawn("sensor.other.gnss", transform(0, 0, 5), sensor_tick=0.15)
    inbox: queue.Queue[Any] = queue.Queue()
    sensor.listen(inbox.put)
    last = carla_world.tick(30)
    frames = []
    while len(frames) < 10:
        frames.append(inbox.get(timeout=10.0).frame)
    assert set(np.diff(frames).tolist()) == {3}
    assert frames[-1] <= last


def test_a_measurement_carries_frame_time_and_place(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    camera = carla_world.spawn("sensor.camera.depth", transform(1.0, 0.0, 2.0), on=car, **SIZE)
    image = carla_world.listen(camera)()
    snapshot = carla_world.world.get_snapshot()
    assert image.frame == snapshot.frame
    assert image.timestamp == pytest.approx(snapshot.timestamp.elapsed_seconds)
    assert image.transform.location.distance(camera.get_location()) < 1e-4


def test_no_frame_is_lost_even_when_nobody_reads_for_a_while(carla_world: CarlaWorld) -> None:
    camera = carla_world.spawn("sensor.camera.rgb", transform(0, 0, 8), **SIZE)
    inbox: queue.Queue[Any] = queue.Queue()
    camera.listen(inbox.put)
    first = carla_world.tick()
    last = carla_world.tick(40)
    frames = [inbox.get(timeout=20.0).frame for _ in range(last - first + 1)]
    assert frames == list(range(first, last + 1))
