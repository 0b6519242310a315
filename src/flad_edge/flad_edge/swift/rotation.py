# SPDX-License-Identifier: Apache-2.0
"""What going from one pipeline to the next costs: units with another owner move, peer to peer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.problem import Problem


@dataclass(frozen=True, kw_only=True, slots=True)
class HandOver:
    """Traffic of one change of pipelines."""

    units: int
    bytes: float
    """Weights, optimizer and buffers of those units."""
    seconds: float


def hand_over(problem: Problem, old: Pipeline, new: Pipeline) -> HandOver:
    """Units that change their owner, with their state; gradients are zero between steps.

    On a shared channel the transfers follow each other; on links of their own the longest counts.
    """
    before, after = old.owners(), new.owners()
    moved_bytes: dict[tuple[int, int], float] = {}
    units = 0
    for unit, costs in enumerate(problem.model.units):
        if unit in before and before[unit] != after[unit]:
            hop = before[unit], after[unit]
            moved_bytes[hop] = moved_bytes.get(hop, 0.0) + costs.state_bytes
            units += 1
    cluster = problem.cluster
    times = [
        b * float(cluster.seconds_per_byte[hop]) + float(cluster.delay_s[hop])
        for hop, b in moved_bytes.items()
    ]
    seconds = sum(times) if cluster.shared_channel else max(times, default=0.0)
    return HandOver(units=units, bytes=sum(moved_bytes.values()), seconds=seconds)


def rotation_order(problem: Problem, pipelines: Sequence[Pipeline]) -> tuple[int, ...]:
    """Indices of pipelines in an order of little hand-over: always the cheapest next.

    The first is the first given, which already runs.
    """
    left, order = list(range(1, len(pipelines))), [0]
    while left:
        here = pipelines[order[-1]]
        order.append(min(left, key=lambda i: hand_over(problem, here, pipelines[i]).seconds))
        left.remove(order[-1])
    return tuple(order)


def rotation_s(problem: Problem, pipelines: Sequence[Pipeline]) -> float:
    """Hand-over seconds of one whole round through ``pipelines``, back to the first."""
    if len(pipelines) < 2:
        return 0.0
    pairs = zip(pipelines, [*pipelines[1:], pipelines[0]], strict=True)
    return sum(hand_over(problem, a, b).seconds for a, b in pairs)
