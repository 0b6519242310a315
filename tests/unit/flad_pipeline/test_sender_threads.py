# SPDX-License-Identifier: Apache-2.0
"""Which threads become batch threads, and that nothing breaks where that is not allowed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from flad_pipeline.ros import sender_threads
from flad_pipeline.ros.sender_threads import let_publishers_finish


@pytest.fixture
def thread() -> Iterator[int]:
    end = threading.Event()
    waiting = threading.Thread(target=end.wait)
    waiting.start()
    yield waiting.native_id
    end.set()
    waiting.join()


def test_found_by_name_and_made_batch_threads(thread):
    with open(f"/proc/self/task/{thread}/comm", "w", encoding="utf-8") as comm:
        comm.write("dds.asyn.7.1")
    assert thread in sender_threads.sender_threads()
    assert threading.main_thread().native_id not in sender_threads.sender_threads()

    let_publishers_finish(frozenset({thread}))

    assert os.sched_getscheduler(thread) == os.SCHED_BATCH
    assert os.sched_getscheduler(threading.main_thread().native_id) == os.SCHED_OTHER


def test_a_real_time_policy_stays(thread, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "sched_getscheduler", lambda thread: os.SCHED_FIFO)
    monkeypatch.setattr(os, "sched_setscheduler", lambda *what: asked.append(what))

    let_publishers_finish(frozenset({thread}))

    assert asked == []


def test_what_is_forbidden_is_logged_and_the_others_follow(thread, monkeypatch, caplog):
    def forbid(*what):
        raise PermissionError("not here")

    monkeypatch.setattr(os, "sched_setscheduler", forbid)

    let_publishers_finish(frozenset({thread, threading.main_thread().native_id}))

    assert [record.getMessage().split(": ")[-1] for record in caplog.records] == ["not here"] * 2
