# SPDX-License-Identifier: Apache-2.0
"""One vehicle of the exactness bench: phases, common cuts, and being lost.

The plain side; :mod:`flad_bringup.bench.exactness_node` gives it a transport over ROS 2.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from flad_bringup.bench.exactness_case import (
    Phase,
    Plan,
    case_graph,
    case_loss,
    make_optimizer,
    micro_batches,
)
from flad_common.error_codes import FladError
from flad_pipeline.group.process_group import joined
from flad_pipeline.group.transport import Transport
from flad_pipeline.stages.handover import hand_over
from flad_pipeline.stages.pipeline import PipelineTrainer
from flad_pipeline.stages.unit_state import UnitState, unit_state_from_bytes
from flad_pipeline.stages.unit_store import UnitStore


class Member:
    """Runs the phases of a plan. Single-threaded but for the heads' thread.

    Args:
        plan: the same on all members.
        vehicle: which one this is.
        transport: reaches all of them.
        folder: where common cuts are backed up, as at the edge; every member sees it.
    """

    def __init__(self, plan: Plan, vehicle: str, transport: Transport, folder: Path) -> None:
        self._plan, self._vehicle, self._transport, self._folder = plan, vehicle, transport, folder
        graph = case_graph(plan)
        first = plan.phases[0].partition
        self.store = UnitStore(graph, make_optimizer, first.units_of(vehicle))
        self._cut: dict[int, UnitState] = {}
        self._cut_step = -1
        self.fed: dict[int, list[int]] = {}
        """By step, the seeds of the micro-batches that this vehicle fed into steps that counted."""

    def run(self) -> None:
        """All phases that this vehicle has a part in."""
        for number, phase in enumerate(self._plan.phases):
            names = [span.vehicle for span in phase.partition.stages]
            if self._vehicle not in names:
                continue
            if phase.goes_back:
                self._go_back(phase)
            following = self._plan.phases[number + 1 :]
            with joined(self._transport, epoch=number + 1, members=names) as group:
                try:
                    self._train(phase, group)
                except (FladError, RuntimeError):
                    if not (following and following[0].goes_back):
                        raise
                    continue  # the loss that the plan has: on with the next phase
                if following and not following[0].goes_back:
                    after = following[0].partition
                    hand_over(
                        self.store,
                        phase.partition,
                        after,
                        self._vehicle,
                        group,
                        names,
                        step=phase.end_step,
                    )

    def _train(self, phase: Phase, group: object) -> None:
        trainer = PipelineTrainer(
            self.store,
            phase.partition,
            self._vehicle,
            group,  # type: ignore[arg-type]
            case_loss,
            self._plan.step_config,
        )
        for step in range(phase.first_step, phase.end_step):
            if self._plan.backup_every and step % self._plan.backup_every == 0:
                self._back_up(step)
            if self._vehicle == self._plan.lost and step == self._plan.lost_at_step:
                _die_amid_a_step(self.store)
            is_owner = self._vehicle == phase.partition.owner
            batches = micro_batches(self._plan, self._vehicle, step) if is_owner else []
            trainer.step(step, batches)
            if is_owner:
                self.fed[step] = [int(batch.targets) for batch in batches]

    def _back_up(self, step: int) -> None:
        """A common cut: a copy here, a copy at the edge."""
        self._cut = {unit: self.store.state_of(unit, step) for unit in self.store.held}
        self._cut_step = step
        for unit, state in self._cut.items():
            path = backup_file(self._folder, unit, step)
            path.with_suffix(".new").write_bytes(state.to_bytes())
            path.with_suffix(".new").replace(path)

    def _go_back(self, phase: Phase) -> None:
        """To the cut before ``phase``; only units that were elsewhere come from the edge's copy."""
        assert self._cut_step == phase.first_step
        self.fed = {step: seeds for step, seeds in self.fed.items() if step < phase.first_step}
        wanted = set(phase.partition.units_of(self._vehicle))
        for unit in set(self.store.held) - wanted:
            self.store.take_unit(unit, phase.first_step)
        for unit in wanted:
            state = self._cut.get(unit)
            if state is None:
                file = backup_file(self._folder, unit, phase.first_step)
                state = unit_state_from_bytes(file.read_bytes())
            self.store.give_unit(state)


def backup_file(folder: Path, unit: int, step: int) -> Path:
    """Where the edge keeps a unit."""
    return folder / f"unit_{unit}_step_{step}.safetensors"


def result_file(folder: Path, unit: int) -> Path:
    """Where a unit lies after the last step."""
    return folder / f"unit_{unit}.safetensors"


def fed_file(folder: Path, vehicle: str) -> Path:
    """What a vehicle fed: JSON, seeds of micro-batches by step."""
    return folder / f"fed_{vehicle}.json"


def _die_amid_a_step(store: UnitStore) -> None:
    """Let the third pass through this vehicle's first unit be its last."""
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1
        if passes == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    store.module(store.held[0]).register_forward_hook(count)
