# SPDX-License-Identifier: Apache-2.0
"""A radio channel that several processes of this computer share: who may send, and until when."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

_SLOT = struct.Struct("<d")


class ChannelFile:
    """Times at which channels are free again, in a file that all senders map.

    The clock must be the same in all processes; ``time.monotonic`` is, until the next boot.

    Args:
        path: made where it is not there; a new file for each run.
        num_channels: one that all share, or one for each direction of each pair.
        clock: seconds.
    """

    def __init__(
        self, path: Path, num_channels: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._size = num_channels * _SLOT.size
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if os.fstat(self._file).st_size < self._size:
            os.ftruncate(self._file, self._size)  # zeros: free since ever
        self._times = mmap.mmap(self._file, self._size)

    def reserve(self, channel: int, seconds: float) -> float:
        """Take a channel for ``seconds`` as soon as it is free; returns when that ends."""
        place = channel * _SLOT.size
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            free_s: float = _SLOT.unpack_from(self._times, place)[0]
            end_s: float = max(free_s, self._clock()) + seconds
            _SLOT.pack_into(self._times, place, end_s)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        return end_s

    def close(self) -> None:
        """Let go of the file, which stays."""
        self._times.close()
        os.close(self._file)
