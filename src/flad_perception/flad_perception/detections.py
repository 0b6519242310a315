# SPDX-License-Identifier: Apache-2.0
"""What a cell of the detection grid says, and the objects that a grid of cells says together.

A cell's eight channels, in the vehicle frame (x forward, y left):

====  ==============================================  =====================================
0     logit of the probability of an object           target: the probability, in 0..1
1, 2  object's centre minus cell's centre, x and y    in units of OFFSET_M
3, 4  cosine and sine of the object's heading
5     half its length                                 in units of HALF_LENGTH_M
6     half its width                                  in units of HALF_WIDTH_M
7     speed                                           in units of SPEED_MPS
====  ==============================================  =====================================

The units are LMDrive's. Its frame has x to the right and y forward, and its heading keeps y
backwards: ours are ``(ch2, ch1)`` of its offsets and ``(-ch4, -ch3)`` of its headings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flad_perception.config import NUM_DETECTION_CHANNELS, EncoderConfig, GridConfig

OFFSET_M = 3.5
HALF_LENGTH_M = 3.5
HALF_WIDTH_M = 2.0
SPEED_MPS = 8.0


@dataclass(frozen=True, slots=True)
class Detection:
    """An object that the encoder saw, in the vehicle frame."""

    x_m: float
    y_m: float
    yaw_rad: float
    half_length_m: float
    half_width_m: float
    speed_mps: float
    score: float
    """Probability, 0..1."""


def decode_detections(
    detection: ArrayLike,
    config: EncoderConfig,
    threshold: float = 0.3,
    *,
    nms_radius_m: float = 2.0,
    max_detections: int = 100,
) -> list[Detection]:
    """Objects of one frame, the surest first.

    Of cells that place an object within ``nms_radius_m`` of each other the surest one is kept.

    Args:
        detection: output of the head, ``[R, C, 8]``.
        config: of the encoder that made it.
        threshold: probability from which a cell counts.
        nms_radius_m: nearer centres are one object.
        max_detections: at most so many are returned.

    Raises:
        ValueError: if the shape is not the configuration's.
    """
    cells = np.asarray(detection, dtype=np.float64)
    expected = (*config.grid.shape, NUM_DETECTION_CHANNELS)
    if cells.shape != expected:
        raise ValueError(
            f"a detection of encoder {config.name!r} has shape {expected}, got {cells.shape}"
        )
    cells = cells.reshape(-1, NUM_DETECTION_CHANNELS)
    scores = 0.5 * (1.0 + np.tanh(0.5 * cells[:, 0]))  # a sigmoid that does not overflow
    # NaN is not >= anything: such cells are left out.
    usable = (scores >= threshold) & np.isfinite(cells).all(axis=1)
    order = np.flatnonzero(usable)[np.argsort(-scores[usable], kind="stable")]
    centers_m = cell_centers_m(config.grid).reshape(-1, 2)[order] + OFFSET_M * cells[order, 1:3]
    kept = _apart(centers_m, nms_radius_m, max_detections)
    return [
        Detection(
            x_m=float(centers_m[k, 0]),
            y_m=float(centers_m[k, 1]),
            yaw_rad=math.atan2(cells[order[k], 4], cells[order[k], 3]),
            half_length_m=float(max(0.0, cells[order[k], 5]) * HALF_LENGTH_M),
            half_width_m=float(max(0.0, cells[order[k], 6]) * HALF_WIDTH_M),
            speed_mps=float(max(0.0, cells[order[k], 7]) * SPEED_MPS),
            score=float(scores[order[k]]),
        )
        for k in kept
    ]


def cell_centers_m(grid: GridConfig) -> NDArray[np.float64]:
    """``(x, y)`` of every cell's centre, ``[R, C, 2]``."""
    rows, columns = grid.shape
    x_m = grid.x_max_m - (np.arange(rows) + 0.5) * grid.cell_m
    y_m = grid.y_max_m - (np.arange(columns) + 0.5) * grid.cell_m
    return np.stack(np.broadcast_arrays(x_m[:, None], y_m[None, :]), axis=-1)


def _apart(centers_m: NDArray[np.float64], radius_m: float, limit: int) -> list[int]:
    """Rows that are not within ``radius_m`` of an earlier one that stays."""
    is_open = np.ones(len(centers_m), dtype=bool)
    kept: list[int] = []
    for i in range(len(centers_m)):
        if len(kept) == limit:
            break
        if is_open[i]:
            kept.append(i)
            is_open &= np.hypot(*(centers_m - centers_m[i]).T) >= radius_m
    return kept
