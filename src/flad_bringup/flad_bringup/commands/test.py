# SPDX-License-Identifier: Apache-2.0
"""Run the test suite: unit tests on all cores, then the tests that start processes, one by one.

Arguments that are not known here go to pytest, for example `./flad test -k frames -x`; then one
core runs all.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from flad_bringup.commands.figures import add_json_argument, write_json
from flad_bringup.environment import child_environment, test_variables

SUMMARY = "run the unit tests, then the tests that start processes"
NEEDS = ("vehicle", "sim", "carla", "train", "edge", "dev")
ACCEPTS_MORE = True

_SUITES = ("tests/unit", "tests/contract", "tests/integration")
_ON_ALL_CORES = ("-n", "logical", "--dist", "loadfile")
"""Every process claims a ROS domain and takes free ports; a file stays whole, for its fixtures."""
_PYTEST_NOTHING_COLLECTED = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run each suite; a failing one does not hide the next."""
    root: Path = args.workspace.root
    rest: list[str] = args.rest
    if any(_is_path(argument) for argument in rest):
        # pytest runs in the checkout; a path was meant from where the user stands
        runs = [[os.path.abspath(a) if _is_path(a) else a for a in rest]]
    else:
        there = [suite for suite in _SUITES if any((root / suite).rglob("test_*.py"))]
        runs = [[suite, *rest] for suite in there]
        if not rest and _SUITES[0] in there:
            runs[0] += _ON_ALL_CORES
    environment = child_environment(args.workspace) | test_variables()
    figures = []
    worst = 0
    for arguments in runs:
        print(f"== pytest {' '.join(arguments)}", flush=True)
        started = time.monotonic()
        status = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments], cwd=root, env=environment
        ).returncode
        if status == _PYTEST_NOTHING_COLLECTED and len(runs) > 1:
            status = 0  # a filter that only another suite matches
        worst = max(worst, status)
        seconds = round(time.monotonic() - started, 1)
        figures.append({"arguments": arguments, "status": status, "seconds": seconds})
    write_json(args.json, {"suites": figures})
    return worst


def _is_path(argument: str) -> bool:
    return not argument.startswith("-") and Path(argument.split("::", 1)[0]).exists()
