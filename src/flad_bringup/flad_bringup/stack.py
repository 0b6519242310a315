# SPDX-License-Identifier: Apache-2.0
"""Runs the topology as processes of this machine, where there is no launch.

Whatever ends by itself ends the rest; whatever was started here is stopped here, in reverse.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flad_common import error_codes
from flad_common.error_codes import FladError

_POLL_S = 0.1
_STOP_S = 5.0  # per signal: first an interrupt, then a request, then force


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """One process: its name, command, and the words in its log that mean it is up."""

    name: str
    command: Sequence[str]
    ready_text: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


class Stack:
    """Processes that live and die together. Use as a context manager.

    Args:
        log_dir: one file per process goes there.
        clock: seconds, steady.
        sleep: how to pause between two looks.
    """

    def __init__(
        self,
        log_dir: Path,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._log_dir = log_dir
        self._clock = clock
        self._sleep = sleep
        self._running: list[tuple[ProcessSpec, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, spec: ProcessSpec, ready_within_s: float = 90.0) -> None:
        """Start a process and wait until its log has ``ready_text``.

        Raises:
            FladError: NODE_DIED if it ends before, or is not ready in time.
        """
        self._log_dir.mkdir(parents=True, exist_ok=True)
        with self.log_of(spec.name).open("wb") as log:
            process = subprocess.Popen(
                list(spec.command),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **spec.environment},
                start_new_session=True,  # Ctrl-C reaches us alone; we stop the rest in order
            )
        self._running.append((spec, process))
        end_s = self._clock() + ready_within_s
        while spec.ready_text not in self._read(spec.name):
            self.check()
            if self._clock() > end_s:
                raise FladError(
                    error_codes.NODE_DIED,
                    f"{spec.name} did not say {spec.ready_text!r} within {ready_within_s:g} s; "
                    f"its log is {self.log_of(spec.name)}",
                )
            self._sleep(_POLL_S)

    def check(self) -> None:
        """See that all of them run.

        Raises:
            FladError: NODE_DIED, with the last lines of the first that does not.
        """
        for spec, process in self._running:
            if process.poll() is not None:
                last = self._read(spec.name).strip().splitlines()[-6:]
                raise FladError(
                    error_codes.NODE_DIED,
                    f"{spec.name} ended with status {process.returncode}; its log "
                    f"({self.log_of(spec.name)}) ends with:\n  " + "\n  ".join(last),
                )

    def wait(self) -> None:
        """Stay until one of them ends, or the caller is interrupted.

        Raises:
            FladError: as :meth:`check`.
        """
        while True:
            self.check()
            self._sleep(_POLL_S)

    def stop(self) -> None:
        """Stop all, the last started first."""
        with _uninterrupted():
            while self._running:
                _, process = self._running.pop()
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
                    if process.poll() is not None:
                        break
                    process.send_signal(number)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(_STOP_S)

    def log_of(self, name: str) -> Path:
        """Where a process writes."""
        return self._log_dir / f"{name}.log"

    def _read(self, name: str) -> str:
        return self.log_of(name).read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C must not leave processes behind."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread: nobody interrupts us there
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
