# SPDX-License-Identifier: Apache-2.0
"""The ADM in a thread of its own; :mod:`.on_board` has the model. Imports no PyTorch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from flad_edge.service.requests import Answer, DriveRequest
from flad_perception.worker import Worker


class SmallModel(Protocol):
    """What drives on board."""

    @property
    def name(self) -> str:
        """Of its file."""

    def drive(self, unread: Sequence[DriveRequest]) -> Answer:
        """Read frames that have come since it last drove; where to drive at the last one."""


class Driven(NamedTuple):
    """What became of a frame that the ADM was asked to drive."""

    stamp_ns: int
    answer: Answer | None
    error: Exception | None


class AdmWorker:
    """One thread calls everything here; :meth:`take` gives it what the worker has done.

    Args:
        model: used by the worker's thread only.
        catch_up_frames: newest unread frames that are kept for it.
        keep: all frames that it is asked to drive, or the newest one only.
        wake: called from the worker's thread when there is something to take.
    """

    def __init__(
        self,
        model: SmallModel,
        catch_up_frames: int,
        keep: Literal["all", "newest"],
        wake: Callable[[], object],
    ) -> None:
        self._model = model
        self._wake = wake
        self._unread: deque[DriveRequest] = deque(maxlen=catch_up_frames)
        self._done: deque[Driven] = deque()
        self._worker: Worker[list[DriveRequest]] = Worker(self._run, self._failed, keep)

    def remember(self, request: DriveRequest) -> None:
        """A frame has come; the model reads it when it next drives."""
        if self._unread and self._unread[-1].instruction != request.instruction:
            self._unread.clear()  # it would forget them at the new instruction
        self._unread.append(request)

    def start(self) -> None:
        """Drive the frame that was remembered last."""
        self._worker.submit(list(self._unread))
        self._unread.clear()

    def forget(self) -> None:
        """Another drive begins."""
        self._unread.clear()

    def take(self) -> list[Driven]:
        """What has been driven since the last call."""
        return [self._done.popleft() for _ in range(len(self._done))]

    def close(self, deadline_s: float) -> None:
        """End the thread.

        Raises:
            TimeoutError: if the model is still at work then.
        """
        self._worker.close(deadline_s)

    # --- in the worker's thread -----------------------------------------------------------------

    def _run(self, unread: list[DriveRequest]) -> None:
        self._say(Driven(unread[-1].head.stamp_ns, self._model.drive(unread), None))

    def _failed(self, unread: list[DriveRequest], error: Exception) -> None:
        self._say(Driven(unread[-1].head.stamp_ns, None, error))

    def _say(self, driven: Driven) -> None:
        self._done.append(driven)
        self._wake()
