# SPDX-License-Identifier: Apache-2.0
"""What a kernel is given: plain arrays in named tuples, laid out once, filled per frame.

The tuples are the only interface between Python and the compiled code of
:mod:`flad_sim.sensors.shading`, ``tracing`` and ``sweep``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flad_sim.sensors.jit import kernel, pointer

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]

# Entries of Surroundings.light, the scalars of sun, sky and weather; colours take three.
SUN_DIR, SUN_RGB, ZENITH_RGB, HORIZON_RGB, UP_RGB, DOWN_RGB, FOG_RGB = range(0, 21, 3)
(
    FOG_DENSITY,
    FOG_START,
    FOG_FALLOFF,
    WETNESS,
    PUDDLES,
    CLOUDS,
    NIGHT,
    EXPOSURE,
    DISC_COS,
    TIME_S,
) = range(21, 31)
NUM_LIGHT = 32

LIGHT_CELL_M = 16.0  # side of a cell of the lamp and mover grids
SKY_SIZE = 512
FOOT_COLUMNS = 7
LAMP_COLUMNS = 10
CELL_SLOTS = 8  # lamps or movers that one cell can name


class Surfaces(NamedTuple):
    """Everything that never changes: triangles of all meshes end to end, facades, road paint."""

    material: Any  # U8 [T]
    albedo: Any  # F32 [T, 3]
    tag: Any  # U8 [T]
    aux: Any  # I32 [T]
    facades: Any  # F32 [F, FACADE_COLUMNS] flad_sim.scenery.buildings
    paint_index: Any  # I32 [paint_nx, paint_ny] row of paint_tiles, -1 unpainted
    paint_tiles: Any  # U8 [P, TILE_BYTES]
    paint_x0: np.float32  # corner of the index, metres
    paint_y0: np.float32
    paint_nx: int
    paint_ny: int


class Movers(NamedTuple):
    """What stands in each slot of the world scene in this frame; slot 0 is the town."""

    base: Any  # I32 [S] first triangle in Surfaces
    rotation: Any  # F32 [S, 3, 3]
    rgb: Any  # F32 [S, 3] linear
    lights: Any  # I32 [S] CARLA's VehicleLightState
    actor: Any  # I32 [S] actor id, 0 for the town
    foot: Any  # F32 [S, FOOT_COLUMNS] x, y, z, cos yaw, sin yaw, half length, half width


class Surroundings(NamedTuple):
    """Light and weather of this frame; the grids cover the same nx x ny cells."""

    light: Any  # F32 [NUM_LIGHT]
    lamp_on: Any  # U8 [3 * signals]
    lamps: Any  # F32 [N, LAMP_COLUMNS] x, y, z, axis (3), r, g, b, cosine of the cone
    lamp_grid: Any  # I32 [nx, ny, CELL_SLOTS] rows of lamps, -1 none
    mover_grid: Any  # I32 [nx, ny, CELL_SLOTS] slots, -1 none
    sky: Any  # F32 [SKY_SIZE, SKY_SIZE, 3] the upper half of the sky, see shading.draw_sky
    tone: Any  # U8 [4096] display value of tone-mapped light
    x0: np.float32
    y0: np.float32
    nx: int
    ny: int


class View(NamedTuple):
    """A pinhole: pixel (i, j) looks along axes[0] + (i + .5 - w/2)/f axes[1] - (...) axes[2]."""

    origin: Any  # F32 [3]
    axes: Any  # F32 [3, 3] rows: forward, right, up
    focal_px: np.float32
    width: int
    height: int


# In a kernel the arrays of these tuples are pointers, indexed flat: see flad_sim.sensors.jit.


@kernel
def surfaces_pointers(s: Surfaces) -> Surfaces:
    """The same with pointers for arrays."""
    return Surfaces(
        pointer(s.material),
        pointer(s.albedo),
        pointer(s.tag),
        pointer(s.aux),
        pointer(s.facades),
        pointer(s.paint_index),
        pointer(s.paint_tiles),
        s.paint_x0,
        s.paint_y0,
        s.paint_nx,
        s.paint_ny,
    )


@kernel
def movers_pointers(m: Movers) -> Movers:
    """The same with pointers for arrays."""
    return Movers(
        pointer(m.base),
        pointer(m.rotation),
        pointer(m.rgb),
        pointer(m.lights),
        pointer(m.actor),
        pointer(m.foot),
    )


@kernel
def surroundings_pointers(a: Surroundings) -> Surroundings:
    """The same with pointers for arrays."""
    return Surroundings(
        pointer(a.light),
        pointer(a.lamp_on),
        pointer(a.lamps),
        pointer(a.lamp_grid),
        pointer(a.mover_grid),
        pointer(a.sky),
        pointer(a.tone),
        a.x0,
        a.y0,
        a.nx,
        a.ny,
    )


@kernel
def view_pointers(v: View) -> View:
    """The same with pointers for arrays."""
    return View(pointer(v.origin), pointer(v.axes), v.focal_px, v.width, v.height)
