# SPDX-License-Identifier: Apache-2.0
"""Fewer points for a line that looks the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flad_carla.run_log import Point


def simplify(points: Sequence[Point], tolerance_m: float) -> list[Point]:
    """Drop points that lie within ``tolerance_m`` of the line through the others.

    Ramer, Douglas and Peucker's method; the ends always stay.
    """
    if len(points) < 3:
        return list(points)
    p = np.asarray(points, dtype=np.float64)
    keep = np.zeros(len(p), dtype=bool)
    keep[[0, -1]] = True
    stack = [(0, len(p) - 1)]
    while stack:
        first, last = stack.pop()
        if last - first < 2:
            continue
        distances = _distances(p[first + 1 : last], p[first], p[last])
        worst = int(np.argmax(distances))
        if distances[worst] > tolerance_m:
            middle = first + 1 + worst
            keep[middle] = True
            stack += [(first, middle), (middle, last)]
    return [(float(x), float(y)) for x, y in p[keep]]


def _distances(p: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance of each point ``[N, 2]`` to the segment from a to b."""
    along = b - a
    length2 = float(along @ along)
    u = np.clip((p - a) @ along / length2, 0.0, 1.0) if length2 > 0.0 else np.zeros(len(p))
    return np.asarray(np.hypot(*(p - a - u[:, None] * along).T))
