# SPDX-License-Identifier: Apache-2.0
"""Count what a model's parts cost while it trains, and check the count against measurements.

docs/profile.md explains the table and the JSON, which planners of pipelines read.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from flad_bringup.commands.figures import add_json_argument, write_json

SUMMARY = "FLOPs, memory and time of the encoder's parts"
NEEDS = ("vehicle",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, how large a batch, how deep a table."""
    parser.add_argument("model", choices=["encoder"], help="encoder: the vision encoder")
    parser.add_argument("--config", default="small", help="small, paper, or a YAML file")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="frames (default 1)")
    parser.add_argument("--depth", type=int, default=2, help="names of nested blocks (default 2)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs; the fastest counts")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of PyTorch")
    parser.add_argument("--seed", type=int, default=1, help="of weights and inputs")
    parser.add_argument("--deadline-s", type=float, default=600.0, help="for the measured step")
    parser.add_argument(
        "--count-only",
        action="store_true",
        help="leave out the fresh process in which a step's memory and time are measured",
    )
    parser.add_argument(
        "--units",
        type=Path,
        metavar="FILE",
        help="also write units between which pipelines may cut, for ./flad plan",
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Profile, print the table, write the JSON."""
    # Only now is it known that they are installed.
    torch = importlib.import_module("torch")
    encoder = importlib.import_module("flad_perception.profiling.encoder")
    table = importlib.import_module("flad_common.profiling.table")
    torch.set_num_threads(args.threads)
    try:
        profile = encoder.profile_encoder_named(
            args.config,
            batch_size=args.batch,
            seed=args.seed,
            repeats=args.repeats,
            measure=not args.count_only,
            deadline_s=args.deadline_s,
            progress=_show if sys.stderr.isatty() else None,
        )
    except (ValueError, TypeError, RuntimeError) as error:
        print(f"flad: {error}", file=sys.stderr)
        return 1
    print(f"{args.config}, batch {args.batch}: one training step, {args.threads} threads")
    print(table.table(profile, args.depth))
    write_json(args.json, profile.as_json())
    if args.units:
        write_json(args.units, _units(args).as_json())
    return 0


def _units(args: argparse.Namespace) -> Any:
    """Costs of the model's units (:mod:`flad_pipeline.graph`)."""
    encoder = importlib.import_module("flad_perception.profiling.encoder")
    config = importlib.import_module("flad_perception.config").load_encoder_config(args.config)
    costs = importlib.import_module("flad_pipeline.graph.costs")
    units = importlib.import_module("flad_pipeline.graph.units")
    model, inputs = encoder.build_case(config, args.batch, args.seed)
    graph = units.unit_graph(model, inputs, verify=not args.count_only)
    print(
        f"{len(graph.units)} units; the owner of the data has at least the first "
        f"{graph.min_first_units(graph.first_head)} and, u-shaped, those from {graph.first_head} on"
    )
    return costs.unit_costs(
        graph, graph.traced.flatten(inputs), repeats=args.repeats, formulas=encoder.FORMULAS
    )


def _show(done: int, total: int) -> None:
    """Redraw one line of progress; wipe it at the end."""
    width = 30
    bar = "#" * (width * done // total)
    line = f"operations [{bar:{width}}] {done}/{total}" if done < total else ""
    print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
