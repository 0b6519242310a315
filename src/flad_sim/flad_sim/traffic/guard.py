# SPDX-License-Identifier: Apache-2.0
"""Speeds that SUMO's vehicles may not exceed: for bends, and for what SUMO does not see well.

SUMO takes bends at the lane's limit and does not reliably yield to vehicles that are moved from
outside. Here every vehicle's own box is swept along its lanes ahead, in time with the predicted
boxes of the client's vehicles and of walkers; where two meet, it has to be able to stop before.

Ties: a vehicle that the guard has kept standing for `_PATIENCE_S` goes on slowly with bare
margins, so that two polite drivers do not wait for each other for ever. It never drives into a
box that stands in its way; `Traffic` takes such vehicles out after a while.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flad_sim.traffic.paths import IntArray, LaneTable
from flad_sim.traffic.prediction import Obstacles
from flad_sim.traffic.sweeps import bend_limits, crossing_distances, yield_limits
from flad_sim.types import FloatArray

FREE_MPS = 1e9  # no limit
_PATIENCE_S = 8.0
_CREEP_MPS = 2.0


@dataclass(frozen=True, slots=True)
class Movers:
    """``V`` of SUMO's vehicles for the kernels."""

    paths: IntArray  # [V, MAX_LANES]
    position: FloatArray  # [V] metres of the front bumper along the first lane
    speed: FloatArray  # [V]
    half: FloatArray  # [V, 2]: half length, half width
    xyz: FloatArray  # [V, 3]: centre
    yaw: FloatArray  # [V] radians


class Guard:
    """Remembers who has been kept waiting."""

    def __init__(self, table: LaneTable) -> None:
        self._table = table
        self._held_s: dict[str, float] = {}

    def bend_limits(self, movers: Movers) -> FloatArray:
        """Highest speeds ``[V]`` from which the bends ahead can be driven."""
        t = self._table
        limits: FloatArray = bend_limits(movers.paths, movers.position, t.starts, t.points, t.run)
        return limits

    def yield_limits(
        self, keys: list[str], movers: Movers, obstacles: Obstacles, dt_s: float
    ) -> FloatArray:
        """Highest speeds ``[V]`` that avoid the obstacles."""
        limits = np.full(len(keys), FREE_MPS)
        if len(obstacles.z) == 0:
            self._held_s.clear()
            return limits
        limits = self._sweep(movers, obstacles, np.zeros(len(keys), dtype=np.bool_))
        impatient = np.array([self._held_s.get(k, 0.0) > _PATIENCE_S for k in keys])
        held = {}
        for i, key in enumerate(keys):
            if limits[i] < 1.0 and (movers.speed[i] < 0.3 or impatient[i]):
                held[key] = self._held_s.get(key, 0.0) + dt_s
        self._held_s = held
        impatient &= limits < 1.0
        if impatient.any():
            bare = np.minimum(self._sweep(movers, obstacles, impatient), _CREEP_MPS)
            limits = np.where(impatient, bare, limits)
        return limits

    def _sweep(
        self, movers: Movers, obstacles: Obstacles, impatient: NDArray[np.bool_]
    ) -> FloatArray:
        t = self._table
        limits: FloatArray = yield_limits(
            movers.paths,
            movers.position,
            movers.speed,
            movers.half,
            movers.xyz,
            movers.yaw,
            impatient,
            obstacles.track,
            obstacles.z,
            obstacles.half,
            obstacles.speed,
            obstacles.horizon_s,
            t.starts,
            t.points,
            t.run,
        )
        return limits


def distance_to_crossing(
    movers: Movers, a: FloatArray, b: FloatArray, half_width: float, table: LaneTable
) -> FloatArray:
    """How far each vehicle's bumper is from touching the strip about ``a``-``b``, ``[V]``.

    0 or less if some of the vehicle is on it; infinite if its way within 60 m does not lead there.
    """
    distance: FloatArray = crossing_distances(
        movers.paths,
        movers.position,
        movers.half,
        movers.xyz,
        movers.yaw,
        a,
        b,
        half_width,
        table.starts,
        table.points,
        table.run,
    )
    return distance
