# SPDX-License-Identifier: Apache-2.0
"""Which predicted boxes are which road users: by the distance of their centres."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # [N, 2]


def match(predicted: Points, truth: Points, radius_m: float) -> NDArray[np.int64]:
    """For each predicted centre the index of its road user, -1 for none; ``[P]``.

    ``predicted`` is in falling order of score: the surest box takes the nearest road user within
    ``radius_m`` that no surer box has taken, as nuScenes' detection score does it.
    """
    found = np.full(len(predicted), -1, dtype=np.int64)
    if not len(truth):
        return found
    distances_m = np.hypot(*(predicted[:, None] - truth[None]).transpose(2, 0, 1))
    for i, row in enumerate(distances_m):
        nearest = int(np.argmin(row))
        if row[nearest] <= radius_m:
            found[i] = nearest
            distances_m[:, nearest] = np.inf
    return found


def points_inside(points: NDArray[np.floating], box: NDArray[np.float64]) -> int:
    """How many of ``points [N, >= 2]`` lie in ``box`` (x, y, yaw, half length, half width)."""
    x, y, yaw_rad, half_length_m, half_width_m = box
    dx, dy = points[:, 0] - x, points[:, 1] - y
    near = (np.abs(dx) < half_length_m + half_width_m) & (np.abs(dy) < half_length_m + half_width_m)
    dx, dy = dx[near], dy[near]
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    along, across = c * dx + s * dy, -s * dx + c * dy
    return int(np.sum((np.abs(along) <= half_length_m) & (np.abs(across) <= half_width_m)))
