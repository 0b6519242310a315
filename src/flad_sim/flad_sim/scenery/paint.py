# SPDX-License-Identifier: Apache-2.0
"""Road paint as a picture looked up by position: tiles of 16 m with their filtered levels.

A texel is one byte: white coverage in the high four bits, yellow in the low four. Only tiles with
paint exist. Triangles would alias into flicker at a distance; filtered levels do not. What is
painted where stands in ``markings``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from flad_sim.types import FloatArray

TILE_M = 16.0
LEVEL_SIZES = (256, 128, 64, 32, 16)  # texels a side: 6.25 cm to 1 m each
LEVEL_OFFSETS = tuple(int(o) for o in np.cumsum([0] + [n * n for n in LEVEL_SIZES[:-1]]))
NUM_LEVELS = len(LEVEL_SIZES)
TILE_BYTES = sum(n * n for n in LEVEL_SIZES)
WHITE, YELLOW = 0, 1


@dataclass(frozen=True, slots=True)
class PaintRaster:
    """The paint of a town."""

    index: NDArray[np.int32]  # [X, Y] row of tiles, -1 unpainted
    tiles: NDArray[np.uint8]  # [P, TILE_BYTES]
    origin: tuple[float, float]  # world x, y of the index's corner


def paint_quads(quads: FloatArray, colors: NDArray[np.int64]) -> PaintRaster:
    """Paint convex quadrilaterals ``[N, 4, 2]`` in ``WHITE`` or ``YELLOW`` ``[N]``."""
    if len(quads) == 0:
        empty = np.zeros((0, TILE_BYTES), dtype=np.uint8)
        return PaintRaster(np.full((1, 1), -1, dtype=np.int32), empty, (0.0, 0.0))
    texel = TILE_M / LEVEL_SIZES[0]
    low, high = quads.min(axis=1) - texel, quads.max(axis=1) + texel
    origin = np.floor(low.min(axis=0) / TILE_M) * TILE_M
    first = np.floor((low - origin) / TILE_M).astype(np.int64)
    last = np.floor((high - origin) / TILE_M).astype(np.int64)
    index = np.full(tuple(last.max(axis=0) + 1), -1, dtype=np.int32)
    for (i0, j0), (i1, j1) in zip(first, last, strict=True):
        index[i0 : i1 + 1, j0 : j1 + 1] = 0
    painted = index == 0
    index[painted] = np.arange(painted.sum())
    finest = np.zeros((int(painted.sum()), LEVEL_SIZES[0], LEVEL_SIZES[0]), dtype=np.uint8)
    _fill(finest, index, quads - origin, np.asarray(colors, dtype=np.int64), texel)
    return PaintRaster(index, _with_levels(finest), (float(origin[0]), float(origin[1])))


@njit(cache=True)
def _fill(
    finest: NDArray[np.uint8],
    index: NDArray[np.int32],
    quads: FloatArray,
    colors: NDArray[np.int64],
    texel: float,
) -> None:
    side = finest.shape[1]
    normal = np.empty((4, 3))
    for q in range(len(quads)):
        quad = quads[q]
        area = 0.0
        for k in range(4):
            ax, ay = quad[k]
            bx, by = quad[(k + 1) % 4]
            area += ax * by - bx * ay
        sign = 1.0 if area > 0.0 else -1.0
        num_edges = 0
        for k in range(4):
            ax, ay = quad[k]
            bx, by = quad[(k + 1) % 4]
            length = math.hypot(bx - ax, by - ay)
            if length < 1e-6:
                continue
            nx, ny = -sign * (by - ay) / length, sign * (bx - ax) / length
            normal[num_edges] = (nx, ny, -(nx * ax + ny * ay))
            num_edges += 1
        i0 = math.floor(quad[:, 0].min() / texel - 1.0)
        i1 = math.ceil(quad[:, 0].max() / texel + 1.0)
        j0 = math.floor(quad[:, 1].min() / texel - 1.0)
        j1 = math.ceil(quad[:, 1].max() / texel + 1.0)
        shift = 4 if colors[q] == WHITE else 0
        for i in range(i0, i1 + 1):
            for j in range(j0, j1 + 1):
                x, y = (i + 0.5) * texel, (j + 0.5) * texel
                cover = 1.0
                for k in range(num_edges):
                    inside = (normal[k, 0] * x + normal[k, 1] * y + normal[k, 2]) / texel + 0.5
                    cover *= min(max(inside, 0.0), 1.0)
                level = int(cover * 15.0 + 0.5)
                if level == 0:
                    continue
                row = index[i // side, j // side]
                old = int(finest[row, i % side, j % side])
                if level > (old >> shift) & 15:
                    keep = old & (15 << (4 - shift))
                    finest[row, i % side, j % side] = keep | (level << shift)


def _with_levels(finest: NDArray[np.uint8]) -> NDArray[np.uint8]:
    levels = [finest]
    white, yellow = (finest >> 4).astype(np.float32), (finest & 15).astype(np.float32)
    for _ in LEVEL_SIZES[1:]:
        white, yellow = _halved(white), _halved(yellow)
        packed = 16 * np.round(white) + np.round(yellow)
        levels.append(packed.astype(np.uint8))
    return np.concatenate([level.reshape(len(finest), -1) for level in levels], axis=1)


def _halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    n, side = values.shape[0], values.shape[1] // 2
    mean: NDArray[np.float32] = values.reshape(n, side, 2, side, 2).mean(axis=(2, 4))
    return mean
