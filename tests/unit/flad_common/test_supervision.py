# SPDX-License-Identifier: Apache-2.0
"""Nothing that was started stays, nothing else is touched, and the dead are named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from flad_common.error_codes import WORLD_DIED, FladError
from flad_common.supervision import Supervisor, SupervisorConfig

PATIENT = 30.0
QUICK = SupervisorConfig(interrupt_grace_s=0.3, terminate_grace_s=0.3)


def python(program: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(program)]


def until(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENT
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


FAMILY = """
    import subprocess, sys, time
    child = subprocess.Popen(["sleep", "600"])
    print(child.pid, flush=True)
    time.sleep(600)
"""

DEAF = """
    import signal, time
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    time.sleep(600)
"""


def test_grandchildren_go_too(tmp_path: Path):
    with Supervisor(tmp_path) as supervisor:
        child = supervisor.start("family", python(FAMILY))
        supervisor.wait_until(lambda: child.log_file.read_text(), what="a pid", deadline_s=PATIENT)
        grandchild = int(child.log_file.read_text())
        assert not is_gone(grandchild)

    until(lambda: is_gone(grandchild), "the grandchild's end")
    assert not child.is_running


def test_one_that_ignores_every_request_is_killed(tmp_path: Path):
    with Supervisor(tmp_path, QUICK) as supervisor:
        child = supervisor.start("deaf", python(DEAF))
        supervisor.wait_until(lambda: child.log_file.read_text(), what="deaf", deadline_s=PATIENT)

    assert child.process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("ours", [signal.SIG_DFL, signal.SIG_IGN], ids=["heard", "ignored"])
def test_one_that_listens_may_clean_up_even_if_we_ignore_the_signal(tmp_path: Path, ours):
    tidy = """
        import time
        try:
            print("ready", flush=True)
            time.sleep(600)
        except KeyboardInterrupt:
            print("cleaned", flush=True)
    """
    before = signal.signal(signal.SIGINT, ours)
    try:
        with Supervisor(tmp_path) as supervisor:
            child = supervisor.start("tidy", python(tidy))
            supervisor.wait_until(child.log_file.read_text, what="ready", deadline_s=PATIENT)
    finally:
        signal.signal(signal.SIGINT, before)

    assert child.log_file.read_text().split() == ["ready", "cleaned"]
    assert child.process.returncode == 0


def test_children_stop_in_reverse_order(tmp_path: Path):
    said = tmp_path / "order"
    program = f"""
        import sys, time
        try:
            print("ready", flush=True)
            time.sleep(600)
        except KeyboardInterrupt:
            open({str(said)!r}, "a").write(sys.argv[1])
    """
    with Supervisor(tmp_path / "logs") as supervisor:
        for name in "abc":
            child = supervisor.start(name, [*python(program), name])
            supervisor.wait_until(child.log_file.read_text, what=name, deadline_s=PATIENT)

    assert said.read_text() == "cba"


def test_a_child_that_dies_is_named_with_its_status_and_last_words(tmp_path: Path):
    with Supervisor(tmp_path) as supervisor:
        supervisor.start("fine", ["sleep", "600"])
        child = supervisor.start("broken", python("print('no such town'); raise SystemExit(3)"))
        supervisor.wait(child, deadline_s=PATIENT)

        with pytest.raises(FladError, match=r"(?s)WORLD_DIED: broken ended with status 3.*no such"):
            supervisor.check(WORLD_DIED)
        with pytest.raises(FladError, match="broken ended"):
            supervisor.wait_until(lambda: False, what="never", deadline_s=PATIENT)


def test_a_wait_that_is_too_long_says_what_was_awaited(tmp_path: Path):
    with Supervisor(tmp_path) as supervisor:
        child = supervisor.start("slow", python("print('warming up', flush=True); input()"))
        # stdin is closed, so that input() fails: a child never waits for our terminal
        assert supervisor.wait(child, deadline_s=PATIENT) == 1

    with Supervisor(tmp_path) as supervisor:
        child = supervisor.start("slow", ["sleep", "600"])
        with pytest.raises(TimeoutError, match=r"(?s)the port did not happen within 0\.1 s.*slow"):
            supervisor.wait_until(lambda: False, what="the port", deadline_s=0.1)
        with pytest.raises(TimeoutError, match="slow did not end within"):
            supervisor.wait(child, deadline_s=0.1)


def test_a_name_is_taken_once_and_a_missing_program_is_named(tmp_path: Path):
    with Supervisor(tmp_path) as supervisor:
        supervisor.start("sim", ["sleep", "600"])
        with pytest.raises(ValueError, match="'sim' is running"):
            supervisor.start("sim", ["sleep", "600"])
        with pytest.raises(FladError, match=r"TOOL_MISSING: cannot start /no/such"):
            supervisor.start("other", ["/no/such/program"])


def test_if_we_are_killed_without_a_word_no_child_stays(tmp_path: Path):
    program = f"""
        import time
        from pathlib import Path
        from flad_common.supervision import Supervisor
        child = Supervisor(Path({str(tmp_path)!r})).start("orphan", ["sleep", "600"])
        print(child.process.pid, flush=True)
        time.sleep(600)
    """
    with subprocess.Popen(python(program), stdout=subprocess.PIPE, text=True) as parent:
        orphan = int(parent.stdout.readline())
        assert not is_gone(orphan)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(PATIENT)

    until(lambda: is_gone(orphan), "the orphan's end")
