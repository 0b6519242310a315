# SPDX-License-Identifier: Apache-2.0
"""A file that is whole up to its last commit, even when the disk fills up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


class DiskFullError(Exception):
    """There was no room, not even with the reserve; the file ends at its last commit."""


class SafeFile:
    """Stands in for the file object of rosbags' MCAP writer: nothing is written before ``commit``.

    A reserve next to the file keeps room for the end of the recording: where a commit does not
    fit, the reserve is given up, the commit repeated, and ``is_full`` set so that the owner closes
    the recording properly.

    Args:
        path: an existing file, written from its end on.
        reserve_bytes: room that is kept free.
        write: replaces ``os.write`` in tests.
    """

    def __init__(
        self,
        path: Path,
        reserve_bytes: int,
        write: Callable[[int, memoryview], int] = os.write,
    ) -> None:
        self.is_full = False
        self._write = write
        self._pending = bytearray()
        self._reserve = path.with_name(f".{path.name}.reserve")
        self._file = os.open(path, os.O_WRONLY)
        self._committed = os.lseek(self._file, 0, os.SEEK_END)
        try:
            self._make_reserve(reserve_bytes)
        except OSError:
            os.close(self._file)
            self._reserve.unlink(missing_ok=True)
            raise

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take ``data`` into the next commit."""
        self._pending += data
        return len(data)

    def tell(self) -> int:
        """Position after everything taken so far."""
        return self._committed + len(self._pending)

    def commit(self) -> None:
        """Put what was taken into the file.

        Raises:
            DiskFullError: if it does not fit even without the reserve.
        """
        try:
            self._commit()
        except OSError:
            self.is_full = True
            self._reserve.unlink(missing_ok=True)
            try:
                self._commit()
            except OSError as error:
                self._pending.clear()
                raise DiskFullError(error.strerror or str(error)) from error

    def close(self) -> None:
        """Commit and close; the reserve is given back."""
        try:
            self._reserve.unlink(missing_ok=True)
            self.commit()
        finally:
            os.close(self._file)

    def _commit(self) -> None:
        view = memoryview(bytes(self._pending))
        try:
            written = 0
            while written < len(view):
                written += self._write(self._file, view[written:])
        except OSError:
            os.ftruncate(self._file, self._committed)
            os.lseek(self._file, self._committed, os.SEEK_SET)
            raise
        self._committed += len(view)
        self._pending.clear()

    def _make_reserve(self, num_bytes: int) -> None:
        reserve = os.open(self._reserve, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            if num_bytes > 0:
                os.posix_fallocate(reserve, 0, num_bytes)
        finally:
            os.close(reserve)
