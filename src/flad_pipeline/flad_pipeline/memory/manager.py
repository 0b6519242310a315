# SPDX-License-Identifier: Apache-2.0
"""Refuses a stage that would not fit before it starts, and lets go of memory when it runs short.

On a Jetson the GPU's memory is the computer's: the sum of all processes counts. What a stage needs
is :func:`flad_pipeline.partition.stage_bytes`; what a process takes beyond it for code, kernels'
scratch memory and the allocator is planned as a share (docs/profile.md measures it).
"""

from __future__ import annotations

import ctypes
import gc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from flad_common.config import knob
from flad_common.error_codes import STAGE_TOO_LARGE, FladError
from flad_pipeline.memory.readings import Reading, read_memory

_log = logging.getLogger(__name__)
_MIB = float(1 << 20)


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """How much training may take of a computer, and when it lets go."""

    limit_bytes: float = knob(
        0.0, unit="B", doc="That this process may hold; 0: what the computer can still give."
    )
    reserve_bytes: float = knob(
        268_435_456.0, unit="B", doc="Of the computer, always left to drivers and other nodes."
    )
    process_share: float = knob(
        0.15, unit="1", doc="Kept by allocators and kernels on top of what a stage holds."
    )
    reclaim_at: float = knob(
        0.9, unit="1", doc="Share of what may be held above which memory is let go of."
    )
    watch_s: float = knob(0.5, unit="s", doc="Between two looks.")
    mapped_from_bytes: int = knob(
        262_144,
        unit="B",
        doc="The C library gives back freed pieces of so many at once; more: faster, and further "
        "above the plan; 0: as it likes.",
    )

    def __post_init__(self) -> None:
        for name in ("limit_bytes", "reserve_bytes", "process_share", "mapped_from_bytes"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0.0 < self.reclaim_at <= 1.0:
            raise ValueError(f"reclaim_at must be in (0, 1], got {self.reclaim_at}")
        if not self.watch_s > 0.0:
            raise ValueError(f"watch_s must be positive, got {self.watch_s}")


@dataclass(frozen=True, kw_only=True)
class MemoryState:
    """For diagnostics and the dashboard."""

    process_bytes: int
    room_bytes: float
    """That the process may still take."""
    stage_bytes: float
    """Planned for the stage that runs."""
    num_reclaims: int


class MemoryManager:
    """Watches one process. Thread-safe.

    Args:
        config: bounds.
        read: what the system says.
    """

    def __init__(
        self, config: MemoryConfig | None = None, read: Callable[[], Reading] = read_memory
    ) -> None:
        self._config, self._read = config or MemoryConfig(), read
        self._lock = threading.Lock()
        self._reclaimers: list[tuple[str, Callable[[], None]]] = [
            ("what Python no longer needs", _collect),
            ("what the allocator keeps", _trim),
        ]
        self._admitted = 0.0
        self._base_bytes = 0
        self._num_reclaims = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def add_reclaimer(self, what: str, reclaim: Callable[[], None]) -> None:
        """Something that can be let go of, such as an old snapshot; those added last go first."""
        with self._lock:
            self._reclaimers.insert(0, (what, reclaim))

    def admit(self, vehicle: str, need_bytes: float, *, held_bytes: float = 0.0) -> None:
        """Agree to a stage before it is made, after letting go of what can go if it is tight.

        Args:
            vehicle: for the message.
            need_bytes: by :func:`stage_bytes`, of the new stage.
            held_bytes: of it already here, in units that stay.

        Raises:
            FladError: (STAGE_TOO_LARGE) with the arithmetic; nothing was changed but caches.
        """
        new_bytes = max(0.0, need_bytes - held_bytes) * (1.0 + self._config.process_share)
        reading = self._read()
        if new_bytes > self._room(reading):
            self.reclaim()
            reading = self._read()
        room = self._room(reading)
        if new_bytes > room:
            share = f"{self._config.process_share:.0%}"
            raise FladError(
                STAGE_TOO_LARGE,
                f"{vehicle}: the stage needs {need_bytes / _MIB:.1f} MiB, of which "
                f"{held_bytes / _MIB:.1f} MiB are held already; with {share} "
                f"for allocator and kernels that is {new_bytes / _MIB:.1f} MiB more, and there are "
                f"{room / _MIB:.1f} MiB ({self._where(reading)}): "
                f"{(new_bytes - room) / _MIB:.1f} MiB too little",
            )
        with self._lock:
            self._admitted = need_bytes
            self._base_bytes = reading.process_bytes

    def state(self) -> MemoryState:
        """Now."""
        reading = self._read()
        with self._lock:
            return MemoryState(
                process_bytes=reading.process_bytes,
                room_bytes=self._room(reading),
                stage_bytes=self._admitted,
                num_reclaims=self._num_reclaims,
            )

    def look(self) -> bool:
        """Let go of memory if it runs short; returns whether it did."""
        reading = self._read()
        room = self._room(reading)
        if reading.process_bytes < self._config.reclaim_at * (reading.process_bytes + room):
            return False
        self.reclaim()
        return True

    def reclaim(self) -> None:
        """Let go of one thing after the other until there is room again."""
        with self._lock:
            reclaimers = list(self._reclaimers)
            self._num_reclaims += 1
        for what, reclaim in reclaimers:
            before = self._read()
            reclaim()
            after = self._read()
            freed = before.process_bytes - after.process_bytes
            _log.info("let go of %s: %.1f MiB", what, freed / _MIB)

    def start(self) -> None:
        """Watch, in a thread."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Watch no longer."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        quiet_until_s = 0.0
        while not self._ended.wait(self._config.watch_s):
            # What could go is gone: to try again at every look would only cost time.
            if time.monotonic() >= quiet_until_s and self.look():
                quiet_until_s = time.monotonic() + 10.0 * self._config.watch_s

    def _room(self, reading: Reading) -> float:
        room = float(reading.available_bytes) - self._config.reserve_bytes
        if self._config.limit_bytes:
            room = min(room, self._config.limit_bytes - reading.process_bytes)
        return max(0.0, room)

    def _where(self, reading: Reading) -> str:
        parts = [
            f"the computer can give {reading.available_bytes / _MIB:.1f} MiB, of which "
            f"{self._config.reserve_bytes / _MIB:.1f} MiB stay free"
        ]
        if self._config.limit_bytes:
            parts.append(
                f"the process may hold {self._config.limit_bytes / _MIB:.1f} MiB and holds "
                f"{reading.process_bytes / _MIB:.1f} MiB"
            )
        return "; ".join(parts)


def _collect() -> None:
    gc.collect()


def _trim() -> None:
    """Give free pages back to the system; only the GNU C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
