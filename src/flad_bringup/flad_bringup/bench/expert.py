# SPDX-License-Identifier: Apache-2.0
"""How well the expert drives: its scores on the shipped routes with traffic, several seeds.

Every town's routes are driven over real DDS by ``flad_carla.evaluation`` under the leaderboard's
first protocol. Beside them stands the same car on a constant speed, straight ahead, which is what
not deciding anything scores. One town is driven twice with one seed: the trajectories must repeat.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flad_bringup.bench.rows import Row

SUMMARY = "scores of the expert on the towns' routes with traffic, and whether runs repeat"
MINUTES = 25.0

TOWNS = ("grid", "oldtown", "ring")
_CARLA_TOWNS = ("town01", "town02")
_LEAST_COMPLETION, _LEAST_SCORE = 95.0, 85.0
_DEADLINE_S = 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    parser.add_argument(
        "--towns", default=",".join(TOWNS), help="route files (default: %(default)s)"
    )
    parser.add_argument(
        "--town-dir", type=Path, help="CARLA's Town01 and Town02 as .xodr: drive these as well"
    )
    parser.add_argument("--keep", type=Path, help="folder for the results files")


def measure(args: argparse.Namespace) -> list[Row]:
    """Drive, then compare."""
    with TemporaryDirectory() as scratch:
        folder: Path = args.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        rows: list[Row] = []
        towns = args.towns.split(",")
        for town in [*towns, *(_CARLA_TOWNS if args.town_dir else ())]:
            expert = _evaluate(args, town, "expert", folder / f"{town}_expert.json", args.seeds)
            naive = _evaluate(args, town, "constant", folder / f"{town}_constant.json", 1)
            rows += _score_rows(town, expert, naive)
        first = folder / f"{towns[0]}_expert.json"
        again = folder / f"{towns[0]}_again.json"
        _evaluate(args, towns[0], "expert", again, 1)
        return [*rows, *_repeat_rows(_records(first), _records(again))]


def _score_rows(town: str, expert: list[dict[str, Any]], naive: list[dict[str, Any]]) -> list[Row]:
    rows = []
    for name, key, bar in (
        ("driving_score", "score_composed", _LEAST_SCORE),
        ("route_completion", "score_route", _LEAST_COMPLETION),
    ):
        rows.append(
            Row(
                name=f"expert_{town}_{name}",
                value=_mean(expert, key),
                unit="",
                baseline="constant speed, straight ahead",
                baseline_value=_mean(naive, key),
                bar=bar,
            )
        )
    return rows


def _repeat_rows(first: list[dict[str, Any]], again: list[dict[str, Any]]) -> list[Row]:
    """Shares of routes whose trajectories agree to the last bit: same seed, and another seed."""
    by_seed: dict[int, dict[str, str]] = {}
    for record in first:
        route = record["route_id"].rsplit("_rep", 1)[0]
        by_seed.setdefault(record["meta"]["seed"], {})[route] = record["meta"]["trajectory_hash"]
    repeated = {r["route_id"].rsplit("_rep", 1)[0]: r["meta"]["trajectory_hash"] for r in again}
    seeds = sorted(by_seed)
    rows = [
        Row(
            name="expert_same_seed_identical",
            value=_agreement(by_seed[seeds[0]], repeated),
            unit="share of routes",
            bar=1.0,
        )
    ]
    if len(seeds) > 1:
        rows.append(
            Row(
                name="expert_other_seed_identical",
                value=_agreement(by_seed[seeds[0]], by_seed[seeds[1]]),
                unit="share of routes",
                bar=0.0,
                better="lower",
            )
        )
    return rows


def _agreement(a: dict[str, str], b: dict[str, str]) -> float:
    return statistics.fmean(float(a[route] == b[route]) for route in a)


def _mean(records: list[dict[str, Any]], key: str) -> float:
    return statistics.fmean(record["scores"][key] for record in records)


def _records(results: Path) -> list[dict[str, Any]]:
    return list(json.loads(results.read_text(encoding="utf-8"))["_checkpoint"]["records"])


def _evaluate(
    args: argparse.Namespace, town: str, driver: str, results: Path, repetitions: int
) -> list[dict[str, Any]]:
    """Records of one route file. Routes that fail score what they score; nothing is left out."""
    own = args.workspace.config / "routes" / f"{town}.xml"
    routes = own if own.is_file() else args.workspace.root / "tests/data" / f"routes_{town}.xml"
    command = [sys.executable, "-m", "flad_carla.evaluation", "--routes", str(routes)]
    command += ["--driver", driver, "--seed", str(args.seed), "--repetitions", str(repetitions)]
    command += ["--json", str(results), "--traffic", "30", "--walkers", "20"]
    if town in _CARLA_TOWNS:
        command += ["--town-dir", str(args.town_dir)]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=_DEADLINE_S, check=False
    )
    if not results.is_file():
        raise RuntimeError(f"evaluation of {routes} left no results:\n{ended.stderr[-2000:]}")
    print(f"{town} {driver}: {ended.stdout.splitlines()[-2] if ended.stdout else ''}", flush=True)
    return _records(results)
