# SPDX-License-Identifier: Apache-2.0
"""Road heights for the wheels: the map's surface on a lazy half-metre grid.

Asking the map for one point costs numpy's overhead, which 150 vehicles with three wheels' places
each do not have time for; a tile of points is asked for once and then read by plain arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from flad_sim.opendrive import RoadNetwork

_STEP_M = 0.5
_TILE = 32  # cells per side
_LEVEL_M = 4.0  # heights this far apart are different decks of a bridge

Surface = Callable[[float, float], float | None]


class HeightField:
    """Heights of one road network. Used by one thread; the same answers in any order of asking."""

    def __init__(self, network: RoadNetwork) -> None:
        self._network = network
        self._tiles: dict[tuple[int, int, int], list[list[float]]] = {}

    def near(self, z: float) -> Surface:
        """The surface as a body at height ``z`` knows it."""
        level = math.floor(z / _LEVEL_M + 0.5)
        return lambda x, y: self._height(x, y, level)

    def _height(self, x: float, y: float, level: int) -> float | None:
        u, v = x / _STEP_M, y / _STEP_M
        i, j = math.floor(u), math.floor(v)
        key = (i // _TILE, j // _TILE, level)
        tile = self._tiles.get(key)
        if tile is None:
            tile = self._tiles[key] = self._fill(key)
        row, column = i % _TILE, j % _TILE
        du, dv = u - i, v - j
        low, high = tile[row], tile[row + 1]
        z = (low[column] * (1.0 - dv) + low[column + 1] * dv) * (1.0 - du) + (
            high[column] * (1.0 - dv) + high[column + 1] * dv
        ) * du
        if z == z:  # else a corner of the cell lies where the map knows nothing
            return z
        return self._network.height(x, y, level * _LEVEL_M)

    def _fill(self, key: tuple[int, int, int]) -> list[list[float]]:
        at = np.arange(_TILE + 1)
        x = (key[0] * _TILE + at) * _STEP_M
        y = (key[1] * _TILE + at) * _STEP_M
        xy = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
        z = self._network.heights(xy, np.full(len(xy), key[2] * _LEVEL_M))
        rows: list[list[float]] = z.reshape(_TILE + 1, _TILE + 1).tolist()
        return rows
