# SPDX-License-Identifier: Apache-2.0
"""Tell a vehicle what to do, in words."""

from __future__ import annotations

import argparse
import importlib

SUMMARY = "tell a vehicle what to do, in words"
NEEDS = ("vehicle", "edge")
HANDS_OVER = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing: flad_edge.operator_node parses its own."""


def run(args: argparse.Namespace) -> int:
    """Hand over, in this process."""
    operator = importlib.import_module("flad_edge.operator_node")  # only now is it installed
    return int(operator.main(args.rest))
