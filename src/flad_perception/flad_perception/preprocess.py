# SPDX-License-Identifier: Apache-2.0
"""From a camera's picture and a LiDAR's sweeps to what the encoder takes.

Packing a data set and the live node call the same functions, so that a model sees in the vehicle
what it saw in training.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from flad_perception.config import LidarConfig, ViewConfig


def view_from_picture(
    picture: NDArray[np.uint8], view: ViewConfig, *, is_fallback: bool = False
) -> Tensor:
    """Resize and crop a picture.

    Args:
        picture: RGB, ``[H, W, 3]``.
        view: what to make of it.
        is_fallback: the picture is ``view.fallback_camera``'s; its centre is used.

    Returns:
        uint8 ``[3, h, w]``, size ``view.crop_px``.

    Raises:
        ValueError: if the picture is not uint8 ``[H, W, 3]``.
    """
    return cropped(resized(picture, view, is_fallback=is_fallback), view)


def resized(picture: NDArray[np.uint8], view: ViewConfig, *, is_fallback: bool = False) -> Tensor:
    """The whole picture at ``view.resize_px``, uint8 ``[3, h, w]``: bilinear, antialiased."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(
            f"a picture for view {view.name!r} is uint8 [H, W, 3], "
            f"got {picture.dtype} {list(picture.shape)}"
        )
    if min(picture.shape) == 0:
        raise ValueError(f"the picture for view {view.name!r} is empty: {list(picture.shape)}")
    if is_fallback:
        picture = _center(picture, view.fallback_fraction)
    # Some pictures are read-only views of a message; torch wants to be able to write.
    tensor = torch.from_numpy(np.require(picture, requirements=["C", "W"])).permute(2, 0, 1)
    width, height = view.resize_px
    if tensor.shape[1:] == (height, width):
        return tensor.contiguous()
    # Integer arithmetic inside: the same bits on every machine.
    return functional.interpolate(
        tensor[None], size=(height, width), mode="bilinear", antialias=True
    )[0].contiguous()


def cropped(picture: Tensor, view: ViewConfig) -> Tensor:
    """``view.crop_px`` of a resized picture ``[..., h, w]``; ``view.crop_down`` says where."""
    width, height = view.crop_px
    spare_rows, spare_columns = picture.shape[-2] - height, picture.shape[-1] - width
    if spare_rows < 0 or spare_columns < 0:
        raise ValueError(
            f"view {view.name!r} crops {height}x{width} (rows x columns) out of "
            f"{picture.shape[-2]}x{picture.shape[-1]}"
        )
    top, left = round(spare_rows * view.crop_down), spare_columns // 2
    return picture[..., top : top + height, left : left + width].contiguous()


def merge_sweeps(
    current: NDArray[np.floating], previous: NDArray[np.floating] | None, lidar: LidarConfig
) -> NDArray[np.float32]:
    """Two half sweeps as one cloud of what the encoder uses.

    Left out: points that are not finite, on the own vehicle, or outside the area of the pillars.
    Of more than ``lidar.max_points`` an even share is kept, by their order. The vehicle's motion
    between both is not undone, as in LMDrive.

    Args:
        current: ``[N, 4]`` (x, y, z, intensity) in the vehicle frame.
        previous: of the tick before, in its vehicle frame; None or empty where there is none.
        lidar: area and limit.

    Returns:
        float32 ``[M, 4]``.

    Raises:
        ValueError: if a sweep is not a table of four columns.
    """
    sweeps = [current] if previous is None else [current, previous]
    for sweep in sweeps:
        if sweep.ndim != 2 or sweep.shape[1] != 4:
            raise ValueError(f"a sweep has shape [N, 4], got {list(sweep.shape)}")
    points = np.concatenate(sweeps).astype(np.float32)
    x_m, y_m = points[:, 0], points[:, 1]
    is_own = (np.abs(x_m) < lidar.own_half_length_m) & (np.abs(y_m) < lidar.own_half_width_m)
    is_inside = (x_m > lidar.x_min_m) & (x_m <= lidar.x_max_m)
    is_inside &= (y_m > lidar.y_min_m) & (y_m <= lidar.y_max_m)
    kept = points[is_inside & ~is_own & np.isfinite(points).all(axis=1)]
    if len(kept) > lidar.max_points:
        kept = kept[np.arange(lidar.max_points) * len(kept) // lidar.max_points]
    return np.ascontiguousarray(kept)


def _center(picture: NDArray[np.uint8], fraction: float) -> NDArray[np.uint8]:
    """The square in the middle whose side is ``fraction`` of the width."""
    height, width = picture.shape[:2]
    side = max(1, min(height, round(width * fraction)))
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]
