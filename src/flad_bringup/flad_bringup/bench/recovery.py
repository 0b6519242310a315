# SPDX-License-Identifier: Apache-2.0
"""How long a pipeline stands still when a vehicle dies, and what is lost.

Three processes train the encoder over real DDS, led by the edge's process. One after the other is
killed (SIGKILL) or stopped (SIGSTOP), at a random moment, as a rotation begins, or as a copy is
sent; counted is from the signal to the end of the next optimizer step of everybody who is left.
Beside it, on the same model: everything is started anew, and torchrun's elastic agent. Data are
noise: nothing depends on what is learned.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from flad_bringup.bench.exactness_case import Plan
from flad_bringup.bench.recovery_task import COSTS, TASK, noise_costs, noise_task
from flad_bringup.bench.rows import Row
from flad_bringup.federate.fleet import Fleet, FleetFiles, VehicleSpec
from flad_bringup.federate.watch_node import FederationWatch
from flad_carla.evaluation.domain import own_domain
from flad_common.supervision import Supervisor
from flad_edge.federate.planning import PlanningConfig, RoundPlanner
from flad_edge.swift.devices import load_devices
from flad_pipeline.round.order import Stand

SUMMARY = "a vehicle of a pipeline dies: seconds to the next step, steps lost; torchrun beside it"
MINUTES = 30.0

_NAMES = tuple(f"vehicle_{i}" for i in range(3))
_FOREVER = 1_000_000  # steps of a round that nobody waits for
_START_S = 900.0
_SETTLE_STEPS = 3
_MEDIAN_S, _WORST_S, _MOST_LOST = 1.0, 3.0, 10

How = Literal["killed", "stopped"]
When = Literal["random", "rotation", "copy"]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One vehicle that was lost."""

    vehicle: str
    how: How
    when: When
    seconds: float
    lost_steps: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--config", default="small", help="of the encoder (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs (default: %(default)s)")
    parser.add_argument("--stops", type=int, default=3, help="SIGSTOPs (default: %(default)s)")
    parser.add_argument("--relaunches", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument(
        "--torchruns", type=int, default=3, help="kills under torchrun (%(default)s)"
    )
    parser.add_argument("--micro-batches", type=int, default=4, help="in a step (%(default)s)")
    parser.add_argument("--cut-every", type=int, default=5, help="steps (default: %(default)s)")
    parser.add_argument("--lease-s", type=float, default=0.3, help="of liveliness (%(default)s)")
    parser.add_argument(
        "--memory-share", type=float, default=0.9, help="of the model's need (default: %(default)s)"
    )


def measure(args: argparse.Namespace) -> list[Row]:
    """Ours, then the two others."""
    plan = Plan(
        config=args.config,
        seed=args.seed,
        micro_batch=2,
        num_micro_batches=args.micro_batches,
        phases=(),
    )
    numbers = random.Random(args.seed)
    with (
        TemporaryDirectory() as scratch,
        own_domain() as domain_id,
        Supervisor(Path(scratch) / "logs") as supervisor,
    ):
        files = FleetFiles(folder=Path(scratch))
        plan.write(files.task)
        watch = FederationWatch(domain_id)
        try:
            stand = _Stand(args, files, supervisor, domain_id, watch)
            stand.start()
            losses = [
                stand.lose(numbers.choice(_NAMES), "killed", _WHEN[i % len(_WHEN)], numbers)
                for i in range(args.kills)
            ] + [
                stand.lose(numbers.choice(_NAMES), "stopped", "random", numbers)
                for _ in range(args.stops)
            ]
            relaunches = [stand.relaunch(numbers) for _ in range(args.relaunches)]
            step_s, copied = stand.step_s(), stand.copied_bytes_per_cut()
        finally:
            watch.close()
        from flad_bringup.bench.recovery_torchrun import torchrun_losses

        elastic = torchrun_losses(files.folder, plan, args.torchruns, numbers, args.cut_every)
    return _rows(losses, relaunches, elastic, step_s, copied)


_WHEN: tuple[When, ...] = ("random", "random", "rotation", "copy")


class _Stand:
    """The federation under test. Single-threaded."""

    def __init__(
        self,
        args: argparse.Namespace,
        files: FleetFiles,
        supervisor: Supervisor,
        domain_id: int,
        watch: FederationWatch,
    ) -> None:
        self._files, self._watch, self._cut_every = files, watch, args.cut_every
        task = noise_task(str(files.task), "")
        planner = RoundPlanner(
            noise_costs(str(files.task), task.graph),
            args.micro_batches,
            load_devices(),
            PlanningConfig(),
        )
        self._num_units = len(task.graph.units)
        memory = int(args.memory_share * planner.alone_bytes)
        self._fleet = Fleet(
            files,
            [VehicleSpec(name=n, device="nano", available_bytes=memory) for n in _NAMES],
            supervisor,
            domain_id,
            edge_parameters={
                "lease_s": str(args.lease_s),
                "rounds.cut_every": str(args.cut_every),
                "rounds.most_recoveries": str(_FOREVER),
                "rounds.deadline_s": "1.0e+9",
                "rounds.patience_s": "1.0e+9",
                "rounds.silent_after_s": "30.0",
            },
            worker_parameters={"link.lease_s": str(args.lease_s)},
            task=TASK,
            costs=COSTS,
        )

    def start(self) -> None:
        """Everybody trains."""
        self._fleet.start_edge()
        for name in _NAMES:
            self._fleet.start(name)
        self._until(
            lambda: self._watch.edge_is_there() and len(self._watch.statuses) == len(_NAMES),
            "the edge and every vehicle being there",
        )
        self._watch.ask(1, steps=_FOREVER, deadline_s=1e9)
        self._settle()

    def lose(self, vehicle: str, how: How, when: When, numbers: random.Random) -> Loss:
        """One vehicle falls silent; afterwards everybody trains again."""
        self._wait_for_moment(when, numbers)
        rest = [name for name in _NAMES if name != vehicle]
        epochs = self._epoch()
        reached = max(self._watch.statuses[v].step for v in rest)
        began_s = time.monotonic()
        if how == "killed":
            self._fleet.kill(vehicle)
        else:
            self._fleet.freeze(vehicle)
        first = self._first_steps(rest, epochs)
        if how == "stopped":
            self._fleet.thaw(vehicle)
        else:
            self._watch.statuses.pop(vehicle, None)
            self._fleet.start(vehicle)
        loss = Loss(
            vehicle=vehicle,
            how=how,
            when=when,
            seconds=max(line["ended_s"] for line in first) - began_s,
            lost_steps=max(0, reached - min(line["step"] for line in first)),
        )
        print(f"  {vehicle} {how} ({when}): {loss.seconds:.2f} s, {loss.lost_steps} steps lost")
        self._settle()
        return loss

    def relaunch(self, numbers: random.Random) -> float:
        """One vehicle dies, and everything is started anew: seconds to the next step."""
        self._wait_for_moment("random", numbers)
        began_s = time.monotonic()
        for name in (*_NAMES, "edge"):
            self._fleet.kill(name)
        dead_s = time.monotonic()
        self._watch.statuses.clear()
        self._fleet.start_edge()
        for name in _NAMES:
            self._fleet.start(name)
        first = self._first_steps(_NAMES, -1, dead_s)
        seconds = max(float(line["ended_s"]) for line in first) - began_s
        print(f"  full relaunch: {seconds:.2f} s")
        self._settle()
        return seconds

    def step_s(self) -> float:
        """Median of a step of three stages."""
        lines = [line for name in _NAMES for line in self._log(name)]
        return statistics.median(float(line["seconds"]) for line in lines)

    def copied_bytes_per_cut(self) -> float:
        """Bytes of one cut of all stages, as they lie at the edge."""
        cuts = [p for p in (self._files.edge / "copies").glob("*/*") if p.is_dir()]
        sizes = [sum(f.stat().st_size for f in c.glob("*.safetensors")) for c in cuts]
        return float(max(sizes, default=0))

    def _wait_for_moment(self, when: When, numbers: random.Random) -> None:
        if when == "random":
            end_s = time.monotonic() + numbers.uniform(0.0, 3.0 * self.step_s())
            self._until(lambda: time.monotonic() >= end_s, "a random moment")
            return
        period = self._cut_every * (2 if when == "rotation" else 1)
        seen = self._step()
        self._until(lambda: self._step() > seen and self._step() % period == 0, f"the next {when}")
        time.sleep(numbers.uniform(0.0, 0.2 * self.step_s()))

    def _settle(self) -> None:
        """All of them train together, and have done so for some steps."""
        self._until(
            lambda: len(self._followers()) == len(_NAMES), "three vehicles training together"
        )
        begun = self._step()
        self._until(
            lambda: all(s.step >= begun + _SETTLE_STEPS for s in self._watch.statuses.values()),
            "some steps of everybody",
        )

    def _followers(self) -> list[str]:
        order = max(self._watch.orders.values(), key=lambda o: o.order, default=None)
        return [
            v
            for v, s in self._watch.statuses.items()
            if order is not None
            and s.order == order.order
            and s.state is Stand.TRAINING
            and len(order.vehicles) == len(_NAMES)
        ]

    def _step(self) -> int:
        return max((s.step for s in self._watch.statuses.values()), default=0)

    def _epoch(self) -> int:
        return max((s.epoch for s in self._watch.statuses.values()), default=0)

    def _first_steps(
        self, names: Sequence[str], after_epoch: int, after_s: float = 0.0
    ) -> list[dict[str, Any]]:
        """Everybody's first step in a later epoch, and after a time."""
        found: dict[str, dict[str, Any]] = {}

        def all_there() -> bool:
            for name in names:
                later = [
                    line
                    for line in self._log(name)
                    if line["epoch"] > after_epoch and line["ended_s"] > after_s
                ]
                if later:
                    found[name] = later[0]
            return len(found) == len(names)

        self._until(all_there, "a step of everybody who is left")
        return [found[name] for name in names]

    def _log(self, vehicle: str) -> list[dict[str, Any]]:
        path = self._files.of(vehicle) / "steps.jsonl"
        if not path.is_file():
            return []
        lines = path.read_text(encoding="utf-8").splitlines()[-200:]
        return [json.loads(line) for line in lines if line.endswith("}")]

    def _until(self, done: Any, what: str) -> None:
        end_s = time.monotonic() + _START_S
        while not done():
            self._watch.spin()
            self._fleet.check()
            if (ended := self._watch.result()) is not None:
                raise RuntimeError(f"the round ended: {ended.text}")
            if time.monotonic() > end_s:
                said = {v: (s.state.name, s.step) for v, s in self._watch.statuses.items()}
                raise TimeoutError(f"{what} did not happen within {_START_S:g} s: {said}")


def _rows(
    losses: Sequence[Loss],
    relaunches: Sequence[float],
    elastic: Sequence[float],
    step_s: float,
    copied_bytes: float,
) -> list[Row]:
    rows = []
    beside = {
        "full relaunch": statistics.median(relaunches) if relaunches else None,
        "torchrun elastic": statistics.median(elastic) if elastic else None,
    }
    for how in ("killed", "stopped"):
        some = [loss for loss in losses if loss.how == how]
        if not some:
            continue
        seconds = [loss.seconds for loss in some]
        rows += [
            Row(
                name=f"recovery_{how}_median",
                value=statistics.median(seconds),
                unit="s",
                baseline="torchrun elastic" if elastic else None,
                baseline_value=beside["torchrun elastic"],
                bar=_MEDIAN_S,
                better="lower",
            ),
            Row(
                name=f"recovery_{how}_worst",
                value=max(seconds),
                unit="s",
                baseline="full relaunch" if relaunches else None,
                baseline_value=beside["full relaunch"],
                bar=_WORST_S,
                better="lower",
            ),
            Row(
                name=f"recovery_{how}_lost_steps",
                value=max(loss.lost_steps for loss in some),
                unit="steps, at most",
                bar=_MOST_LOST,
                better="lower",
            ),
            Row(name=f"recovery_{how}_count", value=len(some), unit="vehicles"),
        ]
    for name, value in beside.items():
        if value is not None:
            short = name.replace(" ", "_")
            rows.append(Row(name=f"recovery_{short}", value=value, unit="s", better="lower"))
    return [
        *rows,
        Row(name="recovery_step", value=step_s, unit="s, one step of three stages"),
        Row(name="recovery_copy_bytes", value=copied_bytes, unit="B, one cut of all stages"),
    ]
