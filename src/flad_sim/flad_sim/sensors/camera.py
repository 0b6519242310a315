# SPDX-License-Identifier: Apache-2.0
"""Cameras by CARLA's attributes: the pinhole, and CARLA's encodings of depth and labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flad_sim.sensors.attributes import number
from flad_sim.sensors.frame import View
from flad_sim.types import Transform

DEPTH_RANGE_M = 1000.0  # CARLA's encoding: 24 bits over a kilometre


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraConfig:
    """A pinhole camera; ``fov_deg`` is horizontal."""

    width: int = 800
    height: int = 600
    fov_deg: float = 90.0
    supersampling: int = 1  # not CARLA's: rays per pixel along each axis

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, str]) -> CameraConfig:
        """Read CARLA's texts; what is missing keeps CARLA's default.

        Raises:
            ValueError: if an attribute is no number or out of range; the message names it.
        """
        return cls(
            width=int(number(attributes, "image_size_x", 800, low=1, high=8192)),
            height=int(number(attributes, "image_size_y", 600, low=1, high=8192)),
            fov_deg=number(attributes, "fov", 90.0, low=0.1, high=179.0),
            supersampling=int(number(attributes, "supersampling", 1, low=1, high=4)),
        )

    @property
    def focal_px(self) -> float:
        """Focal length in pixels, the same along both axes."""
        return 0.5 * self.width / math.tan(0.5 * math.radians(self.fov_deg))

    def view(self, transform: Transform) -> View:
        """What the kernels trace for a camera at ``transform``, at the supersampled size."""
        n = self.supersampling
        axes = np.ascontiguousarray(transform.rotation_matrix().T, dtype=np.float32)
        origin = np.array(transform.location, dtype=np.float32)
        focal_px = np.float32(self.focal_px * n)
        return View(origin, axes, focal_px, self.width * n, self.height * n)


def encode_depth(depth_m: NDArray[np.float32]) -> NDArray[np.uint8]:
    """CARLA's depth image ``[H, W, 4]`` of depths along the optical axis ``[H, W]``."""
    clipped = np.minimum(depth_m.astype(np.float64), DEPTH_RANGE_M)
    code = np.round(clipped * ((256**3 - 1) / DEPTH_RANGE_M)).astype(np.uint32)
    return _bgra(red=code & 255, green=(code >> 8) & 255, blue=(code >> 16) & 255)


def encode_tags(tag: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """CARLA's semantic segmentation ``[H, W, 4]``: the tag in red."""
    return _bgra(red=tag, green=0, blue=0)


def encode_instances(tag: NDArray[np.uint8], actor: NDArray[np.int32]) -> NDArray[np.uint8]:
    """CARLA's instance segmentation ``[H, W, 4]``: tag in red, the id's low 16 bits in G and B."""
    return _bgra(red=tag, green=actor & 255, blue=(actor >> 8) & 255)


def _bgra(*, red: Any, green: Any, blue: Any) -> NDArray[np.uint8]:
    image = np.empty((*np.shape(red), 4), dtype=np.uint8)
    image[..., 0], image[..., 1], image[..., 2], image[..., 3] = blue, green, red, 255
    return image
