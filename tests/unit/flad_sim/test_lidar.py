# SPDX-License-Identifier: Apache-2.0
"""LiDAR points lie on surfaces, turn as CARLA's do, and are lost and blurred as its rules say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from synthetic_town import bare_scenery, visible

from flad_sim.protocol.payloads import SEMANTIC_POINT
from flad_sim.sensors import Renderer, RendererConfig
from flad_sim.types import SensorRequest, StaticBox, Tag, Transform, VisibleActor

QUIET = {
    "dropoff_general_rate": "0.0",
    "dropoff_intensity_limit": "1.0",
    "dropoff_zero_intensity": "0.0",
}
LMDRIVE = {
    "channels": "64",
    "range": "85",
    "points_per_second": "600000",
    "rotation_frequency": "10",
    "upper_fov": "10",
    "lower_fov": "-30",
}


def _room(half_m: float) -> tuple[StaticBox, ...]:
    """Four walls and a lid: every ray comes back."""
    h = half_m
    wall = [
        ((h + 1, 0), (1, h)),
        ((-h - 1, 0), (1, h)),
        ((0, h + 1), (h, 1)),
        ((0, -h - 1), (h, 1)),
    ]
    walls = [
        StaticBox((x, y, h), (ex, ey, h), 0.0, Tag.WALLS, "static.wall")
        for (x, y), (ex, ey) in wall
    ]
    lid = StaticBox((0.0, 0.0, 2 * h + 1), (h + 2, h + 2, 1.0), 0.0, Tag.WALLS, "static.wall")
    return (*walls, lid)


@pytest.fixture(scope="module")
def room():
    made = Renderer(bare_scenery(*_room(10.0)), RendererConfig(seed=11))
    yield made
    made.close()


@pytest.fixture(scope="module")
def field():
    made = Renderer(bare_scenery(), RendererConfig(seed=11))
    yield made
    made.close()


def _request(attributes, *, sensor_id, kind="ray_cast", place=None):
    return SensorRequest(sensor_id, f"sensor.lidar.{kind}", attributes, place or Transform(z=2.0))


def _read(payload):
    """Head angle, counts per channel, points."""
    (angle,) = np.frombuffer(payload, dtype="<f4", count=1)
    (channels,) = np.frombuffer(payload, dtype="<u4", count=1, offset=4)
    counts = np.frombuffer(payload, dtype="<u4", count=channels, offset=8)
    points = np.frombuffer(payload, dtype="<f4", offset=8 + 4 * channels)
    return float(angle), counts, points


def _sweep(renderer, attributes, *actors, sensor_id, frame=1, place=None):
    request = _request(attributes, sensor_id=sensor_id, place=place)
    angle, counts, points = _read(
        renderer.render(visible(*actors, frame=frame), [request])[sensor_id]
    )
    return angle, counts, points.reshape(-1, 4)


def test_every_point_lies_on_a_wall_10_m_away_or_on_the_ground(room):
    place = Transform(1.0, -2.0, 2.0, yaw=25.0)
    _, counts, points = _sweep(room, {**LMDRIVE, **QUIET}, sensor_id=1, place=place)
    world = place.to_world(points[:, :3].astype(float))
    gap = np.min(
        [np.abs(np.abs(world[:, 0]) - 10), np.abs(np.abs(world[:, 1]) - 10), np.abs(world[:, 2])],
        axis=0,
    )

    assert counts.sum() == len(points) == 64 * 469  # 600,000 a second over 64 channels, rounded
    assert gap.max() < 5e-3


def test_points_are_ordered_by_channel_from_the_top(room):
    _, counts, points = _sweep(room, {**LMDRIVE, **QUIET, "channels": "5"}, sensor_id=2)
    elevation = np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
    expected = np.repeat([10.0, 0.0, -10.0, -20.0, -30.0], counts)

    np.testing.assert_allclose(elevation, expected, atol=0.01)


def test_the_head_goes_on_where_it_stopped(room):
    azimuths, angles = [], []
    for frame in (1, 2):
        angle, _, points = _sweep(room, {**LMDRIVE, **QUIET}, sensor_id=3, frame=frame)
        azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
        azimuths.append(np.where(azimuth > 179.99, azimuth - 360.0, azimuth))
        angles.append(angle)

    assert azimuths[0].min() == pytest.approx(-180.0, abs=0.5)  # half a turn in 0.05 s at 10 Hz
    assert azimuths[0].max() == pytest.approx(0.0, abs=0.5)
    assert azimuths[1].min() == pytest.approx(0.0, abs=0.5)
    assert azimuths[1].max() == pytest.approx(180.0, abs=0.5)
    assert angles == pytest.approx([math.pi, 0.0], abs=1e-5)


def test_two_sensors_turn_independently(room):
    _sweep(room, QUIET, sensor_id=4)
    first, _, _ = _sweep(room, QUIET, sensor_id=5)
    room.forget(4)
    again, _, _ = _sweep(room, QUIET, sensor_id=4)

    assert first == again == pytest.approx(math.pi, abs=1e-5)


def test_range_ends_what_comes_back(field):
    attributes = {**LMDRIVE, **QUIET, "range": "15"}
    _, _, points = _sweep(field, attributes, sensor_id=6)
    reach = np.linalg.norm(points[:, :3], axis=1)

    assert 14.0 < reach.max() <= 15.0 + 1e-4
    assert points[:, 2].max() == pytest.approx(-2.0, abs=1e-3)  # only the ground


def test_intensity_fades_with_distance(room):
    attributes = {**LMDRIVE, **QUIET, "atmosphere_attenuation_rate": "0.02"}
    _, _, points = _sweep(room, attributes, sensor_id=7)
    distance = np.linalg.norm(points[:, :3], axis=1)

    np.testing.assert_allclose(points[:, 3], np.exp(-0.02 * distance), rtol=1e-5)


def test_general_dropoff_loses_its_share(room):
    attributes = {**LMDRIVE, **QUIET, "dropoff_general_rate": "0.45"}
    _, counts, _ = _sweep(room, attributes, sensor_id=8)

    assert counts.sum() / (64 * 469) == pytest.approx(0.55, abs=0.015)


def test_weak_returns_are_lost_by_carlas_line(room):
    """Below the limit 0.8 a return survives with 0.4/0.8 * intensity + 1 - 0.4."""
    attributes = {
        **LMDRIVE,
        "atmosphere_attenuation_rate": "0.1",
        "dropoff_general_rate": "0.0",
        "dropoff_intensity_limit": "0.8",
        "dropoff_zero_intensity": "0.4",
    }
    _, _, points = _sweep(room, attributes, sensor_id=9)
    _, _, every = _sweep(room, {**attributes, "dropoff_intensity_limit": "0.0"}, sensor_id=10)
    for low, high in ((0.25, 0.3), (0.3, 0.36)):
        kept = ((points[:, 3] > low) & (points[:, 3] < high)).sum()
        fired = ((every[:, 3] > low) & (every[:, 3] < high)).sum()
        middle = 0.5 * (low + high)
        assert kept / fired == pytest.approx(0.5 * middle + 0.6, abs=0.03)


def test_noise_is_along_the_ray_and_of_its_size(room):
    attributes = {**LMDRIVE, **QUIET, "noise_stddev": "0.05"}
    _, _, clean = _sweep(room, {**LMDRIVE, **QUIET}, sensor_id=11)
    _, _, noisy = _sweep(room, attributes, sensor_id=12)
    d_clean, d_noisy = (np.linalg.norm(p[:, :3], axis=1) for p in (clean, noisy))

    assert (d_noisy - d_clean).std() == pytest.approx(0.05, rel=0.05)
    np.testing.assert_allclose(
        noisy[:, :3] / d_noisy[:, None], clean[:, :3] / d_clean[:, None], atol=1e-5
    )


def test_randomness_is_of_the_frame_the_sensor_and_the_seed():
    scenery = bare_scenery(*_room(10.0))

    def payload(seed, sensor_id, frame):
        renderer = Renderer(scenery, RendererConfig(seed=seed))
        try:
            return renderer.render(visible(frame=frame), [_request(LMDRIVE, sensor_id=sensor_id)])[
                sensor_id
            ]
        finally:
            renderer.close()

    assert payload(1, 1, 1) == payload(1, 1, 1)
    assert len({payload(1, 1, 1), payload(2, 1, 1), payload(1, 2, 1), payload(1, 1, 2)}) == 4


def test_semantic_points_know_actor_tag_and_angle(field):
    car = VisibleActor(77, "vehicle.mercedes.sprinter", Transform(8.0, yaw=90.0))
    request = _request({**LMDRIVE, "horizontal_fov": "60"}, sensor_id=13, kind="ray_cast_semantic")
    payload = field.render(visible(car), [request])[13]
    points = np.frombuffer(payload, dtype=SEMANTIC_POINT, offset=8 + 4 * 64)
    on_car = points["object_idx"] == 77

    assert on_car.sum() > 100
    assert set(np.unique(points["object_tag"][on_car])) == {int(Tag.CAR)}
    assert set(np.unique(points["object_tag"][~on_car])) == {int(Tag.GROUND)}
    ground = points[~on_car]
    distance = np.sqrt(ground["x"] ** 2 + ground["y"] ** 2 + ground["z"] ** 2)
    np.testing.assert_allclose(ground["cos_angle"], 2.0 / distance, rtol=1e-3)


@pytest.mark.parametrize("name, text", [("channels", "0"), ("range", "-1"), ("upper_fov", "x")])
def test_bad_attributes_are_named(field, name, text):
    with pytest.raises(ValueError, match=f"{name} must be in"):
        field.render(visible(), [_request({name: text}, sensor_id=14)])
