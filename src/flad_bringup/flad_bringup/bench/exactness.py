# SPDX-License-Identifier: Apache-2.0
"""Whether a model that several vehicles train over DDS is the one that a single process trains.

The encoder, in u-shaped pipelines of 2 to 5 processes at uneven cuts; with rotation, so that each
vehicle feeds data of its own; and with one vehicle killed amid a step, whose units come from the
edge's copy of the last common cut. Beside each, one process that accumulates the same micro-batches
in the same order. Data are noise, answers random: nothing depends on what is learned.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from flad_bringup.bench.exactness_case import (
    Phase,
    Plan,
    case_graph,
    case_loss,
    make_optimizer,
    micro_batches,
)
from flad_bringup.bench.exactness_member import fed_file, result_file
from flad_bringup.bench.rows import Row
from flad_carla.evaluation.domain import own_domain
from flad_common.supervision import Supervisor
from flad_pipeline.graph.units import UnitGraph
from flad_pipeline.partition import Partition, Span
from flad_pipeline.stages.trainer import LocalTrainer
from flad_pipeline.stages.unit_state import unit_state_from_bytes
from flad_pipeline.stages.unit_store import UnitStore

SUMMARY = "training over several processes and DDS against one process: the same weights"
MINUTES = 12.0

MOST_RELATIVE = 1e-5
_BACKUP_EVERY = 5
_STAGES = (2, 3, 4, 5)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--config", default="small", help="of the encoder (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="of the optimizer (%(default)s)")
    parser.add_argument("--micro-batches", type=int, default=5, help="in a step (%(default)s)")
    parser.add_argument("--stages", type=int, nargs="*", default=list(_STAGES))
    parser.add_argument("--rotation-period", type=int, default=5, help="steps (%(default)s)")
    parser.add_argument(
        "--skip", nargs="*", choices=["rotation", "recovery"], default=[], help="leave out"
    )
    parser.add_argument("--deadline-s", type=float, default=1800.0, help="for each run")


def measure(args: argparse.Namespace) -> list[Row]:
    """Every run beside its single process."""
    numbers = random.Random(args.seed)
    base = Plan(
        config=args.config,
        seed=args.seed,
        micro_batch=2,
        num_micro_batches=args.micro_batches,
        phases=(),
    )
    graph = case_graph(base)
    plans = {
        f"{n}_stages": _with(base, Phase(first_step=0, end_step=args.steps, partition=cut))
        for n in args.stages
        for cut in [uneven(graph, [f"vehicle_{i}" for i in range(n)], numbers)]
    }
    if "rotation" not in args.skip:
        plans["rotation"] = rotation(base, graph, args.steps, args.rotation_period, numbers)
    if "recovery" not in args.skip:
        plans["recovery"] = recovery(base, graph, args.steps, numbers)
    torch.set_num_threads(1)
    alone: dict[tuple[str, ...], dict[str, Tensor]] = {}
    rows = []
    for name, plan in plans.items():
        owners = owners_of(plan)
        if owners not in alone:
            alone[owners] = train_alone(plan, owners)
        found = train_together(plan, args.deadline_s)
        rows += rows_of(name, found, alone[owners])
        if len(set(owners)) > 1:
            rows.append(data_row(name, plan, owners, alone[owners]))
        print("\n".join(f"{row.name}: {row.value:.3g}" for row in rows[-3:]), flush=True)
    return rows


def data_row(name: str, plan: Plan, owners: tuple[str, ...], expected: dict[str, Tensor]) -> Row:
    """Every vehicle's data matter: the least change of the weights were one vehicle's others."""
    changes = []
    for vehicle in sorted(set(owners)):
        others = tuple("vehicle_9" if owner == vehicle else owner for owner in owners)
        weights = train_alone(plan, others)
        kept = [key for key in expected if key.startswith("weight/")]
        changes.append(max(relative(weights[key], expected[key]) for key in kept))
    return Row(
        name=f"exactness_{name}_data_matter",
        value=min(changes),
        unit="relative, without a vehicle's data",
        bar=100.0 * MOST_RELATIVE,
    )


def uneven(graph: UnitGraph, vehicles: list[str], numbers: random.Random) -> Partition:
    """A u-shaped pipeline with cuts at random."""
    heads = graph.first_head
    least = graph.min_first_units(heads)
    cuts = sorted(numbers.sample(range(least, heads), len(vehicles) - 1))
    starts, ends = [0, *cuts], [*cuts, heads]
    return Partition(
        digest=graph.digest,
        num_units=len(graph.units),
        heads_from=heads,
        stages=tuple(
            Span(vehicle=v, first=a, last=b - 1)
            for v, a, b in zip(vehicles, starts, ends, strict=True)
        ),
    )


def rotation(base: Plan, graph: UnitGraph, steps: int, period: int, numbers: random.Random) -> Plan:
    """Three vehicles take turns in feeding their data, at cuts of their own."""
    names = [f"vehicle_{i}" for i in range(3)]
    turns = [uneven(graph, names[i:] + names[:i], numbers) for i in range(3)]
    firsts = range(0, steps, period)
    return _with(
        base,
        *(
            Phase(
                first_step=first,
                end_step=min(steps, first + period),
                partition=turns[i % len(turns)],
            )
            for i, first in enumerate(firsts)
        ),
    )


def recovery(base: Plan, graph: UnitGraph, steps: int, numbers: random.Random) -> Plan:
    """The last of three vehicles dies amid a step; two go on from the last common cut."""
    names = [f"vehicle_{i}" for i in range(3)]
    every = min(_BACKUP_EVERY, max(1, steps // 2))
    lost_at = min(steps - 1, steps // 2 + every // 2)
    back_to = lost_at // every * every
    plan = _with(
        base,
        Phase(first_step=0, end_step=steps, partition=uneven(graph, names, numbers)),
        Phase(
            first_step=back_to,
            end_step=steps,
            partition=uneven(graph, names[:2], numbers),
            goes_back=True,
        ),
    )
    return dataclasses.replace(plan, backup_every=every, lost=names[2], lost_at_step=lost_at)


def owners_of(plan: Plan) -> tuple[str, ...]:
    """Whose data each step used."""
    owners: dict[int, str] = {}
    for phase in plan.phases:
        owners |= dict.fromkeys(range(phase.first_step, phase.end_step), phase.partition.owner)
    return tuple(owners[step] for step in sorted(owners))


def train_alone(plan: Plan, owners: tuple[str, ...]) -> dict[str, Tensor]:
    """One process; weights and buffers by name."""
    store = UnitStore(case_graph(plan), make_optimizer)
    trainer = LocalTrainer(store, case_loss, plan.step_config)
    for step, owner in enumerate(owners):
        trainer.step(step, micro_batches(plan, owner, step))
    states = [store.state_of(unit, len(owners)) for unit in store.held]
    return {key: tensor for state in states for key, tensor in state.tensors.items()}


def train_together(plan: Plan, deadline_s: float) -> dict[str, Tensor]:
    """A process for each vehicle, over DDS; weights and buffers by name.

    Raises:
        RuntimeError: if a unit is missing at the end.
    """
    names = [span.vehicle for span in plan.phases[0].partition.stages]
    with (
        TemporaryDirectory() as scratch,
        own_domain() as domain_id,
        Supervisor(Path(scratch) / "logs") as supervisor,
    ):
        folder = Path(scratch)
        plan.write(folder / "plan.json")
        environment = {**os.environ, "ROS_DOMAIN_ID": str(domain_id), "OMP_NUM_THREADS": "1"}
        children = {
            name: supervisor.start(
                name,
                [
                    sys.executable,
                    "-m",
                    "flad_bringup.bench.exactness_node",
                    str(folder / "plan.json"),
                    name,
                    str(folder),
                ],
                environment=environment,
            )
            for name in names
        }
        for name, child in children.items():
            status = supervisor.wait(child, deadline_s=deadline_s)
            if status and name != plan.lost:
                raise RuntimeError(f"{name} ended with status {status}:\n{child.tail()}")
        found: dict[str, Tensor] = {}
        for unit in range(plan.phases[0].partition.num_units):
            file = result_file(folder, unit)
            if not file.is_file():
                raise RuntimeError(f"unit {unit} is nowhere after the last step")
            found |= unit_state_from_bytes(file.read_bytes()).tensors
        check_fed(plan, folder)
        return found


def check_fed(plan: Plan, folder: Path) -> None:
    """That each step's owner fed its own micro-batches, all of them, and nobody else did.

    Raises:
        RuntimeError: if not; it names vehicle and step.
    """
    owners = owners_of(plan)
    for vehicle in sorted(set(owners)):
        fed = json.loads(fed_file(folder, vehicle).read_text(encoding="utf-8"))
        expected = {
            str(step): [int(batch.targets) for batch in micro_batches(plan, vehicle, step)]
            for step, owner in enumerate(owners)
            if owner == vehicle
        }
        if fed != expected:
            steps = sorted(set(fed) ^ set(expected), key=int) or "other data"
            raise RuntimeError(f"{vehicle} fed {len(fed)} of {len(expected)} steps: {steps}")


def rows_of(name: str, found: dict[str, Tensor], expected: dict[str, Tensor]) -> list[Row]:
    """How far two models are apart."""
    if found.keys() != expected.keys():
        raise RuntimeError(f"{name}: other tensors than in one process")
    kept = [key for key in expected if not key.startswith("optimizer/")]
    same = sum(torch.equal(found[key], tensor) for key, tensor in expected.items())
    return [
        Row(
            name=f"exactness_{name}",
            value=max(relative(found[key], expected[key]) for key in kept),
            unit="relative",
            bar=MOST_RELATIVE,
            better="lower",
        ),
        Row(name=f"exactness_{name}_same_bits", value=same / len(expected), unit="of tensors"),
    ]


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest value."""
    if expected.numel() == 0 or torch.equal(found, expected):
        return 0.0
    difference = (found.double() - expected.double()).abs().max()
    return float(difference / expected.double().abs().max().clamp_min(1e-12))


def _with(base: Plan, *phases: Phase) -> Plan:
    return dataclasses.replace(base, phases=phases)
