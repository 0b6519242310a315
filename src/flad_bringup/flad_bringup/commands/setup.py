# SPDX-License-Identifier: Apache-2.0
"""Set up this checkout: requirements, ROS messages, towns. Does nothing where nothing changed.

Every other command does this by itself for what it needs. With an installed ROS 2 (ROS_DISTRO is
set) that ROS is used and colcon builds every package into install/. The set `cloud` (Flower) is an
environment of its own, build/cloud, and is only made when it is named.
"""

from __future__ import annotations

import argparse
import time

from flad_bringup.commands.figures import add_json_argument, write_json
from flad_bringup.setup.checkout import REQUIREMENT_SETS, SetupConfig, set_up
from flad_bringup.setup.cloud import set_up_cloud

SUMMARY = "install the requirements, build the ROS messages and the towns"
NEEDS: tuple[str, ...] = ()

_CLOUD = "cloud"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--sets",
        nargs="+",
        choices=(*REQUIREMENT_SETS, _CLOUD),
        default=list(REQUIREMENT_SETS),
        help="requirement sets to install (default: all but 'cloud'); a vehicle needs only "
        "'vehicle'",
    )
    parser.add_argument(
        "--force", action="store_true", help="do every step again, even where nothing changed"
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Set up and say what was done."""
    started = time.monotonic()
    ours = tuple(name for name in args.sets if name != _CLOUD)
    done = set_up(args.workspace, SetupConfig(sets=ours, force=args.force)) if ours else []
    if _CLOUD in args.sets:
        done += set_up_cloud(args.workspace, force=args.force)
    seconds = time.monotonic() - started
    names = [step.name for step in done if not step.skipped]
    print(f"set-up: {', '.join(names) or 'nothing to do'} ({seconds:.1f} s)")
    figures = {step.name: {"skipped": step.skipped, "seconds": step.seconds} for step in done}
    write_json(args.json, {"seconds": seconds, "steps": figures})
    return 0
