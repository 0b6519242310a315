# SPDX-License-Identifier: Apache-2.0
"""The computer that a vehicle trains on: what fits into it, and its speed if it is emulated."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from flad_pipeline.graph.costs import UnitCosts
from flad_pipeline.memory.manager import MemoryManager
from flad_pipeline.partition import Partition, message_bytes, stage_bytes
from flad_pipeline.round.order import Order
from flad_pipeline.stages.trainer import StepConfig
from flad_pipeline.testbed.pace import Pace, StagePace

_CUTS_KEPT = 2  # the newest, and the one before it until the edge has the newest whole


@dataclass(frozen=True, kw_only=True)
class Computer:
    """Of one vehicle. :class:`flad_pipeline.round.worker.StageWorker` asks it.

    Args:
        costs: of the model's units.
        memory: that may refuse a stage.
        pace: of a computer that is emulated.
    """

    costs: UnitCosts
    memory: MemoryManager | None = None
    pace: Pace | None = None

    def admit(self, vehicle: str, order: Order, config: StepConfig) -> None:
        """Agree to all that an order may ask of this vehicle, before any of it is made.

        Raises:
            FladError: (STAGE_TOO_LARGE) with the arithmetic.
        """
        if self.memory is not None:
            # The units of a stage before this one go when the new ones come: nothing counts as held
            # but what this process has anyway.
            self.memory.admit(vehicle, self.need_bytes(vehicle, order, config))

    def need_bytes(self, vehicle: str, order: Order, config: StepConfig) -> float:
        """Of the largest of its stages, of its messages, and of the cuts that it keeps of it."""
        return max(
            float(
                stage_bytes(
                    partition,
                    self.costs,
                    num_micro_batches=config.num_micro_batches,
                    schedule=config.schedule,
                    extra_in_flight=config.extra_in_flight,
                )[vehicle]
                + message_bytes(partition, self.costs)[vehicle]
                + (
                    _CUTS_KEPT * self._cut_bytes(partition, vehicle)
                    if len(order.vehicles) > 1
                    else 0
                )
            )
            for partition in order.pipelines
        )

    def stage_pace(self, partition: Partition, vehicle: str) -> StagePace | None:
        """Of a stage; None where nothing is emulated."""
        return self.pace.of(self.costs, partition, vehicle) if self.pace else None

    def step_alone(self, num_micro_batches: int) -> AbstractContextManager[None]:
        """Time for a step on the whole model."""
        if self.pace is None:
            return nullcontext()
        flops = sum(unit.flops_forward + unit.flops_backward for unit in self.costs.units)
        return self.pace.work(num_micro_batches * flops)

    def _cut_bytes(self, partition: Partition, vehicle: str) -> int:
        units = (self.costs.units[i] for i in partition.units_of(vehicle))
        return sum(u.parameter_bytes + u.optimizer_bytes + u.buffer_bytes for u in units)
