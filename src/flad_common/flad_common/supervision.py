# SPDX-License-Identifier: Apache-2.0
"""Child processes that are watched, logged, and never left behind.

Each child gets its own process group and its own log. Only what was started here is ever signalled.
If this process dies without a word, the kernel ends its children. Single-threaded: the thread that
starts children must outlive them (the kernel counts the death of that thread as the parent's).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from flad_common.config import knob
from flad_common.error_codes import NODE_DIED, TOOL_MISSING, ErrorCode, FladError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_TAIL_LINES = 12


@dataclass(frozen=True, kw_only=True)
class SupervisorConfig:
    """How patient the supervisor is."""

    interrupt_grace_s: float = knob(5.0, unit="s", doc="Wait after Ctrl-C's signal.")
    terminate_grace_s: float = knob(2.0, unit="s", doc="Wait after SIGTERM, before SIGKILL.")
    poll_s: float = knob(0.02, unit="s", doc="Pause between two looks at a child.")

    def __post_init__(self) -> None:
        if min(self.interrupt_grace_s, self.terminate_grace_s) < 0.0 or self.poll_s <= 0.0:
            raise ValueError(f"graces must not be negative and poll_s must be positive: {self}")


@dataclass(frozen=True, kw_only=True)
class Child:
    """A process that was started here."""

    name: str
    command: tuple[str, ...]
    log_file: Path
    process: subprocess.Popen[bytes]

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def tail(self, num_lines: int = _TAIL_LINES) -> str:
        """The last lines of its log, indented, for an error message."""
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-num_lines:]) or "    (nothing)"


class Supervisor:
    """Starts children, notices when one ends, and stops all of them in reverse order.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Supervisor(Path(folder)) as supervisor:
        ...     child = supervisor.start("hello", ["sleep", "60"])
        ...     child.is_running
        True
        >>> child.is_running
        False
    """

    def __init__(self, log_folder: Path, config: SupervisorConfig | None = None) -> None:
        self._log_folder = log_folder
        self._config = config or SupervisorConfig()
        self._children: list[Child] = []

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def children(self) -> tuple[Child, ...]:
        """Everything started and not yet stopped, in order."""
        return tuple(self._children)

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Child:
        """Start ``command`` in its own process group; what it says goes to ``NAME.log``.

        Raises:
            FladError: TOOL_MISSING if it cannot be started.
            ValueError: if a child of this name is running.
        """
        if any(child.name == name and child.is_running for child in self._children):
            raise ValueError(f"a child named {name!r} is running; stop it first")
        self._log_folder.mkdir(parents=True, exist_ok=True)
        log_file = self._log_folder / f"{name}.log"
        with log_file.open("wb") as log:
            try:
                process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=None if environment is None else dict(environment),
                    cwd=folder,
                    start_new_session=True,
                    preexec_fn=_begin_as_child(os.getpid()),
                )
            except OSError as error:
                raise FladError(TOOL_MISSING, f"cannot start {command[0]} ({error})") from error
        child = Child(name=name, command=tuple(command), log_file=log_file, process=process)
        self._children.append(child)
        return child

    def check(self, code: ErrorCode = NODE_DIED) -> None:
        """Raise if any child has ended: nothing started here ends by itself unasked.

        Raises:
            FladError: ``code``, naming the child, its exit status and its last lines.
        """
        for child in self._children:
            if not child.is_running:
                raise FladError(code, _obituary(child))

    def wait_until(self, condition: Callable[[], bool], *, what: str, deadline_s: float) -> None:
        """Wait for ``condition``, watching the children meanwhile.

        Raises:
            FladError: NODE_DIED as soon as a child ends.
            TimeoutError: after ``deadline_s``, naming ``what`` and every child's last lines.
        """
        give_up_at = time.monotonic() + deadline_s
        while not condition():
            self.check()
            if time.monotonic() > give_up_at:
                said = "\n".join(f"  {c.name}:\n{c.tail()}" for c in self._children)
                raise TimeoutError(f"{what} did not happen within {deadline_s:g} s\n{said}")
            time.sleep(self._config.poll_s)

    def wait(self, child: Child, *, deadline_s: float) -> int:
        """Wait for a child that ends by itself; returns its exit status.

        Raises:
            TimeoutError: after ``deadline_s``; the child is still running.
        """
        try:
            return child.process.wait(timeout=deadline_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(
                f"{child.name} did not end within {deadline_s:g} s; it said last\n{child.tail()}"
            ) from error

    def stop(self) -> None:
        """End every child and its whole group: ask, insist, kill; the last started goes first."""
        while self._children:
            self._stop_one(self._children[-1])
            self._children.pop()

    def stop_child(self, child: Child) -> None:
        """End one child and its group."""
        self._stop_one(child)
        self._children.remove(child)

    def kill_child(self, child: Child) -> None:
        """End one child and its group at once, as a crash would: it gets no chance to say so."""
        _signal_group(child, signal.SIGKILL)
        child.process.wait(timeout=self._config.terminate_grace_s + 5.0)
        self._children.remove(child)

    def _stop_one(self, child: Child) -> None:
        patience = (
            (signal.SIGINT, self._config.interrupt_grace_s),
            (signal.SIGTERM, self._config.terminate_grace_s),
        )
        for number, grace_s in patience:
            if not child.is_running:
                break
            _signal_group(child, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(timeout=grace_s)
        # Also when it ended well: a grandchild may have stayed in the group.
        _signal_group(child, signal.SIGKILL)
        child.process.wait(timeout=self._config.terminate_grace_s + 5.0)


def _obituary(child: Child) -> str:
    status = child.process.returncode
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"{child.name} {how}; it said last\n{child.tail()}\n    (all of it: {child.log_file})\n"


def _signal_group(child: Child, number: int) -> None:
    # The group's id is the child's pid and stays taken while any member lives.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.process.pid, number)


def _begin_as_child(parent_pid: int) -> Callable[[], None]:
    """What the child does between fork and exec; the library is loaded before the fork.

    It dies with its parent, and hears Ctrl-C's signal: a shell's background (``./flad demo &`` in a
    script) ignores that, and children would inherit it.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def begin() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:  # it died before we asked
            os._exit(1)

    return begin
