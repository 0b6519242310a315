# SPDX-License-Identifier: Apache-2.0
"""Fig. 6 of the paper: execution time by cluster size and by model size, on its own devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from flad_bringup.bench.rows import Row
from flad_edge.swift.cluster import Cluster, Vehicle
from flad_edge.swift.devices import DeviceProfile
from flad_edge.swift.exact import best_plan
from flad_edge.swift.greedy import greedy_plan
from flad_edge.swift.planner import LearnedPlanner
from flad_edge.swift.problem import Problem
from flad_edge.swift.random_problems import random_model
from flad_edge.swift.units import ModelUnits

_TESTBED = ("nano", "nx", "agx", "nano", "nx", "nano", "nano")
"""Table 1: four Nano, two NX, one AGX; repeated for larger clusters."""
_MODEL_GB = (5.55, 11.10, 14.01)
_FIG_6A_GB = 11.10
_BITS_PER_S, _DELAY_S = 100e6, 0.003
_UNITS, _FLOPS = 40, 1e12


def figure_rows(devices: Mapping[str, DeviceProfile], dqn: LearnedPlanner) -> Iterator[Row]:
    """A row of Fig. 6a for every size, one of Fig. 6b for every model."""
    for n in range(2, 12):
        yield from _rows(f"swift_fig6a_{n}_vehicles", _problem(devices, n, _FIG_6A_GB), dqn)
    for gigabytes in _MODEL_GB:
        name = f"swift_fig6b_{gigabytes:g}_gb".replace(".", "_")
        yield from _rows(name, _problem(devices, 5, gigabytes), dqn)


def _problem(devices: Mapping[str, DeviceProfile], n: int, gigabytes: float) -> Problem:
    """The model's size is what it holds and saves for one micro-batch, as M_cap of Eq. 2."""
    vehicles = tuple(
        Vehicle(
            name=f"{device}_{i}",
            device=device,
            available_bytes=devices[device].available_bytes,
            seconds_per_flop=devices[device].seconds_per_flop,
            stability=1.0 - 0.05 * i,
        )
        for i, device in ((i, _TESTBED[i % len(_TESTBED)]) for i in range(n))
    )
    model = _model(gigabytes * 1e9 / _model(1.0).capacity_bytes)
    cluster = Cluster(
        vehicles=vehicles,
        seconds_per_byte=np.full((n, n), 8.8 / _BITS_PER_S),
        delay_s=np.full((n, n), _DELAY_S),
    )
    return Problem(cluster, model, micro_batches=4, snapshot=False)


def _model(least_bytes: float) -> ModelUnits:
    rng = np.random.default_rng(6)
    return random_model(rng, num_units=_UNITS, least_bytes=least_bytes, flops=_FLOPS)


def _rows(name: str, problem: Problem, dqn: LearnedPlanner) -> Iterator[Row]:
    best = best_plan(problem, "path")
    filled = greedy_plan(problem)
    learned = [p for p in dqn(problem, "path", range(problem.num_vehicles)).values() if p]
    ours = min((problem.path_s(p) for p in learned), default=None)
    if best is None:
        # proven: nothing to solve; a pipeline here would be a mistake
        yield Row(name=f"{name}_infeasible", value=1.0, unit="proven")
        assert ours is None and filled is None
        return
    greedy_s = None if filled is None else problem.path_s(filled)
    yield Row(
        name=f"{name}_s",
        value=best.cost_s,
        unit="s",
        baseline="greedy, phase 1",
        baseline_value=greedy_s,
        better="lower",
    )
    if ours is None:
        share = 0.0
    elif greedy_s is None:
        share = best.cost_s / ours  # greedy fails: how near a solved one is
    else:
        share = (greedy_s - ours) / max(greedy_s - best.cost_s, 1e-12)
    yield Row(name=f"{name}_dqn_gain", value=share, unit="of the optimum's", bar=0.95)
