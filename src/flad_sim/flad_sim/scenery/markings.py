# SPDX-License-Identifier: Apache-2.0
"""What is painted on the road: lane lines from the map, stop lines and zebras at the signals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from flad_sim.scenery.network import Network, is_road
from flad_sim.scenery.paint import WHITE, YELLOW, PaintRaster, paint_quads
from flad_sim.types import FloatArray, LaneStrip, RoadMark, Transform

LIGHT, STOP, YIELD = "1000001", "206", "205"
_DASH_M, _GAP_M = 3.0, 4.5  # urban broken line (German RMS: 3 m and 6 m; CARLA's towns look denser)
_STOP_LINE_M = 0.4
_ZEBRA_FROM_M, _ZEBRA_TO_M = 0.7, 3.5  # beyond the stop line
_ZEBRA_STRIPE_M = 0.5


def painted(network: Network) -> PaintRaster:
    """All paint of ``network``."""
    quads: list[FloatArray] = []
    colors: list[int] = []
    for mark in network.marks:
        found = mark_quads(mark)
        quads += found
        colors += [YELLOW if mark.color == "yellow" else WHITE] * len(found)
    across = _CrossSections(network.lanes)
    zebras_at: list[tuple[float, float]] = []
    for signal in network.signals:
        if signal.kind not in (LIGHT, STOP, YIELD):
            continue
        for stop in signal.stop_points:
            low, high = across.lane(stop)
            bar = _bar(stop, low, high)
            found = _dashed_bar(bar) if signal.kind == YIELD else [bar]
            quads += found
            colors += [WHITE] * len(found)
            if signal.kind == LIGHT:
                found = _zebra(stop, across, zebras_at)
                quads += found
                colors += [WHITE] * len(found)
    stacked = np.stack(quads) if quads else np.zeros((0, 4, 2))
    return paint_quads(stacked, np.array(colors, dtype=np.int64))


def mark_quads(mark: RoadMark) -> list[FloatArray]:
    """A line as quadrilaterals ``[4, 2]``; kerbs and unpainted lines have none."""
    parts = mark.kind.split()
    if not parts or parts[0] not in ("solid", "broken"):
        return []
    line = mark.points[:, :2]
    width = max(mark.width, 0.12)
    if len(parts) == 1:
        return _line_quads(line, width, broken=parts[0] == "broken")
    normals = _normals(line)
    left = _line_quads(line - width * normals, width, broken=parts[0] == "broken")
    right = _line_quads(line + width * normals, width, broken=parts[1] == "broken")
    return left + right


def _line_quads(line: FloatArray, width: float, *, broken: bool) -> list[FloatArray]:
    run = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    if run[-1] < 0.05:
        return []
    half = 0.5 * width * _normals(line)
    left, right = line - half, line + half

    def at(edge: FloatArray, s: NDArray[np.float64]) -> FloatArray:
        return np.stack([np.interp(s, run, edge[:, k]) for k in range(2)], axis=1)

    if broken:
        period = _DASH_M + _GAP_M
        starts = np.arange(0.5 * _GAP_M, run[-1], period)
        spans = [(s, min(s + _DASH_M, float(run[-1]))) for s in starts]
    else:
        spans = [(0.0, float(run[-1]))]
    quads = []
    for start, end in spans:
        inner = run[(run > start + 0.01) & (run < end - 0.01)]
        s = np.concatenate([[start], inner, [end]])
        a, b = at(left, s), at(right, s)
        quads += [np.stack([a[i], a[i + 1], b[i + 1], b[i]]) for i in range(len(s) - 1)]
    return quads


def _normals(line: FloatArray) -> FloatArray:
    tangent = np.gradient(line, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    return np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)


class _CrossSections:
    """How far lanes and carriageways reach to both sides of a stop point."""

    def __init__(self, lanes: Sequence[LaneStrip]) -> None:
        left, right = [], []
        for strip in lanes:
            if is_road(strip.lane_type) and strip.junction_id < 0:
                left.append(strip.left[:, :2])
                right.append(strip.right[:, :2])
        self._left = np.concatenate(left) if left else np.zeros((1, 2))
        self._right = np.concatenate(right) if right else np.zeros((1, 2))
        self._tree = cKDTree(0.5 * (self._left + self._right))

    def lane(self, stop: Transform) -> tuple[float, float]:
        """Lateral offsets (right positive) of the edges of the lane at ``stop``."""
        _, i = self._tree.query((stop.x, stop.y))
        width = float(np.linalg.norm(self._left[i] - self._right[i]))
        return -0.5 * width, 0.5 * width

    def carriageway(self, stop: Transform) -> tuple[float, float]:
        """Lateral offsets of the outer edges of all lanes side by side at ``stop``."""
        near = self._tree.query_ball_point((stop.x, stop.y), 30.0)
        corners = np.concatenate([self._left[near], self._right[near]])
        local = stop.to_local(np.column_stack([corners, np.full(len(corners), stop.z)]))
        # Along the stop line, a few metres back: there the lanes are still parallel.
        local = local[(local[:, 0] > -8.0) & (local[:, 0] < 1.0)]
        offsets = np.sort(local[:, 1])
        low, high = self.lane(stop)
        for y in offsets[offsets > high]:
            if y - high > 5.0:
                break
            high = float(y)
        for y in offsets[offsets < low][::-1]:
            if low - y > 5.0:
                break
            low = float(y)
        return low, high


def _bar(stop: Transform, low: float, high: float) -> FloatArray:
    local = [
        [-_STOP_LINE_M, low + 0.1, 0.0],
        [0.0, low + 0.1, 0.0],
        [0.0, high - 0.1, 0.0],
        [-_STOP_LINE_M, high - 0.1, 0.0],
    ]
    return stop.to_world(np.array(local))[:, :2]


def _dashed_bar(bar: FloatArray) -> list[FloatArray]:
    num = max(2, round(float(np.linalg.norm(bar[2] - bar[1])) / 0.6))
    edges = np.linspace(0.0, 1.0, num + 1)
    quads = []
    for a, b in pairwise(edges):
        b = a + 0.6 * (b - a)
        near, far = bar[3] - bar[0], bar[2] - bar[1]
        quads.append(
            np.stack([bar[0] + a * near, bar[1] + a * far, bar[1] + b * far, bar[0] + b * near])
        )
    return quads


def _zebra(
    stop: Transform, across: _CrossSections, done: list[tuple[float, float]]
) -> list[FloatArray]:
    low, high = across.carriageway(stop)
    middle = stop.to_world(np.array([[0.0, 0.5 * (low + high), 0.0]]))[0]
    if any(math.hypot(x - middle[0], y - middle[1]) < 6.0 for x, y in done):
        return []  # another lane of the same approach has painted it
    done.append((float(middle[0]), float(middle[1])))
    num = max(1, int((high - low) / (2.0 * _ZEBRA_STRIPE_M)))
    start = 0.5 * (low + high) - (num - 0.5) * _ZEBRA_STRIPE_M
    quads = []
    for k in range(num):
        y0 = start + 2.0 * k * _ZEBRA_STRIPE_M
        y1 = y0 + _ZEBRA_STRIPE_M
        local = [
            [_ZEBRA_FROM_M, y0, 0.0],
            [_ZEBRA_TO_M, y0, 0.0],
            [_ZEBRA_TO_M, y1, 0.0],
            [_ZEBRA_FROM_M, y1, 0.0],
        ]
        quads.append(stop.to_world(np.array(local))[:, :2])
    return quads
