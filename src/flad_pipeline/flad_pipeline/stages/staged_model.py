# SPDX-License-Identifier: Apache-2.0
"""A model on several computers that is called as if it were here, and the loop of the others.

The computer with the sensors calls :class:`StagedModel`, the others run :class:`StageServer`. Both
have the model, cut it alike and compare its hash when they meet. A lost computer ends the call with
an error; the next call forms the group anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from flad_common.error_codes import MODEL_REFUSED, FladError
from flad_pipeline.graph.units import UnitGraph
from flad_pipeline.group.deadlines import GroupError
from flad_pipeline.group.process_group import joined
from flad_pipeline.group.transport import Transport
from flad_pipeline.partition import Partition
from flad_pipeline.stages.forward import ForwardStage
from flad_pipeline.stages.unit_store import UnitStore

_log = logging.getLogger(__name__)

OpenTransport = Callable[[], Transport]
"""Makes a transport to all stages, and returns when they can be reached."""
_EPOCH = 1
"""Of the only group that a transport is opened for."""


class _Member:
    """One computer's stage while its group lives. Single-threaded."""

    def __init__(
        self,
        graph: UnitGraph,
        model_hash: str,
        partition: Partition,
        name: str,
        open_: OpenTransport,
    ) -> None:
        self._graph, self._hash, self._partition = graph, model_hash, partition
        self._name, self._open = name, open_
        self._group = ExitStack()
        self._transport: Transport | None = None

    def enter(self) -> ForwardStage:
        """Meet the others.

        Raises:
            GroupError: if one is lost or late.
            FladError: (MODEL_REFUSED) if the owner's model is another one.
        """
        transport = self._transport = self._open()
        self._group.callback(transport.close)
        names = [span.vehicle for span in self._partition.stages]
        group = self._group.enter_context(joined(transport, epoch=_EPOCH, members=names))
        said = torch.tensor(list(f"{self._hash:64.64}".encode()), dtype=torch.uint8)
        dist.broadcast(said, 0)
        if (owner := bytes(said.tolist()).decode().strip()) != self._hash[:64].strip():
            transport.abort(f"{self._name} has another model, {self._hash}")
            raise FladError(
                MODEL_REFUSED,
                f"{self._name} has the model {self._hash}, {names[0]} has {owner}; give both the "
                "same file",
            )
        units = self._partition.units_of(self._name)
        store = UnitStore(self._graph, _no_optimizer, units)
        return ForwardStage(store, self._partition, self._name, group)

    def interrupt(self) -> None:
        """End a wait of another thread that is in the group."""
        if (transport := self._transport) is not None:
            transport.abort(f"{self._name} stops")

    def leave(self) -> None:
        """End the group; what is lost already is no error."""
        group, self._group = self._group, ExitStack()
        try:
            group.close()
        except GroupError as error:
            _log.info("%s leaves: %s", self._name, error)


class StagedModel:
    """Calls a model whose stages are on several computers; this one is the first.

    Args:
        graph: of the model in evaluation mode, for the arguments' shapes.
        model_hash: which the others must have, too.
        partition: of two stages or more.
        open_transport: reaches them; called when the group is formed, anew after an error.
    """

    def __init__(
        self, graph: UnitGraph, model_hash: str, partition: Partition, open_transport: OpenTransport
    ) -> None:
        self._member = _Member(graph, model_hash, partition, partition.owner, open_transport)
        self._stage: ForwardStage | None = None
        self._frame = self._next = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the model gives.

        Raises:
            GroupError: if a computer is lost or late.
        """
        self.submit(*args, **kwargs)
        return self.result()

    def submit(self, *args: Any, **kwargs: Any) -> None:
        """Begin with a frame; :meth:`result` gives them back in order."""
        try:
            if self._stage is None:
                self._stage, self._frame, self._next = self._member.enter(), 0, 0
            self._stage.submit(self._frame, args, kwargs)
            self._frame += 1
        except BaseException:
            self.close()
            raise

    def result(self) -> Any:
        """Of the earliest frame that was not asked for yet."""
        assert self._stage is not None
        try:
            found = self._stage.result(self._next)
        except BaseException:
            self.close()
            raise
        self._next += 1
        return found

    def close(self) -> None:
        """Let go of the others."""
        self._stage = None
        self._member.leave()


class StageServer:
    """The loop of every other computer; in a thread of its own.

    Args:
        graph: as in :class:`StagedModel`.
        model_hash: of the model here.
        partition: the same on all.
        name: this computer.
        open_transport: reaches the others.
    """

    def __init__(
        self,
        graph: UnitGraph,
        model_hash: str,
        partition: Partition,
        name: str,
        open_transport: OpenTransport,
    ) -> None:
        self._member = _Member(graph, model_hash, partition, name, open_transport)
        self._ended = threading.Event()
        self.num_frames = 0

    def run(self) -> None:
        """Serve until :meth:`end`; a lost owner may come back.

        Raises:
            FladError: (MODEL_REFUSED) if the owner's model is another one.
        """
        while not self._ended.is_set():
            try:
                stage, frame = self._member.enter(), 0
                while not self._ended.is_set():
                    stage.serve(frame)
                    frame, self.num_frames = frame + 1, self.num_frames + 1
            except (GroupError, TimeoutError) as error:
                _log.info("the stage waits for its owner: %s", error)
            finally:
                self._member.leave()

    def end(self) -> None:
        """Stop; a frame that is being served is lost."""
        self._ended.set()
        self._member.interrupt()


def _no_optimizer(parameters: Mapping[str, nn.Parameter] | Mapping[str, Tensor]) -> Optimizer:
    return SGD(list(parameters.values()), lr=0.0)
