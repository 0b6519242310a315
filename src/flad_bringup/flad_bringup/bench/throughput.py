# SPDX-License-Identifier: Apache-2.0
"""Fig. 7b: samples a second that two Jetson Nano and one AGX train together, emulated.

Tensors, DDS, rotation and the weights are real; the computers sleep to their dilated time and the
radio is one shaped channel. The encoder ``small`` stands for ``paper``: every FLOP of it counts
``--work-scale`` times (a step of ``paper`` takes minutes here); what crosses cuts is its own.
Throughput is in emulated time, hand-overs included. Beside it, in the same arithmetic: one machine
of equal total compute, the AGX alone, and random pipelines that fit, one of which is run, too.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import statistics
from dataclasses import dataclass
from typing import Any

import torch

from flad_bringup.bench.exactness_case import Plan, case_graph, micro_batches
from flad_bringup.bench.pipeline_choice import Choices
from flad_bringup.bench.pipeline_job import Job, Run, run_job
from flad_bringup.bench.rows import Row
from flad_bringup.testbed import emulated
from flad_edge.federate.predicted import predicted_step
from flad_edge.swift.cluster import Cluster, read_cluster
from flad_perception.profiling.encoder import FORMULAS
from flad_pipeline.graph.costs import UnitCosts, unit_costs
from flad_pipeline.testbed.testbed import Testbed

SUMMARY = "Fig. 7b: training throughput of emulated Jetsons, against one machine and random cuts"
MINUTES = 8.0

NUM_RANDOM = 30
_LEAST_PASS_S = 0.01
"""Emulated: a shorter pass of a random pipeline would be lost in what this computer adds."""
_PAPER = 0.75


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--cluster", default="config/clusters/jetsons.yaml")
    parser.add_argument("--config", default="small", help="of the encoder (default: %(default)s)")
    parser.add_argument("--micro-batches", type=int, nargs="+", default=[32, 4])
    parser.add_argument("--rotation-period", type=int, default=2, help="steps (%(default)s)")
    parser.add_argument("--dilation", type=float, default=4.0, help="seconds here for one there")
    parser.add_argument(
        "--work-scale", type=float, default=264.0, help="FLOPs of paper by those of small"
    )
    parser.add_argument("--extra-in-flight", type=int, default=0, help="micro-batches beyond 1F1B")
    parser.add_argument("--deadline-s", type=float, default=1800.0, help="of the whole run")


def measure(args: argparse.Namespace) -> list[Row]:
    """Plan, run, compare."""
    torch.set_num_threads(1)
    bench = _Bench(args)
    runs = [bench.planned(m) for m in args.micro_batches]
    lots = bench.random_step_s(args.micro_batches[0])
    lot = runs[0].num_micro_batches
    runs.append(
        Run(name="random", partitions=(bench.median_partition,), num_micro_batches=lot, num_steps=1)
    )
    job = Job(
        vehicles=tuple(bench.testbed.vehicles),
        runs=tuple(runs),
        config=args.config,
        seed=args.seed,
        micro_batch=bench.batch,
        testbed=bench.testbed.as_json(),
        work_scale=args.work_scale,
        extra_in_flight=args.extra_in_flight,
    )
    reports = run_job(job, args.workspace, args.deadline_s)
    found = {run.name: bench.throughput(run, reports[run.name]) for run in runs}
    rows = [row for run in runs[:-1] for row in bench.rows_of(run, found[run.name])]
    rows += [row for run in runs[:-1] for row in bench.prediction_rows(run, found[run.name])]
    return [*rows, *bench.random_rows(found, lots), *_overrun_rows(found, args)]


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Of one run, in emulated time."""

    samples_per_s: float
    by_arithmetic: float
    """What the schedule allows, hand-overs apart."""
    worst_overrun: float
    hand_over_share: float
    step_s: float
    """Measured, the mean of all steps."""


class _Bench:
    """The testbed, the model's costs, and the pipelines."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        task = read_cluster(args.workspace.root / args.cluster)
        self._cluster = task.cluster
        self.testbed: Testbed = emulated(task.cluster, dilation=args.dilation)
        self.batch = task.model.batch_size
        self._costs = costs_of(args.config, self.batch, args.seed)
        self._flops = sum(u.flops_forward + u.flops_backward for u in self._costs.units)

    def planned(self, m: int) -> Run:
        """The best pipeline of each first vehicle, in turn."""
        choices = self._choices(m)
        pipelines = tuple(choices.best(name) for name in self.testbed.vehicles)
        for pipeline in pipelines:
            spans = ", ".join(f"{s.vehicle} {s.first}..{s.last}" for s in pipeline.stages)
            print(
                f"{m} micro-batches: {spans}: {choices.step_s(pipeline):.2f} s a step", flush=True
            )
        return Run(
            name=f"{m}_micro_batches",
            partitions=pipelines,
            num_micro_batches=m,
            num_steps=self._args.rotation_period,
        )

    def random_step_s(self, m: int) -> list[float]:
        """Steps of random pipelines; the one nearest to their median is kept to be run."""
        choices, numbers = self._choices(m), random.Random(self._args.seed)
        names = list(self.testbed.vehicles)
        lots = [choices.random(numbers, names, _LEAST_PASS_S) for _ in range(NUM_RANDOM)]
        steps = [choices.step_s(partition) for partition in lots]
        median = statistics.median(steps)
        nearest = min(range(len(lots)), key=lambda i: abs(steps[i] - median))
        self.median_partition = lots[nearest]
        return steps

    def throughput(self, run: Run, reports: dict[str, Any]) -> Throughput:
        """What one run reached, by its first vehicle's clock."""
        choices = self._choices(run.num_micro_batches)
        first = reports[next(iter(self.testbed.vehicles))]
        steps_s = sum(s for phase in first["phases"] for s in phase["steps_s"])
        moves_s = sum(phase["hand_over_s"] for phase in first["phases"])
        samples = run.num_steps * len(run.partitions) * run.num_micro_batches * self.batch
        allowed_s = run.num_steps * sum(choices.step_s(p) for p in run.partitions)
        return Throughput(
            samples_per_s=samples * self.testbed.dilation / (steps_s + moves_s),
            by_arithmetic=samples / (allowed_s + moves_s / self.testbed.dilation),
            worst_overrun=max(report["pace"]["worst_overrun"] for report in reports.values()),
            hand_over_share=moves_s / (steps_s + moves_s),
            step_s=steps_s / (run.num_steps * len(run.partitions)) / self.testbed.dilation,
        )

    def prediction_rows(self, run: Run, found: Throughput) -> list[Row]:
        """What SWIFT said of the same pipelines before they ran."""
        scaled = _slower(self._cluster, self._args.work_scale)
        m, name = run.num_micro_batches, f"throughput_{run.num_micro_batches}"
        said = [predicted_step(scaled, self._costs, p, m) for p in run.partitions]
        rows = [Row(name=f"{name}_step_s", value=found.step_s, unit="s", better="lower")]
        for which, seconds in (
            ("swift", statistics.mean(one.closed_form_s for one in said)),
            ("swift_stepped", statistics.mean(one.stepped_s for one in said)),
        ):
            rows += [
                Row(name=f"{name}_{which}_step_s", value=seconds, unit="s", better="lower"),
                Row(
                    name=f"{name}_{which}_error",
                    value=abs(seconds / found.step_s - 1.0),
                    unit="of the measured step",
                    bar=0.15,
                    better="lower",
                ),
            ]
        return rows

    def rows_of(self, run: Run, found: Throughput) -> list[Row]:
        """Against one machine, the AGX, and the arithmetic."""
        m, full = run.num_micro_batches, run.num_micro_batches >= 32
        speeds = [1.0 / v.seconds_per_flop for v in self.testbed.vehicles.values()]
        per_sample = self._args.work_scale * self._flops / self.batch
        alone, fastest = sum(speeds) / per_sample, max(speeds) / per_sample
        name = f"throughput_{m}"
        return [
            Row(
                name=f"{name}_samples_per_s",
                value=found.samples_per_s,
                unit="samples/s",
                baseline="one machine of equal total compute",
                baseline_value=alone,
            ),
            Row(
                name=f"{name}_of_one_machine",
                value=found.samples_per_s / alone,
                unit="1",
                baseline="the paper",
                baseline_value=_PAPER,
                bar=0.85 if full else None,
            ),
            Row(
                name=f"{name}_of_arithmetic",
                value=found.samples_per_s / found.by_arithmetic,
                unit="1",
                bar=0.95 if full else None,
            ),
            Row(
                name=f"{name}_of_agx_alone",
                value=found.samples_per_s / fastest,
                unit="1",
                bar=1.0 if full else None,
            ),
            Row(name=f"{name}_hand_over_share", value=found.hand_over_share, unit="of the time"),
        ]

    def random_rows(self, found: dict[str, Throughput], lots: list[float]) -> list[Row]:
        """Against the median random pipeline, by arithmetic, and one that was run."""
        m = self._args.micro_batches[0]
        ours = found[f"{m}_micro_batches"].samples_per_s
        median = m * self.batch / statistics.median(lots)
        return [
            Row(
                name="throughput_over_random",
                value=ours / median,
                unit="x",
                baseline="the paper",
                baseline_value=1.4,
                bar=1.4,
            ),
            Row(
                name="throughput_over_random_run",
                value=ours / found["random"].samples_per_s,
                unit="x",
                bar=1.4,
            ),
            Row(
                name="throughput_random_of_arithmetic",
                value=found["random"].samples_per_s / found["random"].by_arithmetic,
                unit="1",
            ),
        ]

    def _choices(self, m: int) -> Choices:
        return Choices(
            self.testbed,
            self._costs,
            num_micro_batches=m,
            work_scale=self._args.work_scale,
            extra_in_flight=self._args.extra_in_flight,
        )


def costs_of(config: str, batch: int, seed: int) -> UnitCosts:
    """Of the encoder's units, for one micro-batch."""
    plan = Plan(config=config, seed=seed, micro_batch=batch, num_micro_batches=1, phases=())
    graph = case_graph(plan)
    sample = micro_batches(plan, "vehicle_0", 0)[0]
    return unit_costs(graph, graph.traced.flatten(sample.args, sample.kwargs), formulas=FORMULAS)


def _slower(cluster: Cluster, work_scale: float) -> Cluster:
    """The same where each FLOP counts ``work_scale`` times, as :class:`Pace` makes it."""
    vehicles = tuple(
        dataclasses.replace(v, seconds_per_flop=v.seconds_per_flop * work_scale)
        for v in cluster.vehicles
    )
    return dataclasses.replace(cluster, vehicles=vehicles)


def _overrun_rows(found: dict[str, Throughput], args: argparse.Namespace) -> list[Row]:
    """A run in which a pass took longer than its dilated time is not valid."""
    worst = max(one.worst_overrun for one in found.values())
    return [
        Row(
            name="throughput_worst_overrun",
            value=worst,
            unit="of a pass's time",
            bar=1.0,
            better="lower",
        ),
        Row(name="throughput_dilation", value=args.dilation, unit="s/s"),
        Row(name="throughput_work_scale", value=args.work_scale, unit="1"),
    ]
