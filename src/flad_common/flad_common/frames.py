# SPDX-License-Identifier: Apache-2.0
"""CARLA's frame and ROS's, and every conversion between them.

CARLA is left-handed: x forward, y right, z up, degrees, yaw clockwise seen from above, pitch up,
roll clockwise seen from behind. ROS (REP 103) is right-handed: x forward, y left, z up, radians.
Camera images use ROS's optical frame: z forward, x right, y down. The stack works in ROS's frame
only: what arrives from CARLA is converted once, here, by functions named by their direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Vec3 = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
"""x, y, z, w; unit length."""

_Number = TypeVar("_Number", bound=np.generic)

_HALF_TURN_DEG = 180.0
# Turns the axes of a camera's body frame (x forward, y left) into its optical ones (z forward).
_BODY_TO_OPTICAL: Quaternion = (-0.5, 0.5, -0.5, 0.5)


@dataclass(frozen=True, kw_only=True, slots=True)
class CarlaPose:
    """A ``carla.Transform`` as plain numbers, so that this module needs no carla."""

    x_m: float = 0.0
    y_m: float = 0.0
    z_m: float = 0.0
    pitch_deg: float = 0.0
    yaw_deg: float = 0.0
    roll_deg: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RosPose:
    """A ``geometry_msgs/Pose`` as plain numbers."""

    position_m: Vec3 = (0.0, 0.0, 0.0)
    orientation: Quaternion = (0.0, 0.0, 0.0, 1.0)

    @property
    def yaw_rad(self) -> float:
        """Heading in (-pi, pi], counter-clockwise from x."""
        x, y, z, w = self.orientation
        return math.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))


# Vectors: positions, velocities, accelerations.


def carla_vector_to_ros(vector: Vec3) -> Vec3:
    """Mirror a position, velocity or acceleration; its unit stays.

    Example:
        >>> carla_vector_to_ros((1.0, 2.0, 3.0))
        (1.0, -2.0, 3.0)
    """
    x, y, z = vector
    return x, -y, z


def ros_vector_to_carla(vector: Vec3) -> Vec3:
    """Undo :func:`carla_vector_to_ros`; mirroring is its own inverse."""
    return carla_vector_to_ros(vector)


def carla_points_to_ros(points: NDArray[_Number]) -> NDArray[_Number]:
    """Mirror points [N, 3 or more]; further columns (intensity, ...) are copied.

    Raises:
        ValueError: if ``points`` is not a table of at least three columns.
    """
    if points.ndim != 2 or points.shape[1] < 3:
        raise ValueError(f"points must have shape [N, >= 3], got {list(points.shape)}")
    mirrored = points.copy()
    mirrored[:, 1] = np.negative(points[:, 1])  # in place, numpy 2.4.6 errs
    return mirrored


# Poses.


def carla_pose_to_ros(pose: CarlaPose) -> RosPose:
    """Convert position and attitude of a body."""
    return RosPose(
        position_m=carla_vector_to_ros((pose.x_m, pose.y_m, pose.z_m)),
        orientation=quaternion_from_euler(
            roll_rad=math.radians(pose.roll_deg),
            pitch_rad=-math.radians(pose.pitch_deg),
            yaw_rad=-math.radians(pose.yaw_deg),
        ),
    )


def ros_pose_to_carla(pose: RosPose) -> CarlaPose:
    """Convert position and attitude back; angles in (-180, 180], pitch in [-90, 90]."""
    x_m, y_m, z_m = ros_vector_to_carla(pose.position_m)
    roll_rad, pitch_rad, yaw_rad = euler_from_quaternion(pose.orientation)
    return CarlaPose(
        x_m=x_m,
        y_m=y_m,
        z_m=z_m,
        pitch_deg=-math.degrees(pitch_rad),
        yaw_deg=_wrapped_deg(-math.degrees(yaw_rad)),
        roll_deg=math.degrees(roll_rad),
    )


def carla_yaw_to_ros(yaw_deg: float) -> float:
    """Heading in radians, counter-clockwise, in (-pi, pi]."""
    return math.radians(_wrapped_deg(-yaw_deg))


def ros_yaw_to_carla(yaw_rad: float) -> float:
    """Heading in degrees, clockwise, in (-180, 180]."""
    return _wrapped_deg(-math.degrees(yaw_rad))


def carla_camera_pose_to_ros_optical(pose: CarlaPose) -> RosPose:
    """Pose of a camera's optical frame (z forward, x right, y down), where its pixels live."""
    body = carla_pose_to_ros(pose)
    return RosPose(
        position_m=body.position_m,
        orientation=multiply(body.orientation, _BODY_TO_OPTICAL),
    )


def ros_optical_to_carla_camera_pose(pose: RosPose) -> CarlaPose:
    """Undo :func:`carla_camera_pose_to_ros_optical`."""
    body = multiply(pose.orientation, conjugate(_BODY_TO_OPTICAL))
    return ros_pose_to_carla(RosPose(position_m=pose.position_m, orientation=body))


# Rates. A rotation axis is a pseudovector: a mirror of y turns x and z round and leaves y alone.


def carla_angular_velocity_to_ros(velocity_dps: Vec3) -> Vec3:
    """``Actor.get_angular_velocity()`` (degrees per second) as radians per second.

    ros-bridge negates y instead of x here, against its own IMU; yaw is the same in both.
    """
    x, y, z = velocity_dps
    return -math.radians(x), math.radians(y), -math.radians(z)


def carla_gyroscope_to_ros(gyroscope_radps: Vec3) -> Vec3:
    """``IMUMeasurement.gyroscope``; radians per second on both sides."""
    x, y, z = gyroscope_radps
    return -x, y, -z


def ros_gyroscope_to_carla(gyroscope_radps: Vec3) -> Vec3:
    """Undo :func:`carla_gyroscope_to_ros`."""
    return carla_gyroscope_to_ros(gyroscope_radps)


def carla_accelerometer_to_ros(accelerometer_mps2: Vec3) -> Vec3:
    """``IMUMeasurement.accelerometer``; m/s^2 on both sides, gravity included."""
    return carla_vector_to_ros(accelerometer_mps2)


def ros_accelerometer_to_carla(accelerometer_mps2: Vec3) -> Vec3:
    """Undo :func:`carla_accelerometer_to_ros`."""
    return ros_vector_to_carla(accelerometer_mps2)


def carla_compass_to_ros_yaw(compass_rad: float) -> float:
    """``IMUMeasurement.compass`` (clockwise from north) as yaw from east, in (-pi, pi].

    Example:
        >>> carla_compass_to_ros_yaw(math.pi / 2)  # facing east
        0.0
    """
    return _wrapped_rad(math.pi / 2 - compass_rad)


def ros_yaw_to_carla_compass(yaw_rad: float) -> float:
    """Undo :func:`carla_compass_to_ros_yaw`; in [0, 2 pi)."""
    return (math.pi / 2 - yaw_rad) % (2.0 * math.pi)


# Rotations in ROS's frame.


def quaternion_from_euler(*, roll_rad: float, pitch_rad: float, yaw_rad: float) -> Quaternion:
    """Rotate by roll about x, then pitch about y, then yaw about z, all of them fixed axes."""
    cr, sr = math.cos(roll_rad / 2), math.sin(roll_rad / 2)
    cp, sp = math.cos(pitch_rad / 2), math.sin(pitch_rad / 2)
    cy, sy = math.cos(yaw_rad / 2), math.sin(yaw_rad / 2)
    return (
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
        cr * cp * cy + sr * sp * sy,
    )


def euler_from_quaternion(orientation: Quaternion) -> Vec3:
    """Roll, pitch, yaw in radians: the inverse of :func:`quaternion_from_euler`."""
    x, y, z, w = orientation
    sin_pitch = max(-1.0, min(1.0, 2.0 * (w * y - z * x)))
    if abs(sin_pitch) > 1.0 - 1e-12:  # straight up or down: roll and yaw are one, call it yaw
        return 0.0, math.copysign(math.pi / 2, sin_pitch), 2.0 * math.atan2(z, w)
    return (
        math.atan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y)),
        math.asin(sin_pitch),
        math.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)),
    )


def multiply(first: Quaternion, second: Quaternion) -> Quaternion:
    """The rotation ``first * second``: a frame ``second`` given in the frame ``first``."""
    ax, ay, az, aw = first
    bx, by, bz, bw = second
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def conjugate(orientation: Quaternion) -> Quaternion:
    """The opposite rotation."""
    x, y, z, w = orientation
    return -x, -y, -z, w


def body_to_world(vector: Vec3, orientation: Quaternion) -> Vec3:
    """Turn a vector given in a body's axes into the axes the body's orientation is given in."""
    x, y, z, _ = multiply(multiply(orientation, (*vector, 0.0)), conjugate(orientation))
    return x, y, z


def world_to_body(vector: Vec3, orientation: Quaternion) -> Vec3:
    """Undo :func:`body_to_world`: what Odometry's twist needs of a velocity in the map."""
    return body_to_world(vector, conjugate(orientation))


def rotation_matrix(orientation: Quaternion) -> NDArray[np.float64]:
    """Matrix [3, 3] whose columns are the body's axes."""
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    columns = [body_to_world(axis, orientation) for axis in axes]
    return np.array(columns, dtype=np.float64).T


def _wrapped_deg(angle_deg: float) -> float:
    return _HALF_TURN_DEG - (_HALF_TURN_DEG - angle_deg) % (2.0 * _HALF_TURN_DEG)


def _wrapped_rad(angle_rad: float) -> float:
    return math.pi - (math.pi - angle_rad) % (2.0 * math.pi)
