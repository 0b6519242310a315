# SPDX-License-Identifier: Apache-2.0
"""Stages that only run forward: a vehicle with several small computers runs one model on them.

The computer with the sensors is the first stage, and has the heads if the partition is u-shaped;
results come back to it. It may hand in frames before earlier ones have come back: then the stages
work on several at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from flad_pipeline.partition import Partition
from flad_pipeline.stages.packing import packed, rows_under
from flad_pipeline.stages.stage_module import Crossing, StageModule, crossing
from flad_pipeline.stages.trainer import input_names
from flad_pipeline.stages.unit_store import UnitStore
from flad_pipeline.testbed.pace import StagePace

_MOST_SENT = 8
"""Rows of a link that are kept until they have left: of the last frames."""


class _Link:
    """Tensors of numbered frames from one stage to another."""

    def __init__(self, group: dist.ProcessGroup, peer: int, what: Crossing) -> None:
        self._group, self._peer, self._what = group, peer, what
        self._sent: deque[tuple[Any, Tensor]] = deque()

    def send(self, frame: int, tensors: Sequence[Tensor]) -> None:
        for row in packed(tensors):
            self._sent.append((self._group.send([row], self._peer, self._tag(frame)), row))
        while len(self._sent) > _MOST_SENT:  # earlier ones have left or are waited for
            self._sent.popleft()[0].wait()

    def flush(self) -> None:
        while self._sent:
            self._sent.popleft()[0].wait()

    def receive(self, frame: int) -> list[Tensor]:
        found = [torch.empty(fact.shape, dtype=fact.dtype) for fact in self._what.facts]
        for row in rows_under(found):
            self._group.recv([row], self._peer, self._tag(frame)).wait()
        return found

    def _tag(self, frame: int) -> int:
        """Repeats after 1024 frames, which are never on the way together."""
        return 1 + frame % 1024


class ForwardStage:
    """One computer's part. Single-threaded.

    Args:
        store: holds its units, of a model that was traced in evaluation mode.
        partition: two stages or more.
        member: which of them this is.
        group: of as many ranks as stages, in their order.
        pace: of an emulated computer.

    Raises:
        ValueError: if the model was traced for training, or partition and model do not fit.
    """

    def __init__(
        self,
        store: UnitStore,
        partition: Partition,
        member: str,
        group: dist.ProcessGroup,
        pace: StagePace | None = None,
    ) -> None:
        graph = store.graph
        partition.check(graph)
        if graph.traced.training:
            raise ValueError(
                "the model was traced in training mode; call eval() on it and make its unit graph"
            )
        names = [span.vehicle for span in partition.stages]
        if member not in names or len(names) < 2 or dist.get_world_size(group) != len(names):
            raise ValueError(
                f"stages are of {names}, two or more, one rank each; got {member!r} in a group of "
                f"{dist.get_world_size(group)}"
            )
        place, last = names.index(member), len(names) - 1
        span = partition.stages[place]
        self._graph, self._inputs = graph, input_names(store)
        is_u = partition.heads_from is not None
        results = Crossing(
            names=graph.outputs, facts=tuple(graph.tensors[name] for name in graph.outputs)
        )
        enters = crossing(graph, span.first - 1) if place else None
        leaves = results if place == last and not is_u else crossing(graph, span.last)
        kept = graph.kept(span.last + 1, partition.heads_from or 0) if is_u and not place else ()
        made = [name for name in kept if name not in self._inputs]
        self._num_sent, self._kept_names = len(leaves.names), kept
        self._stage = store.stage(
            span.units,
            takes=enters.names if enters else self._inputs,
            gives=[*leaves.names, *made],
        )
        self._made = made
        self._before = _Link(group, place - 1, enters) if enters else None
        self._after = _Link(group, place + 1 if place < last else 0, leaves)
        self._heads: StageModule | None = None
        self._back: _Link | None = None
        if place == 0:
            features = crossing(graph, partition.heads.start - 1) if is_u else results
            self._back = _Link(group, last, features)
            if is_u:
                takes = [*features.names, *kept]
                self._heads = store.stage(partition.heads, takes=takes, gives=graph.outputs)
        self._frames: dict[int, dict[str, Tensor]] = {}
        self._pace = pace

    def submit(
        self, frame: int, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None
    ) -> None:
        """At the first stage: begin with a frame; numbers count up."""
        flat = self._graph.traced.flatten(args, kwargs)
        with torch.no_grad(), self._paced():
            made = self._stage(*flat)
        held = dict(zip(self._inputs, flat, strict=True))
        held.update(zip(self._made, made[self._num_sent :], strict=True))
        self._frames[frame] = {name: held[name] for name in self._kept_names}
        self._after.send(frame, made[: self._num_sent])

    def result(self, frame: int) -> Any:
        """At the first stage: what the model gives for a frame that was submitted."""
        assert self._back is not None
        back = self._back.receive(frame)
        held = self._frames.pop(frame)
        if self._heads is not None:
            with torch.no_grad(), self._paced(heads=True):
                back = list(self._heads(*back, *(held[name] for name in self._kept_names)))
        return self._graph.traced.outputs.nest(back)

    def serve(self, frame: int) -> None:
        """At every other stage: take a frame, do one's part, pass it on."""
        assert self._before is not None
        taken = self._before.receive(frame)
        with torch.no_grad(), self._paced():
            made = self._stage(*taken)
        self._after.send(frame, made)

    def flush(self) -> None:
        """Wait until all that was sent has left: before the group ends."""
        self._after.flush()

    def _paced(self, *, heads: bool = False) -> AbstractContextManager[None]:
        if self._pace is None:
            return nullcontext()
        flops = self._pace.heads_flops if heads else self._pace.forward_flops
        return self._pace.pace.work(flops, urgent=heads)
