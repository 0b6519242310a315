# SPDX-License-Identifier: Apache-2.0
"""A ROS domain that nobody else on this machine uses while we live.

Two evaluations in one domain would answer each other's vehicles: both call theirs vehicle_0. The
tests' conftest takes its domain by the same locks.
"""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# DDS derives UDP ports from the domain; above 101 they collide with ephemeral ones on Linux.
_DOMAINS = range(101, 0, -1)  # from the far end: people use small numbers


@contextmanager
def own_domain() -> Iterator[int]:
    """Hold a free domain.

    Raises:
        RuntimeError: if other processes hold all of them.
    """
    for domain in _DOMAINS:
        path = Path(tempfile.gettempdir()) / f"flad-test-domain-{domain}"
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            yield domain
            return
    raise RuntimeError(
        f"other processes hold all {len(_DOMAINS)} ROS domains; end some, or give --domain N"
    )
