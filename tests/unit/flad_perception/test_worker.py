# SPDX-License-Identifier: Apache-2.0
"""The worker loses nothing it must keep, keeps nothing it must drop, and survives a bad job."""

from __future__ import annotations

import threading
import time

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


class Line:
    """A worker whose jobs are begun by one and ended by another, as frames of a pipeline are."""

    def __init__(self, keep="all", most_begun=2):
        self.said, self.errors, self.open = [], [], threading.Event()
        self.worker = Worker(
            lambda job: self.say("begin", job),
            lambda job, error: self.errors.append((job, str(error))),
            keep,
            finish=lambda job: self.say("finish", job),
            most_begun=most_begun,
        )

    def say(self, what, job):
        if job == "first" and what == "begin":
            assert self.open.wait(WAIT_S)
        if job == f"bad {what}":
            raise ValueError(what)
        self.said.append(f"{what} {job}")

    def run(self, *jobs):
        self.worker.submit("first")
        for job in jobs:
            self.worker.submit(job)
        self.open.set()
        end_s = time.monotonic() + WAIT_S
        while f"finish {jobs[-1]}" not in self.said:
            assert time.monotonic() < end_s, self.said
            time.sleep(0.005)
        self.worker.close(WAIT_S)


def test_jobs_that_wait_are_begun_before_earlier_ones_end_but_never_too_many():
    line = Line()
    line.run("b", "c")
    assert line.said == [
        *("begin first", "begin b", "finish first", "begin c", "finish b", "finish c")
    ]


def test_a_job_alone_is_ended_at_once():
    line = Line()
    line.open.set()
    line.run("b")
    assert line.said.index("finish first") < line.said.index("finish b")


def test_bad_jobs_cost_the_others_nothing():
    line = Line(most_begun=3)
    line.run("bad begin", "b", "bad finish", "c")
    assert line.errors == [("bad begin", "begin"), ("bad finish", "finish")]
    assert [one for one in line.said if one.startswith("finish")] == [
        *("finish first", "finish b", "finish c")
    ]


def test_closing_ends_what_has_begun():
    line = Line()
    line.worker.submit("first")
    while line.worker._waiting:
        time.sleep(0.005)
    line.worker.submit("b")
    closing = threading.Thread(target=line.worker.close, args=(WAIT_S,))
    closing.start()
    while line.worker._waiting:  # closed: what waited is let go
        time.sleep(0.005)
    line.open.set()
    closing.join(WAIT_S)
    assert line.said == ["begin first", "finish first"]
