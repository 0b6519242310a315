# SPDX-License-Identifier: Apache-2.0
"""Measure one figure of the project, or several, and say whether it keeps its promise.

Nothing in CI depends on a timing: the verdicts are for people.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import ModuleType

from flad_bringup import bench
from flad_bringup.bench.rows import Row, as_json, now
from flad_bringup.commands.figures import add_json_argument, write_json

SUMMARY = "measure the project's figures; --list names them"
NEEDS = ("vehicle", "sim", "carla", "train", "edge")
HANDS_OVER = True
"""Its parser asks the benchmarks, which import what set-up installs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing: see :func:`run`."""


def run(args: argparse.Namespace) -> int:
    """List the benchmarks, or run one."""
    rest: list[str] = args.rest
    asked = [rest[0]] if rest and rest[0] in bench.NAMES else list(bench.NAMES)
    modules = {name: bench.load(name) for name in asked}
    args = _parser(modules).parse_args(rest, namespace=args)
    if args.list:
        for name, module in modules.items():
            print(f"{name:12} {module.SUMMARY}  ({module.MINUTES:g} min)")
        return 0
    if args.name is None:
        print("which benchmark? ./flad bench --list names them")
        return 2
    started = now()
    rows: list[Row] = modules[args.name].measure(args)
    for row in rows:
        print(_line(row))
    root = args.workspace.root
    write_json(args.json, as_json(args.name, rows, seed=args.seed, started=started, root=root))
    return 0


def _parser(modules: Mapping[str, ModuleType]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./flad bench", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name every benchmark and its minutes")
    names = parser.add_subparsers(dest="name", metavar="NAME")
    for name, module in modules.items():
        one = names.add_parser(name, help=module.SUMMARY, description=module.__doc__)
        one.add_argument("--seed", type=int, default=1, help="seed of everything random")
        add_json_argument(one)
        module.add_arguments(one)
    return parser


def _line(row: Row) -> str:
    parts = [f"{row.name:32} {row.value:12.4g} {row.unit}"]
    if row.baseline is not None and row.baseline_value is not None:
        parts.append(f"{row.baseline}: {row.baseline_value:.4g} (ratio {row.ratio or 0.0:.3g})")
    if row.bar is not None:
        sign = ">=" if row.better == "higher" else "<="
        parts.append(f"bar {sign} {row.bar:g}: {'holds' if row.holds else 'DOES NOT HOLD'}")
    return "   ".join(parts)
