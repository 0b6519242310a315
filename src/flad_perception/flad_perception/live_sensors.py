# SPDX-License-Identifier: Apache-2.0
"""What the sensors of a vehicle said at one moment, as plain arrays: no ROS and no torch.

Messages become these values in :mod:`flad_perception.ros.messages`; they become the encoder's input
in :mod:`flad_perception.live_input`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flad_perception.scene import Point, Pose

Points = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraPicture:
    """A camera's pixels, ``[H, W, 3 or 4]``; ``order`` says which channels are red, green, blue."""

    pixels: NDArray[np.uint8]
    order: tuple[int, int, int] = (0, 1, 2)

    def rgb(self) -> NDArray[np.uint8]:
        """``[H, W, 3]``, a copy."""
        return np.ascontiguousarray(self.pixels[..., self.order])


@dataclass(frozen=True, kw_only=True, slots=True)
class EgoState:
    """Where the vehicle is on the ground, and its forward speed."""

    pose: Pose
    speed_mps: float
    world_frame: str = "map"
    """What ``pose`` is in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutePoint:
    """A point of the route, in the frame of that name."""

    point_m: Point
    frame: str

    def seen_from(self, ego: EgoState | None, vehicle_frame: str) -> Point | None:
        """In the vehicle frame; None where that is not known."""
        if self.frame == vehicle_frame:
            return self.point_m
        if ego is None or self.frame != ego.world_frame:
            return None
        return ego.pose.to_local(self.point_m)


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveSensors:
    """What there is of one moment; what is missing is None or not in ``pictures``."""

    pictures: Mapping[str, CameraPicture]
    """By camera."""
    sweep: Points | None = None
    """``[N, 4]`` (x, y, z, intensity) in the vehicle frame."""
    previous_sweep: Points | None = None
    """The half sweep before, in its own vehicle frame."""
    speed_mps: float = 0.0
    target_point_m: Point = (0.0, 0.0)
    """The next far node of the route, in the vehicle frame; the vehicle itself where unknown."""


def mount_matrix(
    translation_m: tuple[float, float, float], rotation_xyzw: tuple[float, float, float, float]
) -> NDArray[np.float64]:
    """``[4, 4]`` from a sensor's frame to the vehicle's.

    Raises:
        ValueError: if a number is not finite, or the quaternion has no length.

    Example:
        >>> mount_matrix((1.3, 0.0, 2.5), (0.0, 0.0, 0.0, 1.0))[:3, 3].tolist()
        [1.3, 0.0, 2.5]
    """
    q = np.asarray(rotation_xyzw, dtype=np.float64)
    length = float(np.linalg.norm(q))
    if not (np.isfinite(translation_m).all() and np.isfinite(q).all() and length > 1e-6):
        raise ValueError(f"a mount of {translation_m} and {rotation_xyzw} (x, y, z, w)")
    x, y, z, w = q / length
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = translation_m
    return matrix


def to_vehicle(points: Points, mount: NDArray[np.float64]) -> Points:
    """Points ``[N, 4]`` of a mounted sensor in the vehicle frame; the intensity stays."""
    moved: Points = np.empty_like(points)
    rotation = mount[:3, :3].astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # points that are not finite go later
        moved[:, :3] = points[:, :3] @ rotation.T + mount[:3, 3].astype(np.float32)
    moved[:, 3] = points[:, 3]
    return moved
