# SPDX-License-Identifier: Apache-2.0
"""The lie of the land: heights beside the roads, and how far any point is from roads and houses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from flad_sim.scenery.network import UNPAVED, is_road
from flad_sim.types import FloatArray, LaneStrip

_CELL_M = 0.5
_MARGIN_M = 80.0
_DROP_M = 0.03  # the land lies this much below the roads
_BRIDGE_M, _BRIDGE_REACH_M = 2.5, 9.0  # a road so much lower and so near: this is a bridge
_DECK_M = 0.7
_FLAT_M = 0.3  # roads whose heights differ by less lie in a plane


class Ground:
    """Distances on a raster of half a metre, heights from the nearest road edge."""

    def __init__(self, lanes: Sequence[LaneStrip], areas: Sequence[FloatArray]) -> None:
        points = np.concatenate([np.concatenate([s.left, s.right]) for s in lanes])
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        self.bounds = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
        self._points = points
        self._tree = cKDTree(points[:, :2])
        self.flat = float(np.ptp(points[:, 2])) < _FLAT_M
        self._low_z = float(points[:, 2].min())
        self._origin = low - _MARGIN_M
        self._size = np.ceil((high - low + 2 * _MARGIN_M) / _CELL_M).astype(np.int64)
        driven = [s for s in lanes if is_road(s.lane_type)]
        paved = [s for s in lanes if s.lane_type not in UNPAVED]
        polygons = [np.asarray(a)[:, :2] for a in areas]
        self._from_road = self._distances(driven, polygons)
        self._from_paved = self._distances(paved, polygons)
        self._taken = np.zeros(tuple(self._size), dtype=np.bool_)

    def road_gap(self, xy: FloatArray) -> NDArray[np.float64]:
        """Metres from points ``[N, 2]`` to the nearest surface for wheels, 0 on it."""
        return self._look(self._from_road, xy)

    def paved_gap(self, xy: FloatArray) -> NDArray[np.float64]:
        """Metres from points ``[N, 2]`` to the nearest road or pavement, 0 on it."""
        return self._look(self._from_paved, xy)

    def is_taken(self, xy: FloatArray) -> NDArray[np.bool_]:
        """Whether points ``[N, 2]`` are under something that :meth:`take` has put there."""
        i, j, inside = self._cells(xy)
        return inside & self._taken[i, j]

    def take(self, xy: FloatArray) -> None:
        """Reserve the cells of points ``[N, 2]``."""
        i, j, inside = self._cells(xy)
        self._taken[i[inside], j[inside]] = True

    def height(self, x: float, y: float) -> float:
        """Height of the land at a point."""
        return float(self.heights(np.array([[x, y]]))[0])

    def heights(self, xy: FloatArray) -> NDArray[np.float64]:
        """Height of the land at points ``[N, 2]``: just under the nearest road."""
        if self.flat:
            return np.full(len(xy), self._low_z - _DROP_M)
        distance, nearest = self._tree.query(xy, k=6)
        z = self._points[nearest, 2]
        close = distance < distance[:, :1] + 4.0
        lowest = np.where(close, z, np.inf).min(axis=1)
        land: NDArray[np.float64] = lowest - _DROP_M - np.where(distance[:, 0] < 6.0, 0.12, 0.0)
        return land

    def wall_below(self, edge: FloatArray) -> NDArray[np.float64]:
        """How far a road's edge ``[N, 3]`` must be walled down to the land; a bridge is not."""
        gap = edge[:, 2] - self.heights(edge[:, :2])
        near = self._tree.query_ball_point(edge[:, :2], _BRIDGE_REACH_M)
        over = [
            bool((self._points[i, 2] < z - _BRIDGE_M).any())
            for i, z in zip(near, edge[:, 2], strict=True)
        ]
        return np.where(over, _DECK_M, np.maximum(gap, 0.0) + 0.3)

    def _distances(
        self, strips: Sequence[LaneStrip], polygons: Sequence[FloatArray]
    ) -> NDArray[np.float32]:
        covered = np.zeros(tuple(self._size), dtype=np.bool_)
        quads = [
            np.stack([s.left[:-1], s.left[1:], s.right[1:], s.right[:-1]], axis=1)[..., :2]
            for s in strips
        ]
        shapes = [*shapely.polygons(np.concatenate(quads)), *map(shapely.Polygon, polygons)]
        for shape in shapes:
            self._cover(covered, shape)
        gaps: NDArray[np.float32] = ndimage.distance_transform_edt(~covered).astype(np.float32)
        return gaps * np.float32(_CELL_M)

    def _cover(self, covered: NDArray[np.bool_], shape: shapely.Polygon) -> None:
        x0, y0, x1, y1 = shape.bounds
        i0, j0 = np.floor((np.array([x0, y0]) - self._origin) / _CELL_M).astype(int)
        i1, j1 = np.floor((np.array([x1, y1]) - self._origin) / _CELL_M).astype(int)
        i, j = np.meshgrid(np.arange(i0, i1 + 1), np.arange(j0, j1 + 1), indexing="ij")
        x = self._origin[0] + (i + 0.5) * _CELL_M
        y = self._origin[1] + (j + 0.5) * _CELL_M
        inside = shapely.contains_xy(shape.buffer(0.5 * _CELL_M), x, y)
        covered[i0 : i1 + 1, j0 : j1 + 1] |= inside

    def _cells(
        self, xy: FloatArray
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        cell = np.floor((np.asarray(xy) - self._origin) / _CELL_M).astype(np.int64)
        inside = ((cell >= 0) & (cell < self._size)).all(axis=1)
        clipped = np.clip(cell, 0, self._size - 1)
        return clipped[:, 0], clipped[:, 1], inside

    def _look(self, raster: NDArray[np.float32], xy: FloatArray) -> NDArray[np.float64]:
        i, j, inside = self._cells(xy)
        return np.where(inside, raster[i, j], _MARGIN_M).astype(np.float64)
