# SPDX-License-Identifier: Apache-2.0
"""What the DQN is measured against: random pipelines, and local search, both for a given time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from flad_edge.swift.greedy import fill
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.problem import Problem

Clock = Callable[[], float]


def random_search(
    problem: Problem, first: int, rng: np.random.Generator, seconds: float, clock: Clock
) -> Pipeline | None:
    """The cheapest of random orders with random stages that fit, as many as the time allows."""
    best, best_s, until = None, math.inf, clock() + seconds
    while clock() < until:
        pipeline = _random(problem, first, rng)
        if pipeline is not None and (cost := problem.path_s(pipeline)) < best_s:
            best, best_s = pipeline, cost
    return best


def local_search(
    problem: Problem, first: int, rng: np.random.Generator, seconds: float, clock: Clock
) -> Pipeline | None:
    """Restarts from filled random orders; swaps vehicles and moves cuts while it gets better."""
    best, best_s, until = None, math.inf, clock() + seconds
    while clock() < until:
        here = fill(problem, _order(problem, first, rng))
        if here is None:
            continue
        here_s, idle = problem.path_s(here), 0
        while idle < 20 * len(here) and clock() < until:
            there = _neighbour(problem, here, rng)
            cost = math.inf if there is None else problem.path_s(there)
            if there is not None and cost < here_s:
                here, here_s, idle = there, cost, 0
            else:
                idle += 1
        if here_s < best_s:
            best, best_s = here, here_s
    return best


def _order(problem: Problem, first: int, rng: np.random.Generator) -> list[int]:
    others = [v for v in range(problem.num_vehicles) if v != first]
    return [first, *(int(v) for v in rng.permutation(others))]


def _random(problem: Problem, first: int, rng: np.random.Generator) -> Pipeline | None:
    order, ends, at = _order(problem, first, rng), [], 0
    for place, vehicle in enumerate(order):
        following = len(order) - 1 - place
        far = min(int(problem.reach[following, vehicle, at]), problem.num_units - following)
        least = max(at + 1, problem.model.min_first_units)
        if far < least or (not following and far < problem.num_units):
            return None
        at = problem.num_units if not following else int(rng.integers(least, far + 1))
        ends.append(at)
    return Pipeline.of(order, ends)


def _neighbour(problem: Problem, here: Pipeline, rng: np.random.Generator) -> Pipeline | None:
    order, ends = list(here.order), [stage.end for stage in here]
    if len(order) < 2:
        return None
    if len(order) > 2 and rng.uniform() < 0.4:
        a, b = rng.choice(np.arange(1, len(order)), size=2, replace=False)
        order[a], order[b] = order[b], order[a]
    else:
        cut = int(rng.integers(len(ends) - 1))
        ends[cut] += int(rng.choice([-3, -2, -1, 1, 2, 3]))
    if ends[0] < problem.model.min_first_units:
        return None
    at = 0
    for place, (vehicle, end) in enumerate(zip(order, ends, strict=True)):
        following = len(order) - 1 - place
        if not at < end <= problem.reach[following, vehicle, at]:
            return None
        at = end
    return Pipeline.of(order, ends)
