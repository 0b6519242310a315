# SPDX-License-Identifier: Apache-2.0
"""Fig. 7a and Table 2: what stages take of memory and of the network, planned against random.

Memory: three processes at this computer's speed. What PyTorch's allocator sees is held against the
plan's :func:`stage_bytes`, what Linux sees against that and :func:`message_bytes`. Table 2: a Nano
and an AGX, emulated as in ``throughput``.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import statistics
from typing import Any

import torch

from flad_bringup.bench.pipeline_choice import Choices
from flad_bringup.bench.pipeline_job import Job, Run, run_job
from flad_bringup.bench.rows import Row
from flad_bringup.bench.throughput import costs_of
from flad_bringup.testbed import emulated
from flad_edge.swift.cluster import read_cluster
from flad_pipeline.graph.costs import UnitCosts
from flad_pipeline.partition import Partition, message_bytes, stage_bytes
from flad_pipeline.testbed.testbed import Testbed

SUMMARY = "Fig. 7a, Table 2: memory of stages against the plan, bytes and packets of pipelines"
MINUTES = 6.0

_MIB = float(1 << 20)
_LEAST_GROWTH_BYTES = 200e6
"""Of a stage whose process is held against the plan: below it code and caches count for more."""
_LEAST_PASS_S = 0.01
_KINDS = ("planned", "random")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--cluster", default="config/clusters/jetsons.yaml")
    parser.add_argument("--config", default="small", help="of the encoder (default: %(default)s)")
    parser.add_argument("--micro-batch", type=int, default=16, help="samples, for the memory")
    parser.add_argument("--micro-batches", type=int, default=4, help="in a step (%(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="in each run (default: %(default)s)")
    parser.add_argument("--dilation", type=float, default=4.0, help="of Table 2's emulation")
    parser.add_argument("--work-scale", type=float, default=264.0, help="as in throughput")
    parser.add_argument("--only", choices=["memory", "table2"], nargs="+", help="these parts")
    parser.add_argument("--deadline-s", type=float, default=1200.0, help="of each part")


def measure(args: argparse.Namespace) -> list[Row]:
    """Both parts."""
    torch.set_num_threads(1)
    task = read_cluster(args.workspace.root / args.cluster)
    testbed = emulated(task.cluster, dilation=args.dilation)
    parts = args.only or ["memory", "table2"]
    return [
        *(_memory_rows(args, testbed) if "memory" in parts else []),
        *(_table_rows(args, testbed, task.model.batch_size) if "table2" in parts else []),
    ]


def _memory_rows(args: argparse.Namespace, testbed: Testbed) -> list[Row]:
    costs = costs_of(args.config, args.micro_batch, args.seed)
    m = args.micro_batches
    partitions = _planned_and_random(args, testbed, costs, m)
    job = Job(
        vehicles=tuple(testbed.vehicles),
        runs=_runs(partitions, m, args.steps),
        config=args.config,
        seed=args.seed,
        micro_batch=args.micro_batch,
        measures_memory=True,
    )
    reports = run_job(job, args.workspace, args.deadline_s)
    rows, footprints = [], {}
    for kind, partition in partitions.items():
        plan = stage_bytes(partition, costs, num_micro_batches=m)
        found = {v: _tensor_bytes(reports[kind][v]) for v in plan}
        growth = {v: float(reports[kind][v]["growth_bytes"]) for v in plan}
        footprints[kind] = statistics.mean(found.values())
        messages = message_bytes(partition, costs)
        with_messages = {v: plan[v] + messages[v] for v in plan}
        rows += [
            *_tensor_rows(kind, plan, found),
            *_process_rows(kind, with_messages, growth, testbed),
        ]
    return [
        Row(
            name="memory_mean_mib",
            value=footprints["planned"] / _MIB,
            unit="MiB/vehicle",
            baseline="random",
            baseline_value=footprints["random"] / _MIB,
        ),
        *rows,
    ]


def _tensor_rows(kind: str, plan: dict[str, int], found: dict[str, float]) -> list[Row]:
    return [
        *(
            Row(
                name=f"memory_{kind}_{vehicle}_mib",
                value=found[vehicle] / _MIB,
                unit="MiB of tensors",
                baseline="the plan",
                baseline_value=plan[vehicle] / _MIB,
            )
            for vehicle in plan
        ),
        Row(
            name=f"memory_{kind}_off_plan",
            value=max(abs(found[v] / plan[v] - 1.0) for v in plan),
            unit="of the plan, the worst stage",
            bar=0.10,
            better="lower",
        ),
    ]


def _process_rows(
    kind: str, plan: dict[str, int], growth: dict[str, float], testbed: Testbed
) -> list[Row]:
    rows = [
        Row(
            name=f"memory_{kind}_{vehicle}_process_mib",
            value=growth[vehicle] / _MIB,
            unit="MiB of process",
            baseline="the plan, messages included",
            baseline_value=plan[vehicle] / _MIB,
        )
        for vehicle in plan
    ]
    large = [v for v in plan if plan[v] >= _LEAST_GROWTH_BYTES]
    if large:
        rows.append(
            Row(
                name=f"memory_{kind}_process_off_plan",
                value=max(abs(growth[v] / plan[v] - 1.0) for v in large),
                unit="of the plan, stages of 200 MB",
                bar=0.15,
                better="lower",
            )
        )
    rows.append(
        Row(
            name=f"memory_{kind}_of_device",
            value=max(growth[v] / testbed.vehicle(v).available_bytes for v in growth),
            unit="of the device's, the fullest",
            bar=1.0,
            better="lower",
        )
    )
    return rows


def _table_rows(args: argparse.Namespace, testbed: Testbed, batch: int) -> list[Row]:
    """A Nano and the AGX, stages 1 and 2."""
    names = (next(iter(testbed.vehicles)), list(testbed.vehicles)[-1])
    pair = dataclasses.replace(
        testbed,
        vehicles={name: testbed.vehicles[name] for name in names},
        between={p: link for p, link in testbed.between.items() if p <= set(names)},
    )
    costs, m = costs_of(args.config, batch, args.seed), 8
    partitions = _planned_and_random(args, pair, costs, m)
    job = Job(
        vehicles=names,
        runs=_runs(partitions, m, args.steps),
        config=args.config,
        seed=args.seed,
        micro_batch=batch,
        testbed=pair.as_json(),
        work_scale=args.work_scale,
    )
    reports = run_job(job, args.workspace, args.deadline_s)
    rows = []
    for stage, name in enumerate(names, start=1):
        tables = {kind: _table(reports[kind][name], args.dilation) for kind in _KINDS}
        rows += [
            Row(
                name=f"table2_stage_{stage}_{what}",
                value=tables["planned"][what],
                unit=unit,
                baseline="random",
                baseline_value=tables["random"][what],
            )
            for what, unit in _TABLE.items()
        ]
    worst = max(reports[kind][name]["pace"]["worst_overrun"] for kind in _KINDS for name in names)
    return [
        *rows,
        Row(
            name="table2_worst_overrun",
            value=worst,
            unit="of a pass's time",
            bar=1.0,
            better="lower",
        ),
    ]


_TABLE = {
    "duration_s": "s",
    "data_mb": "MB sent",
    "throughput_mbps": "Mbit/s",
    "packet_bytes": "B/packet",
    "packets_per_s": "packets/s",
    "packets": "packets",
}
"""The table's rows and their units; packets are ours, of which a large one is many of the radio."""


def _table(report: dict[str, Any], dilation: float) -> dict[str, float]:
    seconds = sum(s for phase in report["phases"] for s in phase["steps_s"]) / dilation
    link = report["link"]
    return {
        "duration_s": seconds,
        "data_mb": link["num_bytes"] / 1e6,
        "throughput_mbps": 8e-6 * link["num_bytes"] / seconds,
        "packet_bytes": link["num_bytes"] / link["num_packets"],
        "packets_per_s": link["num_packets"] / seconds,
        "packets": link["num_packets"],
    }


def _planned_and_random(
    args: argparse.Namespace, testbed: Testbed, costs: UnitCosts, m: int
) -> dict[str, Partition]:
    """The best pipeline that begins at the first vehicle, and one at random."""
    choices = Choices(
        testbed, costs, num_micro_batches=m, work_scale=args.work_scale, extra_in_flight=0
    )
    names, numbers = list(testbed.vehicles), random.Random(args.seed)
    while (lot := choices.random(numbers, names, _LEAST_PASS_S)).owner != names[0]:
        pass
    return dict(zip(_KINDS, (choices.best(names[0]), lot), strict=True))


def _runs(partitions: dict[str, Partition], m: int, steps: int) -> tuple[Run, ...]:
    return tuple(
        Run(name=kind, partitions=(partition,), num_micro_batches=m, num_steps=steps)
        for kind, partition in partitions.items()
    )


def _tensor_bytes(report: dict[str, Any]) -> float:
    return max(float(phase["tensor_bytes"]) for phase in report["phases"])
