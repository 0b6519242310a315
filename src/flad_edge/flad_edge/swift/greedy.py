# SPDX-License-Identifier: Apache-2.0
"""Phase 1 of SWIFT (Sec. 4.1.4): stable vehicles first, each with all that its memory takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.problem import Problem


def stable_first(
    problem: Problem, first: int | None = None, without: Sequence[int] = ()
) -> list[int]:
    """Vehicles by falling stability (early stages are needed longest), ``first`` before all."""
    order = [int(v) for v in np.argsort(-problem.stability, kind="stable") if v not in without]
    if first is not None:
        order.remove(first)
        order.insert(0, first)
    return order


def greedy_plan(
    problem: Problem, first: int | None = None, without: Sequence[int] = ()
) -> Pipeline | None:
    """The largest stage that fits, vehicle by vehicle; a unit is left for each one behind.

    Args:
        problem: what is planned.
        first: the vehicle whose data it trains on; the most stable one if None.
        without: vehicles that take no part.

    Returns:
        None if units are left at the end: this order does not fit at all, because longer stages
        in front never make it harder behind.
    """
    return fill(problem, stable_first(problem, first, without))


def fill(problem: Problem, order: Sequence[int]) -> Pipeline | None:
    """The largest stages in a given order; None if they do not reach the last unit."""
    ends, at = [], 0
    for place, vehicle in enumerate(order):
        following = len(order) - 1 - place
        end = min(int(problem.reach[following, vehicle, at]), problem.num_units - following)
        if end <= at or end < problem.model.min_first_units:
            return None
        ends.append(end)
        at = end
    return Pipeline.of(order, ends) if at == problem.num_units else None
