# SPDX-License-Identifier: Apache-2.0
"""Computing at another computer's speed: real work, then sleep until its time would be over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flad_pipeline.graph.costs import UnitCosts
from flad_pipeline.partition import Partition
from flad_pipeline.testbed.testbed import Testbed


@dataclass(frozen=True, kw_only=True)
class PaceReport:
    """How a vehicle kept its pace."""

    busy_s: float
    """Emulated seconds of computing."""
    num_works: int
    num_overruns: int
    """Works that took longer than their emulated time; with one of them a run is not valid."""
    worst_overrun: float
    """The largest time by its budget; at most 1 where nothing overran."""


class Pace:
    """One vehicle's computer, which does one thing at a time. Thread-safe.

    Args:
        testbed: speeds and dilation.
        vehicle: which of them.
        work_scale: every work counts so many times its FLOPs: a small model stands for a large one.
        clock: seconds.
        sleep: waits so many.
    """

    def __init__(
        self,
        testbed: Testbed,
        vehicle: str,
        *,
        work_scale: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not work_scale > 0.0:
            raise ValueError(f"work_scale must be positive, got {work_scale}")
        self._dilation = testbed.dilation
        self._s_per_flop = testbed.vehicle(vehicle).seconds_per_flop * work_scale * self._dilation
        self._clock, self._sleep = clock, sleep
        self._changed = threading.Condition()
        self._is_busy = False
        self._num_urgent = 0
        self._waited_s = threading.local()
        self._busy_s = 0.0
        self._num_works = self._num_overruns = 0
        self._worst = 0.0

    @contextmanager
    def work(self, flops: float, *, urgent: bool = False) -> Iterator[None]:
        """Time for ``flops`` of computing; the block does the work itself.

        Args:
            flops: before the scale.
            urgent: goes before works that are not, when the computer is free.
        """
        self._take(urgent=urgent)
        budget_s = flops * self._s_per_flop
        self._waited_s.value = 0.0
        began_s = self._clock()
        try:
            yield
            took_s = self._clock() - began_s - self._waited_s.value
            with self._changed:
                self._num_works += 1
                self._busy_s += budget_s
                if budget_s > 0.0:
                    self._worst = max(self._worst, took_s / budget_s)
                self._num_overruns += took_s > budget_s > 0.0
            self._sleep(max(0.0, budget_s - took_s))
        finally:
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within a work: time that is spent waiting for others, and counts for no work."""
        began_s = self._clock()
        try:
            yield
        finally:
            before_s = getattr(self._waited_s, "value", 0.0)
            self._waited_s.value = before_s + self._clock() - began_s

    def of(self, costs: UnitCosts, partition: Partition, vehicle: str) -> StagePace:
        """For the stage of this vehicle."""
        span = next(span for span in partition.stages if span.vehicle == vehicle)
        units = [costs.units[i] for i in span.units]
        heads = [costs.units[i] for i in partition.heads] if vehicle == partition.owner else []
        return StagePace(
            pace=self,
            forward_flops=sum(unit.flops_forward for unit in units),
            backward_flops=sum(unit.flops_backward for unit in units),
            heads_flops=sum(unit.flops_forward + unit.flops_backward for unit in heads),
        )

    def report(self) -> PaceReport:
        """So far."""
        with self._changed:
            return PaceReport(
                busy_s=self._busy_s / self._dilation,
                num_works=self._num_works,
                num_overruns=self._num_overruns,
                worst_overrun=self._worst,
            )

    def _take(self, *, urgent: bool) -> None:
        with self._changed:
            self._num_urgent += urgent
            while self._is_busy or (self._num_urgent and not urgent):
                self._changed.wait()
            self._num_urgent -= urgent
            self._is_busy = True


@dataclass(frozen=True, kw_only=True)
class StagePace:
    """What a stage's passes on one micro-batch take; :class:`PipelineTrainer` keeps to it."""

    pace: Pace
    forward_flops: float
    backward_flops: float
    heads_flops: float

    def attach(self, pipe_stage: Any) -> None:
        """Let the passes of PyTorch's stage take their time."""
        forward, backward = pipe_stage.forward_one_chunk, pipe_stage.backward_one_chunk

        def paced_forward(*args: Any, **kwargs: Any) -> Any:
            with self.pace.work(self.forward_flops):
                return forward(*args, **kwargs)

        def paced_backward(*args: Any, **kwargs: Any) -> Any:
            with self.pace.work(self.backward_flops):
                return backward(*args, **kwargs)

        pipe_stage.forward_one_chunk = paced_forward
        pipe_stage.backward_one_chunk = paced_backward
