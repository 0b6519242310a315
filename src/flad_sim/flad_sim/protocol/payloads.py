# SPDX-License-Identifier: Apache-2.0
"""Sensor payloads: what follows the 48-byte header, one packer per kind.

A payload that is shorter than its own header kills the client's process, and the client does not
check an image's size at all: every packer checks the shapes it is given and the bytes it made.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from flad_sim.types import Vec3

_IMAGE = struct.Struct("<IIf")
_LIDAR = struct.Struct("<fI")

SEMANTIC_POINT = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("cos_angle", "<f4"),
        ("object_idx", "<u4"),
        ("object_tag", "<u4"),
    ]
)
DVS_EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("t_ns", "<i8"), ("polarity", "u1")])

# Index in the client's compile-time registry of sensors: selects its decoder.
TYPE_COLLISION = 0
TYPE_DEPTH = 1
TYPE_NORMALS = 2
TYPE_DVS = 3
TYPE_GNSS = 4
TYPE_IMU = 5
TYPE_OBSTACLE = 7
TYPE_OPTICAL_FLOW = 8
TYPE_RADAR = 9
TYPE_SEMANTIC_LIDAR = 10
TYPE_LIDAR = 11
TYPE_RGB = 13
TYPE_SEMANTIC = 14
TYPE_INSTANCE = 15
TYPE_WORLD = 17
TYPE_GBUFFER = 18

SENSOR_TYPES = {
    "sensor.other.collision": TYPE_COLLISION,
    "sensor.camera.depth": TYPE_DEPTH,
    "sensor.camera.normals": TYPE_NORMALS,
    "sensor.camera.dvs": TYPE_DVS,
    "sensor.other.gnss": TYPE_GNSS,
    "sensor.other.imu": TYPE_IMU,
    "sensor.other.obstacle": TYPE_OBSTACLE,
    "sensor.camera.optical_flow": TYPE_OPTICAL_FLOW,
    "sensor.other.radar": TYPE_RADAR,
    "sensor.lidar.ray_cast_semantic": TYPE_SEMANTIC_LIDAR,
    "sensor.lidar.ray_cast": TYPE_LIDAR,
    "sensor.camera.rgb": TYPE_RGB,
    "sensor.camera.semantic_segmentation": TYPE_SEMANTIC,
    "sensor.camera.instance_segmentation": TYPE_INSTANCE,
}


def pack_image(bgra: NDArray[np.uint8], fov_deg: float) -> bytes:
    """An image ``[H, W, 4]`` of 8-bit BGRA, top row first (RGB, depth, semantic, instance)."""
    if bgra.ndim != 3 or bgra.shape[2] != 4 or bgra.dtype != np.uint8:
        raise ValueError(f"an image is uint8 [H, W, 4], got {bgra.dtype} {bgra.shape}")
    height, width = bgra.shape[:2]
    payload = _IMAGE.pack(width, height, fov_deg) + bgra.tobytes()
    return _sized(payload, _IMAGE.size + 4 * width * height)


def pack_optical_flow(flow: NDArray[np.float32], fov_deg: float) -> bytes:
    """Optical flow ``[H, W, 2]`` in normalised image coordinates."""
    if flow.ndim != 3 or flow.shape[2] != 2:
        raise ValueError(f"a flow is [H, W, 2], got {flow.shape}")
    height, width = flow.shape[:2]
    payload = _IMAGE.pack(width, height, fov_deg) + flow.astype("<f4").tobytes()
    return _sized(payload, _IMAGE.size + 8 * width * height)


def pack_dvs(width: int, height: int, fov_deg: float, events: NDArray[np.void]) -> bytes:
    """Events of a dynamic vision sensor, of dtype ``DVS_EVENT``."""
    payload = _IMAGE.pack(width, height, fov_deg) + events.astype(DVS_EVENT).tobytes()
    return _sized(payload, _IMAGE.size + DVS_EVENT.itemsize * len(events))


def pack_lidar(horizontal_angle_rad: float, counts: Sequence[int], points: NDArray[Any]) -> bytes:
    """A LiDAR sweep: ``points`` ``[N, 4]`` x, y, z, intensity in the sensor's frame, by channel.

    ``counts`` holds the number of points of each channel.
    """
    if points.ndim != 2 or points.shape[1] != 4:
        raise ValueError(f"LiDAR points are [N, 4], got {points.shape}")
    data = np.ascontiguousarray(points, dtype="<f4")
    return _sweep(horizontal_angle_rad, counts, len(data), data.tobytes())


def pack_semantic_lidar(
    horizontal_angle_rad: float, counts: Sequence[int], points: NDArray[np.void]
) -> bytes:
    """A semantic LiDAR sweep: points of dtype ``SEMANTIC_POINT``, by channel."""
    data = np.ascontiguousarray(points, dtype=SEMANTIC_POINT)
    return _sweep(horizontal_angle_rad, counts, len(data), data.tobytes())


def pack_radar(detections: NDArray[Any]) -> bytes:
    """Radar detections ``[N, 4]``: velocity m/s, azimuth rad, altitude rad, depth m."""
    if detections.ndim != 2 or detections.shape[1] != 4:
        raise ValueError(f"radar detections are [N, 4], got {detections.shape}")
    return _sized(detections.astype("<f4").tobytes(), 16 * len(detections))


def pack_gnss(latitude_deg: float, longitude_deg: float, altitude_m: float) -> bytes:
    """A GNSS fix."""
    return _packed([latitude_deg, longitude_deg, altitude_m])


def pack_imu(acceleration: Vec3, gyroscope: Vec3, compass_rad: float) -> bytes:
    """An IMU measurement: m/s^2, rad/s, and radians clockwise from north."""
    return _packed([list(acceleration), list(gyroscope), compass_rad])


def pack_collision(actor: list[Any], other: list[Any], impulse: Vec3) -> bytes:
    """A collision event; the actors as wire structs (``flad_sim.protocol.structs``), N*s."""
    return _packed([actor, other, list(impulse)])


def pack_obstacle(actor: list[Any], other: list[Any], distance_m: float) -> bytes:
    """An obstacle event; the actors as wire structs."""
    return _packed([actor, other, distance_m])


def _sweep(angle_rad: float, counts: Sequence[int], num_points: int, data: bytes) -> bytes:
    if sum(counts) != num_points:
        raise ValueError(
            f"the channels' counts sum to {sum(counts)}, there are {num_points} points"
        )
    header = _LIDAR.pack(angle_rad, len(counts)) + struct.pack(f"<{len(counts)}I", *counts)
    return _sized(header + data, _LIDAR.size + 4 * len(counts) + len(data))


def _packed(value: list[Any]) -> bytes:
    payload: bytes = msgpack.packb(value, use_bin_type=True)
    return payload


def _sized(payload: bytes, num_bytes: int) -> bytes:
    assert len(payload) == num_bytes, f"made {len(payload)} bytes, the protocol wants {num_bytes}"
    return payload
