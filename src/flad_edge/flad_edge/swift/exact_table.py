# SPDX-License-Identifier: Apache-2.0
"""The bitmask dynamic programme: the best pipeline for every set of vehicles and every first one.

``cost[S, d, i]`` is the least cost of running the units ``i`` to the last on exactly the vehicles
of ``S`` with ``d`` first. It is built from the last stage to the first, so the number of stages
that follow is ``|S| - 1``, and the memory of a stage under 1F1B, which depends on it, is exact.
Work: ``2^n n L^2 / 2``.
"""

from __future__ import annotations

import math

import numpy as np

from flad_edge.swift.cluster import Floats
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.problem import Ints, Problem

MOST_VEHICLES = 16
_TIE = 1e-12


class ExactTable:
    """All optima of one additive cost: stages' seconds plus ``hop_cost``.

    Args:
        problem: what is planned.
        hop_cost: ``[n, n, L + 1]``; by default the seconds of the hops, which makes it Eq. 10.
        stage_limit_s: slower stages are not allowed.
        hop_limit_s: hops that take the channel for longer are not allowed.
        departures: also the sets that so many vehicles have left are filled from the first unit.

    Raises:
        ValueError: for more than :data:`MOST_VEHICLES` vehicles: the table would not fit.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        hop_cost: Floats | None = None,
        stage_limit_s: float = math.inf,
        hop_limit_s: float = math.inf,
        departures: int = 0,
    ) -> None:
        n = problem.num_vehicles
        if n > MOST_VEHICLES:
            raise ValueError(
                f"the exact planner takes at most {MOST_VEHICLES} vehicles, got {n}; "
                "use planner dqn or auto"
            )
        self._problem = problem
        self._hop = problem.hop_s if hop_cost is None else hop_cost
        if math.isfinite(hop_limit_s):
            slow = problem.air_s > hop_limit_s * (1.0 + _TIE)
            self._hop = np.where(slow, np.inf, self._hop)
        self._limit_s = stage_limit_s * (1.0 + _TIE)
        self._smallest = max(1, n - departures)
        self._cost = np.full((1 << n, n, problem.num_units + 1), np.inf)
        self._fill()

    def cost(self, members: int, first: int) -> float:
        """Least cost with exactly the vehicles of the bit set ``members``; inf if none fits."""
        return float(self._cost[members, first, 0])

    def costs(self, members: int) -> Floats:
        """``[n]``: by first vehicle."""
        costs: Floats = self._cost[members, :, 0]
        return costs

    def pipeline(self, members: int, first: int) -> Pipeline | None:
        """The pipeline of that cost; None if none fits."""
        if not math.isfinite(self.cost(members, first)):
            return None
        order, ends = [first], []
        rest, begin = members & ~(1 << first), 0
        while rest:
            vehicle = order[-1]
            stage = self._stages_from(vehicle, rest.bit_count(), begin)
            onward = self._cost[rest] + self._hop[vehicle]
            total = stage[None, :] + onward
            after, end = np.unravel_index(int(np.argmin(total)), total.shape)
            order.append(int(after))
            ends.append(int(end))
            rest, begin = rest & ~(1 << order[-1]), ends[-1]
        return Pipeline.of(order, [*ends, self._problem.num_units])

    def onward(self, members: int, vehicle: int) -> Floats:
        """``[L + 1]``: least cost behind ``vehicle``, whose stage ends there, on ``members``."""
        best: Floats = np.min(self._cost[members] + self._hop[vehicle], axis=0)
        return best

    def _stages_from(self, vehicle: int, num_following: int, begin: int) -> Floats:
        """``[L + 1]``: seconds of the stage that begins at ``begin``, by its end."""
        problem = self._problem
        seconds = (problem.work - problem.work[begin]) * problem.seconds_per_flop[vehicle]
        ends = np.arange(problem.num_units + 1)
        allowed = (ends > begin) & (ends <= problem.reach[num_following, vehicle, begin])
        if begin == 0:  # only the first stage begins there
            allowed &= ends >= problem.model.min_first_units
        return np.where(allowed & (seconds <= self._limit_s), seconds, np.inf)

    def _fill(self) -> None:
        problem, n, last = self._problem, self._problem.num_vehicles, self._problem.num_units
        sizes = np.array([mask.bit_count() for mask in range(1 << n)])
        for size in range(1, n + 1):
            masks = np.nonzero(sizes == size)[0]
            low, high = max(0, self._smallest - size), last - size
            if high < low:
                continue
            for vehicle in range(n):
                members = masks[(masks >> vehicle) & 1 == 1]
                if size == 1:
                    for begin in range(low, high + 1):
                        stage = self._stages_from(vehicle, 0, begin)
                        self._cost[members, vehicle, begin] = stage[last]
                    continue
                behind = self._behind(members ^ (1 << vehicle), vehicle)
                self._cost[members, vehicle, low : high + 1] = self._best_stage(
                    behind, problem.reach[size - 1, vehicle], vehicle, low, high
                )

    def _behind(self, rests: Ints, vehicle: int) -> Floats:
        """``[rests, L + 1]``: least cost after ``vehicle``, by the end of its stage."""
        behind = np.full((len(rests), self._problem.num_units + 1), np.inf)
        for after in range(self._problem.num_vehicles):
            rows = np.nonzero((rests >> after) & 1)[0]
            if after == vehicle or not len(rows):
                continue
            cost = self._cost[rests[rows], after] + self._hop[vehicle, after]
            behind[rows] = np.minimum(behind[rows], cost)
        return behind

    def _best_stage(self, behind: Floats, reach: Ints, vehicle: int, low: int, high: int) -> Floats:
        """``[rests, high - low + 1]``: over all widths of the stage that begins there."""
        problem = self._problem
        begins = np.arange(low, high + 1)
        best = np.full((len(behind), len(begins)), np.inf)
        widest = min(int((reach[low : high + 1] - begins).max()), high + 1 - low)
        work, per_flop = problem.work, problem.seconds_per_flop[vehicle]
        scratch = np.empty_like(best)
        for width in range(1, widest + 1):
            starts = begins[: max(0, high + 2 - width - low)]
            seconds = (work[starts + width] - work[starts]) * per_flop
            allowed = (starts + width <= reach[starts]) & (seconds <= self._limit_s)
            allowed &= (starts > 0) | (width >= problem.model.min_first_units)
            if not allowed.any():
                continue
            # only the span between the first and the last allowed start is looked at
            a, b = int(np.argmax(allowed)), len(allowed) - int(np.argmax(allowed[::-1]))
            price = np.where(allowed, seconds, np.inf)[a:b]
            part = scratch[:, a:b]
            np.add(behind[:, low + width + a : low + width + b], price, out=part)
            np.minimum(best[:, a:b], part, out=best[:, a:b])
        return best
