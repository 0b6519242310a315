# SPDX-License-Identifier: Apache-2.0
"""Train the vision encoder on several vehicles together: processes of this machine, over ROS 2.

Small vehicles train as pipelines, able ones alone, and the edge averages them after every round.
--kill vehicle_1@12 kills a vehicle at step 12 of round 1: the others go on. docs/federate.md.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from flad_bringup.commands.figures import add_json_argument, write_json

SUMMARY = "train the encoder on several vehicles together, and lose one on the way"
NEEDS = ("vehicle", "train", "edge")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="recordings, from ./flad data pack"
    )
    parser.add_argument(
        "--config",
        default="small",
        metavar="NAME",
        help="encoder that begins anew, such as small or tiny (default: %(default)s)",
    )
    parser.add_argument(
        "--weights", default="", metavar="NAME", help="begin from a shipped model or a file instead"
    )
    parser.add_argument(
        "--train", default="small", metavar="NAME", help="training configuration (%(default)s)"
    )
    parser.add_argument("--vehicles", type=int, default=3, help="processes (default: %(default)s)")
    parser.add_argument(
        "--devices",
        default="nano",
        metavar="A,B",
        help="of config/devices.yaml, one for all or one each (default: %(default)s)",
    )
    parser.add_argument(
        "--memory-share",
        type=float,
        default=0.9,
        help="what a nano has of the memory that the model needs; others in proportion "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--dilation",
        type=float,
        default=0.0,
        metavar="X",
        help="emulate the devices' speeds and a shared radio, X seconds here for one there; "
        "0: memory only (default: %(default)s)",
    )
    parser.add_argument(
        "--work-scale",
        type=float,
        default=264.0,
        help="of --dilation: each FLOP counts so many; 264: small stands for paper (%(default)s)",
    )
    parser.add_argument(
        "--link-mbps", type=float, default=400.0, help="of --dilation (default: %(default)s)"
    )
    parser.add_argument(
        "--link-delay-ms", type=float, default=2.0, help="of --dilation (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument(
        "--within-s",
        type=float,
        default=0.0,
        help="begin no round that would not end by then; the first one always is; 0: no limit",
    )
    parser.add_argument(
        "--steps", type=int, default=0, help="of each client a round; 0: as fit its data and stay"
    )
    parser.add_argument("--micro-batch", type=int, default=2, help="frames (default: %(default)s)")
    parser.add_argument("--micro-batches", type=int, default=8, help="of a step (%(default)s)")
    parser.add_argument(
        "--lr-share",
        type=float,
        default=0.2,
        help="of the training configuration's rates (default: %(default)s)",
    )
    parser.add_argument(
        "--strategy",
        choices=["fedavg", "fedprox", "fedadam", "median", "trimmed_mean", "krum"],
        default="fedavg",
        help="the edge's rule; with fedprox vehicles are pulled to the round's begin (%(default)s)",
    )
    parser.add_argument(
        "--proximal-mu", type=float, default=0.01, help="of fedprox (default: %(default)s)"
    )
    parser.add_argument("--cut-every", type=int, default=5, help="steps (default: %(default)s)")
    parser.add_argument(
        "--clip-frames", type=int, default=100, help="dealt out at once (default: %(default)s)"
    )
    parser.add_argument(
        "--gap-frames", type=int, default=25, help="between two vehicles' (default: %(default)s)"
    )
    parser.add_argument("--level", type=float, default=2.0, help="non-IID level (%(default)s)")
    parser.add_argument(
        "--kill", action="append", default=[], metavar="WHO@STEP", help="SIGKILL; edge: restarted"
    )
    parser.add_argument(
        "--freeze", action="append", default=[], metavar="WHO@STEP+S", help="SIGSTOP for S seconds"
    )
    parser.add_argument(
        "--late", action="append", default=[], metavar="WHO@STEP", help="starts only then"
    )
    parser.add_argument(
        "--lease-s",
        type=float,
        default=0.3,
        help="a process that DDS has not heard of for so long is lost; more, where processes are "
        "many and cores are few (default: %(default)s)",
    )
    parser.add_argument("--deadline-s", type=float, default=900.0, help="of a round (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write; starts afresh (runs/federate)"
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Train, then say what came out."""
    run_module = importlib.import_module("flad_bringup.federate.run")  # only now is it installed
    folder: Path = (args.out or args.workspace.runs / "federate").absolute()
    try:
        figures = run_module.federate(args, folder)
    except (ValueError, OSError) as error:
        print(f"flad: {error}", file=sys.stderr)
        return 2
    print(run_module.summary(figures))
    write_json(args.json, figures)
    return 0 if figures["completed"] else 1
