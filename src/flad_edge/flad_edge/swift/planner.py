# SPDX-License-Identifier: Apache-2.0
"""Plans a cluster's pipelines: one per first vehicle, by the planner that was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from flad_edge.swift.exact import Objective, cost_s, everyone, exact_plans
from flad_edge.swift.greedy import greedy_plan
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.problem import Problem

PlannerName = Literal["auto", "exact", "dqn", "greedy"]
LearnedPlanner = Callable[[Problem, Objective, Sequence[int]], Mapping[int, Pipeline | None]]
"""(problem, objective, first vehicles) -> a pipeline by first vehicle; None where it found none."""

PLANNERS: tuple[str, ...] = get_args(PlannerName)
MOST_TABLE_WORK = 3e9
"""2^n n L^2 / 2 up to which ``auto`` plans exactly: some seconds on one core."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """The best known pipeline that starts at one vehicle."""

    first: int
    pipeline: Pipeline | None
    cost_s: float | None
    bound_s: float | None
    """Proven least cost; None where the planner proves nothing."""
    planner: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterPlan:
    """All pipelines of a cluster, and why they are what they are."""

    problem: Problem
    objective: Objective
    planner: str
    reason: str
    """Why this planner."""
    pipelines: tuple[Planned, ...]
    seconds: float
    """How long planning took."""

    @property
    def best(self) -> Planned | None:
        """The one of least cost."""
        there = [p for p in self.pipelines if p.cost_s is not None]
        return min(there, key=lambda p: p.cost_s or 0.0) if there else None


def plan_cluster(
    problem: Problem,
    *,
    objective: Objective = "path",
    planner: PlannerName = "auto",
    learned: LearnedPlanner | None = None,
) -> ClusterPlan:
    """Plan one pipeline for every vehicle as the first.

    Args:
        problem: cluster, model, and how a step runs.
        objective: ``path`` is Eq. 10, ``makespan`` a step of all micro-batches.
        planner: ``auto`` takes the exact one where its table is small enough, else the learned one.
        learned: the DQN; needed for ``dqn``, and for ``auto`` with large clusters.

    Raises:
        ValueError: if ``dqn`` is asked for without a network, or if no pipeline can exist because
            the cluster cannot hold the model; with the arithmetic.
    """
    began = time.perf_counter()
    if complaint := problem.shortage():
        raise ValueError(f"this cluster cannot train the model: {complaint}")
    chosen, reason = choose(problem, planner, learned is not None)
    firsts = range(problem.num_vehicles)
    if chosen == "exact":
        pipelines = _exact(problem, objective)
    elif chosen == "dqn":
        if learned is None:
            raise ValueError("planner dqn needs its network; give one, or take exact or greedy")
        answers = learned(problem, objective, list(firsts))
        pipelines = [_unproven(problem, objective, v, answers[v], "dqn") for v in firsts]
    else:
        pipelines = [
            _unproven(problem, objective, v, greedy_plan(problem, v), "greedy") for v in firsts
        ]
    return ClusterPlan(
        problem=problem,
        objective=objective,
        planner=chosen,
        reason=reason,
        pipelines=tuple(pipelines),
        seconds=time.perf_counter() - began,
    )


def table_work(problem: Problem) -> float:
    """Additions of one exact table."""
    n = problem.num_vehicles
    return 2.0**n * n * problem.num_units**2 / 2.0


def choose(problem: Problem, planner: PlannerName, has_network: bool) -> tuple[str, str]:
    """Which planner, and why."""
    if planner != "auto":
        return planner, "as asked for"
    work = table_work(problem)
    size = f"{problem.num_vehicles} vehicles and {problem.num_units} units: a table of {work:.2g}"
    if work <= MOST_TABLE_WORK:
        return "exact", f"{size} additions, at most {MOST_TABLE_WORK:.2g} are planned exactly"
    if has_network:
        return "dqn", f"{size} additions, above {MOST_TABLE_WORK:.2g}"
    return "greedy", f"{size} additions, above {MOST_TABLE_WORK:.2g}, and no network was given"


def _exact(problem: Problem, objective: Objective) -> list[Planned]:
    members = everyone(problem)
    targets = [(members, v) for v in range(problem.num_vehicles)]
    found = exact_plans(problem, objective, targets)
    return [
        Planned(
            first=v,
            pipeline=answer.pipeline if answer else None,
            cost_s=answer.cost_s if answer else None,
            bound_s=answer.bound_s if answer else None,
            planner="exact",
        )
        for (_, v), answer in ((target, found[target]) for target in targets)
    ]


def _unproven(
    problem: Problem, objective: Objective, first: int, pipeline: Pipeline | None, planner: str
) -> Planned:
    return Planned(
        first=first,
        pipeline=pipeline,
        cost_s=cost_s(problem, pipeline, objective) if pipeline else None,
        bound_s=None,
        planner=planner,
    )
