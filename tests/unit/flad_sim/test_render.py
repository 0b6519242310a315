# SPDX-License-Identifier: Apache-2.0
"""Pictures tell the truth: a pinhole's geometry, CARLA's encodings, light, weather, lamps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from synthetic_town import bare_scenery, camera, crossroads, pixels, visible

from flad_sim import catalogue
from flad_sim.scenery import grow_scenery
from flad_sim.scenery.actors import actor_mesh
from flad_sim.sensors import Renderer, RendererConfig
from flad_sim.sensors.camera import CameraConfig
from flad_sim.sensors.reference import ReferenceTracer
from flad_sim.types import LightState, StaticBox, Tag, Transform, VisibleActor, Weather

WALL = StaticBox((10.5, 0.0, 3.0), (0.5, 50.0, 3.0), 0.0, Tag.WALLS, "static.wall")
DAY = Weather(sun_altitude_angle=50.0, sun_azimuth_angle=40.0)
_STREET = Transform(55.0, 1.7, 2.0)


@pytest.fixture(scope="module")
def open_field():
    made = Renderer(bare_scenery())
    yield made
    made.close()


@pytest.fixture(scope="module")
def walled():
    made = Renderer(bare_scenery(WALL))
    yield made
    made.close()


@pytest.fixture(scope="module")
def scenery():
    return grow_scenery(crossroads(), seed=3)


@pytest.fixture(scope="module")
def town(scenery):
    made = Renderer(scenery)
    yield made
    made.close()


def _shot(renderer, request, *actors, **world):
    return pixels(renderer.render(visible(*actors, **world), [request])[request.sensor_id])


def _depth_m(image):
    b, g, r = (image[..., k].astype(np.float64) for k in range(3))
    return (r + 256.0 * g + 65536.0 * b) / (256.0**3 - 1.0) * 1000.0


def test_a_wall_10_m_away_is_10_m_deep_in_every_pixel_that_shows_it(walled):
    eye = Transform(z=2.0)
    depth = _depth_m(_shot(walled, camera(eye, "depth")))
    tags = _shot(walled, camera(eye, "semantic_segmentation"))[..., 2]
    wall = tags == Tag.WALLS

    assert wall.mean() > 0.3
    np.testing.assert_allclose(depth[wall], 10.0, atol=1e-3)  # depth, not distance
    assert np.isclose(depth[tags == Tag.SKY], 1000.0).all() and (tags == Tag.SKY).any()


@pytest.mark.parametrize("pitch, yaw, roll", [(0, 0, 0), (-8, 8, 0), (4, 3, 12)])
@pytest.mark.parametrize("fov", [40.0, 100.0])
def test_a_car_has_its_pixels_where_a_pinhole_says(open_field, pitch, yaw, roll, fov):
    eye = Transform(1.0, -2.0, 1.7, pitch=pitch, yaw=yaw, roll=roll)
    car = VisibleActor(7, "vehicle.tesla.model3", Transform(16.0, 0.5, 0.0, yaw=35.0))
    size = (400, 300)
    image = _shot(open_field, camera(eye, "instance_segmentation", size=size, fov=fov), car)
    seen = (image[..., 2] == Tag.CAR) & (image[..., 1] == 7) & (image[..., 0] == 0)
    rows, columns = np.nonzero(seen)

    world = car.transform.to_world(actor_mesh(car.blueprint).vertices.astype(float))
    local = eye.to_local(world)
    focal = 0.5 * size[0] / np.tan(np.radians(fov) / 2.0)
    u = size[0] / 2 + focal * local[:, 1] / local[:, 0]
    v = size[1] / 2 - focal * local[:, 2] / local[:, 0]
    assert u.min() > 0 and u.max() < size[0] and v.min() > 0 and v.max() < size[1]
    assert columns.min() == pytest.approx(u.min(), abs=1.5)
    assert columns.max() + 1 == pytest.approx(u.max(), abs=1.5)
    assert rows.min() == pytest.approx(v.min(), abs=1.5)
    assert rows.max() + 1 == pytest.approx(v.max(), abs=1.5)


def test_sizes_that_are_no_multiple_of_a_tile_are_filled(open_field):
    image = _shot(open_field, camera(Transform(z=2.0), size=(37, 23)))

    assert image.shape == (23, 37, 4)
    assert (image[..., 3] == 255).all()
    assert (image[:8, :, 0] > image[:8, :, 2]).all()  # blue sky on top
    assert (np.abs(np.diff(image[-8:, :, :3].astype(int), axis=2)) < 12).all()  # grey ground below


def test_same_world_same_bytes_whatever_the_threads(scenery):
    car = VisibleActor(9, "vehicle.audi.tt", Transform(70.0, 1.7, 0.0), color=(200, 10, 10))
    rain = dataclasses.replace(DAY, precipitation=60.0, cloudiness=70.0)
    payloads = []
    for num_threads in (1, 2, 2):
        renderer = Renderer(scenery, RendererConfig(seed=5, num_threads=num_threads))
        world = visible(car, weather=rain, frame=8)
        payloads.append(renderer.render(world, [camera(Transform(60.0, 1.7, 2.0))])[1])
        renderer.close()
    assert payloads[0] == payloads[1] == payloads[2]


def test_depth_is_what_embreex_finds(town, scenery):
    """embreex's own binding, one ray at a time, against packets of sixteen through instances."""
    request = camera(_STREET.moved(pitch=-7.0, yaw=13.0, roll=4.0), "depth", size=(163, 121))
    view = CameraConfig.from_attributes(request.attributes).view(request.transform)
    expected = np.minimum(ReferenceTracer(scenery.mesh).depths_m(view), 1000.0)
    found = _depth_m(_shot(town, request))
    agree = np.isclose(found, expected, rtol=1e-4, atol=1e-3)

    assert agree.mean() > 0.998  # rays that graze an edge may fall on either side


def test_actors_move_come_and_go(open_field):
    eye = camera(Transform(z=1.5), "semantic_segmentation")

    def cars(*actors):
        return int((_shot(open_field, eye, *actors)[..., 2] == Tag.CAR).sum())

    near = VisibleActor(1, "vehicle.mini.cooper_s", Transform(8.0))
    far = VisibleActor(1, "vehicle.mini.cooper_s", Transform(16.0))
    other = VisibleActor(2, "vehicle.audi.a2", Transform(12.0, 5.0))
    assert cars(near) > 3 * cars(far) > 60
    assert cars(near, other) > cars(near) + 20
    assert cars(other) > 20
    assert cars() == 0


def test_a_red_car_is_red_and_a_blue_one_blue(open_field):
    eye = camera(Transform(z=1.5))
    for color, channel in (((200, 20, 20), 2), ((20, 40, 200), 0)):
        car = VisibleActor(1, "vehicle.seat.leon", Transform(7.0, yaw=20.0), color=color)
        picture = _shot(open_field, eye, car, weather=DAY).astype(int)
        empty = _shot(open_field, eye, weather=DAY).astype(int)
        changed = np.abs(picture - empty).sum(axis=2) > 30
        mean = picture[changed].mean(axis=0)
        assert mean[channel] > 1.3 * mean[2 - channel]


def test_brake_lamps_shine_when_the_car_brakes(open_field):
    car = VisibleActor(1, "vehicle.lincoln.mkz_2020", Transform(9.0), color=(120, 120, 120))
    eye = camera(Transform(z=1.3), size=(200, 150))

    def bright_red(actor):
        image = _shot(open_field, eye, actor, weather=DAY).astype(int)
        return int(((image[..., 2] > 200) & (image[..., 2] > 1.6 * image[..., 1])).sum())

    assert bright_red(dataclasses.replace(car, brake_light=True)) > bright_red(car) + 10


def _lamp_view(town_lights, index, distance_m):
    """A camera that looks along the approach at a head ``distance_m`` ahead."""
    x, y, z, *_ = next(row for row in town_lights if int(row[6]) // 3 == index)
    stop = crossroads().signals[index].stop_points[0]
    back = Transform(float(x), float(y), 2.3, yaw=stop.yaw).compose(Transform(x=-distance_m))
    return back, (float(x), float(y), float(z))


@pytest.mark.parametrize("altitude", [50.0, -20.0])
@pytest.mark.parametrize(
    "size, fov, distance_m", [((128, 128), 21.6, 25.0), ((400, 300), 100.0, 25.0)]
)
def test_the_state_of_a_light_can_be_told(town, scenery, altitude, size, fov, distance_m):
    eye, lamp = _lamp_view(scenery.signal_lamps, 1, distance_m)
    forward, right, up = eye.to_local(np.array([lamp]))[0]
    focal = 0.5 * size[0] / np.tan(np.radians(fov) / 2.0)
    u, v = size[0] / 2 + focal * right / forward, size[1] / 2 - focal * up / forward
    half, tall = max(2, int(0.5 * focal / forward)), max(3, int(1.3 * focal / forward))
    weather = dataclasses.replace(DAY, sun_altitude_angle=altitude)
    told = {}
    for state in (LightState.RED, LightState.YELLOW, LightState.GREEN):
        image = _shot(town, camera(eye, size=size, fov=fov), weather=weather, lights={"far": state})
        box = image[max(int(v) - 3, 0) : int(v) + tall, int(u) - half : int(u) + half + 1, :3]
        told[state] = box.reshape(-1, 3)[box.reshape(-1, 3).max(axis=1).argmax()].astype(int)
    b, g, r = told[LightState.RED]
    assert r > 150 and r > 1.5 * g and r > 1.5 * b
    b, g, r = told[LightState.YELLOW]
    assert r > 150 and g > 100 and g > 1.4 * b
    b, g, r = told[LightState.GREEN]
    assert g > 150 and g > 1.3 * r


def _mean(image):
    return float(image[..., :3].mean())


def test_night_is_darker_than_day_and_has_street_lamps(town):
    day, night = (
        _shot(town, camera(_STREET), weather=dataclasses.replace(DAY, sun_altitude_angle=a))
        for a in (50.0, -30.0)
    )
    assert _mean(night) < 0.75 * _mean(day)
    assert night[..., :3].max() > 200


def test_head_lamps_light_the_road_at_night(open_field):
    night = Weather(sun_altitude_angle=-40.0)
    eye = camera(Transform(-4.0, 0.0, 3.0, pitch=-12.0))
    car = VisibleActor(1, "vehicle.audi.tt", Transform(0.0))
    dark = _shot(open_field, eye, car, weather=night)
    lit = _shot(open_field, eye, dataclasses.replace(car, lights=2), weather=night)

    assert _mean(lit[50:75]) > _mean(dark[50:75]) + 5.0


@pytest.mark.parametrize(
    "changes",
    [
        {"cloudiness": 80.0},
        {"precipitation": 60.0},
        {"precipitation_deposits": 80.0},
        {"wetness": 80.0},
        {"sun_azimuth_angle": 200.0},
        {"sun_altitude_angle": 15.0},
        {"fog_density": 50.0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_parameter_changes_the_picture(town, changes):
    before = _shot(town, camera(_STREET), weather=DAY).astype(int)
    after = _shot(town, camera(_STREET), weather=dataclasses.replace(DAY, **changes)).astype(int)

    assert np.abs(after - before).mean() > 1.0


def test_fog_that_begins_later_hides_less(town):
    fog = dataclasses.replace(DAY, fog_density=60.0)
    near, far = (
        _shot(town, camera(_STREET), weather=dataclasses.replace(fog, fog_distance=metres))
        for metres in (0.0, 40.0)
    )
    assert far[..., 1].std() > 1.05 * near[..., 1].std()


def test_fog_that_lies_low_leaves_the_sky_blue(town):
    fog = dataclasses.replace(DAY, fog_density=60.0)

    def blueness(falloff):
        weather = dataclasses.replace(fog, fog_falloff=falloff)
        above = _shot(town, camera(_STREET.moved(pitch=50.0)), weather=weather).astype(int)
        return float((above[..., 0] - above[..., 2]).mean())

    assert blueness(4.0) > blueness(0.0) + 5.0


def test_fog_takes_contrast(town):
    clear = _shot(town, camera(_STREET), weather=DAY)
    foggy = _shot(town, camera(_STREET), weather=dataclasses.replace(DAY, fog_density=90.0))

    assert foggy[..., 1].std() < 0.7 * clear[..., 1].std()


def test_clouds_take_shadows(open_field):
    van = VisibleActor(1, "vehicle.mercedes.sprinter", Transform(12.0, 3.0))
    place = Transform(z=3.0, pitch=-10.0)
    tags = _shot(open_field, camera(place, "semantic_segmentation"), van)[..., 2]
    contrast = {}
    for clouds in (0.0, 100.0):
        weather = Weather(sun_altitude_angle=35.0, sun_azimuth_angle=90.0, cloudiness=clouds)
        ground = _shot(open_field, camera(place), van, weather=weather)[tags == Tag.GROUND, 1]
        contrast[clouds] = np.percentile(ground, 98) / max(np.percentile(ground, 1), 1.0)

    assert contrast[0.0] > 2.0
    assert contrast[0.0] > 1.4 * contrast[100.0]


def test_wet_roads_are_darker(town):
    down = camera(Transform(55.0, 1.7, 6.0, pitch=-89.0), fov=30.0)
    dry = _shot(town, down, weather=DAY)
    wet = _shot(town, down, weather=dataclasses.replace(DAY, wetness=100.0))

    assert _mean(wet) < 0.85 * _mean(dry)


def test_supersampling_smooths_and_keeps_the_place(open_field):
    car = VisibleActor(1, "vehicle.tesla.model3", Transform(10.0, yaw=30.0), color=(250, 250, 250))
    request = camera(Transform(z=1.5))
    fine = dataclasses.replace(request, attributes={**request.attributes, "supersampling": "3"})
    coarse_image = _shot(open_field, request, car, weather=DAY).astype(float)
    fine_image = _shot(open_field, fine, car, weather=DAY).astype(float)

    assert fine_image.shape == coarse_image.shape
    assert np.abs(fine_image - coarse_image).mean() < 6.0
    assert np.abs(np.diff(fine_image, axis=1)).max() <= np.abs(np.diff(coarse_image, axis=1)).max()


@pytest.mark.parametrize(
    "name, text", [("fov", "200"), ("image_size_x", "0"), ("image_size_y", "many")]
)
def test_bad_attributes_are_named(open_field, name, text):
    request = camera(Transform())
    bad = dataclasses.replace(request, attributes={**request.attributes, name: text})
    with pytest.raises(ValueError, match=f"{name} must be in .* got '{text}'"):
        open_field.render(visible(), [bad])


def test_an_unknown_sensor_is_refused_by_name(open_field):
    request = dataclasses.replace(camera(Transform()), blueprint="sensor.camera.dvs")
    with pytest.raises(ValueError, match=r"sensor\.camera\.dvs cannot be rendered"):
        open_field.render(visible(), [request])


def test_rays_report_every_surface_in_order(walled):
    hits = walled.cast_ray(visible(), (0.0, 0.0, 2.0), (20.0, 0.0, 2.0))

    assert [tag for _, tag in hits] == [Tag.WALLS, Tag.WALLS]
    assert [x for (x, _, _), _ in hits] == pytest.approx([10.0, 11.0], abs=1e-2)
    assert walled.cast_ray(visible(), (0.0, 0.0, 2.0), (9.0, 0.0, 2.0)) == []
    assert walled.cast_ray(visible(), (0.0, 0.0, 2.0), (0.0, 0.0, 2.0)) == []


def test_every_blueprint_can_be_drawn(open_field):
    actors = [
        VisibleActor(i + 1, name, Transform(20.0 + 0.1 * i, 0.0, 1.0), velocity=(1.2, 0.0, 0.0))
        for i, name in enumerate([*catalogue.VEHICLES, *catalogue.WALKERS, *catalogue.PROPS])
    ]
    tags = _shot(open_field, camera(Transform(z=2.0), "semantic_segmentation"), *actors)[..., 2]

    assert {int(t) for t in np.unique(tags)} > {int(Tag.SKY), int(Tag.GROUND)}
