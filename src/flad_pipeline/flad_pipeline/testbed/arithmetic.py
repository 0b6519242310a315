# SPDX-License-Identifier: Apache-2.0
"""How long a step takes by the schedule's own arithmetic: 1F1B stepped through, heads included.

SWIFT's planners have their own (:mod:`flad_edge.swift.schedule`), for pipelines whose last stage
has the labels; here the owner's heads are a stage of their own on the owner's computer.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from flad_pipeline.graph.costs import UnitCosts
from flad_pipeline.partition import Partition
from flad_pipeline.testbed.testbed import Testbed

FORWARD, BACKWARD = 0, 1


@dataclass(frozen=True, kw_only=True)
class Hop:
    """Between two stages, or between the last one and the owner, for one micro-batch."""

    forward_s: float
    """That its tensors take the channel."""
    backward_s: float
    delay_s: float


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """Emulated seconds of a pipeline's parts, for one micro-batch."""

    passes_s: tuple[tuple[float, float], ...]
    """By stage: forward, backward."""
    heads_s: float
    hops: tuple[Hop, ...]
    """One after each stage but the last; u-shaped, the last one's to the owner as well."""

    @property
    def is_u(self) -> bool:
        """Whether the owner has the heads."""
        return len(self.hops) == len(self.passes_s)


def step_times(
    testbed: Testbed, costs: UnitCosts, partition: Partition, *, work_scale: float = 1.0
) -> StepTimes:
    """Of a partition on the testbed's vehicles; ``work_scale`` as in :class:`Pace`."""
    names = [span.vehicle for span in partition.stages]
    speed = {name: testbed.vehicle(name).seconds_per_flop * work_scale for name in names}
    is_u = partition.heads_from is not None
    heads = [costs.units[i] for i in partition.heads]
    hops = []
    for span, after in zip(
        partition.stages, [*names[1:], *([partition.owner] * is_u)], strict=is_u
    ):
        link, cut = testbed.link_between(span.vehicle, after), costs.cuts[span.last]
        hops.append(
            Hop(
                forward_s=8.0 * cut.forward_bytes / link.bits_per_s,
                backward_s=8.0 * cut.backward_bytes / link.bits_per_s,
                delay_s=link.delay_s,
            )
        )
    return StepTimes(
        passes_s=tuple(
            (
                speed[span.vehicle] * sum(costs.units[i].flops_forward for i in span.units),
                speed[span.vehicle] * sum(costs.units[i].flops_backward for i in span.units),
            )
            for span in partition.stages
        ),
        heads_s=speed[partition.owner] * sum(u.flops_forward + u.flops_backward for u in heads),
        hops=tuple(hops),
    )


def bottleneck_s(times: StepTimes, *, shared_channel: bool) -> float:
    """Of one micro-batch at the busiest computer or channel: m of them take m times it at least."""
    work = [sum(passes) for passes in times.passes_s]
    work[0] += times.heads_s
    air = [hop.forward_s + hop.backward_s for hop in times.hops] or [0.0]
    return max(*work, sum(air) if shared_channel else max(air), 0.0)


def simulated_step_s(
    times: StepTimes, num_micro_batches: int, *, shared_channel: bool, extra_in_flight: int = 0
) -> float:
    """Seconds of a 1F1B step; transfers wait for the channel and block no computer."""
    return _Step(times, num_micro_batches, shared_channel, extra_in_flight).run()


class _Step:
    """Events in the order of time."""

    def __init__(self, times: StepTimes, m: int, shared: bool, extra: int) -> None:
        self._times, self._shared, self._last = times, shared, len(times.passes_s) - 1
        self._orders = [
            _order(m, self._last - s + int(times.is_u) + extra) for s in range(self._last + 1)
        ]
        self._heads: deque[int] = deque()
        self._arrived = {(0, FORWARD, i) for i in range(m)}
        self._busy = [False] * (self._last + 1)
        self._free_s: dict[object, float] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._now_s, self._count = 0.0, 0

    def run(self) -> float:
        self._start(0)
        while self._events:
            self._now_s, _, happen = heapq.heappop(self._events)
            happen()
        assert not any(self._orders), "1F1B stood still"
        return self._now_s

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self._now_s + seconds, self._count, happen))

    def _start(self, stage: int) -> None:
        """The next work of a computer, if it is free and the work is there; heads first."""
        if self._busy[stage]:
            return
        if stage == 0 and self._heads:
            batch = self._heads.popleft()
            self._busy[0] = True
            self._after(self._times.heads_s, lambda: self._heads_done(batch))
        elif self._orders[stage] and (stage, *self._orders[stage][0]) in self._arrived:
            which, batch = self._orders[stage].popleft()
            self._busy[stage] = True
            took_s = self._times.passes_s[stage][which]
            self._after(took_s, lambda: self._done(stage, which, batch))

    def _done(self, stage: int, which: int, batch: int) -> None:
        self._busy[stage] = False
        if which == BACKWARD and stage:
            self._send(stage - 1, BACKWARD, lambda: self._arrive(stage - 1, BACKWARD, batch))
        elif which == FORWARD and stage < self._last:
            self._send(stage, FORWARD, lambda: self._arrive(stage + 1, FORWARD, batch))
        elif which == FORWARD and self._times.is_u:
            self._send(stage, FORWARD, lambda: self._to_heads(batch))
        elif which == FORWARD:
            self._arrived.add((stage, BACKWARD, batch))
        self._start(stage)

    def _to_heads(self, batch: int) -> None:
        self._heads.append(batch)
        self._start(0)

    def _heads_done(self, batch: int) -> None:
        self._busy[0] = False
        self._send(self._last, BACKWARD, lambda: self._arrive(self._last, BACKWARD, batch))
        self._start(0)

    def _arrive(self, stage: int, which: int, batch: int) -> None:
        self._arrived.add((stage, which, batch))
        self._start(stage)

    def _send(self, hop: int, which: int, arrive: Callable[[], None]) -> None:
        link = self._times.hops[hop]
        channel: object = "air" if self._shared else (hop, which)
        takes_s = link.backward_s if which == BACKWARD else link.forward_s
        sent_s = max(self._now_s, self._free_s.get(channel, 0.0)) + takes_s
        self._free_s[channel] = sent_s
        self._after(sent_s - self._now_s + link.delay_s, arrive)


def _order(m: int, num_following: int) -> deque[tuple[int, int]]:
    """(pass, micro-batch) of a stage under 1F1B."""
    warm = min(m, num_following + 1)
    order = [(FORWARD, i) for i in range(warm)]
    for i in range(m):
        order.append((BACKWARD, i))
        if warm + i < m:
            order.append((FORWARD, warm + i))
    return deque(order)
