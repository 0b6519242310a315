# SPDX-License-Identifier: Apache-2.0
"""Conversions are checked against matrices, CARLA's own client, and each other."""

from __future__ import annotations

import math

import carla
import numpy as np
import pytest

from flad_common import frames
from flad_common.frames import CarlaPose, RosPose

MIRROR = np.diag([1.0, -1.0, 1.0])


def random_pose(seed: int) -> CarlaPose:
    rng = np.random.default_rng(seed)
    x, y, z = rng.uniform(-100, 100, 3)
    return CarlaPose(
        x_m=x,
        y_m=y,
        z_m=z,
        pitch_deg=rng.uniform(-89, 89),
        yaw_deg=rng.uniform(-179, 179),
        roll_deg=rng.uniform(-179, 179),
    )


def carla_transform(pose: CarlaPose) -> carla.Transform:
    return carla.Transform(
        carla.Location(pose.x_m, pose.y_m, pose.z_m),
        carla.Rotation(pose.pitch_deg, pose.yaw_deg, pose.roll_deg),
    )


@pytest.mark.parametrize("seed", range(20))
def test_attitude_is_the_mirrored_matrix_of_the_real_client(seed):
    pose = random_pose(seed)
    in_carla = np.array(carla_transform(pose).get_matrix())

    converted = frames.carla_pose_to_ros(pose)

    expected = MIRROR @ in_carla[:3, :3] @ MIRROR
    np.testing.assert_allclose(frames.rotation_matrix(converted.orientation), expected, atol=2e-6)
    np.testing.assert_allclose(converted.position_m, MIRROR @ in_carla[:3, 3], rtol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_a_point_on_the_body_lands_at_the_same_place_by_both_roads(seed):
    pose = random_pose(seed)
    on_body = np.random.default_rng(seed + 100).uniform(-3, 3, 3)
    where = carla_transform(pose).transform(carla.Location(*on_body))

    ros = frames.carla_pose_to_ros(pose)
    by_ros = np.add(
        ros.position_m,
        frames.body_to_world(frames.carla_vector_to_ros(tuple(on_body)), ros.orientation),
    )

    np.testing.assert_allclose(
        by_ros, frames.carla_vector_to_ros((where.x, where.y, where.z)), atol=1e-4
    )


@pytest.mark.parametrize("seed", range(20))
def test_there_and_back_is_nowhere(seed):
    pose = random_pose(seed)

    for back in (
        frames.ros_pose_to_carla(frames.carla_pose_to_ros(pose)),
        frames.ros_optical_to_carla_camera_pose(frames.carla_camera_pose_to_ros_optical(pose)),
    ):
        for name in ("x_m", "y_m", "z_m", "pitch_deg", "yaw_deg", "roll_deg"):
            assert getattr(back, name) == pytest.approx(getattr(pose, name), abs=1e-6), name


def test_a_right_turn_is_positive_for_carla_and_negative_for_ros():
    ros = frames.carla_pose_to_ros(CarlaPose(yaw_deg=30.0))

    assert ros.yaw_rad == pytest.approx(-math.radians(30.0))
    assert frames.carla_yaw_to_ros(30.0) == pytest.approx(ros.yaw_rad)


@pytest.mark.parametrize("yaw_deg", [-540.0, -180.0, -1e-9, 0.0, 179.0, 180.0, 270.0, 725.0])
def test_yaws_are_wrapped(yaw_deg):
    yaw_rad = frames.carla_yaw_to_ros(yaw_deg)
    back_deg = frames.ros_yaw_to_carla(yaw_rad)

    assert -math.pi < yaw_rad <= math.pi
    assert -180.0 < back_deg <= 180.0
    assert math.cos(math.radians(back_deg - yaw_deg)) == pytest.approx(1.0)


@pytest.mark.parametrize("pitch_deg", [90.0, -90.0])
@pytest.mark.parametrize("yaw_deg", [0.0, 40.0, -120.0])
def test_straight_up_and_down_keep_their_attitude(pitch_deg, yaw_deg):
    pose = CarlaPose(pitch_deg=pitch_deg, yaw_deg=yaw_deg)
    ros = frames.carla_pose_to_ros(pose)

    again = frames.carla_pose_to_ros(frames.ros_pose_to_carla(ros))

    np.testing.assert_allclose(
        frames.rotation_matrix(again.orientation),
        frames.rotation_matrix(ros.orientation),
        atol=1e-6,
    )


def test_the_optical_frame_looks_along_z_with_x_right_and_y_down():
    # A camera that looks along CARLA's y (right of the world): ROS's -y.
    optical = frames.carla_camera_pose_to_ros_optical(CarlaPose(yaw_deg=90.0))
    x_axis, y_axis, z_axis = frames.rotation_matrix(optical.orientation).T

    np.testing.assert_allclose(z_axis, [0.0, -1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(x_axis, [-1.0, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(y_axis, [0.0, 0.0, -1.0], atol=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_a_rate_turns_the_body_the_same_way_in_both_frames(seed):
    # In numbers, v' = w x v holds for a point on a body in either frame, or the rate is wrong.
    rng = np.random.default_rng(seed)
    rate, arm = rng.normal(size=3), rng.normal(size=3)

    moved = frames.carla_vector_to_ros(tuple(np.cross(rate, arm)))
    ros_rate = frames.carla_gyroscope_to_ros(tuple(rate))
    ros_arm = frames.carla_vector_to_ros(tuple(arm))

    np.testing.assert_allclose(np.cross(ros_rate, ros_arm), moved, atol=1e-12)
    np.testing.assert_allclose(
        frames.carla_angular_velocity_to_ros(tuple(np.degrees(rate))), ros_rate, atol=1e-12
    )
    assert frames.ros_gyroscope_to_carla(ros_rate) == pytest.approx(tuple(rate))


def test_a_velocity_ahead_is_ahead_in_the_body():
    ros = frames.carla_pose_to_ros(CarlaPose(yaw_deg=90.0))
    velocity = frames.carla_vector_to_ros((0.0, 5.0, 0.0))  # along CARLA's y, as the car looks

    assert frames.world_to_body(velocity, ros.orientation) == pytest.approx((5.0, 0.0, 0.0))


@pytest.mark.parametrize(
    "compass_rad, yaw_rad", [(0.0, math.pi / 2), (math.pi / 2, 0.0), (math.pi, -math.pi / 2)]
)
def test_the_compass_counts_from_north_and_yaw_from_east(compass_rad, yaw_rad):
    assert frames.carla_compass_to_ros_yaw(compass_rad) == pytest.approx(yaw_rad)
    assert frames.ros_yaw_to_carla_compass(yaw_rad) == pytest.approx(compass_rad)


def test_points_are_mirrored_into_a_copy_with_their_intensity():
    points = np.array([[1.0, 2.0, 3.0, 0.7], [4.0, -5.0, 6.0, 0.1]], dtype=np.float32)
    before = points.copy()

    mirrored = frames.carla_points_to_ros(points)

    np.testing.assert_array_equal(mirrored[:, 1], [-2.0, 5.0])
    np.testing.assert_array_equal(mirrored[:, [0, 2, 3]], before[:, [0, 2, 3]])
    np.testing.assert_array_equal(points, before)
    assert mirrored.dtype == np.float32
    with pytest.raises(ValueError, match=r"\[N, >= 3\], got \[4\]"):
        frames.carla_points_to_ros(np.zeros(4))


def test_heading_of_a_tilted_body():
    tilted = frames.quaternion_from_euler(roll_rad=0.3, pitch_rad=-0.4, yaw_rad=2.5)

    assert RosPose(orientation=tilted).yaw_rad == pytest.approx(2.5)
    assert frames.euler_from_quaternion(tilted) == pytest.approx((0.3, -0.4, 2.5))
