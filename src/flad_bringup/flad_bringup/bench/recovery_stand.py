# SPDX-License-Identifier: Apache-2.0
"""A federation that is disturbed on purpose: three vehicles and their edge, hosts of their own.

One vehicle after the other is killed, stopped or cut off, at a moment that is chosen; when the
others have taken their next step it comes back, and the next one can be disturbed.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flad_bringup.bench.exactness_case import Plan
from flad_bringup.bench.hosts import Hosts
from flad_bringup.bench.recovery_phases import PHASES, Phase, PhaseReader, phase_file
from flad_bringup.bench.recovery_task import COSTS, TASK, noise_costs, noise_task
from flad_bringup.federate.fleet import Fleet, FleetFiles, VehicleSpec
from flad_bringup.federate.watch_node import FederationWatch
from flad_bringup.workspace import find_workspace
from flad_carla.evaluation.domain import own_domain
from flad_common.fast_dds import PROFILE_VARIABLE, UDP_ONLY
from flad_common.supervision import Supervisor
from flad_edge.federate.planning import PlanningConfig, RoundPlanner
from flad_edge.swift.devices import load_devices
from flad_pipeline.round.order import Order, Stand, Status
from flad_pipeline.testbed.testbed import EmulatedVehicle, LinkProfile, Testbed

NAMES = tuple(f"vehicle_{i}" for i in range(3))
FOREVER = 1_000_000  # steps of a round that nobody waits for
_START_S = 900.0
_SETTLE_STEPS = 3
_LOOK_S = 0.0003
_LOOKS = 100  # between two looks at what vehicles say
_AS_FAST_AS_IT_IS = 1e-18  # seconds a FLOP: only links are emulated

How = Literal["killed", "stopped", "cut_off"]


@dataclass(frozen=True, kw_only=True)
class StandConfig:
    """What is trained, and over which link."""

    config: str
    seed: int
    micro_batches: int
    cut_every: int
    lease_s: float
    memory_share: float
    link: LinkProfile | None = None
    """Emulated; None: as fast as it is."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One vehicle that was lost, and where the time went. Seconds count from the signal."""

    vehicle: str
    how: How
    phase: Phase
    """In which it was when it died."""
    seconds: float
    """To the end of the next optimizer step of everybody who was left."""
    ordered_s: float
    """To the edge's order to go on."""
    left_s: float
    """Until everybody had left the old epoch."""
    loaded_s: float
    """Until everybody had put units back, those from the edge among them."""
    lost_steps: int
    fetched_bytes: int
    """Of units that came from the edge."""
    num_orders: int
    """More than one: somebody else was taken for lost meanwhile."""


class RecoveryStand:
    """The federation under test. Single-threaded; see :func:`recovery_stand`."""

    def __init__(
        self, c: StandConfig, folder: Path, supervisor: Supervisor, domain_id: int, hosts: Any
    ) -> None:
        self.config, self._hosts = c, hosts
        self._files = FleetFiles(folder=folder)
        plan = Plan(
            config=c.config,
            seed=c.seed,
            micro_batch=2,
            num_micro_batches=c.micro_batches,
            phases=(),
        )
        plan.write(self._files.task)
        task = noise_task(str(self._files.task), "")
        costs = noise_costs(str(self._files.task), task.graph)
        planner = RoundPlanner(costs, c.micro_batches, load_devices(), PlanningConfig())
        memory = int(c.memory_share * planner.alone_bytes)
        self.plan, self._num_units = plan, len(task.graph.units)
        self.events: list[str] = []
        """What the edge said."""
        self._watch = FederationWatch(domain_id, self.events.append, on_status=self._heard)
        self._stands: list[tuple[float, Status]] = []
        self._phases = {n: PhaseReader(phase_file(self._files.task, n)) for n in NAMES}
        self._fleet = Fleet(
            self._files,
            [VehicleSpec(name=n, device="nano", available_bytes=memory) for n in NAMES],
            supervisor,
            domain_id,
            edge_parameters={
                "lease_s": str(c.lease_s),
                "rounds.cut_every": str(c.cut_every),
                "rounds.most_recoveries": str(FOREVER),
                "rounds.deadline_s": "1.0e+9",
                "rounds.patience_s": "1.0e+9",
                "rounds.silent_after_s": "30.0",
            },
            worker_parameters={"link.lease_s": str(c.lease_s)} | self._emulated(memory),
            task=TASK,
            costs=COSTS,
            placed=hosts.inside if hosts is not None else lambda _, command: command,
        )

    @property
    def can_cut_off(self) -> bool:
        """Whether vehicles are hosts of their own."""
        return self._hosts is not None

    def start(self) -> None:
        """Everybody trains."""
        self._fleet.start_edge()
        for name in NAMES:
            self._fleet.start(name)
        self._until(
            lambda: self._watch.edge_is_there() and len(self._watch.statuses) == len(NAMES),
            "the edge and every vehicle being there",
        )
        self._watch.ask(1, steps=FOREVER, deadline_s=1e9)
        self._settle()

    def train(self, num_steps: int) -> int:
        """Let so many steps go by; how many vehicles were taken for lost meanwhile."""
        end, orders = self._step() + num_steps, len(self._watch.told)
        self._until(lambda: self._step() >= end, f"{num_steps} steps")
        return len(self._watch.told) - orders

    def lose(self, vehicle: str, how: How, aim: Phase, numbers: random.Random) -> Loss:
        """One vehicle falls silent; afterwards everybody trains again."""
        self._wait_for(vehicle, aim, numbers)
        rest = [name for name in NAMES if name != vehicle]
        before = self._order()
        reached = max(self._watch.statuses[v].step for v in rest)
        self._stands.clear()
        began_s = time.monotonic()
        self._silence(vehicle, how)
        phase = self._phases[vehicle].last(aim)
        first = self._first_steps(rest, before.epoch)
        after = self._order()
        told = [at_s for at_s, order in self._watch.told if order.epoch > before.epoch]
        loss = Loss(
            vehicle=vehicle,
            how=how,
            phase=phase,
            seconds=max(line["ended_s"] for line in first) - began_s,
            ordered_s=told[-1] - began_s,
            left_s=self._stood(rest, Stand.LOADING, after) - began_s,
            loaded_s=self._stood(rest, Stand.TRAINING, after) - began_s,
            lost_steps=max(0, reached - min(line["step"] for line in first)),
            fetched_bytes=self._fetched_bytes(before, after),
            num_orders=len(told),
        )
        self._bring_back(vehicle, how)
        self._settle()
        return loss

    def relaunch(self, numbers: random.Random) -> float:
        """One vehicle dies, and everything is started anew: seconds to the next step."""
        self._wait_for(NAMES[0], "between", numbers)
        began_s = time.monotonic()
        for name in (*NAMES, "edge"):
            self._fleet.kill(name)
        dead_s = time.monotonic()
        self._watch.statuses.clear()
        self._fleet.start_edge()
        for name in NAMES:
            self._fleet.start(name)
        first = self._first_steps(NAMES, -1, dead_s)
        self._settle()
        return max(float(line["ended_s"]) for line in first) - began_s

    def restart_edge(self) -> None:
        """The edge is killed, and begins again; vehicles train on meanwhile."""
        self._fleet.kill("edge")
        self._fleet.start_edge()
        said = len(self.events)
        self._until(lambda: len(self.events) > said, "a word of the edge")
        self._settle()

    def train_until(self, end_s: float) -> None:
        """Let time go by."""
        self._until(lambda: time.monotonic() >= end_s, "the end of a while")

    def resident_bytes(self) -> dict[str, float]:
        """Of every process."""
        return {name: self._fleet.resident_bytes(name) for name in (*NAMES, "edge")}

    def orders(self) -> list[Order]:
        """All that said TRAIN."""
        return sorted((order for _, order in self._watch.told), key=lambda order: order.order)

    def step_logs(self) -> dict[str, list[dict[str, Any]]]:
        """Every line, by vehicle."""
        return {name: self._log(name, whole=True) for name in NAMES}

    def step_s(self) -> float:
        """Median of a step of three stages."""
        lines = [line for name in NAMES for line in self._log(name)]
        return statistics.median(float(line["seconds"]) for line in lines)

    def copied_bytes_per_cut(self) -> float:
        """Bytes of one cut of all stages, as they lie at the edge."""
        return float(sum(self._unit_bytes().values()))

    def close(self) -> None:
        """Hear nothing any more; processes are the supervisor's."""
        self._watch.close()
        for reader in self._phases.values():
            reader.close()

    # --- one disturbance ------------------------------------------------------------------------

    def _wait_for(self, vehicle: str, aim: Phase, numbers: random.Random) -> None:
        """A random moment, then until the vehicle is at it."""
        end_s = time.monotonic() + numbers.uniform(0.0, 3.0 * self.step_s())
        self._until(lambda: time.monotonic() >= end_s, "a random moment")
        if aim not in PHASES:
            return
        reader = self._phases[vehicle]
        skip = numbers.randrange(4) if aim in ("forward", "backward") else 0
        for _ in range(skip + 1):
            self._until(lambda: not reader.is_in(aim), f"the end of {aim}", spin=False)
            self._until(lambda: reader.is_in(aim), aim, spin=False)

    def _silence(self, vehicle: str, how: How) -> None:
        if how == "killed":
            self._fleet.kill(vehicle)
        elif how == "stopped":
            self._fleet.freeze(vehicle)
        else:
            self._hosts.cut_off(vehicle)

    def _bring_back(self, vehicle: str, how: How) -> None:
        if how == "stopped":
            self._fleet.thaw(vehicle)
        elif how == "cut_off":
            self._hosts.connect(vehicle)
        else:
            self._watch.statuses.pop(vehicle, None)
            self._phases[vehicle].begin()
            self._fleet.start(vehicle)

    def _fetched_bytes(self, before: Order, after: Order) -> int:
        """Units that nobody who is left had at the cut from which they went on."""
        sizes, step = self._unit_bytes(), after.from_step
        had = {v: set(before.pipeline(step).units_of(v)) for v in after.vehicles}
        wanted = after.pipeline(step)
        return sum(
            sizes.get(unit, 0)
            for v in after.vehicles
            for unit in wanted.units_of(v)
            if unit not in had[v]
        )

    def _unit_bytes(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for path in (self._files.edge / "copies").glob("*/*/*.safetensors"):
            try:
                found[int(path.stem)] = path.stat().st_size
            except FileNotFoundError:  # an old cut, just forgotten
                continue
        return found

    # --- what there is to see -------------------------------------------------------------------

    def _heard(self, status: Status) -> None:
        self._stands.append((time.monotonic(), status))

    def _stood(self, names: Sequence[str], state: Stand, order: Order) -> float:
        """When the last of them said that it was there, under this order."""
        first: dict[str, float] = {}
        for at_s, status in self._stands:
            reached = status.state is state or status.state is Stand.TRAINING
            if status.vehicle in names and status.order == order.order and reached:
                first.setdefault(status.vehicle, at_s)
        return max(first.values(), default=float("nan"))

    def _settle(self) -> None:
        """All of them train together, and have done so for some steps."""
        self._until(
            lambda: len(self._followers()) == len(NAMES), "three vehicles training together"
        )
        begun = self._step()
        self._until(
            lambda: all(s.step >= begun + _SETTLE_STEPS for s in self._watch.statuses.values()),
            "some steps of everybody",
        )

    def _followers(self) -> list[str]:
        if not self._watch.orders:
            return []
        order = self._order()
        return [
            v
            for v, s in self._watch.statuses.items()
            if s.order == order.order
            and s.state is Stand.TRAINING
            and len(order.vehicles) == len(NAMES)
        ]

    def _order(self) -> Order:
        return max(self._watch.orders.values(), key=lambda o: o.order)

    def _step(self) -> int:
        return max((s.step for s in self._watch.statuses.values()), default=0)

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

    def _log(self, vehicle: str, *, whole: bool = False) -> list[dict[str, Any]]:
        path = self._files.of(vehicle) / "steps.jsonl"
        if not path.is_file():
            return []
        lines = path.read_text(encoding="utf-8").splitlines()[0 if whole else -200 :]
        return [json.loads(line) for line in lines if line.endswith("}")]

    def _until(self, done: Callable[[], bool], what: str, *, spin: bool = True) -> None:
        """Wait; without ``spin`` so closely that a moment is not missed."""
        end_s = time.monotonic() + _START_S
        looks = 0
        while not done():
            looks += 1
            if spin or looks % _LOOKS == 0:
                self._watch.spin(*(() if spin else (_LOOK_S,)))
                self._fleet.check()
            else:
                time.sleep(_LOOK_S)
            if (ended := self._watch.result()) is not None:
                raise RuntimeError(f"the round ended: {ended.text}")
            if time.monotonic() > end_s:
                said = {v: (s.state.name, s.step) for v, s in self._watch.statuses.items()}
                raise TimeoutError(f"{what} did not happen within {_START_S:g} s: {said}")

    def _emulated(self, memory: int) -> dict[str, str]:
        if self.config.link is None:
            return {}
        vehicle = EmulatedVehicle(seconds_per_flop=_AS_FAST_AS_IT_IS, available_bytes=memory)
        testbed = Testbed(
            vehicles=dict.fromkeys(NAMES, vehicle), link=self.config.link, shared_channel=False
        )
        self._files.testbed.write_text(testbed.as_json(), encoding="utf-8")
        return {"testbed": str(self._files.testbed), "air": str(self._files.air)}


@contextmanager
def recovery_stand(config: StandConfig, folder: Path) -> Iterator[RecoveryStand]:
    """A federation that trains; as root on four hosts, else on this one."""
    with ExitStack() as stack:
        domain_id = stack.enter_context(own_domain())
        folder.mkdir(parents=True, exist_ok=True)
        hosts = None
        if os.geteuid() == 0:
            hosts = stack.enter_context(Hosts(f"flad_{os.getpid()}", (*NAMES, "edge")))
            profile = find_workspace().config / UDP_ONLY
            stack.enter_context(_environment(**{PROFILE_VARIABLE: str(profile)}))
            stack.enter_context(hosts.this_thread("edge"))
        supervisor = stack.enter_context(Supervisor(folder / "logs"))
        stand = RecoveryStand(config, folder, supervisor, domain_id, hosts)
        stack.callback(stand.close)
        stand.start()
        yield stand


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Of this process: its own participant reads it, and its children inherit it."""
    values |= {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
