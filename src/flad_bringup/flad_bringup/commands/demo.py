# SPDX-License-Identifier: Apache-2.0
"""Drive a route through a town with traffic, in closed loop over ROS 2, and write a report.

The world, the bridge with the expert, and the planner are processes of this machine that talk over
DDS. The run's folder then holds report.html, results.json and a bag for rviz and Foxglove.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

from flad_bringup.commands.figures import add_json_argument, write_json

SUMMARY = "drive a town in closed loop and write a report with pictures"
NEEDS = ("vehicle", "sim", "carla")

_ROUTES = "routes/demo.xml"
_QUICK_ROUTES = "routes/demo_quick.xml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--quick", action="store_true", help="a short route: under one minute")
    parser.add_argument("--seed", type=int, default=1, help="seed of traffic and scenery")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write; starts afresh (default: runs/demo)"
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Drive, then say how it went and where to look."""
    started = time.monotonic()
    folder: Path = (args.out or args.workspace.runs / "demo").absolute()
    results_file = folder / "results.json"
    if not _is_ours(folder, results_file):
        print(f"{folder} holds something else; give --out a folder that is new or empty")
        return 2
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    routes = args.workspace.config / (_QUICK_ROUTES if args.quick else _ROUTES)
    evaluation = importlib.import_module("flad_carla.evaluation.cli")  # only now is it installed
    status = int(
        evaluation.main(
            [
                *("--routes", str(routes)),
                *("--driver", "expert"),
                *("--seed", str(args.seed)),
                *("--rig", str(args.workspace.config / "rigs/demo.yaml")),
                *("--logs", str(folder / "logs")),
                *("--json", str(results_file)),
                *("--bag", str(folder / "bag")),
                *("--report", str(folder / "report.html")),
            ]
        )
    )
    if status != 0 or not results_file.is_file():
        return status or 1
    scores = json.loads(results_file.read_text(encoding="utf-8"))
    seconds = time.monotonic() - started
    print(_summary(scores, folder, seconds))
    write_json(args.json, {"seconds": seconds, "folder": str(folder), "results": scores})
    return 0


def _is_ours(folder: Path, results_file: Path) -> bool:
    """Whether the folder may be emptied: it has nothing, or an earlier demo's run."""
    return not folder.exists() or results_file.is_file() or not any(folder.iterdir())


def _summary(results: dict[str, Any], folder: Path, seconds: float) -> str:
    scores = results["_checkpoint"]["global_record"]["scores"]
    return "\n".join(
        [
            "",
            f"driving score {scores['score_composed']:.1f}, "
            f"route completion {scores['score_route']:.1f} %, "
            f"infraction score {scores['score_penalty']:.2f} ({seconds:.0f} s)",
            f"report   {folder / 'report.html'}   open it in a browser",
            f"bag      {folder / 'bag'}   open it in Foxglove, or ros2 bag play beside rviz2",
        ]
    )
