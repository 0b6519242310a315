# SPDX-License-Identifier: Apache-2.0
"""Record how vehicles move through a town, by SUMO: trips with their positions, second by second.

What ./flad train dwell and the edge's planner learn from; docs/swift.md describes the file.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

SUMMARY = "record floating-car traces of a town, by SUMO"
NEEDS = ("vehicle", "sim")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which town, how long, how much traffic."""
    add = parser.add_argument
    add("--town", default="Grid", help="name of a town, or an OpenDRIVE file (default: Grid)")
    add("--minutes", type=float, default=60.0, help="of simulated time (default: %(default)s)")
    add("--per-hour", type=float, default=1500.0, help="trips that begin (default: %(default)s)")
    add("--seed", type=int, default=1, help="of everything random (default: %(default)s)")
    add("--out", type=Path, required=True, metavar="FILE", help="a .npz file")


def run(args: argparse.Namespace) -> int:
    """Record; 1 if the town cannot be driven."""
    cars = importlib.import_module("flad_sim.floating_cars")
    errors = (
        ValueError,
        OSError,
        importlib.import_module("flad_sim.towns").TownError,
        importlib.import_module("flad_sim.traffic.errors").TrafficError,
    )
    try:
        config = cars.TraceConfig(
            town=args.town, minutes=args.minutes, per_hour=args.per_hour, seed=args.seed
        )
        found = cars.record_traces(config, args.out)
    except errors as error:
        print(f"flad: {error}", file=sys.stderr)
        return 1
    print(
        f"{args.out}: {found['vehicles']} trips, {found['seconds']} vehicle seconds on "
        f"{found['links']} links"
    )
    return 0
