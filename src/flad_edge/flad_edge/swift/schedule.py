# SPDX-License-Identifier: Apache-2.0
"""1F1B stepped through: when every forward and backward pass and every transfer would run."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from flad_edge.swift.cost import kept_micro_batches
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.problem import Problem

FORWARD, BACKWARD = 0, 1


def one_f_one_b(num_following: int, micro_batches: int) -> Iterator[tuple[int, int]]:
    """The order of a stage: (pass, micro-batch).

    Example:
        >>> list(one_f_one_b(1, 3))
        [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (1, 2)]
    """
    warm = kept_micro_batches(num_following, micro_batches) - 1
    yield from ((FORWARD, i) for i in range(warm))
    for i in range(micro_batches):
        if warm + i < micro_batches:
            yield FORWARD, warm + i
        yield BACKWARD, i


def simulated_step_s(problem: Problem, pipeline: Pipeline) -> float:
    """Seconds of a step under 1F1B whose transfers wait for the channel, but block no stage.

    On a shared channel transfers are sent one after the other, in the order in which they become
    ready; on links of their own each direction of a hop has its channel.
    """
    model, m = problem.model, problem.micro_batches
    per_byte, delay_s = problem.cluster.seconds_per_byte, problem.cluster.delay_s
    compute = [
        [
            float(problem.seconds_per_flop[s.vehicle])
            * sum(getattr(unit, f"flops_{kind}") for unit in model.units[s.begin : s.end])
            for kind in ("forward", "backward")
        ]
        for s in pipeline
    ]
    hops = list(zip(pipeline.stages, pipeline.stages[1:], strict=False))
    air = [
        [
            float(per_byte[a.vehicle, b.vehicle]) * model.cuts[a.end - 1].forward_bytes,
            float(per_byte[b.vehicle, a.vehicle]) * model.cuts[a.end - 1].backward_bytes,
        ]
        for a, b in hops
    ]
    delay = [float(delay_s[a.vehicle, b.vehicle]) for a, b in hops]
    orders = [list(one_f_one_b(len(pipeline) - 1 - s, m)) for s in range(len(pipeline))]
    return _run(compute, air, delay, orders, shared=problem.cluster.shared_channel)


def _run(
    compute: Sequence[Sequence[float]],
    air: Sequence[Sequence[float]],
    delay: Sequence[float],
    orders: Sequence[Sequence[tuple[int, int]]],
    *,
    shared: bool,
) -> float:
    """Events in the order of time: (time, number, kind, stage, pass, micro-batch)."""
    last = len(orders) - 1
    arrived = {(0, FORWARD, i) for _, i in orders[0]}
    free_at: dict[object, float] = {}
    at, busy = [0] * (last + 1), [False] * (last + 1)
    events: list[tuple[float, int, str, int, int, int]] = []
    count, ended_s = 0, 0.0

    def start(stage: int, now_s: float) -> None:
        nonlocal count
        if busy[stage] or at[stage] == len(orders[stage]):
            return
        which, batch = orders[stage][at[stage]]
        if (stage, which, batch) not in arrived:
            return
        busy[stage], count = True, count + 1
        heapq.heappush(events, (now_s + compute[stage][which], count, "done", stage, which, batch))

    start(0, 0.0)
    while events:
        now_s, _, kind, stage, which, batch = heapq.heappop(events)
        ended_s = now_s
        if kind == "arrived":
            arrived.add((stage, which, batch))
            start(stage, now_s)
            continue
        busy[stage], at[stage] = False, at[stage] + 1
        target = stage + 1 if which == FORWARD else stage - 1
        if which == FORWARD and stage == last:
            arrived.add((stage, BACKWARD, batch))
        elif target >= 0:
            hop = min(stage, target)
            channel: object = "air" if shared else (hop, which)
            sent_s = max(now_s, free_at.get(channel, 0.0)) + air[hop][which]
            free_at[channel], count = sent_s, count + 1
            heapq.heappush(events, (sent_s + delay[hop], count, "arrived", target, which, batch))
        start(stage, now_s)
    assert all(a == len(order) for a, order in zip(at, orders, strict=True)), "1F1B stood still"
    return ended_s
