# SPDX-License-Identifier: Apache-2.0
"""Clients of a round: vehicles that can train alone, clusters of those that cannot (Eqs. 1, 2, 6).

SWIFT plans a cluster's pipelines (:mod:`flad_edge.swift`); here they become partitions of the model
at hand (:mod:`flad_edge.federate.predicted` says how SWIFT sees it).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from flad_common.config import knob, section
from flad_edge.federate.predicted import as_pipeline, with_heads_first
from flad_edge.federate.whereabouts import Places, PlacesConfig, nearness
from flad_edge.swift.availability import TaskNeeds
from flad_edge.swift.cluster import Cluster, RadioConfig, Vehicle
from flad_edge.swift.clustering import ClusteringConfig, Neighbourhood, cluster_vehicles
from flad_edge.swift.devices import DeviceProfile
from flad_edge.swift.dqn_planner import load_planner
from flad_edge.swift.exact import Objective
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.planner import LearnedPlanner, PlannerName, choose, plan_cluster
from flad_edge.swift.problem import Problem
from flad_edge.swift.rotation import rotation_order
from flad_edge.swift.templates import templates_for
from flad_pipeline.federated.workload import VirtualVehicle, WorkloadConfig, planned_steps
from flad_pipeline.graph.costs import UnitCosts
from flad_pipeline.partition import Partition, Span, stage_bytes
from flad_pipeline.round.order import VehicleFacts

Templates = Mapping[frozenset[str], tuple[Partition, ...]]
"""Pipelines of those who stay, by who is gone."""


@dataclass(frozen=True, kw_only=True)
class PlanningConfig:
    """How clients of a round are made."""

    planner: PlannerName = knob("auto", unit="1", doc="SWIFT's: auto, exact, dqn or greedy.")
    radio: RadioConfig = section(RadioConfig, doc="Links between vehicles, where none is measured.")
    clustering: ClusteringConfig = section(ClusteringConfig, doc="Eq. 6.")
    workload: WorkloadConfig = section(WorkloadConfig, doc="Local steps of a client.")
    places: PlacesConfig = section(PlacesConfig, doc="What follows from where vehicles are.")
    work_scale: float = knob(
        1.0,
        unit="1",
        doc="Each FLOP takes so many times what the device's profile says: an emulated testbed's "
        "work_scale times its dilation.",
    )

    def __post_init__(self) -> None:
        if not self.work_scale > 0.0:
            raise ValueError(f"work_scale must be positive, got {self.work_scale}")


@dataclass(frozen=True, kw_only=True)
class ClientPlan:
    """A client of a round, and what it does."""

    client: str
    vehicles: tuple[str, ...]
    pipelines: tuple[Partition, ...]
    """They take turns in this order."""
    steps: int
    templates: Templates


@dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """Who takes part, and why others do not."""

    clients: tuple[ClientPlan, ...]
    left_out: Mapping[str, str]


class RoundPlanner:
    """Plans for one model. Stateless.

    Args:
        costs: of the model's units, of one micro-batch.
        num_micro_batches: of a step.
        devices: profiles by name; Eq. 8's compute.
        config: how.
    """

    def __init__(
        self,
        costs: UnitCosts,
        num_micro_batches: int,
        devices: Mapping[str, DeviceProfile],
        config: PlanningConfig,
    ) -> None:
        self._costs, self._micro_batches = costs, num_micro_batches
        self._devices, self.config = devices, config
        self._model = with_heads_first(costs)

    @property
    def unit_bytes(self) -> tuple[float, ...]:
        """Of every unit's state, as it goes to another vehicle."""
        return tuple(
            float(u.parameter_bytes + u.optimizer_bytes + u.buffer_bytes) for u in self._costs.units
        )

    @property
    def alone_bytes(self) -> int:
        """Memory that a vehicle needs to train alone."""
        whole = self._partition(["it"], [self._costs.first_head])
        return stage_bytes(whole, self._costs, num_micro_batches=self._micro_batches)["it"]

    def plan(
        self,
        vehicles: Mapping[str, VehicleFacts],
        *,
        places: Places | None = None,
        steps: int = 0,
        max_steps: int = 0,
    ) -> RoundPlan:
        """Make clients of these vehicles.

        Args:
            vehicles: what each brings.
            places: where they are and how long they stay, of those who say it; clusters are made
                of who is near and stays near (Eqs. 5, 6), and their word on their stay counts.
            steps: of every client; 0: by its computer, its stay and its data.
            max_steps: at most so many in any case; 0: no limit.
        """
        left_out = {
            name: f"its model has unit graph {facts.digest}, here is {self._costs.digest}"
            for name, facts in vehicles.items()
            if facts.digest != self._costs.digest
        }
        left_out |= {
            name: "it has no data"
            for name, facts in vehicles.items()
            if name not in left_out and facts.num_samples < self._samples_per_step
        }
        places = {n: m for n, m in (places or {}).items() if n in vehicles}
        least_s = self.config.places.least_stay_s
        left_out |= {
            name: f"it leaves in {member.dwell_s:.1f} s; at least {least_s:g} s count"
            for name, member in places.items()
            if name not in left_out and member.dwell_s < least_s
        }
        there = {
            name: dataclasses.replace(facts, dwell_s=places[name].dwell_s)
            if name in places
            else facts
            for name, facts in vehicles.items()
            if name not in left_out
        }
        alone = [n for n, f in sorted(there.items()) if f.available_bytes >= self.alone_bytes]
        clients = [self._alone(name) for name in alone]
        small = [name for name in sorted(there) if name not in alone]
        for members in self._clusters(small, there, places):
            made = self._cluster(members, there)
            if isinstance(made, str):
                left_out |= dict.fromkeys(members, made)
            else:
                clients.append(made)
        placed = {v for client in clients for v in client.vehicles}
        for name in small:
            if name not in placed:
                left_out.setdefault(
                    name,
                    f"it has {_mib(there[name].available_bytes)} of the {_mib(self.alone_bytes)} "
                    "that the model needs, and no cluster with room for it",
                )
        asked = []
        for client in clients:
            count = steps or self._steps(client, there)
            if steps and client.client in places:  # nobody could go on with what it leaves
                count = min(steps, self._steps(client, there))
            count = min(count, max_steps) if max_steps else count
            if count:
                asked.append(dataclasses.replace(client, steps=count))
            else:
                why = "it would not manage the least number of steps in its stay (Eq. 1)"
                left_out |= dict.fromkeys(client.vehicles, why)
        return RoundPlan(clients=tuple(asked), left_out=left_out)

    def pipelines(self, names: Iterable[str], facts: Mapping[str, VehicleFacts]) -> list[Partition]:
        """Pipelines of these vehicles; one stage if there is one vehicle; none if none fits."""
        members = sorted(names)
        if len(members) == 1:
            fits = facts[members[0]].available_bytes >= self.alone_bytes
            return [self._partition(members, [self._costs.first_head])] if fits else []
        made = self._cluster(members, facts, with_templates=False)
        return [] if isinstance(made, str) else list(made.pipelines)

    @property
    def _samples_per_step(self) -> int:
        return self._micro_batches * self._costs.batch_size

    def _alone(self, name: str) -> ClientPlan:
        whole = self._partition([name], [self._costs.first_head])
        return ClientPlan(client=name, vehicles=(name,), pipelines=(whole,), steps=0, templates={})

    def _clusters(
        self, names: list[str], facts: Mapping[str, VehicleFacts], places: Places
    ) -> Iterable[tuple[str, ...]]:
        """Disjoint sets by Eq. 6; where nothing is known of mobility, all are equally near."""
        if len(names) < 2:
            return []
        near = nearness(names, places, self.config.places)
        work = [facts[v].dwell_s / self._seconds_per_flop(v, facts) for v in names]
        there = Neighbourhood(
            memory_bytes=np.array([float(facts[v].available_bytes) for v in names]),
            work_flops=np.array(work),
            stability=near.stability,
            reachable=near.reachable,
        )
        flops = sum(u.flops_forward + u.flops_backward for u in self._model.units)
        least = self.config.workload.least_steps * self._micro_batches
        needs = TaskNeeds(
            flops_per_epoch=flops * least, epochs=1.0, capacity_bytes=float(self.alone_bytes)
        )
        config = self.config.clustering
        most = min(config.most, self._micro_batches)  # a step fills so many stages
        found = cluster_vehicles(there, needs, dataclasses.replace(config, most=max(2, most)))
        sets = [tuple(names[i] for i in members) for members in found.clusters]
        # Whoever is left over joins the smallest cluster: its data count, and it carries a part.
        for i in found.left_over:
            reach = {names[int(j)] for j in np.nonzero(near.reachable[i])[0]}
            room = [
                k
                for k, members in enumerate(sets)
                if len(members) < most and reach.issuperset(members)
            ]
            if room:
                k = min(room, key=lambda k: len(sets[k]))
                sets[k] = tuple(sorted((*sets[k], names[i])))
        return sets

    def _cluster(
        self, members: Iterable[str], facts: Mapping[str, VehicleFacts], with_templates: bool = True
    ) -> ClientPlan | str:
        """A client of several vehicles, or why there is none."""
        names = sorted(members)
        problem = Problem(self._as_cluster(names, facts), self._model, self._micro_batches)
        objective: Objective = "makespan"
        planner, learned = self.config.planner, self._learned_for(problem)
        try:
            plan = plan_cluster(problem, objective=objective, planner=planner, learned=learned)
        except ValueError as error:
            return str(error)
        there = [p.pipeline for p in plan.pipelines if p.pipeline is not None]
        if not there:
            return f"no pipeline of {', '.join(names)} fits their memory"
        templates: dict[frozenset[str], tuple[Partition, ...]] = {}
        if with_templates:
            found = templates_for(problem, objective=objective, planner=planner, learned=learned)
            for gone, template in found.items():
                stay = [p for p in template.by_first.values() if p is not None]
                key = frozenset(names[i] for i in gone)
                templates[key] = self._in_turn(problem, stay, names)
        return ClientPlan(
            client=f"cluster_{names[0]}",
            vehicles=tuple(names),
            pipelines=self._in_turn(problem, there, names),
            steps=0,
            templates=templates,
        )

    def _learned_for(self, problem: Problem) -> LearnedPlanner | None:
        """The DQN, where this problem is planned by it."""
        takes_it = choose(problem, self.config.planner, True)[0] == "dqn"
        return load_planner() if takes_it else None

    def _in_turn(
        self, problem: Problem, pipelines: list[Pipeline], names: list[str]
    ) -> tuple[Partition, ...]:
        order = rotation_order(problem, pipelines) if pipelines else ()
        return tuple(
            self._partition([names[s.vehicle] for s in p], [s.end for s in p])
            for p in (pipelines[i] for i in order)
        )

    def _partition(self, vehicles: list[str], ends: list[int]) -> Partition:
        costs = self._costs
        return Partition(
            digest=costs.digest,
            num_units=len(costs.units),
            heads_from=costs.first_head,
            stages=tuple(
                Span(vehicle=v, first=a, last=b - 1)
                for v, a, b in zip(vehicles, [0, *ends[:-1]], ends, strict=True)
            ),
        )

    def _as_cluster(self, names: list[str], facts: Mapping[str, VehicleFacts]) -> Cluster:
        n, radio = len(names), self.config.radio
        return Cluster(
            vehicles=tuple(
                Vehicle(
                    name=name,
                    device=facts[name].device,
                    available_bytes=float(facts[name].available_bytes),
                    seconds_per_flop=self._seconds_per_flop(name, facts),
                    stability=facts[name].dwell_s,
                )
                for name in names
            ),
            seconds_per_byte=np.full((n, n), 8.0 * radio.overhead / radio.bits_per_s),
            delay_s=np.full((n, n), radio.delay_s),
            shared_channel=radio.shared,
        )

    def _seconds_per_flop(self, name: str, facts: Mapping[str, VehicleFacts]) -> float:
        device = facts[name].device
        if device not in self._devices:
            raise ValueError(
                f"{name} carries {device!r}, which config/devices.yaml does not know; known are "
                f"{', '.join(sorted(self._devices))}"
            )
        return self._devices[device].seconds_per_flop * self.config.work_scale

    def step_s(self, pipelines: Iterable[Partition], facts: Mapping[str, VehicleFacts]) -> float:
        """What SWIFT says that a step of the slowest of these pipelines takes."""
        slowest_s = 0.0
        for partition in pipelines:
            names = sorted(span.vehicle for span in partition.stages)
            if len(names) == 1:
                flops = sum(u.flops_forward + u.flops_backward for u in self._model.units)
                step_s = self._micro_batches * flops * self._seconds_per_flop(names[0], facts)
            else:
                problem = Problem(self._as_cluster(names, facts), self._model, self._micro_batches)
                step_s = problem.step_s(as_pipeline(partition, names))
            slowest_s = max(slowest_s, step_s)
        return slowest_s

    def _steps(self, client: ClientPlan, facts: Mapping[str, VehicleFacts]) -> int:
        """Local steps by compute and stay; a cluster is one vehicle with the data of all."""
        members = [facts[v] for v in client.vehicles]
        step_s = self.step_s(client.pipelines, facts)
        together = VirtualVehicle(
            name=client.client,
            group="",
            num_samples=sum(f.num_samples for f in members),
            samples_per_s=self._samples_per_step / step_s,
            dwell_s=min(f.dwell_s for f in members),
        )
        workload = dataclasses.replace(self.config.workload, batch_size=self._samples_per_step)
        return planned_steps(together, workload)


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB"
