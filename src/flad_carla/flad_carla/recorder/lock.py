# SPDX-License-Identifier: Apache-2.0
"""One recording at a time into a data set: a second would put in order what the first still writes.

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
def recording_lock(root: Path) -> Iterator[None]:
    """Hold the data set ``root``, which must exist.

    Raises:
        ValueError: if another recording holds it.
    """
    path = root / LOCK
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise ValueError(
                f"{root} is being recorded into by another process (id {holder}); wait for its "
                "end, or give this recording another folder with --out"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
