# SPDX-License-Identifier: Apache-2.0
"""Compare drivers that drove the same routes with the same seeds.

Each DRIVER is NAME=FILE[,FILE...]: results files of ./flad evaluate --json, one or several seeds in
each. The others are measured by the first one. Intervals are of 95 %, by a bootstrap over routes.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
from pathlib import Path

from flad_bringup.commands.figures import add_json_argument, write_json

SUMMARY = "compare drivers on the same routes and seeds, with confidence intervals"
NEEDS = ("vehicle", "carla")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Who is compared."""
    parser.add_argument("drivers", nargs="+", metavar="DRIVER", help="NAME=FILE[,FILE...]")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table; 2 if these cannot be compared."""
    comparison = importlib.import_module("flad_carla.evaluation.comparison")
    try:
        runs = [comparison.read_runs(*_named(text)) for text in args.drivers]
        found = comparison.compare(runs)
    except (OSError, ValueError) as error:
        print(f"flad compare: {error}", file=sys.stderr)
        return 2
    print(comparison.as_text(found))
    write_json(args.json, dataclasses.asdict(found))
    return 0


def _named(text: str) -> tuple[str, list[Path]]:
    """Name and files.

    Raises:
        ValueError: if there is no name or no file.
    """
    name, _, files = text.partition("=")
    if not name or not files:
        raise ValueError(f"{text!r} is not NAME=FILE[,FILE...]")
    return name, [Path(file) for file in files.split(",")]
