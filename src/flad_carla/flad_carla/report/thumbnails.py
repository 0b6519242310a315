# SPDX-License-Identifier: Apache-2.0
"""Small JPEG pictures from camera measurements."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flad_carla.rig import Rig

Rgb = NDArray[np.uint8]  # [H, W, 3]


def image_to_rgb(image: Any) -> Rgb:
    """Copy a ``carla.Image`` (bgra8 in ``raw_data``) into an array ``[H, W, 3]``."""
    bgra = np.frombuffer(image.raw_data, dtype=np.uint8).reshape(image.height, image.width, 4)
    return np.ascontiguousarray(bgra[:, :, 2::-1])


def encode_jpeg(rgb: Rgb, *, quality: int) -> bytes:
    """Encode ``[H, W, 3]`` as JPEG."""
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", quality=quality)
    return out.getvalue()


def thumbnail(image: Any, *, width: int, quality: int) -> bytes:
    """Shrink a ``carla.Image`` to ``width`` pixels (never enlarge it) and encode it as JPEG."""
    picture = Image.fromarray(image_to_rgb(image))
    if picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.BOX)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()


def main_camera(rig: Rig) -> str | None:
    """The id of the camera to watch: the front one if there is one, else the first, else None."""
    cameras = [sensor.id for sensor in rig.sensors if sensor.type == "sensor.camera.rgb"]
    front = [name for name in cameras if "front" in name]
    return next(iter(front + cameras), None)


def far_camera(rig: Rig) -> str | None:
    """The id of the camera that looks far ahead through a small angle, as LMDrive's focus view."""
    cameras = [sensor.id for sensor in rig.sensors if sensor.type == "sensor.camera.rgb"]
    return next((name for name in cameras if "focus" in name), None)
