# SPDX-License-Identifier: Apache-2.0
"""A step runs when its inputs changed, its product is gone, or it failed; and never else."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from flad_bringup.setup.steps import Step, digest, only_one, run_steps
from flad_common.error_codes import BUILD_FAILED, FladError


class Bench:
    """Steps that write one file each and count how often they ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source.txt"
        self.source.write_text("one")
        self.ran: list[str] = []
        self.fails = False
        self.makes_nothing = False

    def step(self, name: str, key: str) -> Step:
        product = self.folder / f"{name}.made"

        def run() -> None:
            self.ran.append(name)
            if self.fails:
                raise FladError(BUILD_FAILED, "no compiler")
            if not self.makes_nothing:
                product.write_text(key)

        return Step(name=name, title=name, key=key, is_present=product.is_file, run=run)

    def __call__(self) -> list[str]:
        self.ran.clear()
        steps = [self.step("first", digest([self.source])), self.step("second", "fixed")]
        run_steps(steps, self.folder / "stamps.json", tell=lambda line: None)
        return list(self.ran)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_second_time_nothing_runs(bench):
    assert bench() == ["first", "second"]
    assert bench() == []


def test_a_changed_input_runs_only_what_reads_it(bench):
    bench()
    bench.source.write_text("two")

    assert bench() == ["first"]


def test_a_product_that_was_deleted_is_made_again(bench):
    bench()
    (bench.folder / "second.made").unlink()

    assert bench() == ["second"]


def test_a_failed_step_runs_again_and_those_before_it_do_not(bench):
    bench()
    bench.source.write_text("two")
    bench.fails = True
    with pytest.raises(FladError, match="no compiler"):
        bench()
    bench.fails = False

    assert bench() == ["first"]


def test_a_step_that_leaves_nothing_behind_is_a_failure(bench):
    bench.makes_nothing = True

    with pytest.raises(FladError, match="'first' ended well, but what it makes is not there"):
        bench()


def test_a_broken_stamp_file_means_do_it_again(bench):
    bench()
    (bench.folder / "stamps.json").write_text('{"first": "abc')

    assert bench() == ["first", "second"]


def test_a_digest_follows_names_bytes_and_words(tmp_path: Path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("x")
    b.write_text("x")

    assert digest([a]) == digest([a])
    assert len({digest([a]), digest([b]), digest([a, b]), digest([a], "w"), digest([], "w")}) == 5
    a.write_text("y")
    assert digest([a]) != digest([b])


def test_two_setups_at_once_wait_for_each_other(tmp_path: Path):
    lock = tmp_path / "lock"
    holder = textwrap.dedent(
        f"""
        from pathlib import Path
        from flad_bringup.setup.steps import only_one
        with only_one(Path({str(lock)!r}), deadline_s=1.0, tell=print):
            print("held", flush=True)
            input()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline().strip() == "held"
        told: list[str] = []
        with (
            pytest.raises(FladError, match=r"another set-up has held .*lock"),
            only_one(lock, deadline_s=0.1, tell=told.append),
        ):
            pytest.fail("two set-ups at once")
        assert told == ["another set-up of this checkout is running; waiting for it"]
        other.communicate("\n", timeout=30)

    with only_one(lock, deadline_s=5.0, tell=told.append):
        pass
