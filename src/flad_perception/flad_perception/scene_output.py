# SPDX-License-Identifier: Apache-2.0
"""What an encoder made of one moment, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flad_perception.detections import Detection
from flad_perception.scene import Point


@dataclass(frozen=True, kw_only=True)
class SceneOutput:
    """What the encoder made of one moment; positions are in the vehicle frame."""

    tokens: NDArray[np.float32]
    """``[T, D]``"""
    model_hash: str
    contract_version: int
    views: tuple[str, ...]
    view_valid: tuple[bool, ...]
    lidar_valid: bool
    speed_mps: float
    light_red: float
    """Probability, 0..1, as the next."""
    stop: float
    waypoints_m: tuple[Point, ...]
    waypoint_step_s: float
    boxes: tuple[Detection, ...]
    """The surest first."""
    inference_s: float
    """In the model alone."""
