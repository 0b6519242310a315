# SPDX-License-Identifier: Apache-2.0
"""Pack recordings for training, check them, divide them over vehicles."""

from __future__ import annotations

import argparse
import importlib

SUMMARY = "pack recordings for training; verify; split over vehicles"
NEEDS = ("vehicle", "train")
HANDS_OVER = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing: flad_perception.data.cli parses its own."""


def run(args: argparse.Namespace) -> int:
    """Hand over, in this process."""
    cli = importlib.import_module("flad_perception.data.cli")  # only now is it installed
    return int(cli.main(args.rest))
