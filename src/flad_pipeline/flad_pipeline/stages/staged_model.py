# SPDX-License-Identifier: Apache-2.0
"""A model on several computers that is called as if it were here, and the loop of the others.

The computer with the sensors calls :class:`StagedModel`, the others run :class:`StageServer`. Both
have the model and cut it alike; :mod:`flad_pipeline.stages.meeting` is how they find together. A
lost computer ends the call with an error that names it; the next call forms the group anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from flad_common.config import knob
from flad_common.error_codes import GROUP_OVER, FladError
from flad_pipeline.graph.units import UnitGraph
from flad_pipeline.group.deadlines import GroupError
from flad_pipeline.partition import Partition
from flad_pipeline.stages.forward import ForwardStage
from flad_pipeline.stages.meeting import Call, Epochs, Hello, Member, OpenTransport, answer
from flad_pipeline.stages.unit_store import UnitStore
from flad_pipeline.testbed.pace import StagePace

_log = logging.getLogger(__name__)

_LOOK_S = 0.5  # between two looks whether the server shall end


@dataclass(frozen=True, kw_only=True)
class StagedModelConfig:
    """How patient the owner is."""

    first_meeting_s: float = knob(
        60.0, unit="s", doc="Wait for the others at the first call: they load their model."
    )
    meeting_s: float = knob(
        1.0, unit="s", doc="Wait in a later call for who was lost; then the call fails, says who."
    )
    first_epoch: int = knob(
        1, unit="1", doc="Above those of the owner's earlier lives, as the seconds of a clock are."
    )

    def __post_init__(self) -> None:
        if not min(self.first_meeting_s, self.meeting_s) > 0.0 or self.first_epoch < 1:
            raise ValueError(f"waits must be positive and first_epoch at least 1: {self}")


class StagedModel:
    """Calls a model whose stages are on several computers; this one is the first. Single-threaded.

    Args:
        graph: of the model in evaluation mode, for the arguments' shapes.
        model_hash: which the others must have, too.
        partition: of two stages or more.
        open_transport: called once, at the first call.
        config: how patient it is.
        pace: of an emulated computer.
    """

    def __init__(
        self,
        graph: UnitGraph,
        model_hash: str,
        partition: Partition,
        open_transport: OpenTransport,
        config: StagedModelConfig | None = None,
        pace: StagePace | None = None,
    ) -> None:
        self._config = config or StagedModelConfig()
        self._partition, self._pace = partition, pace
        self._member = Member(
            partition.owner, partition, Hello.of(model_hash, partition), open_transport
        )
        self._store = _store_of(graph, partition, partition.owner)
        self._epochs = Epochs(self._config.first_epoch)
        self._has_met = False
        self._call: Call | None = None
        self._stage: ForwardStage | None = None
        self._submitted = self._given = 0
        self._lost: deque[GroupError] = deque()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the model gives.

        Raises:
            GroupError: if a computer is lost or late; it says which, and why.
            FladError: (MODEL_REFUSED) if a computer has another model or cuts it differently.
        """
        self.submit(*args, **kwargs)
        return self.result()

    def submit(self, *args: Any, **kwargs: Any) -> None:
        """Begin with a frame; :meth:`result` gives them back in order.

        Raises:
            GroupError: as a call; this frame has not begun, and those in flight are lost.
            FladError: as a call.
        """
        if self._stage is None:
            self._stage = self._meet()
        try:
            self._stage.submit(self._submitted, args, kwargs)
        except BaseException as error:
            self._give_up(error)
            raise
        self._submitted += 1

    def result(self) -> Any:
        """Of the earliest frame that was not asked for yet.

        Raises:
            GroupError: as a call; the frames that follow are lost as well, and say so when they
                are asked for.
        """
        if self._lost:
            raise self._lost.popleft()
        assert self._stage is not None, "no frame was submitted"
        frame, self._given = self._given, self._given + 1
        try:
            return self._stage.result(frame)
        except BaseException as error:
            self._give_up(error)
            raise

    def close(self) -> None:
        """Let go of the others; a later call would begin anew."""
        self._call = self._stage = None
        self._submitted = self._given = 0
        self._lost.clear()
        self._member.close(f"{self._member.name} has ended its work")

    def _meet(self) -> ForwardStage:
        """Meet the others; who is not there yet may come while a later call waits."""
        config = self._config
        patience_s = config.meeting_s if self._has_met else config.first_meeting_s
        deadline_s = time.monotonic() + patience_s
        while True:
            try:
                if self._call is None:
                    self._call = Call(self._member, self._epochs.take())
                self._call.wait(deadline_s)
                break
            except GroupError as error:
                if not self._member.is_in:
                    self._epochs.ended(error)
                    self._give_up(error)
                if time.monotonic() >= deadline_s:
                    raise
            except BaseException as error:
                self._give_up(error)
                raise
        self._epochs.ended(None)
        group, self._call = self._call.group, None
        self._has_met, self._submitted, self._given = True, 0, 0
        return ForwardStage(self._store, self._partition, self._member.name, group, self._pace)

    def _give_up(self, error: BaseException) -> None:
        code, reason, lost = GROUP_OVER, repr(error), ""
        if isinstance(error, GroupError):
            code, reason, lost = error.code, error.detail, error.lost
        elif isinstance(error, FladError):
            reason = error.detail
        for _ in range(self._given, self._submitted):
            self._lost.append(GroupError(code, reason, lost))
        self._call = self._stage = None
        self._submitted = self._given = 0
        self._member.leave(reason)


class StageServer:
    """Every other computer's part, in a thread of its own between :meth:`start` and :meth:`stop`.

    Args:
        graph: as in :class:`StagedModel`.
        model_hash: of the model here.
        partition: the same on all.
        name: this computer.
        open_transport: called once after each start.
        num_threads: of PyTorch, in the thread that serves.
        pace: of an emulated computer.
    """

    def __init__(
        self,
        graph: UnitGraph,
        model_hash: str,
        partition: Partition,
        name: str,
        open_transport: OpenTransport,
        num_threads: int = 1,
        pace: StagePace | None = None,
    ) -> None:
        self._partition, self._pace = partition, pace
        self._member = Member(name, partition, Hello.of(model_hash, partition), open_transport)
        self._store = _store_of(graph, partition, name)
        self._num_threads = num_threads
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._said = ""
        self.num_frames = 0

    def start(self) -> None:
        """Serve; a lost owner may come back."""
        assert self._thread is None, "it is started already"
        self._ended.clear()
        self._thread = threading.Thread(
            target=self._run, name=f"stage of {self._member.name}", daemon=True
        )
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        """End; a frame that is being served is lost. Nothing happens where none was started.

        Raises:
            TimeoutError: if the thread has not ended by then.
        """
        if (thread := self._thread) is None:
            return
        self._ended.set()
        self._member.interrupt(f"{self._member.name} stops")
        thread.join(deadline_s)
        if thread.is_alive():
            raise TimeoutError(f"{thread.name} goes on after {deadline_s:g} s")
        self._thread = None

    def _run(self) -> None:
        torch.set_num_threads(self._num_threads)  # it counts for the calling thread
        owner = self._partition.owner
        try:
            while not self._ended.is_set():
                epoch = self._member.transport.wait_for_call(owner, _LOOK_S)
                if epoch is not None:
                    self._serve(epoch)
        except Exception:  # a thread's boundary
            _log.exception("%s serves no longer", self._member.name)
        finally:
            self._member.close(f"{self._member.name} has ended its work")

    def _serve(self, epoch: int) -> None:
        """One group, until it ends."""
        try:
            group = answer(self._member, epoch)
            self._say(f"serves {self._partition.owner}")
            stage = ForwardStage(self._store, self._partition, self._member.name, group, self._pace)
            frame = 0
            while not self._ended.is_set():
                stage.serve(frame)
                frame, self.num_frames = frame + 1, self.num_frames + 1
        except FladError as error:
            if not self._ended.is_set():
                self._say(f"waits for its owner: {error.detail}")
            self._member.leave(error.detail)
        except Exception as error:  # the owner hears it, and may come back with a better frame
            _log.exception("%s: a frame could not be served", self._member.name)
            self._member.leave(f"{self._member.name} failed: {error!r}")

    def _say(self, what: str) -> None:
        """Once, however often the owner calls."""
        if what != self._said:
            self._said = what
            _log.warning("%s %s", self._member.name, what)


def _store_of(graph: UnitGraph, partition: Partition, name: str) -> UnitStore:
    """The units of one computer; the owner of a u-shaped partition has the heads as well."""
    return UnitStore(graph, _no_optimizer, partition.units_of(name))


def _no_optimizer(parameters: Mapping[str, nn.Parameter] | Mapping[str, Tensor]) -> Optimizer:
    return SGD(list(parameters.values()), lr=0.0)
