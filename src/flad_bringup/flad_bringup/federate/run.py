# SPDX-License-Identifier: Apache-2.0
"""One federation from files to a trained encoder; arguments are those of ``./flad federate``."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flad_bringup.federate.dashboard import Dashboard, table
from flad_bringup.federate.faults import EDGE, Moment, moment
from flad_bringup.federate.fleet import (
    Fleet,
    FleetFiles,
    VehicleSpec,
    empty,
    emulated_planning,
    is_ours,
)
from flad_bringup.federate.page import write_page
from flad_bringup.federate.watch_node import FederationWatch
from flad_carla.evaluation.domain import own_domain
from flad_common.config import to_yaml
from flad_common.error_codes import NODE_DIED, FladError
from flad_common.supervision import Supervisor
from flad_edge.federate.curves import Curves
from flad_edge.federate.encoder_task import (
    EncoderTaskConfig,
    save_costs,
    save_trained,
    task_costs,
    training_bytes,
)
from flad_edge.swift.devices import load_devices
from flad_pipeline.aggregation.strategy import StrategyConfig
from flad_pipeline.group.deadlines import TransportConfig
from flad_pipeline.round.order import Order
from flad_pipeline.testbed.testbed import EmulatedVehicle, LinkProfile, Testbed

_START_S = 600.0
_SLACK_S = 120.0
_LEASES_SILENT = 3.0  # who has a long lease because cores are few may be silent for long, too


def federate(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all rounds; returns the report, which also lies in ``folder``.

    Raises:
        ValueError: if the arguments do not fit each other, or the folder holds something else.
        FladError: if a process died that nobody killed, or the edge gave a round up.
        TimeoutError: if something took too long; it says who was waited for.
    """
    if not is_ours(folder):
        raise ValueError(f"{folder} holds something else; give --out a folder that is new or empty")
    plan = _Disturbances.of(args)
    strategy = StrategyConfig(name=args.strategy, proximal_mu=args.proximal_mu)
    config = EncoderTaskConfig(
        encoder=args.config,
        weights=args.weights,
        train=args.train,
        data=str(args.data.absolute()),
        num_vehicles=args.vehicles,
        level=args.level,
        clip_frames=args.clip_frames,
        gap_frames=args.gap_frames,
        micro_batch=args.micro_batch,
        num_micro_batches=args.micro_batches,
        lr_share=args.lr_share,
        proximal_mu=strategy.client_mu,
        seed=args.seed,
    )
    costs = task_costs(config)
    vehicles = _vehicles(args, training_bytes(config, costs))
    testbed = _testbed(args, vehicles)
    empty(folder)
    files = FleetFiles(folder=folder)
    files.task.write_text(to_yaml(config), encoding="utf-8")
    save_costs(costs, files.task)
    silent_s = max(TransportConfig().silent_after_s, _LEASES_SILENT * args.lease_s)
    more = {
        "link.lease_s": str(args.lease_s),
        "link.transport.silent_after_s": str(silent_s),
    }
    edge = {
        "rounds.cut_every": str(args.cut_every),
        "rounds.strategy.name": strategy.name,
        "rounds.strategy.proximal_mu": str(strategy.proximal_mu),
        "lease_s": str(args.lease_s),
        "rounds.silent_after_s": str(silent_s),
    }
    if testbed is not None:
        edge |= emulated_planning(testbed, work_scale=args.work_scale)
        files.testbed.write_text(testbed.as_json(), encoding="utf-8")
        more |= {
            "testbed": str(files.testbed),
            "air": str(files.air),
            "work_scale": str(args.work_scale),
        }
    board = Dashboard()
    began_s = time.monotonic()
    with own_domain() as domain_id, Supervisor(folder / "logs") as supervisor:
        watch = FederationWatch(domain_id, board.event)
        curves = Curves(folder / "tensorboard")
        fleet = Fleet(
            files,
            vehicles,
            supervisor,
            domain_id,
            edge_parameters=edge,
            worker_parameters=more,
        )
        try:
            fleet.start_edge()
            for vehicle in vehicles:
                if vehicle.name not in plan.late:
                    fleet.start(vehicle.name)
            runner = _Rounds(args, fleet, watch, board, plan, curves)
            reports = runner.all()
        finally:
            watch.close()
            curves.close()
    last = reports[-1]
    encoder = folder / "encoder.safetensors"
    identity = save_trained(config, Path(last["model_file"]), encoder)
    figures = {
        "schema": "flad.federate",
        "completed": all(report["completed"] for report in reports),
        "began_s": began_s,
        "seconds": round(time.monotonic() - began_s, 1),
        "samples_per_step": args.micro_batch * args.micro_batches,
        "vehicles": {
            vehicle.name: {
                "device": vehicle.device,
                "available_bytes": vehicle.available_bytes,
                "most_resident_bytes": watch.most_bytes.get(vehicle.name, 0),
            }
            for vehicle in vehicles
        },
        "orders": [_told(at_s, order, watch.places_m[order.order]) for at_s, order in watch.told],
        "encoder": str(encoder),
        "encoder_hash": identity,
        "rounds": reports,
        "happened": runner.happened,
        "events": list(board.events),
    }
    (folder / "federate.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    write_page(folder, folder / "federation.html")
    return figures


def summary(figures: Mapping[str, Any]) -> str:
    """The last lines on the terminal."""
    lines = [""]
    for one in figures["rounds"]:
        clients = ", ".join(one["report"]["counted"]) or "nobody"
        lines.append(
            f"round {one['round']}: {one['report']['seconds']:.0f} s, "
            f"{one['num_samples']} samples of {clients}; model {one['model_hash']}"
            + (f"; {one['text']}" if one["text"] else "")
        )
        for name, client in one["report"]["clients"].items():
            lines += [
                f"  {name}: {', '.join(r['gone']) or 'the group'} lost at {r['at_s']:.0f} s, went "
                f"back {r['lost_steps']} steps to step {r['from_step']}, "
                f"{sum(r['fetched_units'].values())} units from the edge"
                for r in client["recoveries"]
            ]
    folder = Path(figures["encoder"]).parent
    return "\n".join(
        [
            *lines,
            f"encoder  {figures['encoder']}   ./flad demo --encoder takes it",
            f"report   {folder / 'federation.html'}; figures in federate.json; curves: "
            f"tensorboard --logdir {folder}",
        ]
    )


def _told(at_s: float, order: Order, places_m: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """An order as :mod:`.story` reads it."""
    return {
        "at_s": at_s,
        "client": order.client,
        "round": order.round,
        "epoch": order.epoch,
        "vehicles": list(order.vehicles),
        "from_step": order.from_step,
        "end_step": order.end_step,
        "rotation_period": order.rotation_period,
        "pipelines": [partition.as_json() for partition in order.pipelines],
        "places_m": {name: list(place) for name, place in places_m.items()},
    }


class _Disturbances:
    """What was asked to go wrong."""

    def __init__(
        self, kills: Sequence[Moment], freezes: Sequence[Moment], late: Sequence[Moment]
    ) -> None:
        self.kills, self.freezes = list(kills), list(freezes)
        self.late = {m.who: m for m in late}

    @classmethod
    def of(cls, args: argparse.Namespace) -> _Disturbances:
        names = [f"vehicle_{i}" for i in range(args.vehicles)]
        found = cls(*([moment(text) for text in t] for t in (args.kill, args.freeze, args.late)))
        for one in (*found.kills, *found.freezes, *found.late.values()):
            allowed = [*names, EDGE] if one in found.kills else names
            if one.who not in allowed:
                raise ValueError(f"there is no {one.who!r} to disturb; there are {allowed}")
        if without := [m.who for m in found.freezes if m.for_s <= 0.0]:
            raise ValueError(f"--freeze {without[0]}@STEP needs +SECONDS")
        return found


class _Rounds:
    """Asks for one round after the other, draws, and disturbs on the way."""

    def __init__(
        self,
        args: argparse.Namespace,
        fleet: Fleet,
        watch: FederationWatch,
        board: Dashboard,
        plan: _Disturbances,
        curves: Curves,
    ) -> None:
        self._args, self._fleet, self._watch, self._board = args, fleet, watch, board
        self._plan, self._curves = plan, curves
        self._end_s = time.monotonic() + args.within_s
        self._thaws: list[tuple[float, str]] = []
        self.happened: list[dict[str, Any]] = []

    def all(self) -> list[dict[str, Any]]:
        """Every round's result."""
        wanted = [name for name in self._fleet.vehicles if name not in self._plan.late]
        self._until(
            lambda: self._watch.edge_is_there() and set(wanted) <= self._watch.statuses.keys(),
            _START_S,
            "the edge and every vehicle being there",
        )
        began_s, reports = time.monotonic(), [self._round(1)]
        longest_s = time.monotonic() - began_s
        while len(reports) < self._args.rounds and self._has_time(longest_s):
            began_s = time.monotonic()
            reports.append(self._round(len(reports) + 1))
            longest_s = max(longest_s, time.monotonic() - began_s)
        return reports

    def _has_time(self, seconds: float) -> bool:
        """Whether another round that takes so long ends in time."""
        return not self._args.within_s or time.monotonic() + seconds < self._end_s

    def _round(self, number: int) -> dict[str, Any]:
        self._watch.ask(number, steps=self._args.steps, deadline_s=self._args.deadline_s)
        deadline_s = self._args.deadline_s + _SLACK_S
        self._until(lambda: self._watch.result() is not None, deadline_s, f"round {number}", number)
        result = self._watch.result()
        if not result.report:
            raise FladError(NODE_DIED, f"the edge gave round {number} up: {result.text}")
        report = json.loads(result.report)
        self._curves.round(report)
        return {
            "round": result.round,
            "completed": result.completed,
            "model_hash": result.model_hash,
            "model_file": result.model_file,
            "num_samples": result.num_samples,
            "text": result.text,
            "report": report,
        }

    def _until(self, done: Any, deadline_s: float, what: str, number: int = 0) -> None:
        end_s = time.monotonic() + deadline_s
        while not done():
            self._watch.spin()
            self._fleet.check()
            self._disturb(number)
            self._curves.statuses(self._watch.statuses.values())
            self._board.draw(f"round {number or '-'} of {self._args.rounds}", self._lines)
            if time.monotonic() > end_s:
                said = {v: s.state.name for v, s in self._watch.statuses.items()}
                raise TimeoutError(f"{what} did not happen within {deadline_s:g} s; {said}")

    def _lines(self) -> list[str]:
        there = [s for v, s in self._watch.statuses.items() if self._fleet.is_running(v)]
        absent = [v for v in self._fleet.vehicles if not self._fleet.is_running(v)]
        return table(sorted(there, key=lambda s: s.vehicle), self._watch.orders, absent)

    def _disturb(self, number: int) -> None:
        reached = max(
            (s.step for s in self._watch.statuses.values() if s.round == number), default=0
        )
        for kind, moments in (("kill", self._plan.kills), ("freeze", self._plan.freezes)):
            for one in [m for m in moments if number and m.is_reached(number, reached)]:
                moments.remove(one)
                self._note(kind, one, number, reached)
                self._do(kind, one)
        for name, one in list(self._plan.late.items()):
            if number and one.is_reached(number, reached):
                del self._plan.late[name]
                self._note("start", one, number, reached)
                self._fleet.start(name)
        for at_s, name in list(self._thaws):
            if time.monotonic() >= at_s:
                self._thaws.remove((at_s, name))
                self._board.event(f"-- {name} goes on")
                self._fleet.thaw(name)

    def _do(self, kind: str, one: Moment) -> None:
        if kind == "freeze":
            self._fleet.freeze(one.who)
            self._thaws.append((time.monotonic() + one.for_s, one.who))
            return
        self._fleet.kill(one.who)
        if one.who == EDGE:
            self._fleet.start_edge()  # the watch asks it for the round again

    def _note(self, kind: str, one: Moment, number: int, step: int) -> None:
        self._board.event(f"-- {kind} {one.who} at step {step} of round {number}")
        self.happened.append(
            {
                "kind": kind,
                "who": one.who,
                "round": number,
                "step": step,
                "at_s": time.monotonic(),
            }
        )


def _testbed(args: argparse.Namespace, vehicles: Sequence[VehicleSpec]) -> Testbed | None:
    """Speeds and links of what the vehicles stand for; None: as fast as this computer is."""
    if not args.dilation:
        return None
    profiles = load_devices()
    return Testbed(
        vehicles={
            vehicle.name: EmulatedVehicle(
                seconds_per_flop=profiles[vehicle.device].seconds_per_flop,
                available_bytes=vehicle.available_bytes,
            )
            for vehicle in vehicles
        },
        link=LinkProfile(bits_per_s=1e6 * args.link_mbps, delay_s=1e-3 * args.link_delay_ms),
        dilation=args.dilation,
    )


def _vehicles(args: argparse.Namespace, need_bytes: int) -> list[VehicleSpec]:
    """Devices with memory in the proportion of their profiles."""
    profiles = load_devices()
    if args.vehicles < 1:
        raise ValueError(f"--vehicles must be at least 1, got {args.vehicles}")
    names = args.devices.split(",")
    if len(names) not in (1, args.vehicles):
        raise ValueError(f"--devices names one or {args.vehicles} devices, got {args.devices!r}")
    devices = names * args.vehicles if len(names) == 1 else names
    if unknown := sorted(set(devices) - profiles.keys()):
        raise ValueError(f"no device {unknown}; config/devices.yaml has {sorted(profiles)}")
    if not args.memory_share > 0.0:
        raise ValueError(f"--memory-share must be positive, got {args.memory_share}")
    per_byte = args.memory_share * need_bytes / profiles["nano"].available_bytes
    return [
        VehicleSpec(
            name=f"vehicle_{i}",
            device=device,
            available_bytes=int(profiles[device].available_bytes * per_byte),
        )
        for i, device in enumerate(devices)
    ]
