# SPDX-License-Identifier: Apache-2.0
"""Operations of a process group that are under way, as PyTorch waits for them."""

from __future__ import annotations

import datetime
import queue
import threading
from collections.abc import Callable

import torch
import torch.distributed as dist


class DoneWork(dist.Work):
    """What needs no waiting: a send that is queued. It keeps nothing of the tensor."""

    def wait(self, timeout: datetime.timedelta | None = None) -> bool:
        """Return at once."""
        return True

    def is_completed(self) -> bool:
        """Yes."""
        return True

    def is_success(self) -> bool:
        """Yes."""
        return True

    def result(self) -> list[torch.Tensor]:
        """None: a send makes no tensor."""
        return []

    def get_future(self) -> torch.futures.Future[list[torch.Tensor]]:
        """A future that is done."""
        future: torch.futures.Future[list[torch.Tensor]] = torch.futures.Future()
        future.set_result([])
        return future


class ReceiveWork(dist.Work):
    """A receive: who waits takes the message out of the mailbox itself.

    Args:
        receive: waits with a time limit in s, None for the group's own, and fills the tensor.
        has_arrived: whether it would not wait.
        tensor: what is filled.
    """

    def __init__(
        self,
        receive: Callable[[float | None], None],
        has_arrived: Callable[[], bool],
        tensor: torch.Tensor,
    ) -> None:
        super().__init__()
        self._receive = receive
        self._has_arrived = has_arrived
        self._tensor = tensor
        self._done = False

    def wait(self, timeout: datetime.timedelta | None = None) -> bool:
        """Wait until the tensor is filled.

        Raises:
            GroupError: if it does not come.
        """
        if not self._done:
            self._receive(seconds(timeout))
            self._done = True
        return True

    def is_completed(self) -> bool:
        """Whether :meth:`wait` would return, or fail, at once."""
        return self._done or self._has_arrived()

    def is_success(self) -> bool:
        """Whether the tensor is filled."""
        return self._done

    def result(self) -> list[torch.Tensor]:
        """The tensor that is filled."""
        return [self._tensor]


class LaneWork(dist.Work):
    """A collective that runs in the group's own thread."""

    def __init__(self, what: str, run: Callable[[], None], result: list[torch.Tensor]) -> None:
        super().__init__()
        self._what = what
        self._run = run
        self._result = result
        self._done = threading.Event()
        self._error: Exception | None = None
        self._future: torch.futures.Future[list[torch.Tensor]] = torch.futures.Future()

    def run(self) -> None:
        """Do it, and tell who waits how it ended; called once, by the lane."""
        try:
            self._run()
        except Exception as error:
            self._error = error
            self._done.set()
            self._future.set_exception(error)  # type: ignore[arg-type]  # it is declared wrongly
        else:
            self._done.set()
            self._future.set_result(self._result)

    def wait(self, timeout: datetime.timedelta | None = None) -> bool:
        """Wait until it is done.

        Raises:
            GroupError: if a member did not take part.
            TimeoutError: if ``timeout`` passed; the group goes on.
        """
        if not self._done.wait(seconds(timeout)):
            raise TimeoutError(f"{self._what} was not over after {timeout}")
        if self._error is not None:
            raise self._error
        return True

    def is_completed(self) -> bool:
        """Whether it has ended, well or not."""
        return self._done.is_set()

    def is_success(self) -> bool:
        """Whether it has ended well."""
        return self._done.is_set() and self._error is None

    def exception(self) -> Exception | None:
        """Why it did not end well."""
        return self._error

    def result(self) -> list[torch.Tensor]:
        """The tensors of the operation."""
        return self._result

    def get_future(self) -> torch.futures.Future[list[torch.Tensor]]:
        """What DistributedDataParallel waits for."""
        return self._future


class Lane:
    """One thread that runs collectives one after the other; it starts with the first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: queue.SimpleQueue[LaneWork | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, work: LaneWork) -> None:
        """Run it after those before."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._queue.put(work)

    def close(self) -> None:
        """End the thread after what it has been given."""
        self._queue.put(None)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work.run()


def seconds(timeout: datetime.timedelta | None) -> float | None:
    """A time limit as the transport takes it; PyTorch says "none" by zero or by nothing."""
    return timeout.total_seconds() if timeout else None
