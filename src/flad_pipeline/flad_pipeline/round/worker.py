# SPDX-License-Identifier: Apache-2.0
"""A vehicle in a round: follows orders, trains its stage, keeps common cuts, goes back to them.

Everything from outside is given: task and data, transport, edge, whom to tell. One thread trains;
orders come from any other. A process lives through rounds and recoveries: an order only changes
units and partners.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist

from flad_common.config import knob
from flad_common.error_codes import FladError
from flad_pipeline.aggregation.keys import VehicleKey
from flad_pipeline.aggregation.units import part_of, ticket_parts
from flad_pipeline.aggregation.update import signed_update
from flad_pipeline.group.deadlines import GroupError
from flad_pipeline.group.process_group import joined
from flad_pipeline.group.transport import Transport
from flad_pipeline.partition import Partition
from flad_pipeline.round.computer import Computer
from flad_pipeline.round.cut_keeper import CutKeeper
from flad_pipeline.round.edge_link import EdgeAwayError, EdgeLink
from flad_pipeline.round.order import Order, OrderKind, Stand, Status, VehicleFacts
from flad_pipeline.round.order_box import OrderBox, OvertakenError
from flad_pipeline.round.task import TrainingTask
from flad_pipeline.stages.handover import hand_over
from flad_pipeline.stages.pipeline import PipelineTrainer
from flad_pipeline.stages.trainer import LocalTrainer, StepResult
from flad_pipeline.stages.unit_store import UnitStore

_log = logging.getLogger(__name__)

_SEED_STRIDE = 1 << 20  # steps of a round: every round draws other dropout
_PAGE_BYTES = 4096
_RATE_STEPS = 8


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """Waits of a worker."""

    wait_s: float = knob(60.0, unit="s", doc="Longest wait for a member of the group.")
    edge_away_s: float = knob(0.5, unit="s", doc="Pause before asking an absent edge again.")

    def __post_init__(self) -> None:
        if not (self.wait_s > 0.0 and self.edge_away_s > 0.0):
            raise ValueError(
                f"wait_s and edge_away_s must be positive, got {self.wait_s}, {self.edge_away_s}"
            )


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """For whoever watches on the vehicle itself; a loss does not leave it."""

    round: int
    step: int
    seconds: float
    result: StepResult


class _PausedError(Exception):
    """The epoch has ended at a rotation, as it should."""


class StageWorker:
    """One vehicle. :meth:`run` trains until :meth:`close`; all else may be called from any thread.

    Args:
        vehicle: its name.
        task: model and data.
        transport: to the other vehicles; not closed here.
        edge: where units come from and copies go to.
        key: signs its updates.
        facts: what it brings, for its statuses.
        config: waits.
        computer: that it trains on; None: everything fits, and it is as fast as it is.
        say: told every change of its status, from any thread.
        on_step: told every step, in the thread that trains.
    """

    def __init__(
        self,
        vehicle: str,
        task: TrainingTask,
        transport: Transport,
        edge: EdgeLink,
        *,
        key: VehicleKey,
        facts: VehicleFacts,
        config: WorkerConfig | None = None,
        computer: Computer | None = None,
        say: Callable[[Status], None] = lambda _: None,
        on_step: Callable[[StepDone], None] = lambda _: None,
    ) -> None:
        self._vehicle, self._task, self._transport, self._edge = vehicle, task, transport, edge
        self._key, self._config, self._computer = key, config or WorkerConfig(), computer
        self._say, self._on_step = say, on_step
        self._lock = threading.Lock()
        self._orders = OrderBox(vehicle)
        self._status = Status(
            vehicle=vehicle, session=secrets.token_hex(4), state=Stand.IDLE, facts=facts
        )
        self._times_s: deque[float] = deque(maxlen=_RATE_STEPS)
        self.store = UnitStore(task.graph, task.make_optimizer, (), proximal_mu=task.proximal_mu)
        """Only for the thread that trains."""
        self._cuts = CutKeeper(
            vehicle, self.store, edge, self._orders, edge_away_s=self._config.edge_away_s
        )

    # --- from other threads ---------------------------------------------------------------------

    def offer(self, order: Order) -> None:
        """Follow this order, if it names this vehicle and is newer than all before."""
        if not self._orders.put(order):
            return
        behind = self._transport.membership.epoch < order.epoch
        if behind or order.kind is OrderKind.STOP:
            self._transport.abort(f"the edge has order {order.order}")

    @property
    def status(self) -> Status:
        """Where it stands."""
        with self._lock:
            status = self._status
        return replace(status, cuts=self._cuts.steps, resident_bytes=resident_bytes())

    @property
    def copied_bytes(self) -> int:
        """Sent to the edge in copies of cuts."""
        return self._cuts.copied_bytes

    def close(self) -> None:
        """Let :meth:`run` return soon."""
        self._orders.close()
        self._transport.abort(f"{self._vehicle} ends")
        self._cuts.close()

    # --- the thread that trains -----------------------------------------------------------------

    def run(self) -> None:
        """Follow orders until closed."""
        while (order := self._orders.next()) is not None:
            try:
                self._follow(order)
            except OvertakenError:
                continue
            except _PausedError:
                self._stand(Stand.PAUSED)
            except Exception as error:  # the thread's boundary
                self._failed(order, error)
            finally:
                _collect()

    def _follow(self, order: Order) -> None:
        if order.kind is OrderKind.STOP:
            for unit in self.store.held:
                self.store.drop_unit(unit)
            self._stand(Stand.IDLE, order, step=0)
            return
        self._stand(Stand.LOADING, order, step=order.from_step)
        if self._computer is not None:
            self._computer.admit(self._vehicle, order, self._task.step_config)
        with self._together(order) as group:
            # In the epoch already: who loads over a slow link is heard meanwhile, not given up.
            self._cuts.go_back(order)
            self._stand(Stand.TRAINING)
            self._train(order, group)
        self._submit(order)
        self._stand(Stand.DONE)

    @contextmanager
    def _together(self, order: Order) -> Iterator[dist.ProcessGroup | None]:
        """The group of an order's vehicles; None for a single one."""
        if len(order.vehicles) == 1:
            yield None
            return
        with joined(
            self._transport,
            epoch=order.epoch,
            members=order.vehicles,
            timeout_s=self._config.wait_s,
        ) as group:
            yield group

    def _train(self, order: Order, group: dist.ProcessGroup | None) -> None:
        step = order.from_step
        turn = order.pipeline(step)
        trainer = self._trainer(order, turn, group)
        while step < order.end_step:
            self._orders.check(order)
            self._stand(Stand.TRAINING, step=step)
            if step > order.from_step:
                if group is not None and order.turns_at(step):
                    self._end_if_paused(order, step, group)
                    after = order.pipeline(step)
                    hand_over(
                        self.store, turn, after, self._vehicle, group, order.vehicles, step=step
                    )
                    turn = after
                    del trainer
                    _collect()
                    trainer = self._trainer(order, turn, group)
                if order.cuts_at(step):
                    self._cut(order, step)
            self._step(order, step, turn, trainer)
            step += 1
        self._stand(Stand.TRAINING, step=step)
        if step > order.from_step:
            self._cut(order, step)

    def _step(
        self, order: Order, step: int, turn: Partition, trainer: PipelineTrainer | LocalTrainer
    ) -> None:
        began = time.monotonic()
        owns = turn.owner == self._vehicle
        batches = self._task.batches(order.round, self._cuts.cursor) if owns else ()
        if self._task.set_rates is not None:
            self._task.set_rates(self.store.optimizers, step / order.end_step)
        with self._transport.working(), self._paced(order):
            result = trainer.step(order.round * _SEED_STRIDE + step, batches)
        self._cuts.cursor += owns
        seconds = time.monotonic() - began
        self._times_s.append(seconds)
        rate = self._task.samples_per_step * len(self._times_s) / sum(self._times_s)
        with self._lock:
            progress = self._status.progress + 1
            self._status = replace(self._status, progress=progress, samples_per_s=rate)
        self._on_step(StepDone(round=order.round, step=step, seconds=seconds, result=result))

    def _trainer(
        self, order: Order, turn: Partition, group: dist.ProcessGroup | None
    ) -> PipelineTrainer | LocalTrainer:
        task = self._task
        if group is None:
            return LocalTrainer(self.store, task.loss, task.step_config)
        return PipelineTrainer(
            self.store,
            turn,
            self._vehicle,
            group,
            task.loss,
            task.step_config,
            members=order.vehicles,
            deadline_s=self._config.wait_s,
            pace=self._computer.stage_pace(turn, self._vehicle) if self._computer else None,
        )

    def _paced(self, order: Order) -> contextlib.AbstractContextManager[None]:
        """Of whoever trains alone; a stage's passes keep their pace themselves."""
        if self._computer is None or len(order.vehicles) > 1:
            return contextlib.nullcontext()
        return self._computer.step_alone(self._task.step_config.num_micro_batches)

    def _end_if_paused(self, order: Order, step: int, group: dist.ProcessGroup) -> None:
        """All members look together whether any of them was told to pause."""
        asked = torch.tensor([int(self._orders.shall_pause(order))])
        dist.all_reduce(asked, dist.ReduceOp.MAX, group=group)
        if int(asked):
            self._cut(order, step)
            raise _PausedError

    def _cut(self, order: Order, step: int) -> None:
        if len(order.vehicles) > 1:  # else nobody could go on from it
            self._cuts.cut(
                order,
                step,
                on_wait=self._transport.note_progress,
                on_kept=lambda: self._say(self.status),
            )

    # --- the end --------------------------------------------------------------------------------

    def _submit(self, order: Order) -> None:
        task, end = self._task, order.end_step
        names = ticket_parts(order.pipeline(end), task.graph, task.layout)[self._vehicle]
        states = [self.store.state_of(unit, end) for unit in self.store.held]
        update = signed_update(
            self._key,
            part_of(states, task.start, names),
            vehicle=self._vehicle,
            client=order.client,
            round_number=order.round,
            round_id=order.round_id,
            epoch=order.epoch,
            start_hash=order.start_hash,
            num_samples=end * task.samples_per_step,
        ).to_bytes()
        while True:
            self._orders.check(order)
            try:
                self._edge.submit(self._vehicle, update)
                return
            except EdgeAwayError as error:
                _log.warning("%s: the edge is away: %s", self._vehicle, error)
                self._orders.wait(self._config.edge_away_s)

    def _failed(self, order: Order, error: Exception) -> None:
        overtaken = self._orders.is_overtaken(order)
        ended = group_error_in(error)
        if ended is None and not overtaken:
            _log.error("%s cannot follow order %d", self._vehicle, order.order, exc_info=error)
            self._transport.abort(f"{self._vehicle} failed: {error}")
        if overtaken:
            return
        if ended is not None:
            self._stand(Stand.BROKEN, lost=ended.lost, text=ended.detail)
        else:
            detail = error.detail if isinstance(error, FladError) else str(error)
            text = f"{type(error).__name__}: {' '.join(detail.split())}"
            self._stand(Stand.FAILED, text=text)

    def _stand(
        self,
        state: Stand,
        order: Order | None = None,
        *,
        step: int | None = None,
        lost: str = "",
        text: str = "",
    ) -> None:
        with self._lock:
            before = self._status
            status = replace(before, state=state, lost=lost, text=text)
            if order is not None:
                status = replace(
                    status,
                    order=order.order,
                    epoch=order.epoch,
                    client=order.client,
                    round=order.round,
                )
            if step is not None:
                status = replace(status, step=step)
            self._status = replace(status, progress=before.progress + 1)
        self._say(self.status)


def _collect() -> None:
    """Free what a turn or an error left: stages, schedules, frames and graphs hold each other.

    Few objects and much memory; the collector on its own counts objects, and comes late.
    """
    gc.collect()


def group_error_in(error: BaseException | None) -> GroupError | None:
    """The end of a group behind an error: PyTorch's schedules wrap what their sends raise."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, GroupError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def resident_bytes() -> int:
    """Of this process; 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    return 0
