# SPDX-License-Identifier: Apache-2.0
"""One thread that works off jobs, so that nobody who receives messages waits for a model."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

Job = TypeVar("Job")


class Worker(Generic[Job]):
    """Calls ``work(job)`` in a thread of its own, one job at a time.

    With ``keep="all"`` every job is done, in order. With ``keep="newest"`` a job that has not begun
    gives way to the next one, and :attr:`num_dropped` counts it.

    With ``finish`` a job is begun by ``work`` and ended by ``finish``, in order. Between the two
    the next jobs are begun if they wait already, so that others can work on several at once; a job
    that is alone is ended without a delay.

    Args:
        work: does one job; what it raises goes to ``on_error`` and the next job is taken.
        on_error: told what was raised, from the thread.
        keep: see above.
        finish: ends a job that ``work`` has begun; what it raises goes to ``on_error`` as well.
        most_begun: jobs at a time between ``work`` and ``finish``.
    """

    def __init__(
        self,
        work: Callable[[Job], None],
        on_error: Callable[[Job, Exception], None],
        keep: Literal["all", "newest"],
        *,
        finish: Callable[[Job], None] | None = None,
        most_begun: int = 1,
    ) -> None:
        self._work, self._finish, self._most_begun = work, finish, most_begun
        self._on_error = on_error
        self._keep_all = keep == "all"
        self._condition = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._num_dropped = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    @property
    def num_dropped(self) -> int:
        """Jobs that gave way to newer ones."""
        with self._condition:
            return self._num_dropped

    def submit(self, job: Job) -> None:
        """Hand over a job; never waits.

        Raises:
            RuntimeError: after :meth:`close`.
        """
        with self._condition:
            if self._closed:
                raise RuntimeError("the worker is closed; it takes no more jobs")
            if not self._keep_all:
                self._num_dropped += len(self._waiting)
                self._waiting.clear()
            self._waiting.append(job)
            self._condition.notify()

    def close(self, deadline_s: float) -> None:
        """Let the jobs that have begun end, leave the others undone.

        Raises:
            TimeoutError: if it has not ended by then.
        """
        with self._condition:
            self._closed = True
            self._waiting.clear()
            self._condition.notify()
        self._thread.join(deadline_s)
        if self._thread.is_alive():
            raise TimeoutError(f"a job has been going on for more than {deadline_s:g} s")

    def _run(self) -> None:
        begun: deque[Job] = deque()
        while True:
            with self._condition:
                while not (self._waiting or begun or self._closed):
                    self._condition.wait()
                if self._closed and not begun:
                    return
                begins = bool(self._waiting) and len(begun) < self._most_begun
                job = self._waiting.popleft() if begins else begun.popleft()
            try:
                if begins:
                    self._work(job)
                elif self._finish is not None:
                    self._finish(job)
            except Exception as error:  # a thread's boundary: one bad job must not end the others
                self._on_error(job, error)
            else:
                if begins and self._finish is not None:
                    begun.append(job)
