# SPDX-License-Identifier: Apache-2.0
"""Take releases in, score them, let them drive on an edge, take them back."""

from __future__ import annotations

import argparse
import importlib

SUMMARY = "releases of encoder, AD-LLM and ADM: list, add, score, publish, rollback"
NEEDS = ("vehicle", "edge")
HANDS_OVER = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing: flad_edge.adapt.release_cli parses its own."""


def run(args: argparse.Namespace) -> int:
    """Hand over, in this process."""
    cli = importlib.import_module("flad_edge.adapt.release_cli")  # only now is it installed
    return int(cli.main(args.rest))
