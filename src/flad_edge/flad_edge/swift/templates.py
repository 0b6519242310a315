# SPDX-License-Identifier: Apache-2.0
"""Pipelines for the day after: what runs when one vehicle leaves, or two of a larger cluster."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from flad_edge.swift.exact import Objective, cost_s, everyone, exact_plans, targets_of
from flad_edge.swift.greedy import greedy_plan
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.planner import LearnedPlanner, PlannerName, choose
from flad_edge.swift.problem import Problem

LEAST_FOR_PAIRS = 6
"""Vehicles from which on two may leave at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """What to run when the vehicles of ``gone`` have left: a pipeline for each first vehicle."""

    gone: frozenset[int]
    by_first: Mapping[int, Pipeline | None]
    """None where no pipeline of those that stay exists, or the planner found none."""

    def best(self, problem: Problem, objective: Objective) -> Pipeline | None:
        """The cheapest of them."""
        there = [p for p in self.by_first.values() if p is not None]
        return min(there, key=lambda p: cost_s(problem, p, objective), default=None)


def templates_for(
    problem: Problem,
    *,
    objective: Objective = "path",
    planner: PlannerName = "auto",
    learned: LearnedPlanner | None = None,
    pairs: bool | None = None,
) -> Mapping[frozenset[int], Template]:
    """A template for every departure of one, and of two where the cluster is large enough.

    Args:
        problem: the whole cluster.
        objective: as in planning.
        planner: as in planning; the exact one reads all of them from the tables of the whole.
        learned: the DQN.
        pairs: also for two at once; by default from :data:`LEAST_FOR_PAIRS` vehicles on.
    """
    n = problem.num_vehicles
    most = 2 if (n >= LEAST_FOR_PAIRS if pairs is None else pairs) else 1
    most = min(most, n - 1)
    chosen, _ = choose(problem, planner, learned is not None)
    if chosen == "exact":
        everybody = everyone(problem)
        wanted = [t for t in targets_of(problem, most) if t[0] != everybody]
        found = exact_plans(problem, objective, wanted)
        by_gone: dict[frozenset[int], dict[int, Pipeline | None]] = {}
        for (members, first), answer in found.items():
            gone = frozenset(v for v in range(n) if not members >> v & 1)
            by_gone.setdefault(gone, {})[first] = answer.pipeline if answer else None
    else:
        groups = [
            frozenset(g) for k in range(1, most + 1) for g in itertools.combinations(range(n), k)
        ]
        by_gone = {gone: _without(problem, gone, chosen, objective, learned) for gone in groups}
    return {gone: Template(gone=gone, by_first=plans) for gone, plans in by_gone.items()}


def _without(
    problem: Problem,
    gone: frozenset[int],
    planner: str,
    objective: Objective,
    learned: LearnedPlanner | None,
) -> dict[int, Pipeline | None]:
    stay = [v for v in range(problem.num_vehicles) if v not in gone]
    if planner == "greedy" or learned is None:
        return {v: greedy_plan(problem, v, tuple(gone)) for v in stay}
    names = [problem.cluster.vehicles[v].name for v in gone]
    smaller = Problem(
        problem.cluster.without(*names),
        problem.model,
        problem.micro_batches,
        snapshot=problem.snapshot,
    )
    answers = learned(smaller, objective, list(range(len(stay))))
    return {
        stay[first]: None
        if answer is None
        else Pipeline.of([stay[v] for v in answer.order], [s.end for s in answer])
        for first, answer in answers.items()
    }
