# SPDX-License-Identifier: Apache-2.0
"""From what vehicles say of themselves to clusters, pipelines and templates of one edge.

Availability (Eqs. 1, 2), stability (Eqs. 3 to 5, :mod:`flad_edge.mobility.positions`), clusters
(Eq. 6) and plans, kept fresh: a cluster goes on while it has enough and holds together; only who is
in none is grouped anew.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flad_common.config import knob, section
from flad_edge.swift.availability import TaskNeeds, availability
from flad_edge.swift.cluster import Cluster, Floats, RadioConfig, Vehicle
from flad_edge.swift.clustering import (
    ClusteringConfig,
    Neighbourhood,
    cluster_vehicles,
)
from flad_edge.swift.cost import module_flops
from flad_edge.swift.devices import DeviceProfile
from flad_edge.swift.exact import Objective
from flad_edge.swift.planner import ClusterPlan, LearnedPlanner, PlannerName, plan_cluster
from flad_edge.swift.problem import Problem
from flad_edge.swift.templates import Template, templates_for
from flad_edge.swift.units import ModelUnits, read_units


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A vehicle in the coverage, as it says itself.

    Raises:
        ValueError: on a number that cannot be: what is wrong, what came, what is allowed.
    """

    name: str
    device: str
    available_bytes: float
    """0: what its device has."""
    x_m: float
    y_m: float
    speed_mps: float
    heading_rad: float
    dwell_s: float
    """How long it will stay from now on (:mod:`flad_edge.mobility.dwell`)."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a vehicle needs a name, got an empty one")
        if not (math.isfinite(self.x_m) and math.isfinite(self.y_m)):
            raise ValueError(
                f"{self.name}: position ({self.x_m}, {self.y_m}) is not finite; "
                "it takes no part until it knows where it is"
            )
        for what in ("available_bytes", "speed_mps", "dwell_s"):
            value = getattr(self, what)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{self.name}: {what} must be finite and >= 0, got {value}")
        if not math.isfinite(self.heading_rad):
            raise ValueError(f"{self.name}: heading_rad must be finite, got {self.heading_rad}")


@dataclass(frozen=True, kw_only=True)
class FleetConfig:
    """How an edge groups its vehicles."""

    radius_m: float = knob(150.0, unit="m", doc="R_v: how far a vehicle's radio reaches.")
    horizon_s: float = knob(30.0, unit="s", doc="Over which stability is looked at (Eq. 5).")
    leave_s: float = knob(6.0, unit="s", doc="Who stays shorter than this takes no part.")
    least_nearness: float = knob(
        0.1, unit="1", doc="Mean stability of its pairs under which a cluster is given up."
    )
    objective: Objective = knob("makespan", unit="", doc="path (Eq. 10) or makespan.")
    planner: PlannerName = knob("auto", unit="", doc="auto, exact, dqn or greedy.")
    micro_batches: int = knob(8, unit="1", doc="Of a step.")
    radio: RadioConfig = section(RadioConfig, doc="The channel between vehicles.")
    clustering: ClusteringConfig = section(ClusteringConfig, doc="Eq. 6.")

    def __post_init__(self) -> None:
        for name in ("radius_m", "horizon_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not self.leave_s >= 0.0:
            raise ValueError(f"leave_s must not be negative, got {self.leave_s}")
        if self.micro_batches < 1:
            raise ValueError(f"micro_batches must be at least 1, got {self.micro_batches}")


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A cluster that trains, with its pipelines and what to run when somebody leaves."""

    members: tuple[str, ...]
    plan: ClusterPlan
    templates: Mapping[frozenset[int], Template]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FleetPlan:
    """Everybody's part."""

    alone: tuple[str, ...] = ()
    """Sufficient: they train the whole model by themselves."""
    clusters: tuple[Planned, ...] = ()
    left_over: Mapping[str, str] = field(default_factory=dict)
    """Who takes no part, and why."""


_TRIES, _LARGER = 4, 1.4
"""How often clusters without a plan are grown, and by how much memory."""

Stability = Callable[[Sequence[Member]], Floats]
"""``[n, n]``: Eq. 5 of every pair by the time looked at, 0 (apart) to 1 (together)."""


class FleetPlanner:
    """Remembers the clusters of its last plan. Single-threaded.

    Args:
        config: how to group.
        needs: of the training task (Eqs. 1, 2).
        model: in micro-batches of the size that is run.
        devices: by name.
        stability: of pairs; by default, everybody goes straight on.
        learned: the DQN, for large clusters.
    """

    def __init__(
        self,
        config: FleetConfig,
        needs: TaskNeeds,
        model: ModelUnits,
        devices: Mapping[str, DeviceProfile],
        *,
        stability: Stability | None = None,
        learned: LearnedPlanner | None = None,
    ) -> None:
        self._config, self._needs, self._model = config, needs, model
        self._devices, self._learned = devices, learned
        self._stability = stability or straight_on(config.radius_m, config.horizon_s)
        self._clusters: list[Planned] = []

    def plan(self, members: Sequence[Member]) -> FleetPlan:
        """Everybody's part from now on; clusters that still hold together stay as they are.

        Raises:
            ValueError: if two have one name.
        """
        names = [m.name for m in members]
        if len(set(names)) != len(names):
            raise ValueError(f"vehicles need names of their own, got {sorted(names)}")
        left_over: dict[str, str] = {}
        alone: list[str] = []
        limited: list[Member] = []
        for member in members:
            kind = self._kind(member, left_over)
            if kind == "sufficient":
                alone.append(member.name)
            elif kind == "limited":
                limited.append(member)
        there = self._neighbourhood(limited)
        kept = [c for c in self._clusters if self._holds(c, limited, there)]
        taken = {name for cluster in kept for name in cluster.members}
        free = [i for i, m in enumerate(limited) if m.name not in taken]
        clustering = self._config.clustering
        for _ in range(_TRIES):
            around = _of(there, free)
            found = cluster_vehicles(around, self._needs, clustering)
            for i in found.left_over:
                left_over.setdefault(limited[free[i]].name, self._too_few(i, around, clustering))
            planned = [
                self._planned([limited[free[i]] for i in chosen], left_over)
                for chosen in found.clusters
            ]
            kept += [cluster for cluster in planned if cluster is not None]
            taken = {name for cluster in kept for name in cluster.members}
            free = [i for i in free if limited[i].name not in taken]
            if all(cluster is not None for cluster in planned):
                break
            # Eq. 6 asks for M_cap; snapshots and micro-batches in flight may need more
            clustering = dataclasses.replace(
                clustering, memory_redundancy=_LARGER * clustering.memory_redundancy
            )
        left_over = {k: why for k, why in left_over.items() if k not in taken}
        self._clusters = kept
        return FleetPlan(alone=tuple(alone), clusters=tuple(kept), left_over=left_over)

    def _kind(self, member: Member, left_over: dict[str, str]) -> str | None:
        if member.device not in self._devices:
            known = ", ".join(sorted(self._devices))
            left_over[member.name] = f"device {member.device!r} is unknown; known are {known}"
            return None
        if member.dwell_s < self._config.leave_s:
            left_over[member.name] = (
                f"it leaves in {member.dwell_s:.0f} s; at least {self._config.leave_s:g} s count"
            )
            return None
        rate = 1.0 / self._devices[member.device].seconds_per_flop
        kind = availability(member.dwell_s, rate, self._bytes(member), self._needs)
        if kind == "unavailable":
            can, must = member.dwell_s * rate, self._needs.least_share * self._needs.flops
            left_over[member.name] = (
                f"in {member.dwell_s:.0f} s it can do {can:.3g} FLOP, {must:.3g} are needed (Eq. 1)"
            )
        return kind

    def _too_few(self, i: int, there: Neighbourhood, clustering: ClusteringConfig) -> str:
        """Why a vehicle found no cluster, in the terms of Eq. 6."""
        near = [j for j in range(len(there)) if j == i or there.reachable[i, j]]
        has, work = float(there.memory_bytes[near].sum()), float(there.work_flops[near].sum())
        need = clustering.memory_redundancy * self._needs.capacity_bytes
        return (
            f"it and the {len(near) - 1} free vehicles in its reach are too few for the model: "
            f"{has / 1e9:.2f} GB and {work:.3g} FLOP; a cluster of at most {clustering.most}, each "
            f"in reach of all, needs {need / 1e9:.2f} GB and "
            f"{clustering.redundancy * self._needs.flops:.3g} FLOP (Eq. 6)"
        )

    def _bytes(self, member: Member) -> float:
        return member.available_bytes or self._devices[member.device].available_bytes

    def _neighbourhood(self, members: Sequence[Member]) -> Neighbourhood:
        place_m = np.array([[m.x_m, m.y_m] for m in members]).reshape(-1, 2)
        apart_m = np.linalg.norm(place_m[:, None] - place_m[None, :], axis=2)
        work = [m.dwell_s / self._devices[m.device].seconds_per_flop for m in members]
        return Neighbourhood(
            memory_bytes=np.array([self._bytes(m) for m in members]),
            work_flops=np.array(work),
            stability=self._stability(members),
            reachable=apart_m <= self._config.radius_m,
        )

    def _holds(self, cluster: Planned, members: Sequence[Member], there: Neighbourhood) -> bool:
        """Whether all of it is still there, and near enough to each other, with enough."""
        index = {m.name: i for i, m in enumerate(members)}
        if not all(name in index for name in cluster.members):
            return False
        chosen = [index[name] for name in cluster.members]
        both = there.stability[np.ix_(chosen, chosen)]
        pairs = len(chosen) * (len(chosen) - 1)
        nearness = float(both.sum() - np.trace(both)) / pairs
        memory = float(there.memory_bytes[chosen].sum())
        return nearness >= self._config.least_nearness and memory >= self._needs.capacity_bytes

    def _planned(self, members: Sequence[Member], left_over: dict[str, str]) -> Planned | None:
        config, radio, n = self._config, self._config.radio, len(members)
        cluster = Cluster(
            vehicles=tuple(
                Vehicle(
                    name=m.name,
                    device=m.device,
                    available_bytes=self._bytes(m),
                    seconds_per_flop=self._devices[m.device].seconds_per_flop,
                    stability=m.dwell_s,
                )
                for m in members
            ),
            seconds_per_byte=np.full((n, n), 8.0 * radio.overhead / radio.bits_per_s),
            delay_s=np.full((n, n), radio.delay_s),
            shared_channel=radio.shared,
        )
        problem = Problem(cluster, self._model, config.micro_batches)
        names = tuple(m.name for m in members)
        why = problem.shortage() or "none of its orders fits into memory"
        if problem.shortage() is None:
            plan = plan_cluster(
                problem, objective=config.objective, planner=config.planner, learned=self._learned
            )
            if plan.best is not None:
                templates = templates_for(
                    problem,
                    objective="path",
                    planner=config.planner,
                    learned=self._learned,
                    pairs=False,
                )
                return Planned(names, plan, templates)
        left_over.update(dict.fromkeys(names, f"its cluster {', '.join(names)} has no plan: {why}"))
        return None


def straight_on(radius_m: float, horizon_s: float, steps: int = 6) -> Stability:
    """Stability where no movement was learned: everybody keeps speed and heading."""

    def of(members: Sequence[Member]) -> Floats:
        place = np.array([[m.x_m, m.y_m] for m in members]).reshape(-1, 2)
        speed = np.array(
            [
                [m.speed_mps * math.cos(m.heading_rad), m.speed_mps * math.sin(m.heading_rad)]
                for m in members
            ]
        ).reshape(-1, 2)
        near = np.zeros((len(place), len(place)))
        for t_s in np.linspace(0.0, horizon_s, steps):
            then = place + t_s * speed
            apart_m = np.linalg.norm(then[:, None] - then[None, :], axis=2)
            near += np.maximum(0.0, 1.0 - apart_m / radius_m)
        return near / steps

    return of


def _of(there: Neighbourhood, rows: Sequence[int]) -> Neighbourhood:
    chosen = list(rows)
    return Neighbourhood(
        memory_bytes=there.memory_bytes[chosen],
        work_flops=there.work_flops[chosen],
        stability=there.stability[np.ix_(chosen, chosen)],
        reachable=there.reachable[np.ix_(chosen, chosen)],
    )


class Heard:
    """The last that each vehicle said. Single-threaded.

    Args:
        lost_s: who is silent for longer is gone.
    """

    def __init__(self, lost_s: float) -> None:
        self._lost_s = lost_s
        self._last: dict[str, tuple[float, Member]] = {}

    def take(self, member: Member, now_s: float) -> None:
        """A vehicle has spoken."""
        self._last[member.name] = (now_s, member)

    def present(self, now_s: float) -> list[Member]:
        """Who is there, by name; the time that each will stay has run on since it spoke."""
        self._last = {
            name: said for name, said in self._last.items() if now_s - said[0] <= self._lost_s
        }
        return [
            dataclasses.replace(member, dwell_s=max(0.0, member.dwell_s - (now_s - said_s)))
            for _, (said_s, member) in sorted(self._last.items())
        ]


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is trained, for an edge's planning."""

    units: str = knob("", unit="", doc="File of units (./flad profile --units); needed.")
    batch_size: int = knob(4, unit="1", doc="Samples of a micro-batch.")
    samples: int = knob(2000, unit="1", doc="Of an epoch, of all members together.")
    epochs: float = knob(1.0, unit="1", doc="e_req of Eq. 1.")
    least_share: float = knob(0.2, unit="1", doc="alpha of Eq. 1.")

    def __post_init__(self) -> None:
        for name in ("batch_size", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def task_of(config: TaskConfig) -> tuple[ModelUnits, TaskNeeds]:
    """The model in micro-batches, and what training it asks for (M_cmp and M_cap of Eqs. 1, 2).

    Raises:
        ValueError: if the file of units cannot be read.
    """
    model = read_units(Path(config.units), 60).of_batch(config.batch_size)
    flops = sum(unit.flops_forward + unit.flops_backward for unit in model.units)
    needs = TaskNeeds(
        flops_per_epoch=module_flops(flops / model.batch_size, config.samples),
        epochs=config.epochs,
        capacity_bytes=model.capacity_bytes,
        least_share=config.least_share,
    )
    return model, needs
