# SPDX-License-Identifier: Apache-2.0
"""Raw bytes of CARLA's sensors as arrays that mean something. Knows no CARLA and no ROS."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

FAR_PLANE_M = 1000.0  # CARLA's depth camera spreads 24 bits over this

# The 29 tags of CARLA 0.9.14 and later, as its own Cityscapes converter colours them (r, g, b).
CITYSCAPES_RGB: NDArray[np.uint8] = np.array(
    [
        (0, 0, 0), (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156),
        (190, 153, 153), (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35),
        (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142),
        (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
        (110, 190, 160), (170, 120, 50), (55, 90, 80), (45, 60, 150), (157, 234, 50),
        (81, 0, 81), (150, 100, 100), (230, 150, 140), (180, 165, 180),
    ],
    dtype=np.uint8,
)  # fmt: skip

LIDAR = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4")])
SEMANTIC_LIDAR = np.dtype(
    [
        ("x", "<f4"), ("y", "<f4"), ("z", "<f4"),
        ("CosAngle", "<f4"), ("ObjIdx", "<u4"), ("ObjTag", "<u4"),
    ]
)  # fmt: skip
RADAR = np.dtype([("velocity", "<f4"), ("azimuth", "<f4"), ("altitude", "<f4"), ("depth", "<f4")])
RADAR_POINTS = np.dtype(
    [
        ("x", "<f4"), ("y", "<f4"), ("z", "<f4"),
        ("Range", "<f4"), ("Velocity", "<f4"), ("AzimuthAngle", "<f4"), ("ElevationAngle", "<f4"),
    ]
)  # fmt: skip


def bgra(raw: Any, height: int, width: int) -> NDArray[np.uint8]:
    """Camera bytes as ``[H, W, 4]``: blue, green, red, alpha.

    Raises:
        ValueError: if there are not exactly that many bytes: the client does not check.
    """
    pixels = np.frombuffer(raw, dtype=np.uint8)
    if pixels.size != height * width * 4:
        raise ValueError(
            f"an image of {width}x{height} has {height * width * 4} bytes, got {pixels.size}"
        )
    return pixels.reshape(height, width, 4)


def depth_m(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Depth camera pixels ``[H, W, 4]`` (BGRA) as metres ``[H, W]``."""
    blue, green, red = (pixels[..., i].astype(np.uint32) for i in range(3))
    steps = red + 256 * green + 65536 * blue
    return (steps * np.float32(FAR_PLANE_M / (256**3 - 1))).astype(np.float32)


def cityscapes_bgra(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Semantic pixels ``[H, W, 4]`` (tag in red) in the Cityscapes colours, BGRA."""
    table = np.zeros((256, 4), dtype=np.uint8)
    table[: len(CITYSCAPES_RGB), :3] = CITYSCAPES_RGB[:, ::-1]
    table[:, 3] = 255
    coloured: NDArray[np.uint8] = table[pixels[..., 2]]
    return coloured


def mirrored(raw: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """LiDAR points in ROS's frame: the same records with y negated."""
    points = np.frombuffer(raw, dtype=dtype).copy()
    points["y"] = np.negative(points["y"])  # in place, numpy 2.4.6 errs
    return points


def radar_points(raw: Any) -> NDArray[Any]:
    """Radar detections as points in ROS's frame, with what the radar measured beside them."""
    seen = np.frombuffer(raw, dtype=RADAR)
    points = np.empty(len(seen), dtype=RADAR_POINTS)
    flat = seen["depth"] * np.cos(seen["altitude"])
    points["x"] = flat * np.cos(seen["azimuth"])
    points["y"] = -flat * np.sin(seen["azimuth"])
    points["z"] = seen["depth"] * np.sin(seen["altitude"])
    points["Range"] = seen["depth"]
    points["Velocity"] = seen["velocity"]
    points["AzimuthAngle"] = -seen["azimuth"]
    points["ElevationAngle"] = seen["altitude"]
    return points


def focal_px(width: int, fov_deg: float) -> float:
    """Focal length of a pinhole camera in pixels.

    Example:
        >>> round(focal_px(400, 90.0), 6)
        200.0
    """
    return width / (2.0 * math.tan(math.radians(fov_deg) / 2.0))
