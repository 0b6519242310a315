# SPDX-License-Identifier: Apache-2.0
"""Episode, map, settings, weather, ticks: the real client against the server."""

from __future__ import annotations

import carla
import pytest
from contract.carla_world import DELTA_S, CarlaWorld, SimProcess


def test_the_server_has_the_client_s_version(carla_world: CarlaWorld) -> None:
    assert carla_world.client.get_server_version() == carla_world.client.get_client_version()


def test_towns_are_listed_as_carla_lists_them(carla_world: CarlaWorld) -> None:
    maps = carla_world.client.get_available_maps()
    assert "/Game/Carla/Maps/Grid" in maps
    assert carla_world.map.name == "Carla/Maps/Grid"


def test_spawn_points_stand_on_driving_lanes(carla_world: CarlaWorld) -> None:
    points = carla_world.map.get_spawn_points()
    assert len(points) > 50
    for point in points[::10]:
        lane = carla_world.map.get_waypoint(point.location, project_to_road=False)
        assert lane is not None
        assert lane.lane_type == carla.LaneType.Driving
        assert abs((lane.transform.rotation.yaw - point.rotation.yaw + 180) % 360 - 180) < 5.0


def test_a_tick_is_one_frame_of_the_asked_length(carla_world: CarlaWorld) -> None:
    before = carla_world.world.get_snapshot()
    frame = carla_world.tick(4)
    after = carla_world.world.get_snapshot()
    assert (frame, after.frame) == (before.frame + 4, frame)
    assert after.timestamp.elapsed_seconds == pytest.approx(
        before.timestamp.elapsed_seconds + 4 * DELTA_S
    )
    assert after.timestamp.delta_seconds == pytest.approx(DELTA_S)


def test_settings_come_back_as_they_were_sent(carla_world: CarlaWorld) -> None:
    settings = carla_world.world.get_settings()
    settings.fixed_delta_seconds = 0.1
    settings.max_substeps = 7
    carla_world.world.apply_settings(settings)
    try:
        back = carla_world.world.get_settings()
        assert (back.fixed_delta_seconds, back.max_substeps) == (pytest.approx(0.1), 7)
        assert back.synchronous_mode
        carla_world.tick()
        delta = carla_world.world.get_snapshot().timestamp.delta_seconds
        assert delta == pytest.approx(0.1)
    finally:
        carla_world.synchronize()


def test_weather_comes_back_as_it_was_sent(carla_world: CarlaWorld) -> None:
    wanted = carla.WeatherParameters(
        cloudiness=11.0, precipitation=12.0, sun_altitude_angle=33.0, fog_density=14.0, wetness=15.0
    )
    carla_world.world.set_weather(wanted)
    assert carla_world.world.get_weather() == wanted


def test_every_living_actor_is_in_the_snapshot(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    snapshot = carla_world.world.get_snapshot()
    assert snapshot.has_actor(car.id)
    assert snapshot.has_actor(carla_world.world.get_spectator().id)
    assert {a.id for a in snapshot} == {a.id for a in carla_world.world.get_actors()}
    car.destroy()
    carla_world.tick()
    assert not carla_world.world.get_snapshot().has_actor(car.id)


def test_the_spectator_goes_where_it_is_put(carla_world: CarlaWorld) -> None:
    spectator = carla_world.world.get_spectator()
    wanted = carla.Transform(carla.Location(1.5, -2.5, 30.0), carla.Rotation(-90.0, 45.0, 0.0))
    spectator.set_transform(wanted)
    carla_world.tick()
    assert spectator.get_transform() == wanted


def test_an_unknown_call_is_answered_as_rpclib_does(
    carla_world: CarlaWorld, sim: SimProcess
) -> None:
    with pytest.raises(RuntimeError, match=r"rpc_error during call in function start_recorder"):
        carla_world.client.start_recorder("ride.log")
    assert "start_recorder is not served" in sim.log


def test_drawing_is_accepted(carla_world: CarlaWorld) -> None:
    debug = carla_world.world.debug
    debug.draw_point(carla.Location(), 0.1, carla.Color(255, 0, 0), 1.0)
    debug.draw_string(carla.Location(), "here")
    debug.draw_box(carla.BoundingBox(), carla.Rotation())
    carla_world.tick()


def test_rays_meet_roof_and_road_in_order(carla_world: CarlaWorld) -> None:
    car = carla_world.car()
    at = car.get_location()
    up, down = carla.Location(at.x, at.y, 30.0), carla.Location(at.x, at.y, -5.0)
    hits = carla_world.world.cast_ray(up, down)
    heights = [h.location.z for h in hits]
    assert heights == sorted(heights, reverse=True)
    assert hits[0].label == carla.CityObjectLabel.Car
    assert 1.2 < heights[0] - at.z < 1.6  # an MKZ is 1.49 m high
    assert carla.CityObjectLabel.Roads in {h.label for h in hits}


def test_the_ground_is_below_a_point_above_the_road(carla_world: CarlaWorld) -> None:
    at = carla_world.map.get_spawn_points()[3].location
    point = carla_world.world.ground_projection(at + carla.Location(z=5.0), 100.0)
    assert point.location.z == pytest.approx(at.z - 0.3, abs=0.05)
    assert point.label == carla.CityObjectLabel.Roads
    assert carla_world.world.project_point(at, carla.Vector3D(0, 0, 1), 100.0) is None


def test_the_scenery_is_told_as_boxes_and_objects(carla_world: CarlaWorld) -> None:
    buildings = carla_world.world.get_level_bbs(carla.CityObjectLabel.Buildings)
    objects = carla_world.world.get_environment_objects(carla.CityObjectLabel.Buildings)
    assert len(buildings) == len(objects) > 10
    assert {o.type for o in objects} == {carla.CityObjectLabel.Buildings}
    assert buildings[0].extent == objects[0].bounding_box.extent
    everything = carla_world.world.get_environment_objects()
    assert len({o.id for o in everything}) == len(everything) > len(objects)
    assert objects[0].name in carla_world.world.get_names_of_all_objects()


def test_a_wall_stands_where_its_box_says(carla_world: CarlaWorld) -> None:
    boxes = carla_world.world.get_level_bbs(carla.CityObjectLabel.Buildings)
    box = max(boxes, key=lambda b: b.extent.x * b.extent.y)
    above = box.location + carla.Location(z=box.extent.z + 20.0)
    hits = carla_world.world.cast_ray(above, box.location)
    assert hits[0].label == carla.CityObjectLabel.Buildings
    # A roof may be lower than the top of the box, never higher.
    assert hits[0].location.z <= box.location.z + box.extent.z + 0.1
