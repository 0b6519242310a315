# SPDX-License-Identifier: Apache-2.0
"""A drive whose geometry is known by construction must come out in the vehicle's frame."""

import math

import lmdrive_files
import numpy as np
import pytest

from flad_perception.data.scenes import kick, points_from_sensor, scene_of
from flad_perception.targets import box_table, waypoint_target


def scene(frame=0, **changes):
    measurement = {**lmdrive_files.measurement(frame), **changes}
    future = [lmdrive_files.measurement(frame + 5 * i) for i in range(1, 6)]
    return scene_of(measurement, [(m["x"], m["y"]) for m in future])


def test_driving_straight_gives_waypoints_straight_ahead():
    forward_m = 4.0 * 0.5 * np.arange(1, 6)

    waypoints = waypoint_target(scene(frame=4), 5)

    assert waypoints[:, 0] == pytest.approx(forward_m, abs=1e-5)
    assert waypoints[:, 1] == pytest.approx(0.0, abs=1e-5)


def test_far_node_comes_out_of_the_gps_plane():
    # 40 m north and 8 m east of the start: from frame 10, 4 m on, 36 m ahead, 8 m to the right.
    here = scene(frame=10)

    assert here.ego.to_local(here.far_node_m) == pytest.approx((36.0, -8.0), abs=1e-3)


def test_the_route_comes_out_of_the_gps_plane_with_its_commands():
    first, then = (30.0, 8.0, 4), (40.0, 8.0, 2)  # north, east, command
    here = scene(frame=10, future_waypoints=[first, then])

    places = [here.ego.to_local(point) for point in here.route_m]
    assert np.array(places) == pytest.approx(np.array([(26.0, -8.0), (36.0, -8.0)]), abs=1e-2)
    assert here.route_commands == (4, 2)
    assert scene(frame=10).route_m == ()  # other recordings have none


def test_actors_lie_on_their_side_with_their_heading():
    table = {int(row[6]): row for row in box_table(scene(frame=0))}

    x, y, yaw, half_length, half_width, speed = table[0][:6]  # parked, 10 m ahead, 3 m to the left
    assert (x, y, yaw) == pytest.approx((10.0, 3.0, 0.0), abs=1e-5)
    assert (half_length, half_width, speed) == pytest.approx((2.0, 0.9, 0.0))
    x, y, yaw, _, _, speed = table[1][:6]  # walks east, 5 m to the right
    assert (x, y, yaw) == pytest.approx((6.0, -5.0, -math.pi / 2.0), abs=1e-5)
    assert speed == pytest.approx(1.0)


@pytest.mark.parametrize("frame", [0, 10, 20, 30])
def test_lidar_points_of_a_car_fall_into_its_box(frame):
    halves = [lmdrive_files.sweep(frame, rear=rear) for rear in (True, False)]
    points = points_from_sensor(np.concatenate(halves).astype(np.float32))

    table = box_table(scene(frame), points)

    assert table[table[:, 6] == 0][0, 7] == 50.0
    assert points[points[:, 2] < 0.3, 2] == pytest.approx(0.0, abs=1e-2)  # the ground is at zero


def test_distance_to_a_light_ends_at_its_area():
    # Its area reaches from 19 m to 21 m ahead of the start, across our lane.
    assert scene(frame=0).light_distance_m == pytest.approx(19.0, abs=1e-4)
    assert scene(frame=25).light_distance_m == pytest.approx(9.0, abs=1e-4)
    assert scene(frame=50).light_distance_m == 0.0  # within
    assert scene(frame=0).light_state == "red"


def test_a_green_light_is_not_red_whatever_held_the_car():
    """Recordings have named the light when there was no room behind it."""
    actors = lmdrive_files.measurement(12)["actors_data"]
    green = {**actors, "42": {**actors["42"], "sta": 2}}

    assert scene(frame=12).red_light_stops
    assert not scene(frame=12, actors_data=green).red_light_stops
    assert scene(frame=12, actors_data=green, is_red_light_present=[42, 43]).red_light_stops


@pytest.mark.parametrize("light_id", [-1, 7, 99])
def test_no_light_ahead_has_no_distance(light_id):
    without = scene(affected_light_id=light_id)

    assert math.isnan(without.light_distance_m)
    assert without.light_state == "none"


def test_the_ego_is_not_among_the_actors():
    assert {actor.actor_id for actor in scene(frame=7).actors} == {7, 8}


def test_a_missing_compass_does_not_turn_the_world():
    assert scene(theta=float("nan")) == scene()


def test_without_ego_among_the_actors_the_compass_counts():
    actors = dict(lmdrive_files.measurement(0)["actors_data"])
    del actors["1"]

    assert scene(actors_data=actors).ego.yaw_rad == pytest.approx(math.pi / 2.0)
    with pytest.raises(ValueError, match="theta is nan"):
        scene(actors_data=actors, theta=float("nan"))


def test_kicks_are_known_from_our_recordings_only():
    assert not kick(lmdrive_files.measurement(0))
    assert kick({"flad": {"perturbation": -0.2}})
    assert not kick({"flad": {"perturbation": 0.0}})
    late = {"driver": "expert", "driven": {"brake": 0.0}, "label": {"brake": 1.0}}
    assert kick({"flad": late})
    assert not kick({"flad": late | {"driver": "adllm"}})
