# SPDX-License-Identifier: Apache-2.0
"""Which pipelines the benchmarks of training run: the best by arithmetic, and random ones."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

from flad_pipeline.graph.costs import UnitCosts
from flad_pipeline.partition import Partition, Span, stage_bytes
from flad_pipeline.testbed.arithmetic import StepTimes, bottleneck_s, simulated_step_s, step_times
from flad_pipeline.testbed.testbed import Testbed

_STEPPED_THROUGH = 60


class Choices:
    """U-shaped pipelines of a testbed's vehicles that fit their memory.

    Args:
        testbed: who computes how fast, with how much memory.
        costs: of the model, for one micro-batch.
        num_micro_batches: of a step.
        work_scale: as in :class:`flad_pipeline.testbed.pace.Pace`.
        extra_in_flight: of the schedule.
    """

    def __init__(
        self,
        testbed: Testbed,
        costs: UnitCosts,
        *,
        num_micro_batches: int,
        work_scale: float,
        extra_in_flight: int,
    ) -> None:
        self._testbed, self._costs = testbed, costs
        self._m, self._scale, self._extra = num_micro_batches, work_scale, extra_in_flight

    def times(self, partition: Partition) -> StepTimes:
        """Of a pipeline's parts."""
        return step_times(self._testbed, self._costs, partition, work_scale=self._scale)

    def step_s(self, partition: Partition, num_micro_batches: int | None = None) -> float:
        """Emulated seconds of a step, by the schedule's arithmetic."""
        return simulated_step_s(
            self.times(partition),
            num_micro_batches or self._m,
            shared_channel=self._testbed.shared_channel,
            extra_in_flight=self._extra,
        )

    def best(self, first: str) -> Partition:
        """The fastest pipeline that begins at a vehicle: all of them by their bottleneck, the best
        of those stepped through.

        Raises:
            ValueError: if none fits.
        """  # noqa: D205
        shared = self._testbed.shared_channel
        found = sorted(
            (p for p in self._all(first) if self._fits(p)),
            key=lambda p: bottleneck_s(self.times(p), shared_channel=shared),
        )
        if not found:
            raise ValueError(f"no pipeline that begins at {first} fits the vehicles' memory")
        return min(found[:_STEPPED_THROUGH], key=self.step_s)

    def random(self, numbers: random.Random, names: Sequence[str], least_s: float) -> Partition:
        """One that fits, at random: order and cuts; no pass is shorter than ``least_s``."""
        while True:
            order = numbers.sample(list(names), len(names))
            least, heads = self._costs.min_first_units, self._costs.first_head
            cuts = sorted(numbers.sample(range(least, heads), len(order) - 1))
            partition = self._partition(order, cuts)
            shortest_s = min(min(passes) for passes in self.times(partition).passes_s)
            if shortest_s >= least_s and self._fits(partition):
                return partition

    def _all(self, first: str) -> Iterator[Partition]:
        others = [name for name in self._testbed.vehicles if name != first]
        least, heads = self._costs.min_first_units, self._costs.first_head
        for rest in itertools.permutations(others):
            for cuts in itertools.combinations(range(least, heads), len(rest)):
                yield self._partition([first, *rest], cuts)

    def _fits(self, partition: Partition) -> bool:
        needs = stage_bytes(
            partition, self._costs, num_micro_batches=self._m, extra_in_flight=self._extra
        )
        return all(n <= self._testbed.vehicle(v).available_bytes for v, n in needs.items())

    def _partition(self, order: Sequence[str], cuts: Sequence[int]) -> Partition:
        heads = self._costs.first_head
        return Partition(
            digest=self._costs.digest,
            num_units=len(self._costs.units),
            heads_from=heads,
            stages=tuple(
                Span(vehicle=v, first=a, last=b - 1)
                for v, a, b in zip(order, [0, *cuts], [*cuts, heads], strict=True)
            ),
        )
