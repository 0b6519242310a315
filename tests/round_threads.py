# SPDX-License-Identifier: Apache-2.0
"""A whole federation in the test's process: the edge's conductor, and vehicles as threads."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from member_threads import a_world_per_thread
from torch import Tensor, nn
from torch.nn import functional

from flad_edge.federate.conductor import Conductor
from flad_edge.federate.planning import PlanningConfig, RoundPlanner
from flad_edge.federate.rounds import ConductorConfig, RoundGoal, RoundOutcome
from flad_edge.swift.devices import load_devices
from flad_pipeline.aggregation.keys import KeyRing, VehicleKey
from flad_pipeline.aggregation.layout import ModelLayout
from flad_pipeline.aggregation.update import signed_update
from flad_pipeline.graph.costs import unit_costs
from flad_pipeline.graph.units import unit_graph
from flad_pipeline.group.deadlines import TransportConfig
from flad_pipeline.group.memory_link import MemoryNetwork
from flad_pipeline.group.transport import Transport
from flad_pipeline.round.edge_link import CutName, EdgeAwayError
from flad_pipeline.round.order import Order, Status, VehicleFacts
from flad_pipeline.round.task import TrainingTask
from flad_pipeline.round.worker import StageWorker, StepDone, WorkerConfig
from flad_pipeline.stages.trainer import MicroBatch, StepConfig

_DEADLINE_S = 300.0
_TICK_S = 0.02
MICRO_BATCHES = 4


BATCH, WIDTH = 4, 12


class Chain(nn.Module):
    """Units in a line, with buffers and dropout, and two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, WIDTH)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Tanh(), nn.Dropout(0.2)
                )
                for _ in range(7)
            )
        )
        self.light, self.places = nn.Linear(WIDTH, 2), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.blocks(self.stem(x))
        return self.light(found), self.places(found)


def loss(result: Any, targets: Tensor) -> Tensor:
    light, places = result
    return functional.cross_entropy(light, targets) + places.square().mean()


def adam(parameters):
    return torch.optim.AdamW(parameters.values(), lr=1e-2)


def make_task(vehicle: str, samples: int = 64) -> TrainingTask:
    """A small model with dropout and clipping; every vehicle has other data."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Chain().train()

    def batches(round_number: int, step: int) -> Sequence[MicroBatch]:
        numbers = torch.Generator().manual_seed(
            (int(vehicle[-1]) * 1000 + round_number) * 1000 + step
        )
        return [
            MicroBatch(
                args=(torch.randn(BATCH, 6, generator=numbers),),
                targets=torch.randint(2, (BATCH,), generator=numbers),
            )
            for _ in range(MICRO_BATCHES)
        ]

    return TrainingTask(
        graph=unit_graph(model, (torch.zeros(BATCH, 6),), verify=False),
        layout=ModelLayout.of(model),
        start={name: tensor.clone() for name, tensor in model.state_dict().items()},
        step_config=StepConfig(num_micro_batches=MICRO_BATCHES, clip_norm=0.5, seed=7),
        make_optimizer=adam,
        loss=loss,
        batches=batches,
        num_samples=samples if vehicle else 0,
    )


class Federation:
    """Vehicles ``vehicle_0`` and so on; the thread of the test is the edge.

    Args:
        folder: of the edge.
        shares: memory of each vehicle as a share of what the whole model needs.
        config: of the edge.
        transport: of every vehicle.
    """

    def __init__(
        self,
        folder: Path,
        shares: Sequence[float],
        config: ConductorConfig,
        transport: TransportConfig | None = None,
    ) -> None:
        self._folder, self._config = folder, config
        self._transport = transport or TransportConfig(timeout_s=30.0, silent_after_s=0.0)
        self._task = make_task("")
        graph = self._task.graph
        inputs = graph.traced.flatten((torch.zeros(BATCH, 6),))
        self.planner = RoundPlanner(
            unit_costs(graph, inputs), MICRO_BATCHES, load_devices(), PlanningConfig()
        )
        self._network = MemoryNetwork()
        self.names = [f"vehicle_{i}" for i in range(len(shares))]
        # Before anybody trains: while a model is traced, no module may run in another thread.
        self._tasks = {name: make_task(name) for name in self.names}
        self._keys = {name: VehicleKey.generate() for name in self.names}
        self._ring = KeyRing()
        for name, key in self._keys.items():
            self._ring = self._ring.enrol(name, key.public, today="2026-01-01")
        self._shares = dict(zip(self.names, shares, strict=True))
        self._lock = threading.RLock()
        self._threads: dict[str, threading.Thread] = {}
        self._transports: dict[str, Transport] = {}
        self.workers: dict[str, StageWorker] = {}
        self.orders: list[Order] = []
        self.events: list[str] = []
        self.steps: list[tuple[str, StepDone]] = []
        self.fetch_takes_s: dict[str, float] = {}
        """By vehicle; nothing for who is not in it."""
        self.unheard: set[int] = set()
        """Orders of which the edge hears nothing from those who follow them."""
        self.before_order: Callable[[Order], None] = lambda order: None
        """Called with every order before any worker has it."""
        self.conductor: Conductor | None = None
        self._worlds = a_world_per_thread()

    def __enter__(self) -> Federation:
        self._worlds.__enter__()
        gc.freeze()  # as a worker's node does: else every collection takes a third of a second
        self.start_edge()
        return self

    def __exit__(self, *error: object) -> None:
        for name in list(self.workers):
            self.kill(name, tell=False)
        gc.unfreeze()
        self._worlds.__exit__(None, None, None)

    def start_edge(self) -> None:
        """A new process of the edge, which reads the journal."""
        conductor = Conductor(
            self._task,
            self.planner,
            self._config,
            self._folder,
            self._ring,
            say=self._say,
            tell=self.events.append,
        )
        with self._lock:
            conductor.resume_clock(time.monotonic())
            self.conductor = conductor

    def kill_edge(self) -> None:
        """Nobody answers any more."""
        with self._lock:
            self.conductor = None

    def start(self, *names: str) -> None:
        """Vehicles that are not there yet."""
        for name in names or self.names:
            transport = Transport(self._network.link(name), self._transport)
            task = self._tasks[name]
            worker = StageWorker(
                name,
                task,
                transport,
                _Edge(self),
                key=self._keys[name],
                facts=VehicleFacts(
                    device="nano",
                    available_bytes=int(self._shares[name] * self.planner.alone_bytes),
                    dwell_s=3600.0,
                    num_samples=task.num_samples,
                    digest=task.graph.digest,
                ),
                config=WorkerConfig(edge_away_s=0.05),
                say=self._hear,
                on_step=lambda done, name=name: self.steps.append((name, done)),
            )
            thread = threading.Thread(target=worker.run, daemon=True, name=name)
            self.workers[name], self._transports[name] = worker, transport
            self._threads[name] = thread
            thread.start()
            self._hear(worker.status)

    def kill(self, name: str, *, tell: bool = True) -> None:
        """As SIGKILL: it falls silent, the others are told by the link."""
        self._network.kill(name)
        worker = self.workers.pop(name)
        if tell:
            with self._lock:
                if self.conductor is not None:
                    self.conductor.on_lost(name, "it was killed", time.monotonic())
        worker.close()
        self._threads.pop(name).join(_DEADLINE_S)
        self._transports.pop(name).close()

    def train(
        self, steps: int, during: Callable[[Federation], None] = lambda _: None
    ) -> RoundOutcome:
        """One round; ``during`` is called while it runs, again and again."""
        assert self.conductor is not None
        with self._lock:
            self.conductor.begin(RoundGoal(steps=steps), time.monotonic())
        end_s = time.monotonic() + _DEADLINE_S
        while self.conductor is None or self.conductor.is_training:
            assert time.monotonic() < end_s, "\n".join(self.events)
            during(self)
            for worker in list(self.workers.values()):
                self._hear(worker.status)
            with self._lock:
                if self.conductor is not None:
                    self.conductor.on_tick(time.monotonic())
            threading.Event().wait(_TICK_S)
        assert self.conductor.last is not None
        return self.conductor.last

    def furthest(self) -> int:
        """The last step that somebody has taken."""
        return max((done.step for _, done in self.steps), default=-1)

    def _hear(self, status: Status) -> None:
        with self._lock:
            is_heard = status.vehicle in self.workers and status.order not in self.unheard
            if self.conductor is not None and is_heard:
                self.conductor.on_status(status, time.monotonic())

    def _say(self, order: Order) -> None:
        self.before_order(order)
        self.orders.append(order)
        for worker in list(self.workers.values()):
            worker.offer(order)

    def update_of(self, name: str, order: Order) -> bytes:
        """Signed by a vehicle as the answer to an order; it trained nothing."""
        return signed_update(
            self._keys[name],
            self._task.start,
            vehicle=name,
            client=order.client,
            round_number=order.round,
            round_id=order.round_id,
            epoch=order.epoch,
            start_hash=order.start_hash,
            num_samples=16,
        ).to_bytes()

    def ask(self) -> Conductor:
        """The edge, if it is there."""
        if self.conductor is None:
            raise EdgeAwayError("it was killed")
        return self.conductor


class _Edge:
    """Its services as plain calls."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation

    def fetch(self, cut: CutName, units: Sequence[int]) -> list[bytes]:
        time.sleep(self._federation.fetch_takes_s.get(cut.vehicle, 0.0))
        with self._federation._lock:
            return self._federation.ask().fetch(cut, list(units))

    def store(self, cut: CutName, units: Sequence[bytes]) -> int:
        with self._federation._lock:
            return self._federation.ask().store(cut, list(units))

    def submit(self, vehicle: str, update: bytes) -> None:
        with self._federation._lock:
            self._federation.ask().submit(vehicle, update)
