# SPDX-License-Identifier: Apache-2.0
"""The bitmask dynamic programme: the best pipeline for every set of vehicles and every first one.

``cost[S, d, i]`` is the least cost of running the units ``i`` to the last on exactly the vehicles
of ``S`` with ``d`` first. It is built from the last stage to the first, so the number of stages
that follow is ``|S| - 1``, and the memory of a stage under 1F1B, which depends on it, is exact.
Only units at which a stage of such a set can begin are looked at: the vehicles before it must be
able to hold and run what lies before, its own what lies behind. Work: ``2^n n^2 L / 4`` at most.
"""

from __future__ import annotations

import math

import numpy as np

from flad_edge.swift.cluster import Floats
from flad_edge.swift.exact_layout import Block, Layout
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.problem import Ints, Problem

MOST_VEHICLES = 16
_TIE = 1e-12
_SLACK = 1.0 + 1e-9
"""What sets can hold and run are sums of floats: windows are rather too wide than too narrow."""


class ExactTable:
    """All optima of one additive cost: stages' seconds plus ``hop_cost``.

    Args:
        problem: what is planned.
        hop_cost: ``[n, n, L + 1]``; by default the seconds of the hops, which makes it Eq. 10.
        stage_limit_s: slower stages are not allowed.
        hop_limit_s: hops that take the channel for longer are not allowed.
        departures: also the sets that so many vehicles have left are filled from the first unit.
        layout: of the same problem, where several tables are made.

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
        layout: Layout | None = None,
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
        self._layout = layout = layout or Layout(problem)
        self._low, self._high = self._windows()
        self._cost = np.full((layout.num_rows + 1, problem.num_units + 1), np.inf)
        """Row by row of the layout; the last one stands for sets without that first vehicle."""
        for block in layout.blocks:
            self._fill(block)

    def cost(self, members: int, first: int) -> float:
        """Least cost with exactly the vehicles of the bit set ``members``; inf if none fits."""
        return float(self._cost[self._layout.row_of[members, first], 0])

    def costs(self, members: int) -> Floats:
        """``[n]``: by first vehicle."""
        costs: Floats = self._cost[self._layout.row_of[members], 0]
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
            onward = self._cost[self._layout.row_of[rest]] + self._hop[vehicle]
            total = stage[None, :] + onward
            after, end = np.unravel_index(int(np.argmin(total)), total.shape)
            order.append(int(after))
            ends.append(int(end))
            rest, begin = rest & ~(1 << order[-1]), ends[-1]
        return Pipeline.of(order, [*ends, self._problem.num_units])

    def onward(self, members: int, vehicle: int) -> Floats:
        """``[L + 1]``: least cost behind ``vehicle``, whose stage ends there, on ``members``."""
        rows = self._layout.row_of[members]
        best: Floats = np.min(self._cost[rows] + self._hop[vehicle], axis=0)
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

    def _windows(self) -> tuple[Ints, Ints]:
        """``[2^n]`` twice: the first and the last unit at which a stage of each set can begin."""
        problem, layout, last = self._problem, self._layout, self._problem.num_units
        behind = layout.sizes
        # the vehicles of a set must hold the units behind, all others those before
        need = problem.held + problem.saved
        room, total = layout.memory * _SLACK, float(need[-1])
        low = np.searchsorted(need, total - room - _TIE * total, side="left")
        high = np.searchsorted(need, room[::-1] + _TIE * total, side="right") - 1
        if math.isfinite(self._limit_s):
            work, flops = problem.work, layout.flops_per_s * (self._limit_s * _SLACK)
            low = np.maximum(low, np.searchsorted(work, (work[-1] - flops) / _SLACK, side="left"))
            high = np.minimum(high, np.searchsorted(work, flops[::-1], side="right") - 1)
        low = np.maximum(low, self._smallest - behind)
        return np.maximum(low, 0), np.minimum(high, last - behind)

    def _fill(self, block: Block) -> None:
        vehicle, last = block.vehicle, self._problem.num_units
        low, high = int(self._low[block.members].min()), int(self._high[block.members].max())
        if high < low:
            return
        if block.size == 1:
            for begin in range(low, high + 1):
                self._cost[block.rows, begin] = self._stages_from(vehicle, 0, begin)[last]
            return
        first = max(low + 1, int(self._low[block.rests].min()))
        final = int(self._high[block.rests].max())
        if final < first:
            return
        ends = slice(first, final + 1)
        onward = self._cost[:, ends][block.behind]  # [k, r, ends]
        onward += self._hop[vehicle, :, ends][block.after]
        behind = np.ascontiguousarray(onward.min(axis=0).T)  # [ends, r]
        begins = np.arange(low, high + 1)
        nearest, farthest = self._spans(vehicle, block.size - 1, begins, first, final)
        self._cost[block.rows, low : high + 1] = self._best_stages(
            behind, vehicle, begins, nearest - first, farthest - first, ends
        ).T

    def _spans(
        self, vehicle: int, num_following: int, begins: Ints, first: int, final: int
    ) -> tuple[Ints, Ints]:
        """``[begins]`` twice: the nearest and the farthest end of a stage, of ``first..final``."""
        problem = self._problem
        farthest = np.minimum(problem.reach[num_following, vehicle, begins], final)
        per_flop = problem.seconds_per_flop[vehicle]
        if math.isfinite(self._limit_s):
            ends = np.arange(problem.num_units + 1)
            seconds = (problem.work[None, :] - problem.work[begins][:, None]) * per_flop
            quick = np.where(seconds <= self._limit_s, ends[None, :], 0).max(axis=1)
            farthest = np.minimum(farthest, quick)
        nearest = np.maximum(begins + 1, first)
        least = problem.model.min_first_units  # only the first stage begins at 0
        return np.where(begins == 0, np.maximum(nearest, least), nearest), farthest

    def _best_stages(
        self, behind: Floats, vehicle: int, begins: Ints, a: Ints, b: Ints, ends: slice
    ) -> Floats:
        """``[begins, r]``: the least of a stage and what follows, over its ends ``a`` to ``b``.

        The cost of a stage is that of the work until its end less that until its begin, so this
        is the least of a row of numbers between two places, looked up in tables of the least of 1,
        2, 4, ... of them.
        """
        work = self._problem.work * self._problem.seconds_per_flop[vehicle]
        level = behind + work[ends, None]
        best = np.full((len(begins), behind.shape[1]), np.inf)
        length = b - a + 1
        width = 1
        while True:
            rows = np.nonzero((length >= width) & (length < 2 * width))[0]
            if len(rows):
                least = np.minimum(level[a[rows]], level[b[rows] + 1 - width])
                best[rows] = least - work[begins[rows], None]
            if not (length >= 2 * width).any():
                return best
            level = np.minimum(level[:-width], level[width:])
            width *= 2
