# SPDX-License-Identifier: Apache-2.0
"""Keeps Fast DDS's sending threads from pushing aside the thread that publishes.

A sending thread is woken while the publisher still holds its writer's lock. On a machine without a
free core it takes the publisher's, and tries for the lock in a loop until the scheduler takes the
core away again: 28 ms of a training step of 300 ms. As a batch thread it waits for its turn.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

_log = logging.getLogger(__name__)

_NAME = "dds.asyn"
_THREADS = Path("/proc/self/task")


def sender_threads() -> frozenset[int]:
    """Ids of this process's sending threads; none where Fast DDS does not name its threads."""
    found = []
    for thread in _THREADS.iterdir():
        try:
            name = (thread / "comm").read_text(encoding="utf-8")
        except OSError:  # it has ended meanwhile
            continue
        if name.startswith(_NAME):
            found.append(int(thread.name))
    return frozenset(found)


def let_publishers_finish(threads: frozenset[int]) -> None:
    """Make these batch threads (Linux's SCHED_BATCH); those with a real-time policy keep it."""
    for thread in threads:
        try:
            if os.sched_getscheduler(thread) == os.SCHED_OTHER:
                os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
        except OSError as error:  # a sandbox forbids it: slower, nothing worse
            _log.warning("a sending thread of Fast DDS keeps its scheduling policy: %s", error)
