# SPDX-License-Identifier: Apache-2.0
"""One federation of real processes that traffic takes apart: its vehicles arrive and drive away.

Who drives out of the coverage is cut off (SIGSTOP): nobody is told, partners and edge have to find
out. It comes back as the next vehicle that arrives. Nothing but signals and what vehicles say on
``/edge/fleet`` connects the federation with this process.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flad_bringup.bench.exactness_case import Plan
from flad_bringup.bench.recovery_task import COSTS, noise_costs, noise_task
from flad_bringup.bench.traffic_node import FleetVoice
from flad_bringup.bench.traffic_tally import Departure, Tally, counted, is_at_work
from flad_bringup.bench.traffic_task import TASK
from flad_bringup.bench.traffic_trace import Stay, TrafficTrace, Way
from flad_bringup.federate.fleet import Fleet, FleetFiles, VehicleSpec, emulated_planning
from flad_bringup.federate.watch_node import FederationWatch
from flad_common.supervision import Supervisor
from flad_edge.federate.planning import PlanningConfig, RoundPlanner
from flad_edge.swift.devices import load_devices
from flad_edge.swift.fleet import Member
from flad_pipeline.testbed.testbed import EmulatedVehicle, LinkProfile, Testbed

_SAY_S, _AGAIN_S = 0.5, 1.0
_LATE_S = 90.0
_DEVICES = ("nano", "nx")
_DELAY_S = 0.002
_LEAVE_S, _HORIZON_S, _PATIENCE_S = 4.0, 30.0, 8.0
"""Emulated: regrouping takes less than the first; Eq. 5 looks so far ahead; a cluster that has
become too small waits so long for somebody to come."""


@dataclass(frozen=True, kw_only=True)
class StandConfig:
    """What is emulated, the same for every way to make clusters."""

    processes: int
    dilation: float
    work_scale: float
    memory_share: float
    memory_redundancy: float
    steps: int
    cut_every: int
    rotation_cuts: int
    least_stay_s: float
    radius_m: float
    lease_s: float
    link_mbps: float
    seed: int

    @property
    def plan(self) -> Plan:
        """The model: the encoder ``tiny`` on noise."""
        return Plan(config="tiny", seed=self.seed, micro_batch=1, num_micro_batches=4, phases=())

    def device(self, process: int) -> str:
        """Of a vehicle."""
        return _DEVICES[process % len(_DEVICES)]


class TrafficStand:
    """One way to make clusters. Single-threaded; call :meth:`look` often.

    Args:
        way: how.
        config: what is emulated.
        trace: who is there when.
        folder: of the federation.
        supervisor: of its processes.
        domain_id: of ROS.
    """

    def __init__(
        self,
        way: Way,
        config: StandConfig,
        trace: TrafficTrace,
        folder: Path,
        supervisor: Supervisor,
        domain_id: int,
    ) -> None:
        self.way, self._config, self._trace = way, config, trace
        folder.mkdir(parents=True)
        self._files = FleetFiles(folder=folder)
        config.plan.write(self._files.task)
        vehicles = self._vehicles()
        testbed = self._testbed(vehicles)
        self._files.testbed.write_text(testbed.as_json(), encoding="utf-8")
        self._fleet = Fleet(
            self._files,
            vehicles,
            supervisor,
            domain_id,
            edge_parameters=self._edge_parameters(testbed),
            worker_parameters={
                "link.lease_s": str(config.lease_s),
                "link.transport.silent_after_s": str(3.0 * config.lease_s),
                "status_s": "0.25",
                "testbed": str(self._files.testbed),
                "air": str(self._files.air),
                "work_scale": str(config.work_scale),
            },
            task=TASK,
            costs=COSTS,
        )
        self.events: list[tuple[float, str]] = []
        self._now_s = 0.0
        self._watch = FederationWatch(
            domain_id, lambda event: self.events.append((self._now_s, event))
        )
        self._voice = FleetVoice(domain_id)
        self._there: dict[str, Stay] = {}
        self._asking, self._ask_at_s, self._said_at_s = False, 0.0, -_SAY_S
        self._looked_s = self._at_work_s = self._present_s = 0.0
        self._departures: list[Departure] = []
        self._reports: list[dict[str, Any]] = []

    def start(self) -> None:
        """Start every process."""
        self._fleet.start_edge()
        for name in self._fleet.vehicles:
            self._fleet.start(name)

    def is_ready(self) -> bool:
        """Whether all of them are there."""
        self._watch.spin()
        self._fleet.check()
        there = self._watch.statuses.keys()
        return self._watch.edge_is_there() and set(self._fleet.vehicles) <= there

    def begin(self) -> None:
        """Nobody is in the coverage."""
        for name in self._fleet.vehicles:
            self._fleet.freeze(name)

    def look(self, now_s: float, *, ask: bool) -> bool:
        """Let come who comes and go who goes; ask for rounds. Returns whether one is under way.

        Args:
            now_s: emulated, from the begin of the trace.
            ask: for another round when one is over.
        """
        passed_s, self._looked_s = now_s - self._looked_s, now_s
        self._now_s = now_s
        self._come_and_go(now_s)
        if now_s - self._said_at_s >= _SAY_S:
            self._said_at_s = now_s
            self._voice.say([self._word(stay) for stay in self._there.values()])
        self._voice.spin()
        self._watch.spin()
        self._fleet.check()
        self._present_s += passed_s * len(self._there)
        self._at_work_s += passed_s * sum(map(self._is_at_work, self._there))
        if self._asking and (result := self._watch.result()) is not None:
            self._asking, self._ask_at_s = False, now_s + (0.0 if result.report else _AGAIN_S)
            if result.report:
                self._reports.append(json.loads(result.report))
        if ask and not self._asking and now_s >= self._ask_at_s and len(self._there) > 1:
            self._asking = True
            deadline_s = _LATE_S * self._config.dilation
            self._watch.ask(0, steps=self._config.steps, deadline_s=deadline_s)
        return self._asking

    def close(self) -> None:
        """End the nodes of this process, and let the stopped ones end."""
        for name in self._fleet.vehicles:
            self._fleet.thaw(name)
        self._voice.close()
        self._watch.close()

    @property
    def overruns(self) -> int:
        """Passes that took longer than their emulated time."""
        return self._voice.overruns

    @property
    def passes(self) -> int:
        """All passes that vehicles have ended."""
        return self._voice.passes

    def tally(self) -> Tally:
        """What it came to, in emulated seconds."""
        found = counted(
            [order for _, order in self._watch.told],
            {name: self._log(name) for name in self._fleet.vehicles},
            self._reports,
        )
        clients = [c for r in self._reports for c in r["clients"].values()]
        d = self._config.dilation
        return Tally(
            useful_s=found.useful_s / d,
            wasted_s=found.wasted_s / d,
            at_work_s=self._at_work_s,
            present_s=self._present_s,
            steps=found.steps,
            lost_steps=found.lost_steps,
            rounds=len(self._reports),
            departures=tuple(self._departures),
            let_go=sum(len(one["vehicles"]) for c in clients for one in c["let_go"]),
            recoveries=sum(len(c["recoveries"]) for c in clients),
        )

    def _come_and_go(self, now_s: float) -> None:
        present = {f"vehicle_{s.process}": s for s in self._trace.present(now_s)}
        for name, stay in list(self._there.items()):
            if present.get(name) is not stay:
                self._departures.append(
                    Departure(
                        vehicle=name,
                        at_s=now_s,
                        foreseen=stay.foreseen,
                        interrupted=self._is_at_work(name),
                    )
                )
                self._fleet.freeze(name)
                self._watch.statuses.pop(name, None)
                del self._there[name]
        for name, stay in present.items():
            if name not in self._there:
                self._there[name] = stay
                self._voice.was_stopped(name)
                self._fleet.thaw(name)

    def _word(self, stay: Stay) -> Member:
        """In seconds of this computer, as everything that the federation knows."""
        d, device = self._config.dilation, self._config.device(stay.process)
        member = self._trace.word(stay, self._now_s, self.way, device)
        return dataclasses.replace(
            member, dwell_s=member.dwell_s * d, speed_mps=member.speed_mps / d
        )

    def _is_at_work(self, name: str) -> bool:
        status = self._watch.statuses.get(name)
        return status is not None and bool(status.client) and is_at_work(status.state)

    def _log(self, name: str) -> list[Mapping[str, Any]]:
        path = self._files.of(name) / "steps.jsonl"
        if not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def _vehicles(self) -> list[VehicleSpec]:
        c = self._config
        task = noise_task(str(self._files.task), "")
        costs = noise_costs(str(self._files.task), task.graph)
        planner = RoundPlanner(costs, c.plan.num_micro_batches, load_devices(), PlanningConfig())
        room = int(c.memory_share * planner.alone_bytes)
        return [
            VehicleSpec(name=f"vehicle_{i}", device=c.device(i), available_bytes=room)
            for i in range(c.processes)
        ]

    def _testbed(self, vehicles: list[VehicleSpec]) -> Testbed:
        profiles = load_devices()
        return Testbed(
            vehicles={
                v.name: EmulatedVehicle(
                    seconds_per_flop=profiles[v.device].seconds_per_flop,
                    available_bytes=v.available_bytes,
                )
                for v in vehicles
            },
            link=LinkProfile(bits_per_s=1e6 * self._config.link_mbps, delay_s=_DELAY_S),
            dilation=self._config.dilation,
        )

    def _edge_parameters(self, testbed: Testbed) -> dict[str, str]:
        """Everything that the edge plans with is in seconds of this computer."""
        c, d = self._config, self._config.dilation
        values = {
            "lease_s": c.lease_s,
            "rounds.silent_after_s": 3.0 * c.lease_s,
            "rounds.cut_every": c.cut_every,
            "rounds.rotation_cuts": c.rotation_cuts,
            "rounds.patience_s": _PATIENCE_S * d,
            "rounds.hang_after_s": 60.0,
            "listen_s": 0.1,
            "planning.clustering.memory_redundancy": c.memory_redundancy,
            "planning.places.radius_m": c.radius_m,
            "planning.places.leave_s": _LEAVE_S * d,
            "planning.places.least_stay_s": c.least_stay_s * d,
            "planning.places.horizon_s": _HORIZON_S * d,
        }
        asked = {key: str(value) for key, value in values.items()}
        return asked | emulated_planning(testbed, work_scale=c.work_scale)
