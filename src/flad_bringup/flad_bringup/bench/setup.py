# SPDX-License-Identifier: Apache-2.0
"""How long `./flad setup` takes when nothing changed: what every command pays at its start."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time

from flad_bringup.bench.rows import Row

SUMMARY = "seconds of a set-up in which nothing changed"
MINUTES = 0.1

_DEADLINE_S = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--times", type=int, default=5, help="how often to measure (default: 5)")


def measure(args: argparse.Namespace) -> list[Row]:
    """Run ``./flad setup`` several times; the first one may still have something to do."""
    command = [str(args.workspace.root / "flad"), "setup"]
    seconds = []
    for _ in range(args.times + 1):
        started = time.monotonic()
        subprocess.run(command, check=True, capture_output=True, timeout=_DEADLINE_S)
        seconds.append(time.monotonic() - started)
    return [
        Row(
            name="setup_unchanged_s",
            value=statistics.median(seconds[1:]),
            unit="s",
            bar=10.0,
            better="lower",
        )
    ]
