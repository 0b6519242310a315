# SPDX-License-Identifier: Apache-2.0
"""Drive a route through a town with traffic, in closed loop over ROS 2, and show a report."""

from __future__ import annotations

import argparse

SUMMARY = "drive a town in closed loop and write a report with pictures"
NEEDS = ("vehicle", "cli", "sim", "carla")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""


def run(args: argparse.Namespace) -> int:
    """Todo."""
    return 0
