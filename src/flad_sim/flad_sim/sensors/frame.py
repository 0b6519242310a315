# SPDX-License-Identifier: Apache-2.0
"""What a kernel is given: plain arrays in named tuples, laid out once, filled per frame.

The tuples are the only interface between Python and the compiled code of
:mod:`flad_sim.sensors.shading`, ``tracing`` and ``sweep``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flad_sim.sensors.jit import borrowed, kernel

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
CELL_SLOTS = 8  # lamps or movers that one cell can name


class Surfaces(NamedTuple):
    """Everything that never changes: triangles of all meshes end to end, facades, road paint."""

    material: U8  # [T]
    albedo: F32  # [T, 3]
    tag: U8  # [T]
    aux: I32  # [T]
    facades: F32  # [F, 12] flad_sim.scenery.facades
    paint_index: I32  # [X, Y] row of paint_tiles, -1 unpainted
    paint_tiles: U8  # [P, LEVELS]
    paint_origin: F32  # [2] corner of the index, metres


class Movers(NamedTuple):
    """What stands in each slot of the world scene in this frame; slot 0 is the town."""

    base: I32  # [S] first triangle in Surfaces
    rotation: F32  # [S, 3, 3]
    rgb: F32  # [S, 3] linear
    lights: I32  # [S] CARLA's VehicleLightState
    actor: I32  # [S] actor id, 0 for the town
    foot: F32  # [S, 7] x, y, z, cos yaw, sin yaw, half length, half width


class Surroundings(NamedTuple):
    """Light and weather of this frame."""

    light: F32  # [NUM_LIGHT]
    lamp_on: U8  # [3 * signals]
    lamps: F32  # [N, 10] x, y, z, axis (3), r, g, b, cosine of the cone
    lamp_grid: I32  # [X, Y, CELL_SLOTS] rows of lamps, -1 none
    mover_grid: I32  # [X, Y, CELL_SLOTS] slots, -1 none
    grid_origin: F32  # [2]
    tone: U8  # [4096] display value of tone-mapped light


class View(NamedTuple):
    """A pinhole: pixel (i, j) looks along axes[0] + (i + .5 - w/2)/f axes[1] - (...) axes[2]."""

    origin: F32  # [3]
    axes: F32  # [3, 3] rows: forward, right, up
    focal_px: float
    width: int
    height: int


@kernel
def borrowed_surfaces(s: Surfaces) -> Surfaces:
    """The same without reference counts."""
    return Surfaces(
        borrowed(s.material),
        borrowed(s.albedo),
        borrowed(s.tag),
        borrowed(s.aux),
        borrowed(s.facades),
        borrowed(s.paint_index),
        borrowed(s.paint_tiles),
        borrowed(s.paint_origin),
    )


@kernel
def borrowed_movers(m: Movers) -> Movers:
    """The same without reference counts."""
    return Movers(
        borrowed(m.base),
        borrowed(m.rotation),
        borrowed(m.rgb),
        borrowed(m.lights),
        borrowed(m.actor),
        borrowed(m.foot),
    )


@kernel
def borrowed_surroundings(a: Surroundings) -> Surroundings:
    """The same without reference counts."""
    return Surroundings(
        borrowed(a.light),
        borrowed(a.lamp_on),
        borrowed(a.lamps),
        borrowed(a.lamp_grid),
        borrowed(a.mover_grid),
        borrowed(a.grid_origin),
        borrowed(a.tone),
    )


@kernel
def borrowed_view(v: View) -> View:
    """The same without reference counts."""
    return View(borrowed(v.origin), borrowed(v.axes), v.focal_px, v.width, v.height)
