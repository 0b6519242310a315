# SPDX-License-Identifier: Apache-2.0
"""Training steps of one stage of a pipeline, on PyTorch's own engine.

The group is gloo's or ours over DDS: the engine cannot tell. Stages exchange what is live at their
cut and pass on what they do not need, so the schedules are the single-stage ones (GPipe, 1F1B),
which take skips.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import Schedule1F1B, ScheduleGPipe

from flad_pipeline.partition import Partition
from flad_pipeline.stages.loss_channel import LossChannel, owners_loss
from flad_pipeline.stages.packing import PackedStage
from flad_pipeline.stages.stage_module import StageModule, crossing
from flad_pipeline.stages.trainer import (
    Loss,
    MicroBatch,
    StepConfig,
    StepResult,
    average_gradients,
    check_batches,
    input_names,
)
from flad_pipeline.stages.unit_store import UnitStore, total_norm
from flad_pipeline.testbed.pace import StagePace

_ABANDONED_S = 5.0  # for the heads of a step that failed: nobody may touch the units any more
_SCHEDULES = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}


class PipelineTrainer:
    """One stage's part of every step; all ranks call :meth:`step` together.

    Args:
        store: holds this vehicle's units.
        partition: at least two stages.
        vehicle: whose stage this is.
        group: of as many ranks as stages.
        loss: only the owner of the labels calls it.
        config: the same on all ranks.
        members: vehicles by rank; in the order of the stages if nothing is said.
        deadline_s: longest time for what is left to do with the owner's heads at a step's end.
        pace: of an emulated computer.

    Raises:
        ValueError: if partition, model, group and configuration do not fit each other.
    """

    def __init__(
        self,
        store: UnitStore,
        partition: Partition,
        vehicle: str,
        group: dist.ProcessGroup,
        loss: Loss,
        config: StepConfig,
        *,
        members: Sequence[str] | None = None,
        deadline_s: float = 60.0,
        pace: StagePace | None = None,
    ) -> None:
        partition.check(store.graph)
        names = [span.vehicle for span in partition.stages]
        by_rank = list(names if members is None else members)
        _check_sizes(names, by_rank, vehicle, group, config)
        self._store, self._partition, self._group = store, partition, group
        self._loss, self._config, self._deadline_s = loss, config, deadline_s
        graph = store.graph
        place, last = names.index(vehicle), len(names) - 1
        span = partition.stages[place]
        enters = crossing(graph, span.first - 1) if place else None
        leaves = crossing(graph, span.last)
        is_u = partition.heads_from is not None
        kept = graph.kept(span.last + 1, partition.heads_from or 0) if is_u else ()
        inputs = input_names(store)
        self._is_owner, self._is_last = place == 0, place == last
        made_kept = [name for name in kept if name not in inputs] if self._is_owner else []
        gives = leaves.names if is_u or not self._is_last else graph.outputs
        self._stage = store.stage(
            span.units,
            takes=enters.names if enters else inputs,
            gives=[*gives, *made_kept],
            seed=config.seed,
        )
        self._feed = _Feed(self._stage, inputs, len(gives), made_kept) if not enters else None
        self._batches: Sequence[MicroBatch] = ()
        self._heads: _Heads | None = None
        self._channel: LossChannel | None = None
        if is_u and self._is_last:
            waiting = pace.pace.waiting if pace else nullcontext
            self._channel = LossChannel(group, by_rank.index(partition.owner), leaves, waiting)
        if is_u and self._is_owner:
            features = crossing(graph, partition.heads.start - 1)
            self._heads = _Heads(
                store.stage(
                    partition.heads,
                    takes=[*features.names, *kept],
                    gives=graph.outputs,
                    seed=config.seed,
                ),
                LossChannel(group, by_rank.index(names[-1]), features),
                kept,
            )
        pipe_stage = PackedStage(
            self._feed or self._stage,
            place,
            len(names),
            torch.device("cpu"),
            input_args=enters.empty() if enters else (torch.zeros(1, dtype=torch.int64),),
            output_args=leaves.empty()
            if is_u or not self._is_last
            else tuple(graph.tensors[name].empty() for name in graph.outputs),
            group=group,
        )
        pipe_stage.stage_index_to_group_rank = {i: by_rank.index(v) for i, v in enumerate(names)}
        self._pace = pace
        if pace is not None:
            pace.attach(pipe_stage)
        self._schedule = _SCHEDULES[config.schedule](
            pipe_stage, config.num_micro_batches, loss_fn=self._stage_loss
        )
        # 1F1B counts from the last stage how many micro-batches each takes before its first
        # backward pass. Heads elsewhere are one stage more: else the last one waits for them idle.
        self._schedule._num_stages += int(is_u) + config.extra_in_flight

    def step(self, step: int, batches: Sequence[MicroBatch] = ()) -> StepResult:
        """One step of the optimizer on all stages.

        Args:
            step: its number: the seed of random numbers depends on it.
            batches: on the owner of the data its micro-batches; without u-shape the last stage
                needs their targets, too. Empty elsewhere.

        Raises:
            ValueError: if the owner's micro-batches are not what the stages are made for.
            TimeoutError: if the heads do not end in time.
        """
        if self._is_owner or batches:
            check_batches(self._store, self._config, batches)
        self._batches = batches
        self._stage.begin_step(step)
        losses: list[Tensor] = []
        places = torch.arange(self._config.num_micro_batches)
        if self._feed is not None:
            self._run_owner(step, batches, places)
        elif self._is_last:
            self._schedule.step(target=places, losses=losses, return_outputs=False)
        else:
            self._schedule.step(return_outputs=False)
        if self._channel is not None:
            self._channel.flush()
        self._store.add_proximal()
        norms = self._store.squared_norms()
        dist.all_reduce(norms, group=self._group)
        norm = total_norm(norms)
        taken = self._store.step(norm, self._config.clip_norm)
        return StepResult(loss=self._mean_loss(losses), gradient_norm=norm, taken=taken)

    def _run_owner(self, step: int, batches: Sequence[MicroBatch], places: Tensor) -> None:
        assert self._feed is not None
        traced = self._store.graph.traced
        self._feed.load([traced.flatten(b.args, b.kwargs) for b in batches])
        if self._heads is None:
            self._schedule.step(places, return_outputs=False)
            return
        self._heads.stage.begin_step(step)
        with _Aside(lambda: self._answer(batches), self._deadline_s):
            self._schedule.step(places, return_outputs=False)
        self._heads.channel.flush()

    def _answer(self, batches: Sequence[MicroBatch]) -> None:
        """In a thread of its own: heads, loss and gradient of each micro-batch's features."""
        assert self._heads is not None
        assert self._feed is not None
        heads, nest = self._heads, self._store.graph.traced.outputs.nest
        heads.losses = []
        for i, batch in enumerate(batches):
            features = heads.channel.receive_features(i)
            with self._heads_pace():
                result = heads.stage(*features, *(self._feed.kept(i, name) for name in heads.kept))
                loss = self._loss(nest(result), batch.targets)
                loss.backward()
            heads.channel.send_gradients(i, features)
            heads.losses.append(float(loss.detach()))
        average_gradients(heads.stage, len(batches))

    def _heads_pace(self) -> AbstractContextManager[None]:
        if self._pace is None:
            return nullcontext()
        return self._pace.pace.work(self._pace.heads_flops, urgent=True)

    def _stage_loss(self, output: Tensor | tuple[Tensor, ...], place: Tensor) -> Tensor:
        """What the schedule of the last stage calls; ``place`` is the micro-batch's."""
        tensors = (output,) if isinstance(output, Tensor) else tuple(output)
        if self._channel is not None:
            return owners_loss(self._channel, int(place), tensors)
        result = self._store.graph.traced.outputs.nest(tensors)
        return self._loss(result, self._batches[int(place)].targets)

    def _mean_loss(self, losses: Sequence[Tensor]) -> float | None:
        if self._heads is not None:
            return sum(self._heads.losses) / len(self._heads.losses)
        if self._is_last and self._channel is None:
            return sum(float(loss.detach()) for loss in losses) / len(losses)
        return None


class _Feed(nn.Module):
    """The first stage: takes a micro-batch's place in the step, so that inputs may be anything."""

    def __init__(
        self, stage: StageModule, inputs: Sequence[str], num_sent: int, kept: Sequence[str]
    ) -> None:
        super().__init__()
        self.stage = stage
        self._inputs, self._num_sent, self._kept = tuple(inputs), num_sent, tuple(kept)
        self._batches: list[dict[str, Tensor]] = []
        self._ready: list[threading.Event] = []

    def load(self, batches: Sequence[Sequence[Tensor]]) -> None:
        """The flat inputs of a step's micro-batches."""
        self._batches = [dict(zip(self._inputs, flat, strict=True)) for flat in batches]
        self._ready = [threading.Event() for _ in batches]

    def forward(self, place: Tensor) -> tuple[Tensor, ...]:
        i = int(place)
        made: tuple[Tensor, ...] = self.stage(*(self._batches[i][name] for name in self._inputs))
        self._batches[i].update(zip(self._kept, made[self._num_sent :], strict=True))
        self._ready[i].set()
        return made[: self._num_sent]

    def kept(self, i: int, name: str) -> Tensor:
        """An input or raw value of a micro-batch whose forward pass is done."""
        assert self._ready[i].is_set()  # its features have been to the last stage and back
        return self._batches[i][name].detach()


class _Heads:
    """The owner's end of a u-shaped pipeline."""

    def __init__(self, stage: StageModule, channel: LossChannel, kept: Sequence[str]) -> None:
        self.stage, self.channel, self.kept = stage, channel, tuple(kept)
        self.losses: list[float] = []


class _Aside:
    """Runs something in a thread while the block runs; its error is raised at the block's end."""

    def __init__(self, work: Callable[[], None], deadline_s: float) -> None:
        self._work, self._deadline_s = work, deadline_s
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="heads", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._thread.join(min(self._deadline_s, _ABANDONED_S))
        if error is None or self._error is not None:
            self._thread.join(self._deadline_s)
            if self._error is not None:
                raise self._error
            if self._thread.is_alive():
                raise TimeoutError(
                    f"the heads had not answered the last stage {self._deadline_s:g} s after the "
                    "first stage's last backward pass"
                )

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # a thread's end: whoever waits for it raises it
            self._error = error


def _check_sizes(
    names: Sequence[str],
    members: Sequence[str],
    vehicle: str,
    group: dist.ProcessGroup,
    config: StepConfig,
) -> None:
    if vehicle not in names:
        raise ValueError(f"{vehicle!r} has no stage; the stages are of {list(names)}")
    if len(names) < 2:
        raise ValueError("a pipeline has two stages or more; one vehicle alone: LocalTrainer")
    if sorted(members) != sorted(names):
        raise ValueError(f"the members are {list(members)}, the stages are of {list(names)}")
    if dist.get_world_size(group) != len(names) or dist.get_rank(group) != members.index(vehicle):
        raise ValueError(
            f"the group's ranks must be {list(members)}; {vehicle!r} is rank "
            f"{dist.get_rank(group)} of {dist.get_world_size(group)}"
        )
    if config.num_micro_batches < len(names):
        raise ValueError(
            f"{len(names)} stages need as many micro-batches at least, got "
            f"{config.num_micro_batches}"
        )
