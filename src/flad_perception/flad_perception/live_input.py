# SPDX-License-Identifier: Apache-2.0
"""The sensors of one moment as the encoder's input: the live counterpart of a data set's frame.

Knows no ROS: messages become these values in :mod:`flad_perception.ros.messages`. Resizing,
cropping and merging are :mod:`flad_perception.preprocess`'s, so that a model sees what it was
trained on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from flad_perception.batch import EncoderInput, pad_points
from flad_perception.config import EncoderConfig, ViewConfig
from flad_perception.preprocess import merge_sweeps, view_from_picture
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


def needed_cameras(config: EncoderConfig, carried: Collection[str] = ()) -> tuple[str, ...]:
    """The cameras that a vehicle with the cameras ``carried`` gives to the encoder.

    Without ``carried``, all that the views name. A view whose camera is not carried looks through
    its fallback camera; one without either stays blind.
    """
    wanted: list[str] = []
    for view in config.views:
        camera = _camera_of(view, carried)
        if not carried or camera in carried:
            wanted.append(camera)
    return tuple(dict.fromkeys(wanted))


def encoder_input(
    sensors: LiveSensors, config: EncoderConfig, carried: Collection[str] = ()
) -> EncoderInput:
    """One frame's input, ``B = 1``. A view without a picture is black and not valid.

    Args:
        sensors: of the moment.
        config: of the encoder.
        carried: the vehicle's cameras, see :func:`needed_cameras`.
    """
    images: dict[str, torch.Tensor] = {}
    valid: list[bool] = []
    for view in config.views:
        camera = _camera_of(view, carried)
        picture = sensors.pictures.get(camera)
        valid.append(picture is not None)
        if picture is None:
            width, height = view.crop_px
            images[view.name] = torch.zeros(1, 3, height, width, dtype=torch.uint8)
        else:
            rgb = picture.rgb()
            images[view.name] = view_from_picture(rgb, view, is_fallback=camera != view.camera)[
                None
            ]
    points, num_points = pad_points([torch.from_numpy(_cloud(sensors, config))])
    return EncoderInput(
        images=images,
        view_valid=torch.tensor([valid]),
        points=points,
        num_points=num_points,
        speed_mps=torch.tensor([sensors.speed_mps], dtype=torch.float32),
        target_point_m=torch.tensor([sensors.target_point_m], dtype=torch.float32),
    )


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


def _camera_of(view: ViewConfig, carried: Collection[str]) -> str:
    if carried and view.camera not in carried and view.fallback_camera in carried:
        return view.fallback_camera
    return view.camera


def _cloud(sensors: LiveSensors, config: EncoderConfig) -> Points:
    """Without a sweep of this moment there is none at all: an old one would be a false world."""
    if sensors.sweep is None:
        return np.zeros((0, 4), dtype=np.float32)
    return merge_sweeps(sensors.sweep, sensors.previous_sweep, config.lidar)
