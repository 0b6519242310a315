# SPDX-License-Identifier: Apache-2.0
"""Plain values as ROS messages; the geometry is in :mod:`flad_common.frames`."""

from __future__ import annotations

import array
from typing import Any

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, TransformStamped, Vector3
from numpy.typing import NDArray
from std_msgs.msg import Header

from flad_common import frames


def time_msg(stamp_ns: int) -> Time:
    """Simulated nanoseconds as a ROS time."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def header(stamp_ns: int, frame_id: str) -> Header:
    """A header."""
    return Header(stamp=time_msg(stamp_ns), frame_id=frame_id)


def vector_msg(vector: frames.Vec3) -> Vector3:
    """A vector; the caller has converted it already."""
    return Vector3(x=float(vector[0]), y=float(vector[1]), z=float(vector[2]))


def point_msg(vector: frames.Vec3) -> Point:
    """A point; the caller has converted it already."""
    return Point(x=float(vector[0]), y=float(vector[1]), z=float(vector[2]))


def quaternion_msg(q: frames.Quaternion) -> Quaternion:
    """An orientation."""
    return Quaternion(x=q[0], y=q[1], z=q[2], w=q[3])


def pose_msg(pose: frames.RosPose) -> Pose:
    """A pose."""
    return Pose(position=point_msg(pose.position_m), orientation=quaternion_msg(pose.orientation))


def transform_msg(stamp_ns: int, parent: str, child: str, pose: frames.RosPose) -> TransformStamped:
    """Where the frame ``child`` stands in ``parent``."""
    return TransformStamped(
        header=header(stamp_ns, parent),
        child_frame_id=child,
        transform=Transform(
            translation=vector_msg(pose.position_m), rotation=quaternion_msg(pose.orientation)
        ),
    )


def bytes_array(data: NDArray[Any]) -> array.array[int]:
    """Bytes as ``uint8[]`` takes them fast on Humble and Jazzy alike."""
    filled = array.array("B")
    filled.frombytes(data.data.cast("B"))
    return filled


def carla_pose(transform: Any) -> frames.CarlaPose:
    """A ``carla.Transform`` as plain numbers."""
    location, rotation = transform.location, transform.rotation
    return frames.CarlaPose(
        x_m=location.x,
        y_m=location.y,
        z_m=location.z,
        pitch_deg=rotation.pitch,
        yaw_deg=rotation.yaw,
        roll_deg=rotation.roll,
    )


def carla_vec(vector: Any) -> frames.Vec3:
    """A ``carla.Vector3D`` or ``carla.Location`` as plain numbers."""
    return (vector.x, vector.y, vector.z)
