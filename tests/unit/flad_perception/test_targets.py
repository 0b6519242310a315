# SPDX-License-Identifier: Apache-2.0
"""Targets are LMDrive's, worked out here in its own frame and turned into ours."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from flad_perception.batch import (
    BOX_FIELDS,
    COMMAND_LEFT,
    COMMAND_ON,
    COMMAND_RIGHT,
    LIGHT_FREE,
    LIGHT_RED,
)
from flad_perception.detections import decode_detections
from flad_perception.scene import VEHICLE, WALKER, Pose, Scene, SceneActor, world_from_carla
from flad_perception.targets import (
    box_table,
    command_target,
    detection_target,
    make_targets,
    path_target,
    waypoint_target,
)

# An ego in CARLA's world (y right, yaw clockwise) that is nowhere near an axis.
_EGO_X, _EGO_Y, _EGO_YAW_DEG = 120.0, -45.0, 28.0
_ACTORS = (  # x, y, yaw_deg, half length, half width, speed, kind
    (132.0, -33.0, 10.0, 2.4, 1.0, 5.0, VEHICLE),
    (118.0, -38.0, 200.0, 2.1, 0.9, 0.0, VEHICLE),
    (126.0, -47.0, 118.0, 0.3, 0.3, 1.4, WALKER),
    (111.0, -59.0, -62.0, 4.5, 1.3, 8.0, VEHICLE),
    (140.5, -30.0, 30.0, 2.4, 1.0, 3.0, VEHICLE),
    (300.0, 300.0, 0.0, 2.4, 1.0, 3.0, VEHICLE),
)


def _scene(actors=_ACTORS, **changes) -> Scene:
    return dataclasses.replace(
        Scene(
            ego=world_from_carla(_EGO_X, _EGO_Y, _EGO_YAW_DEG),
            speed_mps=4.0,
            actors=tuple(
                SceneActor(
                    actor_id=i,
                    kind=kind,
                    pose=world_from_carla(x, y, yaw),
                    half_length_m=length,
                    half_width_m=width,
                    speed_mps=speed,
                )
                for i, (x, y, yaw, length, width, speed, kind) in enumerate(actors)
            ),
            red_light_stops=True,
            stop_sign=False,
            future_m=((1.0, 2.0),),
        ),
        **changes,
    )


def _right_forward(x: float, y: float) -> tuple[float, float]:
    """A vector of CARLA's world in LMDrive's grid frame, through its compass angle."""
    theta = math.radians(_EGO_YAW_DEG) + math.pi / 2
    right = math.cos(theta) * x + math.sin(theta) * y
    backward = -math.sin(theta) * x + math.cos(theta) * y
    return right, -backward


def _lmdrive_cell(row: int, column: int):
    """One cell of LMDrive's 50x50 grid: its eight channels, or zeros."""
    x, y = column - 24.5, 29.5 - row
    here = []
    for ax, ay, yaw_deg, length, width, speed, _ in _ACTORS:
        place = _right_forward(ax - _EGO_X, ay - _EGO_Y)
        yaw = math.radians(yaw_deg)
        heading = _right_forward(math.cos(yaw), math.sin(yaw))
        here.append((place, heading, length, width, speed))
    covered = 0
    for i in range(5):
        for j in range(5):
            sx, sy = x - 0.4 + 0.2 * i, y - 0.4 + 0.2 * j
            for place, heading, length, width, _ in here:
                grown = max(1.0, 1.5 / length)
                dx, dy = sx - place[0], sy - place[1]
                along, across = dx * heading[0] + dy * heading[1], dx * heading[1] - dy * heading[0]
                if abs(along) <= length * grown and abs(across) <= width * grown:
                    covered += 1
                    break
    if covered / 25 < 0.05:
        return np.zeros(8)
    away = [math.dist((x, y), place) for place, *_ in here]
    place, heading, length, width, speed = here[int(np.argmin(away))]
    prob = (0.5 / max(0.5, min(away) - math.sqrt(0.5))) ** 0.5
    # Its heading keeps the second axis backwards.
    return np.array(
        [
            prob,
            (place[0] - x) / 3.5,
            (place[1] - y) / 3.5,
            heading[0],
            -heading[1],
            length / 3.5,
            width / 2.0,
            speed / 8.0,
        ]
    )


def test_detection_target_is_lmdrives_in_our_frame(paper):
    ours = detection_target(_scene(), paper.grid)
    lmdrives = np.array([[_lmdrive_cell(r, c) for c in range(50)] for r in range(50)])
    # Documented in flad_perception.detections; our y is to the left.
    turned = lmdrives.copy()
    turned[..., 1], turned[..., 2] = lmdrives[..., 2], -lmdrives[..., 1]
    turned[..., 3], turned[..., 4] = -lmdrives[..., 4], -lmdrives[..., 3]

    assert (lmdrives[..., 0] > 0).sum() > 40
    np.testing.assert_allclose(ours, turned, atol=1e-5)


@pytest.mark.parametrize("name", ["paper", "small"])
def test_decoding_a_target_gives_the_actors_back(request, name):
    config = request.getfixturevalue(name)
    scene = _scene()
    target = detection_target(scene, config.grid).astype(np.float64)
    target[..., 0] = np.where(target[..., 0] > 0.0, 5.0 * target[..., 0], -9.0)
    inside = box_table(scene)[:5]
    found = decode_detections(target, config)

    assert len(found) == len(inside)
    for box in inside:
        match = min(found, key=lambda d: math.hypot(d.x_m - box[0], d.y_m - box[1]))
        got = (match.x_m, match.y_m, match.half_length_m, match.half_width_m, match.speed_mps)
        np.testing.assert_allclose(got, box[[0, 1, 3, 4, 5]], atol=1e-4)
        assert math.remainder(match.yaw_rad - box[2], 2 * math.pi) == pytest.approx(0, abs=1e-4)


def test_where_is_what(paper):
    """An actor ahead and to the left is in the upper left of the grid, and offsets lead to it."""
    ego = Pose(10.0, 20.0, math.pi / 2)  # looks along y; left is -x
    actor = SceneActor(
        actor_id=1,
        kind=VEHICLE,
        pose=Pose(10.0 - 7.2, 20.0 + 12.4, math.pi),
        half_length_m=2.0,
        half_width_m=1.0,
        speed_mps=4.0,
    )
    grid = detection_target(dataclasses.replace(_scene(), ego=ego, actors=(actor,)), paper.grid)
    rows, columns = np.nonzero(grid[..., 0])

    assert rows.min() >= 15 and rows.max() <= 19 and columns.min() >= 15 and columns.max() <= 20
    x_m, y_m = paper.grid.center_m(17, 17)
    assert (x_m, y_m) == (12.5, 7.5)
    np.testing.assert_allclose(3.5 * grid[17, 17, 1:3], (12.4 - x_m, 7.2 - y_m), atol=1e-5)
    np.testing.assert_allclose(grid[17, 17, 3:5], (0.0, 1.0), atol=1e-6)  # heads to our left


def test_the_ego_and_far_actors_are_nowhere(small):
    here = (_EGO_X + 0.3, _EGO_Y, _EGO_YAW_DEG, 2.4, 1.0, 4.0, VEHICLE)

    assert not detection_target(_scene((here, _ACTORS[-1])), small.grid).any()
    assert not detection_target(_scene(()), small.grid).any()


def test_waypoints_are_where_the_ego_will_be():
    ahead = world_from_carla(
        _EGO_X + 3 * math.cos(math.radians(_EGO_YAW_DEG)),
        _EGO_Y + 3 * math.sin(math.radians(_EGO_YAW_DEG)),
    )
    right = world_from_carla(
        _EGO_X - 2 * math.sin(math.radians(_EGO_YAW_DEG)),
        _EGO_Y + 2 * math.cos(math.radians(_EGO_YAW_DEG)),
    )
    scene = _scene(future_m=((ahead.x_m, ahead.y_m), (right.x_m, right.y_m)))

    expected = [(3, 0), (0, -2), (0, -2), (0, -2), (0, -2)]  # the last place is held
    np.testing.assert_allclose(waypoint_target(scene, 5), expected, atol=1e-5)
    np.testing.assert_allclose(waypoint_target(scene, 1), expected[:1], atol=1e-5)
    with pytest.raises(ValueError, match="at least one future position"):
        waypoint_target(_scene(future_m=()), 5)


def test_light_stop_and_target_point(small):
    far = world_from_carla(
        _EGO_X + 10 * math.cos(math.radians(_EGO_YAW_DEG)),
        _EGO_Y + 10 * math.sin(math.radians(_EGO_YAW_DEG)),
    )
    red = make_targets(_scene(far_node_m=(far.x_m, far.y_m)), small)
    free = make_targets(_scene(red_light_stops=False, stop_sign=True), small)

    assert (red["light"], red["stop"]) == (LIGHT_RED, 0)
    assert (free["light"], free["stop"]) == (LIGHT_FREE, 1)
    np.testing.assert_allclose(red["target_point_m"], (10.0, 0.0), atol=1e-4)
    np.testing.assert_allclose(free["target_point_m"], (0.0, 0.0), atol=1e-6)


def test_points_on_a_body_are_counted():
    scene = _scene()
    x, y, yaw, length, width = box_table(scene)[0, :5]
    c, s = math.cos(yaw), math.sin(yaw)

    def at(along, across, z):
        return (x + along * c - across * s, y + along * s + across * c, z, 0.0)

    points = np.array(
        [
            at(length, 0.0, 1.0),
            at(0.0, -width, 1.0),
            at(length + 0.5, 0.0, 1.0),  # before it
            at(0.0, width + 0.5, 1.0),  # beside it
            at(0.0, 0.0, 0.0),  # the road below
            at(0.0, 0.0, 6.0),  # a bridge
        ],
        dtype=np.float32,
    )
    counted = box_table(scene, points)[:, BOX_FIELDS.index("lidar_points")]

    assert counted.tolist() == [2.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert box_table(_scene(()), points).shape == (0, 8)


def test_carla_s_world_is_mirrored():
    pose = world_from_carla(1.0, 2.0, 90.0)

    assert (pose.x_m, pose.y_m) == (1.0, -2.0)
    assert pose.yaw_rad == pytest.approx(-math.pi / 2)
    assert Pose(0, 0, 3.0).local_yaw_rad(-3.0) == pytest.approx(2 * math.pi - 6.0)


def _on_a_road(*route, commands=None) -> Scene:
    """An ego at (10, 20) that looks along the world's y, so that left is -x."""
    return _scene(
        (),
        ego=Pose(10.0, 20.0, math.pi / 2),
        route_m=route,
        route_commands=commands or (4,) * len(route),
    )


def test_the_path_says_how_far_the_lane_is_whatever_the_route_begins_with():
    # The lane is 0.8 m to the right; the route's first point lies behind.
    scene = _on_a_road((10.8, 19.0), (10.8, 20.5), (10.8, 22.0), (10.8, 40.0))

    assert path_target(scene, (2.0, 6.0)) == pytest.approx(np.array([[2.0, -0.8], [6.0, -0.8]]))


def test_the_path_goes_round_a_corner():
    # 4 m ahead the route turns to the left, along the world's -x.
    scene = _on_a_road((10.0, 20.0), (10.0, 24.0), (0.0, 24.0))

    assert path_target(scene, (3.0, 7.0)) == pytest.approx(np.array([[3.0, 0.0], [4.0, 3.0]]))


def test_a_route_that_comes_back_does_not_confuse_the_path():
    far = 30.0
    there_and_back = ((10.0, 20.0), (10.0, 20.0 + far), (10.1, 20.0 + far), (10.1, 20.0))
    scene = dataclasses.replace(_on_a_road(*there_and_back), ego=Pose(10.1, 21.0, math.pi / 2))

    assert path_target(scene, (4.0,)) == pytest.approx(np.array([[4.0, 0.1]]))


def test_beyond_the_route_the_path_is_not_known():
    scene = _on_a_road((10.0, 20.0), (10.0, 25.0))
    path = path_target(scene, (4.0, 6.0))

    assert np.isfinite(path[0]).all()
    assert np.isnan(path[1]).all()
    assert np.isnan(path_target(_on_a_road(), (4.0,))).all()


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ((4, 4, 1), COMMAND_LEFT),
        ((4, 2, 1), COMMAND_RIGHT),
        ((4, 3, 3), COMMAND_ON),
        ((4, 5, 6), COMMAND_ON),
    ],
)
def test_the_next_turn_within_reach_is_the_command(commands, expected):
    scene = _on_a_road((10.0, 20.0), (10.0, 25.0), (10.0, 30.0), commands=commands)

    assert command_target(scene, (2.0, 10.0)) == expected


def test_a_turn_out_of_reach_is_no_command_yet():
    scene = _on_a_road((10.0, 20.0), (10.0, 25.0), (10.0, 30.1), commands=(4, 4, 1))

    assert command_target(scene, (2.0, 10.0)) == COMMAND_ON
