# SPDX-License-Identifier: Apache-2.0
"""Planners against the exact optimum, pipeline by pipeline."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from flad_edge.swift.dqn_rollout import masked, roll_out
from flad_edge.swift.dqn_states import Scene
from flad_edge.swift.exact import exact_plans, targets_of
from flad_edge.swift.greedy import greedy_plan
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.planner import LearnedPlanner
from flad_edge.swift.problem import Problem


@dataclass(slots=True)
class Comparison:
    """One planner's pipelines beside the optima of the same first vehicles."""

    problems: int = 0
    gaps: list[float] = field(default_factory=list)
    """Of every first vehicle: cost over the optimum, less 1; inf where it found none."""
    best_gaps: list[float] = field(default_factory=list)
    """Of every problem: the best pipeline of all first vehicles."""
    seconds: float = 0.0

    @property
    def found(self) -> float:
        """Share of the first vehicles with a pipeline for which it found one."""
        return float(np.mean(np.isfinite(self.gaps))) if self.gaps else math.nan

    def gap(self, percentile: float, *, best: bool = False) -> float:
        """Percentile of the gaps, of those it found."""
        gaps = [g for g in (self.best_gaps if best else self.gaps) if math.isfinite(g)]
        return float(np.percentile(gaps, percentile)) if gaps else math.nan

    def as_row(self) -> str:
        """Cells of a table."""
        gaps = (f"{100 * self.gap(p):.2f} %" for p in (50, 95, 100))
        return f"{len(self.gaps)} | {100 * self.found:.2f} % | {' | '.join(gaps)}"

    def as_json(self) -> dict[str, float]:
        """Plain numbers."""
        return {
            "problems": self.problems,
            "pipelines": len(self.gaps),
            "found": self.found,
            "gap_median": self.gap(50),
            "gap_p95": self.gap(95),
            "gap_worst": self.gap(100),
            "best_gap_median": self.gap(50, best=True),
            "best_gap_p95": self.gap(95, best=True),
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        return (
            f"{len(self.gaps)} pipelines, found {100 * self.found:.2f} %, gap median "
            f"{100 * self.gap(50):.2f} %, p95 {100 * self.gap(95):.2f} %, "
            f"{1e3 * self.seconds / max(1, len(self.gaps)):.2f} ms each"
        )


def compare(
    problems: Iterable[Problem], learned: Mapping[str, LearnedPlanner]
) -> dict[str, Comparison]:
    """Plan every problem by every planner, by the path objective; unsolvable ones do not count."""
    planners: dict[str, LearnedPlanner] = {**learned, "fill": fill_planner, "greedy": _greedy}
    results = {name: Comparison() for name in planners}
    for problem in problems:
        optima = exact_costs(problem)
        if not optima:
            continue
        for name, planner in planners.items():
            began = time.perf_counter()
            plans = planner(problem, "path", sorted(optima))
            results[name].seconds += time.perf_counter() - began
            _count(results[name], problem, optima, plans)
    return results


def exact_costs(problem: Problem) -> dict[int, float]:
    """Least path by first vehicle; without those that have no pipeline."""
    found = exact_plans(problem, "path", targets_of(problem))
    return {first: one.cost_s for (_, first), one in found.items() if one is not None}


def fill_planner(
    problem: Problem, objective: str, firsts: Iterable[int]
) -> Mapping[int, Pipeline | None]:
    """The DQN's features and mask without its network: always the least estimate."""
    return roll_out(Scene(problem), list(firsts), lambda f: masked(f, f.cost + f.after))


def _greedy(
    problem: Problem, objective: str, firsts: Iterable[int]
) -> Mapping[int, Pipeline | None]:
    return {first: greedy_plan(problem, first) for first in firsts}


def _count(
    result: Comparison,
    problem: Problem,
    optima: Mapping[int, float],
    plans: Mapping[int, Pipeline | None],
) -> None:
    result.problems += 1
    costs = {
        first: math.inf if (plan := plans[first]) is None else problem.path_s(plan)
        for first in optima
    }
    result.gaps += [costs[first] / optima[first] - 1.0 for first in optima]
    result.best_gaps.append(min(costs.values()) / min(optima.values()) - 1.0)
