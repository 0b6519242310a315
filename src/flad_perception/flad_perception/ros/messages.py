# SPDX-License-Identifier: Apache-2.0
"""Sensor messages as arrays, and what the encoder found as messages.

Whatever a message may have wrong raises ``ValueError`` here; the node counts and drops it.
"""

from __future__ import annotations

import array
import math
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from flad_msgs.msg import ScenePrediction, SceneTokens
from geometry_msgs.msg import PointStamped
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

from flad_perception.live_sensors import CameraPicture, EgoState, RoutePoint
from flad_perception.scene import Pose
from flad_perception.scene_output import SceneOutput
from flad_perception.wire import EncodedTokens, WireDtype

_CHANNELS = {"bgra8": (2, 1, 0), "rgba8": (0, 1, 2), "bgr8": (2, 1, 0), "rgb8": (0, 1, 2)}
_MAX_PIXELS = 64_000_000


def stamp_to_ns(stamp: Time) -> int:
    """A ROS time as nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def ns_to_stamp(stamp_ns: int) -> Time:
    """Nanoseconds as a ROS time."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def header(stamp_ns: int, frame_id: str) -> Header:
    """A header."""
    return Header(stamp=ns_to_stamp(stamp_ns), frame_id=frame_id)


def picture_from_msg(msg: Image) -> CameraPicture:
    """A picture; its pixels are the message's own bytes, not copied.

    Raises:
        ValueError: on an encoding that is not known, or bytes that do not fit the size.
    """
    order = _CHANNELS.get(msg.encoding)
    if order is None:
        raise ValueError(f"encoding is {msg.encoding!r}, allowed are {sorted(_CHANNELS)}")
    if not 0 < msg.height * msg.width <= _MAX_PIXELS:
        raise ValueError(f"a picture of {msg.width}x{msg.height} pixels")
    width_bytes = msg.width * (4 if msg.encoding.endswith("a8") else 3)
    if msg.step < width_bytes or len(msg.data) != msg.height * msg.step:
        raise ValueError(
            f"{msg.width}x{msg.height} in {msg.encoding} with rows of {msg.step} bytes is "
            f"{msg.height * msg.step} bytes with rows of at least {width_bytes}, "
            f"got {len(msg.data)}"
        )
    rows = np.frombuffer(msg.data, dtype=np.uint8).reshape(msg.height, msg.step)
    pixels = rows[:, :width_bytes].reshape(msg.height, msg.width, -1)
    return CameraPicture(pixels=pixels, order=order)


def points_from_msg(msg: PointCloud2) -> NDArray[np.float32]:
    """Points ``[N, 4]``: x, y, z, intensity (0 where the cloud has none), in the cloud's frame.

    Points that are not finite stay; what merges sweeps drops them.

    Raises:
        ValueError: if x, y or z is missing or not FLOAT32, or the bytes do not fit the size.
    """
    offsets = {f.name: f.offset for f in msg.fields if f.datatype == PointField.FLOAT32}
    if lacking := [name for name in "xyz" if name not in offsets]:
        raise ValueError(f"the cloud has no {', '.join(lacking)} of type FLOAT32")
    size = msg.width * msg.height * msg.point_step
    if len(msg.data) != size or (msg.height > 1 and msg.row_step != msg.width * msg.point_step):
        raise ValueError(
            f"{msg.width}x{msg.height} points of {msg.point_step} bytes are {size} bytes, "
            f"got {len(msg.data)}"
        )
    if any(offsets[name] + 4 > msg.point_step for name in offsets):
        raise ValueError(f"a field lies beyond the {msg.point_step} bytes of a point")
    points = np.zeros((msg.width * msg.height, 4), dtype=np.float32)
    if len(points):
        number = ">f4" if msg.is_bigendian else "<f4"
        names = [name for name in ("x", "y", "z", "intensity") if name in offsets]
        record = np.dtype(
            {
                "names": names,
                "formats": [number] * len(names),
                "offsets": [offsets[name] for name in names],
                "itemsize": msg.point_step,
            }
        )
        records = np.frombuffer(msg.data, dtype=record)
        for column, name in enumerate(names):
            points[:, column] = records[name]
    return points


def ego_from_odometry(msg: Odometry) -> EgoState:
    """Pose on the ground and forward speed.

    Raises:
        ValueError: if a number that is needed is not finite.
    """
    q, at = msg.pose.pose.orientation, msg.pose.pose.position
    speed_mps = msg.twist.twist.linear.x
    if not all(map(math.isfinite, (q.w, q.x, q.y, q.z, at.x, at.y, speed_mps))):
        raise ValueError("odometry that is not finite")
    yaw_rad = math.atan2(2.0 * (q.w * q.z + q.x * q.y), 1.0 - 2.0 * (q.y * q.y + q.z * q.z))
    return EgoState(
        pose=Pose(at.x, at.y, yaw_rad), speed_mps=speed_mps, world_frame=msg.header.frame_id
    )


def route_point_from_msg(msg: PointStamped) -> RoutePoint:
    """A target point.

    Raises:
        ValueError: if it is not finite.
    """
    x, y = msg.point.x, msg.point.y
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError(f"target point ({x}, {y}) is not finite")
    return RoutePoint(point_m=(x, y), frame=msg.header.frame_id)


def tokens_msg(head: Header, output: SceneOutput, encoded: EncodedTokens) -> SceneTokens:
    """The tokens of one tick."""
    data = array.array("B")
    data.frombytes(encoded.data)
    return SceneTokens(
        header=head,
        model_hash=output.model_hash,
        contract_version=output.contract_version,
        num_tokens=encoded.num_tokens,
        dim=encoded.dim,
        dtype=int(encoded.dtype),
        scale=array.array("f", encoded.scale),
        data=data,
        crc32=encoded.crc32,
        views=list(output.views),
        view_valid=list(output.view_valid),
        lidar_valid=output.lidar_valid,
        speed_mps=output.speed_mps,
    )


def tokens_from_msg(msg: SceneTokens) -> EncodedTokens:
    """What :func:`flad_perception.wire.decode_tokens` reads.

    Raises:
        ValueError: on a dtype that is none of the message's constants.
    """
    if msg.dtype not in {int(d) for d in WireDtype}:
        raise ValueError(f"dtype is {msg.dtype}, allowed are {[int(d) for d in WireDtype]}")
    return EncodedTokens(
        dtype=WireDtype(msg.dtype),
        num_tokens=msg.num_tokens,
        dim=msg.dim,
        data=bytes(msg.data),
        scale=tuple(msg.scale),
        crc32=msg.crc32,
    )


def prediction_msg(
    head: Header, output: SceneOutput, *, latency_s: float, inference_s: float
) -> ScenePrediction:
    """What the heads say of one tick."""
    boxes = output.boxes
    return ScenePrediction(
        header=head,
        model_hash=output.model_hash,
        light_red=output.light_red,
        stop=output.stop,
        x=_floats([x for x, _ in output.waypoints_m]),
        y=_floats([y for _, y in output.waypoints_m]),
        step_s=output.waypoint_step_s,
        box_x=_floats([b.x_m for b in boxes]),
        box_y=_floats([b.y_m for b in boxes]),
        box_yaw=_floats([b.yaw_rad for b in boxes]),
        box_half_length=_floats([b.half_length_m for b in boxes]),
        box_half_width=_floats([b.half_width_m for b in boxes]),
        box_speed=_floats([b.speed_mps for b in boxes]),
        box_score=_floats([b.score for b in boxes]),
        latency_s=latency_s,
        inference_s=inference_s,
    )


def _floats(values: Sequence[float]) -> array.array[float]:
    return array.array("f", values)
