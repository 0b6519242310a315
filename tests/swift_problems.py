# SPDX-License-Identifier: Apache-2.0
"""Small planning problems whose optimum can be found by trying everything."""

from __future__ import annotations

import itertools
import math

import numpy as np

from flad_edge.swift.cluster import Cluster, Vehicle
from flad_edge.swift.exact import Objective, cost_s
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.problem import Problem
from flad_edge.swift.units import CutCosts, ModelUnits, UnitCosts


def small_problem(
    seed: int, *, vehicles: int = 3, units: int = 7, shared: bool = True, room: float = 1.8
) -> Problem:
    """Everything differs: units, vehicles, links; ``room`` is memory over the model's least."""
    rng = np.random.default_rng([seed, vehicles, units])

    def of(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    model = ModelUnits(
        name="toy",
        batch_size=2,
        units=tuple(
            UnitCosts(
                name=f"unit_{i}",
                flops_forward=of(2e9, 2e10),
                flops_backward=of(4e9, 4e10),
                parameter_bytes=of(0.0, 1e8),
                gradient_bytes=1e7,
                optimizer_bytes=of(0.0, 2e8),
                saved_bytes=of(0.0, 1e8),
            )
            for i in range(units)
        ),
        cuts=tuple(
            CutCosts(forward_bytes=of(1e5, 3e6), backward_bytes=of(1e5, 3e6))
            for _ in range(units - 1)
        ),
    )
    least = sum(u.static_bytes + u.state_bytes + u.saved_bytes for u in model.units)
    share = rng.uniform(0.3, 1.0, vehicles)
    share /= share.sum()
    members = tuple(
        Vehicle(
            name=f"v{i}",
            device="toy",
            available_bytes=float(room * least * share[i]),
            seconds_per_flop=float(rng.choice([5e-12, 7e-12, 7e-13])),
            stability=of(0.0, 1.0),
        )
        for i in range(vehicles)
    )
    cluster = Cluster(
        vehicles=members,
        seconds_per_byte=8.8 / rng.uniform(20e6, 200e6, (vehicles, vehicles)),
        delay_s=rng.uniform(0.0, 0.02, (vehicles, vehicles)),
        shared_channel=shared,
    )
    return Problem(cluster, model, micro_batches=4)


def best_by_trying(problem: Problem, objective: Objective) -> dict[int, float]:
    """Least cost by first vehicle, over every order and every split; without infeasible ones."""
    best: dict[int, float] = {}
    n, last = problem.num_vehicles, problem.num_units
    for order in itertools.permutations(range(n)):
        for ends in itertools.combinations(range(1, last), n - 1):
            pipeline = Pipeline.of(order, [*ends, last])
            if not problem.objections(pipeline):
                seconds = cost_s(problem, pipeline, objective)
                best[order[0]] = min(best.get(order[0], math.inf), seconds)
    return best
