# SPDX-License-Identifier: Apache-2.0
"""How good and how fast the planners are: exact, DQN, greedy, random and local search.

Random clusters of the devices of config/devices.yaml with random models; every gap is to the proven
optimum of the same first vehicle. Fig. 6 of the paper on its own devices. Half an
hour of SUMO's traffic with the planner in the loop. Times are of one core,
in CPU seconds. Seeds are other than those of training.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from flad_bringup.bench.rows import Row
from flad_bringup.bench.swift_figures import figure_rows
from flad_bringup.bench.swift_loop import loop_rows
from flad_bringup.bench.swift_plots import draw
from flad_bringup.bench.swift_scale import scale_rows
from flad_edge.swift.compare import Comparison, compare, exact_costs, fill_planner
from flad_edge.swift.devices import DeviceProfile, load_devices
from flad_edge.swift.dqn_planner import DqnPlanner, load_planner
from flad_edge.swift.exact import Objective, best_plan, exact_plans, targets_of
from flad_edge.swift.greedy import greedy_plan
from flad_edge.swift.local_search import local_search, random_search
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.planner import LearnedPlanner
from flad_edge.swift.problem import Problem
from flad_edge.swift.random_problems import RandomProblemConfig, random_problems
from flad_edge.swift.templates import templates_for

SUMMARY = "planners of pipelines: time, gap to the optimum, Fig. 6 of the paper"
MINUTES = 4.0

_UNSEEN = 2_000_003
_CPU = time.process_time
_PARTS = ("exact", "gaps", "rescues", "times", "figures", "fleets", "loop")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument(
        "--clusters", type=int, default=200, help="random ones, of each kind (default: %(default)s)"
    )
    parser.add_argument("--dqn", type=Path, metavar="FILE", help="instead of the shipped network")
    parser.add_argument(
        "--parts", nargs="+", choices=_PARTS, default=_PARTS, help="only these (default: all)"
    )
    parser.add_argument("--plots", type=Path, metavar="DIR", help="also draw figures there")
    parser.add_argument(
        "--largest", type=int, default=14, help="vehicles of the largest exact table"
    )


def measure(args: argparse.Namespace) -> list[Row]:
    """All figures, in one run."""
    devices, dqn = load_devices(), load_planner(args.dqn)
    parts: dict[str, Callable[[], Iterable[Row]]] = {
        "exact": lambda: _exact_rows(args, devices),
        "gaps": lambda: _gap_rows(args, devices, dqn),
        "rescues": lambda: _rescue_rows(args, devices, dqn),
        "times": lambda: _time_rows(args, devices, dqn),
        "figures": lambda: figure_rows(devices, dqn),
        "fleets": lambda: scale_rows(args.seed, devices),
        "loop": lambda: loop_rows(args.seed, devices, args.plots),
    }
    rows = [row for name, part in parts.items() if name in args.parts for row in part()]
    if args.plots is not None:
        draw(rows, args.plots)
    return rows


def _sized(
    seed: int, devices: Mapping[str, DeviceProfile], n: int, *, shared: bool | None = None
) -> Problem:
    """A random problem of ``n`` vehicles and 60 units that all of them can run."""
    config = RandomProblemConfig(vehicles=(n, n), units=(60, 60), load=(0.3, 0.6))
    for problem in random_problems(seed, devices, config):
        if shared in (None, problem.cluster.shared_channel) and greedy_plan(problem) is not None:
            return problem
    raise AssertionError("random problems do not end")


def _exact_rows(args: argparse.Namespace, devices: Mapping[str, DeviceProfile]) -> Iterator[Row]:
    bars = {10: 1.0, 14: 5.0}
    kinds: tuple[tuple[Objective, bool, str], ...] = (
        ("path", True, "path"),
        ("makespan", False, "makespan"),
        ("makespan", True, "makespan_shared"),
    )
    for n in (10, 12, 14):
        for objective, shared, name in kinds:
            if n > args.largest:
                continue
            problem = _sized(_UNSEEN + args.seed, devices, n, shared=shared)
            began = _CPU()
            found = best_plan(problem, objective)
            seconds = _CPU() - began
            yield Row(
                name=f"swift_exact_{n}_{name}_s",
                value=seconds,
                unit="s",
                bar=bars.get(n),
                better="lower",
            )
            if name == "makespan":
                began = _CPU()
                exact_plans(problem, objective, targets_of(problem))
                yield Row(
                    name=f"swift_exact_{n}_{name}_all_firsts_s",
                    value=_CPU() - began,
                    unit="s",
                    bar=bars.get(n),
                    better="lower",
                )
            if name == "makespan_shared" and found is not None:
                yield Row(
                    name=f"swift_exact_{n}_{name}_gap", value=found.gap, unit="1", better="lower"
                )


def _gap_rows(
    args: argparse.Namespace, devices: Mapping[str, DeviceProfile], dqn: DqnPlanner
) -> Iterator[Row]:
    timed = _Timed(dqn)
    rng = np.random.default_rng(args.seed)

    def equal_time(search: object) -> LearnedPlanner:
        def plan(
            problem: Problem, objective: Objective, firsts: Iterable[int]
        ) -> dict[int, Pipeline | None]:
            run = local_search if search == "local" else random_search
            return {v: run(problem, v, rng, timed.last_s, _CPU) for v in firsts}

        return plan

    problems = _solvable(
        random_problems(_UNSEEN + args.seed, devices, RandomProblemConfig(vehicles=(3, 10)))
    )
    found = compare(
        itertools.islice(problems, args.clusters),
        {
            "dqn": timed,
            "network": dqn.alone() if isinstance(dqn, DqnPlanner) else dqn,
            "local": equal_time("local"),
            "random": equal_time("random"),
        },
    )
    for which, percentile, bar in (("median", 50, 0.01), ("p95", 95, 0.05)):
        for best, label in ((False, "gap"), (True, "cluster_gap")):
            others = {k: v for k, v in found.items() if k != "dqn"}
            yield from _gap_row(found["dqn"], others, label, which, percentile, bar, best)
    for name, comparison in found.items():
        yield Row(name=f"swift_{name}_found", value=comparison.found, unit="of pipelines")


def _gap_row(
    dqn: Comparison,
    others: Mapping[str, Comparison],
    label: str,
    which: str,
    percentile: float,
    bar: float,
    best: bool,
) -> Iterator[Row]:
    yield Row(
        name=f"swift_dqn_{label}_{which}",
        value=dqn.gap(percentile, best=best),
        unit="1",
        baseline="greedy, phase 1",
        baseline_value=others["greedy"].gap(percentile, best=best),
        bar=bar,
        better="lower",
    )
    for name in ("network", "local", "random", "fill"):
        yield Row(
            name=f"swift_{name}_{label}_{which}",
            value=others[name].gap(percentile, best=best),
            unit="1",
            better="lower",
        )


def _rescue_rows(
    args: argparse.Namespace, devices: Mapping[str, DeviceProfile], dqn: DqnPlanner
) -> Iterator[Row]:
    """Clusters whose greedy pipeline fails though the exact planner proves that one exists."""
    config = RandomProblemConfig(vehicles=(3, 10), load=(0.6, 1.0))
    unsolved = (
        problem
        for problem in random_problems(_UNSEEN + 7 + args.seed, devices, config)
        if greedy_plan(problem) is None
    )
    hard = _solvable(unsolved)
    solved, filled, total = 0, 0, 0
    for problem in itertools.islice(hard, args.clusters):
        firsts = sorted(exact_costs(problem))
        total += 1
        solved += any(dqn(problem, "path", firsts).values())
        filled += any(fill_planner(problem, "path", firsts).values())
    yield Row(
        name="swift_dqn_rescues",
        value=solved / total,
        unit="of clusters",
        baseline="its features without the network",
        baseline_value=filled / total,
        bar=0.99,
    )


def _time_rows(
    args: argparse.Namespace, devices: Mapping[str, DeviceProfile], dqn: DqnPlanner
) -> Iterator[Row]:
    ten = _sized(_UNSEEN + args.seed, devices, 10)
    yield Row(
        name="swift_first_pipeline_ms",
        value=1e3 * _seconds(lambda: greedy_plan(ten)),
        unit="ms",
        bar=5.0,
        better="lower",
    )
    exact_s = _seconds(lambda: templates_for(ten, planner="exact", pairs=False), 1)
    for name, what, bar in (
        ("swift_templates_s", exact_s, 2.0),
        (
            "swift_dqn_templates_s",
            _seconds(lambda: templates_for(ten, planner="dqn", learned=dqn, pairs=False), 1),
            2.0,
        ),
    ):
        yield Row(name=name, value=what, unit="s", bar=bar, better="lower")
    for n in range(3, 11):
        problem = _sized(_UNSEEN + args.seed, devices, n)
        for name, plan in (
            ("greedy", lambda p=problem, m=n: [greedy_plan(p, v) for v in range(m)]),
            ("dqn", lambda p=problem, m=n: dqn(p, "path", range(m))),
            ("exact", lambda p=problem: best_plan(p, "path")),
        ):
            ms = 1e3 * _seconds(plan, 2) / n
            yield Row(name=f"swift_fig5a_{n}_{name}_ms", value=ms, unit="ms", better="lower")
    for n in (10, 12, 14, 16):
        problem = _sized(_UNSEEN + args.seed, devices, n)
        each_s = _seconds(lambda p=problem, m=n: dqn(p, "path", range(m)), 2) / n
        exact = None
        if n <= args.largest:
            exact = _seconds(lambda p=problem: best_plan(p, "path"), 1) / n
        yield Row(
            name=f"swift_dqn_{n}_pipeline_ms",
            value=1e3 * each_s,
            unit="ms",
            baseline="exact, all first vehicles from one table",
            baseline_value=None if exact is None else 1e3 * exact,
            bar=20.0,
            better="lower",
        )


class _Timed:
    """A planner that remembers how long its last plan took, by first vehicle."""

    def __init__(self, planner: LearnedPlanner) -> None:
        self._planner, self.last_s = planner, 0.0

    def __call__(
        self, problem: Problem, objective: Objective, firsts: Iterable[int]
    ) -> Mapping[int, Pipeline | None]:
        wanted, began = list(firsts), _CPU()
        plans = self._planner(problem, objective, wanted)
        self.last_s = (_CPU() - began) / len(wanted)
        return plans


def _solvable(problems: Iterable[Problem]) -> Iterator[Problem]:
    return (problem for problem in problems if exact_costs(problem))


def _seconds(work: object, repeats: int = 3) -> float:
    assert callable(work)
    best = math.inf
    for _ in range(repeats):
        began = _CPU()
        work()
        best = min(best, _CPU() - began)
    return best
