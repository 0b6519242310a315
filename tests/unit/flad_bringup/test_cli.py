# SPDX-License-Identifier: Apache-2.0
"""The front door works before anything is installed, and hands arguments to the right place."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from flad_bringup import cli
from flad_bringup.commands import test as test_command
from flad_common.error_codes import PORT_IN_USE, FladError


@pytest.fixture
def command(monkeypatch):
    """Replaces one sub-command's ``run`` and the set-up before it."""
    monkeypatch.setattr(cli, "_set_up_for", lambda *_: None)

    def replace(name, run):
        monkeypatch.setattr(importlib.import_module(f"flad_bringup.commands.{name}"), "run", run)

    return replace


def test_help_needs_nothing_but_the_standard_library(workspace):
    # -S -E: no site-packages, as before the first set-up.
    program = (
        "import sys; sys.path[:0] = sys.argv[1:3]; sys.argv[1:] = ['--help'];"
        "from flad_bringup.cli import main; main()"
    )
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program]
        + [str(workspace.root / f"src/{p}") for p in ("flad_bringup", "flad_common")],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert said.returncode == 0, said.stderr
    for name in cli.COMMANDS:
        (line,) = [x for x in said.stdout.splitlines() if x.startswith(f"    {name} ")]
        assert len(line.split()) > 3, f"{name} has no sentence"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_keeps_the_contract(name):
    module = importlib.import_module(f"flad_bringup.commands.{name}")

    assert module.__doc__ and module.SUMMARY
    assert "\n" not in module.SUMMARY
    module.add_arguments(argparse.ArgumentParser())


@pytest.mark.parametrize("name", ["sim", "evaluate", "record"])
@pytest.mark.parametrize("rest", [["--help"], ["--routes", "a.xml", "--json", "x"], ["--seed=3"]])
def test_what_belongs_to_another_parser_arrives_untouched(command, name, rest):
    seen = []
    command(name, lambda args: seen.append(args.rest) or 0)

    assert cli.main([name, *rest]) == 0
    assert seen == [rest]


def test_a_typo_is_refused(command, capsys):
    command("setup", lambda args: 0)

    with pytest.raises(SystemExit):
        cli.main(["setup", "--froce"])
    assert "--froce" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error, status, words",
    [
        (FladError(PORT_IN_USE, "port 2000 is taken"), 1, "FLAD-201 PORT_IN_USE: port 2000"),
        (TimeoutError("planner did not answer"), 1, "planner did not answer"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_failure_is_words_and_a_status_not_a_traceback(command, capsys, error, status, words):
    def fail(args):
        raise error

    command("setup", fail)

    assert cli.main(["setup"]) == status
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_setup_here_and_now_does_nothing_twice(workspace, tmp_path: Path):
    figures = tmp_path / "figures.json"
    for _ in range(2):
        subprocess.run(
            [str(workspace.root / "flad"), "setup", "--json", str(figures)],
            check=True,
            capture_output=True,
            timeout=600,
            cwd=tmp_path,
        )

    steps = json.loads(figures.read_text())["steps"]
    assert set(steps) == {"packages", "paths", "messages", "towns", "kernels"}
    assert all(step["skipped"] for step in steps.values())


@pytest.fixture
def pytest_runs(monkeypatch, workspace):
    """What `./flad test` would start, with the statuses that pytest would give."""
    started, statuses = [], {}

    def run(command, **_):
        started.append(command[3:])
        status = next((s for part, s in statuses.items() if part in command[3]), 0)
        return SimpleNamespace(returncode=status)

    monkeypatch.setattr(test_command.subprocess, "run", run)

    def go(*rest, **told):
        statuses.update({f"tests/{name}": status for name, status in told.items()})
        args = argparse.Namespace(workspace=workspace, rest=list(rest), json=None)
        return test_command.run(args), started

    return go


def test_tests_run_unit_first_and_all_suites_get_the_arguments(pytest_runs):
    status, started = pytest_runs("-k", "frames", "-x")

    assert status == 0
    assert started[0] == ["tests/unit", "-k", "frames", "-x"]
    assert [command[1:] for command in started] == [["-k", "frames", "-x"]] * len(started)


def test_a_failing_suite_hides_no_other_and_decides_the_status(pytest_runs):
    status, started = pytest_runs(unit=1)

    assert status == 1
    assert len(started) > 1


def test_a_suite_without_matches_is_no_failure_but_a_file_without_tests_is(pytest_runs):
    assert pytest_runs("-k", "frames", integration=5)[0] == 0


def test_a_path_runs_alone(pytest_runs):
    _, started = pytest_runs(f"{__file__}::test_a_path_runs_alone", "-q")

    assert started == [[f"{__file__}::test_a_path_runs_alone", "-q"]]
