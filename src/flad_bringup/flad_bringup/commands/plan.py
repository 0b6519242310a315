# SPDX-License-Identifier: Apache-2.0
"""Plan the pipelines of a cluster: who is first, who holds which part, and how long a step takes.

docs/swift.md explains the cluster file, the planners and the JSON.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from flad_bringup.commands.figures import add_json_argument, write_json

SUMMARY = "plan the pipelines of a cluster of vehicles"
NEEDS = ("vehicle", "edge")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which cluster, what to minimise, by which planner."""
    parser.add_argument(
        "--cluster", type=Path, required=True, metavar="FILE", help="YAML of vehicles and model"
    )
    parser.add_argument(
        "--objective",
        choices=["path", "makespan"],
        default="path",
        help="path: one micro-batch (Eq. 10); makespan: a step of all (default: %(default)s)",
    )
    parser.add_argument(
        "--planner",
        choices=["auto", "exact", "dqn", "greedy"],
        default="auto",
        help="auto: exact where its table is small enough, else dqn (default: %(default)s)",
    )
    parser.add_argument(
        "--devices", type=Path, metavar="FILE", help="instead of config/devices.yaml"
    )
    parser.add_argument(
        "--dqn", type=Path, metavar="FILE", help="network of the DQN, instead of the shipped one"
    )
    parser.add_argument("--no-templates", action="store_true", help="plan no departures")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, print the tree, write the JSON; 1 if there is no plan."""
    swift = "flad_edge.swift"
    cluster = importlib.import_module(f"{swift}.cluster")
    devices = importlib.import_module(f"{swift}.devices")
    planner = importlib.import_module(f"{swift}.planner")
    problems = importlib.import_module(f"{swift}.problem")
    report = importlib.import_module(f"{swift}.report")
    templates = importlib.import_module(f"{swift}.templates")
    try:
        task = cluster.read_cluster(args.cluster, devices.load_devices(args.devices))
        problem = problems.Problem(task.cluster, task.model, task.micro_batches)
        learned = None
        if args.planner == "dqn" or planner.choose(problem, args.planner, True)[0] == "dqn":
            learned = importlib.import_module(f"{swift}.dqn_planner").load_planner(args.dqn)
        how = {"objective": args.objective, "planner": args.planner, "learned": learned}
        plan = planner.plan_cluster(problem, **how)
        departures = {} if args.no_templates else templates.templates_for(problem, **how)
    except (OSError, ValueError, TypeError) as error:
        print(f"flad: {error}", file=sys.stderr)
        return 1
    print(report.plan_as_text(plan))
    if departures:
        print(report.templates_as_text(problem, departures))
    write_json(args.json, report.plan_as_json(plan, departures))
    return 0 if plan.best is not None else 1
