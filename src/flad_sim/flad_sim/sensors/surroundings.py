# SPDX-License-Identifier: Apache-2.0
"""What surrounds the surfaces in one frame: light, lamps by place, movers by place."""

from __future__ import annotations

import math

import numpy as np

from flad_sim.scenery.scenery import Scenery
from flad_sim.sensors import frame as f
from flad_sim.sensors.frame import I32, Movers, Surroundings
from flad_sim.sensors.jit import kernel
from flad_sim.sensors.lighting import light_of, tone_table
from flad_sim.sensors.shading import draw_sky
from flad_sim.types import LightState, VisibleWorld, Weather

_STREET_LAMP_RGB = (26.0, 19.0, 10.5)  # candela-like, in the units of lighting.py at night
_STREET_LAMP_REACH_M = 24.0
_LOW_BEAM_RGB = (42.0, 40.0, 34.0)
_LOW_BEAM_REACH_M = 34.0
_LAMP_STATES = {
    LightState.RED: (1, 0, 0),
    LightState.YELLOW: (0, 1, 0),
    LightState.GREEN: (0, 0, 1),
}


class SurroundingsMaker:
    """Holds what is the same in every frame: the grid's frame, the street lamps, the tone curve."""

    def __init__(self, scenery: Scenery) -> None:
        x0, y0, x1, y1 = scenery.bounds
        margin = 2.0 * f.LIGHT_CELL_M
        self._origin = np.array([x0 - margin, y0 - margin], dtype=np.float32)
        size = (
            math.ceil((x1 - x0 + 2 * margin) / f.LIGHT_CELL_M),
            math.ceil((y1 - y0 + 2 * margin) / f.LIGHT_CELL_M),
        )
        self._tone = tone_table()
        self._sky = np.zeros((f.SKY_SIZE, f.SKY_SIZE, 3), dtype=np.float32)
        self._sky_weather: Weather | None = None
        self._signals = scenery.signals
        self._empty: I32 = np.full((*size, f.CELL_SLOTS), -1, dtype=np.int32)
        self._street_lamps = np.zeros((len(scenery.street_lamps), f.LAMP_COLUMNS), dtype=np.float32)
        self._street_lamps[:, :3] = scenery.street_lamps
        self._street_lamps[:, 3:6] = (0.0, 0.0, -1.0)
        self._street_lamps[:, 6:9] = _STREET_LAMP_RGB
        self._street_lamps[:, 9] = 0.15
        self._street_grid = self._empty.copy()
        for row, lamp in enumerate(self._street_lamps):
            note_in_cells(
                self._street_grid, self._origin, lamp[0], lamp[1], _STREET_LAMP_REACH_M, row
            )

    def make(self, world: VisibleWorld, movers: Movers, num_slots: int) -> Surroundings:
        """The surroundings of one frame; slots from 1 up to ``num_slots`` may hold movers."""
        light = light_of(world.weather, world.elapsed_s)
        mover_grid = self._empty.copy()
        for slot in range(1, num_slots):
            if movers.actor[slot]:
                x, y, _, _, _, length, _ = movers.foot[slot]
                note_in_cells(mover_grid, self._origin, x, y, length + 1.0, slot)
        lamps, lamp_grid = self._street_lamps, self._street_grid
        if light[f.NIGHT] > 0.0:
            lamps, lamp_grid = self._with_head_lamps(movers, num_slots)
        lamp_on = np.zeros(max(3 * len(self._signals), 1), dtype=np.uint8)
        for i, signal in enumerate(self._signals):
            state = world.lights.get(signal, LightState.OFF)
            lamp_on[3 * i : 3 * i + 3] = _LAMP_STATES.get(state, (0, 0, 0))
        return Surroundings(
            light,
            lamp_on,
            lamps,
            lamp_grid,
            mover_grid,
            self._sky_of(world.weather, light),
            self._tone,
            *self._origin,
            *self._empty.shape[:2],
        )

    def _sky_of(self, weather: Weather, light: f.F32) -> f.F32:
        """The sky's picture, drawn anew when the weather has changed."""
        if weather != self._sky_weather:
            draw_sky(light, self._sky)
            self._sky_weather = weather
        return self._sky

    def _with_head_lamps(self, movers: Movers, num_slots: int) -> tuple[f.F32, I32]:
        grid = self._street_grid.copy()
        beams: list[tuple[float, ...]] = []
        for slot in range(1, num_slots):
            if movers.lights[slot] & 6:
                x, y, z, c, s, length, _ = (float(v) for v in movers.foot[slot])
                # One beam per car, from above the bumper, tilted down a little.
                place = (x + c * (length - 0.2), y + s * (length - 0.2), z + 0.75)
                row = len(self._street_lamps) + len(beams)
                beams.append((*place, 0.996 * c, 0.996 * s, -0.09, *_LOW_BEAM_RGB, 0.90))
                middle = 0.5 * _LOW_BEAM_REACH_M
                note_in_cells(
                    grid, self._origin, place[0] + middle * c, place[1] + middle * s, middle, row
                )
        rows = np.array(beams, dtype=np.float32).reshape(-1, f.LAMP_COLUMNS)
        return np.concatenate([self._street_lamps, rows]), grid


@kernel
def note_in_cells(
    grid: np.ndarray, origin: np.ndarray, x: float, y: float, reach_m: float, row: int
) -> None:
    """Write ``row`` into each cell that the square around ``(x, y)`` touches and that has room."""
    i0 = max(math.floor((x - reach_m - origin[0]) / f.LIGHT_CELL_M), 0)
    j0 = max(math.floor((y - reach_m - origin[1]) / f.LIGHT_CELL_M), 0)
    i1 = min(math.floor((x + reach_m - origin[0]) / f.LIGHT_CELL_M), grid.shape[0] - 1)
    j1 = min(math.floor((y + reach_m - origin[1]) / f.LIGHT_CELL_M), grid.shape[1] - 1)
    for i in range(i0, i1 + 1):
        for j in range(j0, j1 + 1):
            for k in range(grid.shape[2]):
                if grid[i, j, k] < 0:
                    grid[i, j, k] = row
                    break
