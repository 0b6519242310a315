# SPDX-License-Identifier: Apache-2.0
"""Start the CARLA-compatible world on the CPU; takes the arguments of ``python -m flad_sim``."""

from __future__ import annotations

import argparse
import os
import sys

SUMMARY = "serve a town to CARLA clients, from the CPU"
NEEDS = ("vehicle", "sim")
HANDS_OVER = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing: flad_sim parses its own."""


def run(args: argparse.Namespace) -> int:
    """Become the server, so that signals reach it and nothing else stays."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "flad_sim", *args.rest])
