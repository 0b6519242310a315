# SPDX-License-Identifier: Apache-2.0
"""One writer at a time into a folder: a second would put in order what the first still writes.

The kernel lets go of the lock when its holder ends, however it ends, so none is ever left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

LOCK = ".lock"


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made where it is not there.

    Raises:
        ValueError: if another process holds it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name, folder_lock(Path(name)):
        ...     sorted(path.name for path in Path(name).iterdir())
        ['.lock']
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise ValueError(
                f"{folder} is being written by another process (id {holder}); wait for its end, "
                "or give another folder with --out"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
