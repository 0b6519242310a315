# SPDX-License-Identifier: Apache-2.0
"""What lies under a point: height of the surface and the lane, from a grid of triangles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from flad_sim.types import FloatArray, LaneStrip

IntArray = NDArray[np.int64]

_CELL_M = 4.0
_SAME_LEVEL_M = 2.0  # surfaces closer in height than this belong to one level of a bridge


@dataclass(frozen=True, slots=True)
class SurfacePoints:
    """Answers for ``N`` points: ``z`` ``[N]`` (nan off the surface), ``strip`` ``[N]`` (-1 off)."""

    z: FloatArray
    strip: IntArray


class Surface:
    """All lane strips as triangles, by grid cell."""

    def __init__(self, strips: tuple[LaneStrip, ...], preferred: tuple[bool, ...]) -> None:
        """``preferred[i]``: strip i wins where strips of one level overlap (roads over kerbs)."""
        triangles, owners = _triangles(strips)
        self._triangles = triangles
        self._owners = owners
        self._preferred = np.array(preferred, dtype=np.bool_)[owners]
        low = triangles[:, :, :2].min(axis=1)
        high = triangles[:, :, :2].max(axis=1)
        self._origin = low.min(axis=0) - 1e-6
        cells_from = np.floor((low - self._origin) / _CELL_M).astype(np.int64)
        cells_to = np.floor((high - self._origin) / _CELL_M).astype(np.int64)
        self._shape = cells_to.max(axis=0) + 1
        self._starts, self._members = _fill_cells(cells_from, cells_to, self._shape)

    def at(self, xy: FloatArray, z_near: FloatArray | None = None) -> SurfacePoints:
        """Look up points ``[N, 2]``; ``z_near`` ``[N]`` tells the level where bridges cross.

        Without it, or where it is nan, the highest surface counts.
        """
        xy = np.ascontiguousarray(xy, dtype=np.float64)
        near = np.full(len(xy), np.nan) if z_near is None else np.asarray(z_near, dtype=np.float64)
        z, strip = _look_up(
            xy,
            near,
            self._triangles,
            self._owners,
            self._preferred,
            self._origin,
            self._shape,
            self._starts,
            self._members,
        )
        return SurfacePoints(z, strip)


def _triangles(strips: tuple[LaneStrip, ...]) -> tuple[FloatArray, IntArray]:
    parts, owners = [], []
    for i, strip in enumerate(strips):
        a, b = strip.left[:-1], strip.left[1:]
        c, d = strip.right[:-1], strip.right[1:]
        parts += [np.stack([a, c, b], axis=1), np.stack([b, c, d], axis=1)]
        owners.append(np.full(2 * len(a), i, dtype=np.int64))
    return np.ascontiguousarray(np.concatenate(parts)), np.concatenate(owners)


@njit(cache=True)
def _fill_cells(low: IntArray, high: IntArray, shape: IntArray) -> tuple[IntArray, IntArray]:
    counts = np.zeros(shape[0] * shape[1] + 1, dtype=np.int64)
    for i in range(len(low)):
        for cx in range(low[i, 0], high[i, 0] + 1):
            for cy in range(low[i, 1], high[i, 1] + 1):
                counts[cx * shape[1] + cy + 1] += 1
    starts = np.cumsum(counts)
    members = np.empty(starts[-1], dtype=np.int64)
    filled = starts[:-1].copy()
    for i in range(len(low)):
        for cx in range(low[i, 0], high[i, 0] + 1):
            for cy in range(low[i, 1], high[i, 1] + 1):
                cell = cx * shape[1] + cy
                members[filled[cell]] = i
                filled[cell] += 1
    return starts, members


@njit(cache=True)
def _look_up(
    xy: FloatArray,
    near: FloatArray,
    triangles: FloatArray,
    owners: IntArray,
    preferred: NDArray[np.bool_],
    origin: FloatArray,
    shape: IntArray,
    starts: IntArray,
    members: IntArray,
) -> tuple[FloatArray, IntArray]:
    z_out = np.full(len(xy), np.nan)
    strip_out = np.full(len(xy), -1, dtype=np.int64)
    for n in range(len(xy)):
        x, y = xy[n, 0], xy[n, 1]
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        cx = int(np.floor((x - origin[0]) / _CELL_M))
        cy = int(np.floor((y - origin[1]) / _CELL_M))
        if cx < 0 or cy < 0 or cx >= shape[0] or cy >= shape[1]:
            continue
        cell = cx * shape[1] + cy
        best_preferred = False
        best_gap = np.inf
        for k in range(starts[cell], starts[cell + 1]):
            i = members[k]
            ax, ay, az = triangles[i, 0]
            bx, by, bz = triangles[i, 1]
            px, py, pz = triangles[i, 2]
            det = (by - py) * (ax - px) + (px - bx) * (ay - py)
            if abs(det) < 1e-12:
                continue
            u = ((by - py) * (x - px) + (px - bx) * (y - py)) / det
            v = ((py - ay) * (x - px) + (ax - px) * (y - py)) / det
            w = 1.0 - u - v
            if u < -1e-6 or v < -1e-6 or w < -1e-6:
                continue
            z = u * az + v * bz + w * pz
            gap = -z if np.isnan(near[n]) else abs(z - near[n])
            if strip_out[n] >= 0 and abs(z - z_out[n]) < _SAME_LEVEL_M:
                # one level: roads win over kerbs, then the higher surface
                better = (preferred[i] and not best_preferred) or (
                    preferred[i] == best_preferred and z > z_out[n]
                )
            else:
                better = gap < best_gap
            if better:
                z_out[n] = z
                strip_out[n] = owners[i]
                best_preferred = preferred[i]
                best_gap = gap
    return z_out, strip_out
