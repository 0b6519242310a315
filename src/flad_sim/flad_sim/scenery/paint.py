# SPDX-License-Identifier: Apache-2.0
"""Road paint as a picture looked up by position: tiles of 16 m with their filtered levels.

A texel is one byte: white coverage in the high four bits, yellow in the low four. Only tiles with
paint exist. Triangles would alias into flicker at a distance; filtered levels do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TILE_M = 16.0
LEVEL_SIZES = (256, 128, 64, 32, 16)  # texels a side: 6.25 cm to 1 m each
LEVEL_OFFSETS = tuple(int(o) for o in np.cumsum([0] + [n * n for n in LEVEL_SIZES[:-1]]))
NUM_LEVELS = len(LEVEL_SIZES)
TILE_BYTES = sum(n * n for n in LEVEL_SIZES)


@dataclass(frozen=True, slots=True)
class PaintRaster:
    """The paint of a town."""

    index: NDArray[np.int32]  # [X, Y] row of tiles, -1 unpainted
    tiles: NDArray[np.uint8]  # [P, TILE_BYTES]
    origin: tuple[float, float]  # world x, y of the index's corner
