# SPDX-License-Identifier: Apache-2.0
"""One writer at a time into a folder: a second would put in order what the first still writes.

The kernel lets go of the lock when its holder ends, however it ends, so none is ever left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

LOCK = ".lock"
_POLL_S = 0.05


@contextlib.contextmanager
def folder_lock(folder: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold ``folder``, which is made where it is not there.

    Args:
        folder: to write into.
        wait_s: how long its holder may go on.

    Raises:
        ValueError: if another process holds it still.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name, folder_lock(Path(name)):
        ...     sorted(path.name for path in Path(name).iterdir())
        ['.lock']
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        end_s = time.monotonic() + wait_s
        while not _take(file):
            if time.monotonic() >= end_s:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise ValueError(
                    f"{folder} is being written by another process (id {holder}); wait for its "
                    "end, or give another folder with --out"
                )
            time.sleep(_POLL_S)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _take(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
