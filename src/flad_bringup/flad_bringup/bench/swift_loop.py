# SPDX-License-Identifier: Apache-2.0
"""Half an hour of SUMO's traffic drives joins and departures: planned, static, random clusters.

The planner is in the loop, training is not: a step takes what its plan says. A vehicle that leaves
within a step costs that step; every new grouping costs a pause.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from flad_bringup.bench.rows import Row
from flad_edge.mobility.dwell import load_dwell, predict_s
from flad_edge.mobility.dwell_data import dwell_data
from flad_edge.mobility.positions import PositionsConfig, calibrate, learn_positions
from flad_edge.mobility.traces import Coverage, Traces, Visit, read_traces
from flad_edge.swift.availability import TaskNeeds
from flad_edge.swift.cluster import Floats
from flad_edge.swift.devices import DeviceProfile
from flad_edge.swift.fleet import FleetConfig, FleetPlanner, Member
from flad_edge.swift.picture import fleet_svg
from flad_edge.swift.random_problems import random_model
from flad_edge.swift.schedule import simulated_step_s
from flad_edge.swift.units import ModelUnits
from flad_sim.floating_cars import TraceConfig, record_traces

MINUTES = 30.0
_BEGIN_S = 600
"""Until roads are full and lights known."""
_PAUSE_S = 1.0
_MARGIN_S = 8.0
_MODEL_BYTES, _FLOPS, _UNITS, _STEPS = 11.1e9, 1e12, 40, 4
"""Of Fig. 6a's model, and how many steps a vehicle must be able to take part in (Eq. 1)."""
_UNKNOWN_S = 1e5


@dataclass(slots=True)
class _Running:
    names: tuple[int, ...]
    step_s: float
    ends_s: float


@dataclass(slots=True)
class Tally:
    """Seconds of all clusters, and what ended steps."""

    useful_s: float = 0.0
    lost_s: float = 0.0
    paused_s: float = 0.0
    steps: int = 0
    interrupted: int = 0
    planned: int = 0
    planned_interrupted: int = 0
    running: list[_Running] = field(default_factory=list)
    free_at: dict[int, float] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Useful seconds of those in which a cluster was at work or regrouping."""
        return self.useful_s / max(self.useful_s + self.lost_s + self.paused_s, 1e-9)


def loop_rows(
    seed: int, devices: Mapping[str, DeviceProfile], plots: Path | None = None
) -> Iterator[Row]:
    """Rows of the three ways to group; a picture of one moment goes to ``plots``."""
    with tempfile.TemporaryDirectory(prefix="flad_bench_") as folder:
        file = Path(folder) / "traces.npz"
        minutes = MINUTES + _BEGIN_S / 60.0 + 4.0
        record_traces(TraceConfig(minutes=minutes, seed=7000 + seed), file)
        traces = read_traces(file)
    yield from _cell_rows(seed, traces)
    network = load_dwell()
    place = network.config
    coverage = Coverage(x_m=place.x_m, y_m=place.y_m, radius_m=place.radius_m)
    visits = traces.visits(coverage)
    said_s = predict_s(network, dwell_data(traces, coverage, visits))
    kinds = (
        np.random.default_rng(seed).choice(["nano", "nx", "agx"], len(visits), p=_shares()).tolist()
    )
    if plots is not None:
        plots.mkdir(parents=True, exist_ok=True)
        svg = _moment(traces, visits, kinds, devices, said_s, coverage, _BEGIN_S + 300)
        (plots / "swift_fleet.svg").write_text(svg, encoding="utf-8")
    found = {
        "swift": _run(traces, visits, kinds, devices, said_s),
        "static": _run(traces, visits, kinds, devices, None),
        "random": _run(traces, visits, kinds, devices, None, np.random.default_rng(seed)),
    }
    ours, static, random = (found[name] for name in ("swift", "static", "random"))
    yield Row(
        name="swift_loop_useful_share",
        value=ours.share,
        unit="of seconds",
        baseline="static clusters",
        baseline_value=static.share,
    )
    yield Row(
        name="swift_loop_useful_share_by_random",
        value=ours.share,
        unit="of seconds",
        baseline="random clusters",
        baseline_value=random.share,
    )
    for name, tally in found.items():
        yield Row(name=f"swift_loop_{name}_steps", value=tally.steps, unit="steps")
        yield Row(
            name=f"swift_loop_{name}_interrupted",
            value=tally.interrupted,
            unit="steps",
            better="lower",
        )
    yield Row(name="swift_loop_planned_departures", value=ours.planned, unit="departures")
    yield Row(
        name="swift_loop_planned_that_interrupted",
        value=ours.planned_interrupted,
        unit="steps",
        bar=0.0,
        better="lower",
    )


def _cell_rows(seed: int, traces: Traces) -> Iterator[Row]:
    """Probabilities of cells (Eq. 3) against what happened, on vehicles not learned from."""
    config = PositionsConfig()
    positions, unseen = learn_positions(traces, config, np.random.default_rng(seed))
    for ahead_s in (10, 30):
        found = calibrate(positions, unseen, seen_steps=4, ahead_steps=ahead_s // config.step_s)
        for said, happened in zip(found.said, found.happened, strict=True):
            yield Row(name=f"swift_cells_{ahead_s}s_{100 * said:.0f}", value=happened, unit="1")
        yield Row(name=f"swift_cells_{ahead_s}s_error", value=found.error, unit="1", better="lower")


def _shares() -> list[float]:
    return [4 / 7, 2 / 7, 1 / 7]


def _task(leaves: bool) -> tuple[ModelUnits, TaskNeeds, FleetConfig]:
    """What is trained, and how vehicles are grouped for it."""
    model = random_model(
        np.random.default_rng(6), num_units=_UNITS, least_bytes=_MODEL_BYTES, flops=_FLOPS
    )
    needs = TaskNeeds(flops_per_epoch=_FLOPS, epochs=_STEPS, capacity_bytes=model.capacity_bytes)
    return model, needs, FleetConfig(leave_s=_MARGIN_S if leaves else 0.0, micro_batches=4)


def _member(
    traces: Traces, visit: Visit, name: str, kind: str, now_s: int, departs_s: float
) -> Member:
    """A vehicle as it is at a second of its visit."""
    row = visit.first_row + now_s - visit.arrival_s
    row_before = max(row - 1, visit.first_row)
    return Member(
        name=name,
        device=kind,
        available_bytes=0.0,
        x_m=float(traces.x_m[row]),
        y_m=float(traces.y_m[row]),
        speed_mps=float(traces.speed_mps[row]),
        heading_rad=math.atan2(
            float(traces.y_m[row] - traces.y_m[row_before]),
            float(traces.x_m[row] - traces.x_m[row_before]),
        ),
        dwell_s=max(0.0, departs_s - now_s),
    )


def _moment(
    traces: Traces,
    visits: Sequence[Visit],
    kinds: Sequence[str],
    devices: Mapping[str, DeviceProfile],
    said_s: Floats,
    coverage: Coverage,
    now_s: int,
) -> str:
    """Everybody in the coverage at one second, planned and drawn."""
    model, needs, config = _task(leaves=True)
    there = [
        _member(traces, v, f"vehicle {i}", kinds[i], now_s, v.arrival_s + float(said_s[i]))
        for i, v in enumerate(visits)
        if v.arrival_s <= now_s < v.departure_s
    ]
    plan = FleetPlanner(config, needs, model, devices).plan(there)
    return fleet_svg(plan, there, coverage)


def _run(
    traces: Traces,
    visits: Sequence[Visit],
    kinds: Sequence[str],
    devices: Mapping[str, DeviceProfile],
    said_s: Floats | None,
    rng: np.random.Generator | None = None,
) -> Tally:
    """One way to group: by what was said of dwell times or blindly, by place or at random."""
    leaves = said_s is not None
    model, needs, config = _task(leaves)
    tally = Tally()

    def departs_s(i: int) -> float:
        return _UNKNOWN_S if said_s is None else float(visits[i].arrival_s + said_s[i])

    def member(i: int, now_s: int) -> Member:
        return _member(traces, visits[i], str(i), kinds[i], now_s, departs_s(i))

    def group(free: list[int], now_s: int) -> list[tuple[tuple[int, ...], float]]:
        planner = FleetPlanner(config, needs, model, devices)
        members = [member(i, now_s) for i in free]
        if rng is not None:  # anybody with anybody, as if all were at one place
            members = [
                replace(m, x_m=float(k), y_m=0.0, speed_mps=0.0)
                for k, m in enumerate(members[int(i)] for i in rng.permutation(len(members)))
            ]
        found = []
        for cluster in planner.plan(members).clusters:
            best = cluster.plan.best
            assert best is not None and best.pipeline is not None
            step_s = simulated_step_s(cluster.plan.problem, best.pipeline)
            names = tuple(int(name) for name in cluster.members)
            if not leaves or min(departs_s(i) for i in names) >= now_s + step_s + _MARGIN_S:
                found.append((names, step_s))
        return found

    for now_s in range(_BEGIN_S, int(_BEGIN_S + 60.0 * MINUTES)):
        present = [i for i, v in enumerate(visits) if v.arrival_s <= now_s < v.departure_s]
        _second(tally, now_s, present, departs_s if leaves else None, group)
    return tally


def _second(
    tally: Tally,
    now_s: int,
    present: list[int],
    departs_s: Callable[[int], float] | None,
    group: Callable[[list[int], int], list[tuple[tuple[int, ...], float]]],
) -> None:
    there, running = set(present), []
    for cluster in tally.running:
        begun_s = cluster.ends_s - cluster.step_s
        while cluster.ends_s <= now_s and there.issuperset(cluster.names):
            tally.useful_s, tally.steps = tally.useful_s + cluster.step_s, tally.steps + 1
            begun_s = cluster.ends_s
            next_s = now_s + cluster.step_s + _MARGIN_S
            if departs_s is not None and min(departs_s(i) for i in cluster.names) < next_s:
                tally.planned += 1
                break
            cluster.ends_s += cluster.step_s
        else:
            if there.issuperset(cluster.names):
                running.append(cluster)
                continue
            tally.lost_s += max(0.0, now_s - begun_s)
            tally.interrupted += 1
            gone = [i for i in cluster.names if i not in there]
            if departs_s is not None and any(departs_s(i) <= cluster.ends_s for i in gone):
                tally.planned_interrupted += 1
        tally.paused_s += _PAUSE_S
        tally.free_at |= dict.fromkeys(cluster.names, now_s + _PAUSE_S)
    busy = {i for cluster in running for i in cluster.names}
    free = [i for i in present if i not in busy and tally.free_at.get(i, 0.0) <= now_s]
    if len(free) > 1 and now_s % 2 == 0:
        running += [_Running(names, step_s, now_s + step_s) for names, step_s in group(free, now_s)]
    tally.running = running
