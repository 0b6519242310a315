# SPDX-License-Identifier: Apache-2.0
"""The exact planner: proven optima for every first vehicle and every departure.

The path objective (Eq. 10) is one :class:`~flad_edge.swift.exact_table.ExactTable`. For a whole
step, the sum along the path trades against the slowest station; a walk over limits of the slowest
station finds the optimum: each table gives the least sum under a limit, and only a station below
``(best - sum) / (m - 1)`` could still improve on the best.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from flad_edge.swift.exact_layout import Layout
from flad_edge.swift.exact_table import ExactTable
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.problem import Problem

Objective = Literal["path", "makespan"]
Target = tuple[int, int]
"""The bit set of vehicles that take part, and the first one."""

_STRICTLY = 1.0 - 1e-9
_MOST_TABLES = 400
_PROBES = (0.4, 0.2, 0.1)
"""Limits that are looked at first, between the least that can be and the first of the walk: a good
pipeline found early halves the tables of the walk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A pipeline with its cost, and the least that any could cost."""

    pipeline: Pipeline
    cost_s: float
    bound_s: float
    """Proven: no pipeline costs less. Equal to ``cost_s`` where the optimum is proven."""

    @property
    def gap(self) -> float:
        """How far from the optimum it may be, as a share; 0 where proven."""
        return self.cost_s / self.bound_s - 1.0 if self.bound_s > 0.0 else 0.0


def cost_s(problem: Problem, pipeline: Pipeline, objective: Objective) -> float:
    """What the planners minimise."""
    return problem.path_s(pipeline) if objective == "path" else problem.step_s(pipeline)


def everyone(problem: Problem) -> int:
    """The bit set of all vehicles."""
    return (1 << problem.num_vehicles) - 1


def targets_of(problem: Problem, departures: int = 0) -> list[Target]:
    """Every first vehicle of the cluster, and of what is left after up to so many departures."""
    targets = []
    for gone in range(departures + 1):
        for left in itertools.combinations(range(problem.num_vehicles), gone):
            members = everyone(problem) & ~sum(1 << v for v in left)
            targets += [(members, v) for v in range(problem.num_vehicles) if members >> v & 1]
    return targets


def exact_plans(
    problem: Problem, objective: Objective, targets: Iterable[Target]
) -> Mapping[Target, Found | None]:
    """The best pipeline of every target; None where it is proven that there is none.

    All targets read the same tables. On a shared channel the step has two parts, of which the
    slower counts; where their best compromise cannot be proven, ``bound_s`` says how near it is.
    """
    wanted = list(targets)
    if not wanted:
        return {}
    smallest = min(members.bit_count() for members, _ in wanted)
    departures = problem.num_vehicles - smallest
    if objective == "path" or problem.micro_batches == 1:
        table = ExactTable(problem, departures=departures)
        return {target: _of_path(problem, table, target) for target in wanted}
    walk = _Walk(problem, wanted, departures)
    walk.run()
    return walk.found()


def best_plan(problem: Problem, objective: Objective) -> Found | None:
    """The best pipeline of all vehicles, whoever is first; None if there is proven to be none."""
    members = everyone(problem)
    if objective == "path" or problem.micro_batches == 1:
        table = ExactTable(problem)
        first = int(table.costs(members).argmin())
        return _of_path(problem, table, (members, first))
    if problem.cluster.shared_channel:  # every first vehicle finds other compromises
        found = exact_plans(problem, objective, targets_of(problem)).values()
        there = [one for one in found if one is not None]
        if not there:
            return None
        best = min(there, key=lambda one: one.cost_s)
        return dataclasses.replace(best, bound_s=min(one.bound_s for one in there))
    walk = _Walk(problem, [(members, -1)], 0)
    walk.run()
    return walk.found()[members, -1]


def _of_path(problem: Problem, table: ExactTable, target: Target) -> Found | None:
    pipeline = table.pipeline(*target)
    if pipeline is None:
        return None
    seconds = problem.path_s(pipeline)
    return Found(pipeline=pipeline, cost_s=seconds, bound_s=seconds)


class _Search:
    """What is known about one target: the best so far, and which stations could improve on it."""

    def __init__(self, problem: Problem, target: Target) -> None:
        self.target = target
        self.best: Pipeline | None = None
        self.best_s = math.inf
        self.limit_s = math.inf
        """Only pipelines all of whose stations are below it could be better."""
        self.bound_s = 0.0
        self.done = False
        speeds = [
            1.0 / problem.seconds_per_flop[v]
            for v in range(problem.num_vehicles)
            if target[0] >> v & 1
        ]
        self.least_station_s = float(problem.work[-1]) / sum(speeds)
        self._others = problem.micro_batches - 1
        self._sum_s = 0.0
        """Least path under ``limit_s`` or above."""

    def read(self, problem: Problem, table: ExactTable) -> float:
        """Take the table's pipeline if it is better; returns the table's least cost."""
        members, first = self.target
        start = int(table.costs(members).argmin()) if first < 0 else first
        least = table.cost(members, start)
        if math.isfinite(least):
            pipeline = table.pipeline(members, start)
            assert pipeline is not None
            seconds = problem.step_s(pipeline)
            if seconds < self.best_s:
                self.best, self.best_s = pipeline, seconds
        return least

    def narrow(self, limit_s: float, sum_s: float, channel_s: float) -> None:
        """After tables under ``limit_s``: least path, and least step if the channel decides."""
        if max(sum_s, channel_s) >= self.best_s * _STRICTLY or not math.isfinite(sum_s):
            self.done = True
            return
        self._sum_s = sum_s
        lower = (self.best_s - sum_s) / self._others * _STRICTLY
        if lower < self.least_station_s:
            self.done = True
        elif lower >= limit_s:
            # the two parts of a shared channel cannot be parted further
            self.done = True
            self.bound_s = max(channel_s, sum_s + self._others * self.least_station_s)
        else:
            self.limit_s = lower

    def lower(self) -> None:
        """A better pipeline is known than when ``limit_s`` was set."""
        self.limit_s = min(self.limit_s, (self.best_s - self._sum_s) / self._others * _STRICTLY)
        self.done = self.limit_s < self.least_station_s


class _Walk:
    """Tables under ever lower limits, read by all targets that still need them."""

    def __init__(self, problem: Problem, targets: list[Target], departures: int) -> None:
        self._problem, self._departures = problem, departures
        self._searches = [_Search(problem, target) for target in targets]
        self._shared = problem.cluster.shared_channel
        self._layout = Layout(problem)

    def run(self) -> None:
        """Until every target is done."""
        self._look(math.inf)
        if not self._shared:
            self._probe()
        for _ in range(_MOST_TABLES):
            active = self._active()
            if not active:
                return
            self._look(max(search.limit_s for search in active))
        for search in self._active():
            search.bound_s = self._problem.work[-1] * min(self._problem.seconds_per_flop)

    def _active(self) -> list[_Search]:
        return [search for search in self._searches if not search.done]

    def _look(self, limit_s: float) -> None:
        """One step of the walk: the tables under a limit, read by all."""
        others = self._problem.micro_batches - 1
        path = self._table(limit_s)
        channel = self._table(limit_s, 1.0 * others) if self._shared else None
        between = self._between(limit_s, others) if self._shared else []
        for search in self._active():
            for table in between:
                search.read(self._problem, table)
            sum_s = search.read(self._problem, path)
            channel_s = search.read(self._problem, channel) if channel else 0.0
            search.narrow(limit_s, sum_s, channel_s)

    def _probe(self) -> None:
        """Look for good pipelines below the first limit; what they cost lowers it."""
        for share in _PROBES:
            active = self._active()
            if not active:
                return
            low = min(search.least_station_s for search in active)
            high = max(search.limit_s for search in active)
            table = self._table(low * (high / low) ** share)
            for search in active:
                search.read(self._problem, table)
        for search in self._active():
            search.lower()

    def found(self) -> dict[Target, Found | None]:
        """By target."""
        return {
            search.target: None
            if search.best is None
            else Found(
                pipeline=search.best,
                cost_s=search.best_s,
                bound_s=min(search.best_s, search.bound_s or search.best_s),
            )
            for search in self._searches
        }

    def _between(self, limit_s: float, others: int) -> list[ExactTable]:
        """Compromises between path and channel, once: they may be better than either."""
        if math.isfinite(limit_s):
            return []
        return [self._table(limit_s, share * others) for share in (0.1, 0.3, 0.6)]

    def _table(self, limit_s: float, air_weight: float = 0.0) -> ExactTable:
        problem = self._problem
        return ExactTable(
            problem,
            hop_cost=problem.hop_s + air_weight * problem.air_s,
            stage_limit_s=limit_s,
            hop_limit_s=math.inf if self._shared else limit_s,
            departures=self._departures,
            layout=self._layout,
        )
