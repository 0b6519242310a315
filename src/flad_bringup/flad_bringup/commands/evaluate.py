# SPDX-License-Identifier: Apache-2.0
"""Drive routes in closed loop and score them as CARLA's leaderboard does."""

from __future__ import annotations

import argparse
import importlib

SUMMARY = "drive routes in closed loop and score them"
NEEDS = ("vehicle", "sim", "carla", "edge")
HANDS_OVER = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing: flad_carla.evaluation.cli parses its own."""


def run(args: argparse.Namespace) -> int:
    """Hand over, in this process."""
    cli = importlib.import_module("flad_carla.evaluation.cli")  # only now is it installed
    return int(cli.main(args.rest))
