# SPDX-License-Identifier: Apache-2.0
"""What grows from a road network: the town's mesh and what else must be known of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flad_sim.scenery.mesh import Mesh
from flad_sim.scenery.paint import PaintRaster
from flad_sim.types import StaticBox

LAMP_COLUMNS = 7


@dataclass(frozen=True, slots=True)
class Scenery:
    """A town at rest.

    ``signals`` names the lights in the order of their lamps: those of ``signals[i]`` have the
    numbers ``3 i`` (red), ``3 i + 1`` (yellow) and ``3 i + 2`` (green), in the mesh's ``aux`` and
    in the last column of ``signal_lamps``. A light that has two heads shows each lamp twice.
    """

    mesh: Mesh
    paint: PaintRaster
    facades: NDArray[np.float32]  # [F, 12] flad_sim.scenery.facades
    boxes: tuple[StaticBox, ...]
    signals: tuple[str, ...]
    signal_lamps: NDArray[np.float32]  # [K, 7] centre, direction, lamp number
    street_lamps: NDArray[np.float32]  # [L, 3] lights of the lamp posts
    bounds: tuple[float, float, float, float]  # x0, y0, x1, y1 of the roads
