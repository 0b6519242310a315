# SPDX-License-Identifier: Apache-2.0
"""The worker loses nothing it must keep, keeps nothing it must drop, and survives a bad job."""

from __future__ import annotations

import threading

import pytest

from flad_perception.worker import Worker

WAIT_S = 10.0


class Stage:
    """A worker whose first job lasts until it is released."""

    def __init__(self, keep):
        self.began, self.release, self.done = threading.Event(), threading.Event(), []
        self.errors, self.idle = [], threading.Event()
        self.worker = Worker(self.work, lambda job, error: self.errors.append((job, error)), keep)

    def work(self, job):
        if job == "first":
            self.began.set()
            assert self.release.wait(WAIT_S)
        if job == "bad":
            raise ValueError("no")
        self.done.append(job)
        if job == "last":
            self.idle.set()

    def run(self, *jobs):
        self.worker.submit("first")
        assert self.began.wait(WAIT_S)
        for job in jobs:
            self.worker.submit(job)
        self.release.set()
        assert self.idle.wait(WAIT_S)
        self.worker.close(WAIT_S)


def test_all_are_done_in_order():
    stage = Stage("all")
    jobs = [*map(str, range(50)), "last"]
    stage.run(*jobs)
    assert stage.done == ["first", *jobs] and stage.worker.num_dropped == 0


def test_only_the_newest_that_waited_is_done():
    stage = Stage("newest")
    stage.run("a", "b", "last")
    assert stage.done == ["first", "last"] and stage.worker.num_dropped == 2


def test_a_bad_job_is_told_and_the_next_one_is_done():
    stage = Stage("all")
    stage.run("bad", "last")
    assert stage.done == ["first", "last"]
    ((job, error),) = stage.errors
    assert job == "bad" and str(error) == "no"


def test_closing_leaves_waiting_jobs_undone_and_takes_no_more():
    stage = Stage("all")
    stage.worker.submit("first")
    assert stage.began.wait(WAIT_S)
    stage.worker.submit("never")
    with pytest.raises(TimeoutError, match=r"more than 0\.01 s"):
        stage.worker.close(0.01)
    stage.release.set()
    stage.worker.close(WAIT_S)
    assert stage.done == ["first"]
    with pytest.raises(RuntimeError, match="closed"):
        stage.worker.submit("more")
