# SPDX-License-Identifier: Apache-2.0
"""Record driving in LMDrive's folder layout."""

from __future__ import annotations

import argparse
import importlib

SUMMARY = "record driving in LMDrive's layout, labelled by the expert"
NEEDS = ("vehicle", "sim", "carla", "edge")
HANDS_OVER = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing: flad_carla.recorder.cli parses its own."""


def run(args: argparse.Namespace) -> int:
    """Hand over, in this process."""
    cli = importlib.import_module("flad_carla.recorder.cli")  # only now is it installed
    return int(cli.main(args.rest))
