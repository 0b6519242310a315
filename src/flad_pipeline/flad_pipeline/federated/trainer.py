# SPDX-License-Identifier: Apache-2.0
"""Federated rounds over virtual vehicles in one process; a ClientTrainer knows how one trains.

The updates take the way of real ones: signed by the vehicle, through the gate, into the rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from flad_common.config import knob, section
from flad_common.error_codes import ROUND_FAILED, FladError
from flad_pipeline.aggregation.gate import UpdateGate
from flad_pipeline.aggregation.keys import KeyRing, VehicleKey
from flad_pipeline.aggregation.layout import ClientState, ModelLayout, State, state_hash
from flad_pipeline.aggregation.norms import GateConfig, NormHistory
from flad_pipeline.aggregation.privacy import PrivacyConfig, PrivacyLedger, PrivateMean
from flad_pipeline.aggregation.strategy import Aggregator, StrategyConfig
from flad_pipeline.aggregation.ticket import ClientTicket, RoundTicket
from flad_pipeline.aggregation.update import SignedUpdate, signed_update
from flad_pipeline.federated.report import ClientReport, Figures, RoundReport
from flad_pipeline.federated.workload import (
    VirtualVehicle,
    WorkloadConfig,
    outcome,
    planned_steps,
)

_ENROLLED = "in this process"


@dataclass(frozen=True, kw_only=True)
class ClientResult:
    """What a vehicle made of the model."""

    state: State
    num_samples: int
    """That it trained on, counted as often as it saw them."""
    loss: float
    """Mean over its steps."""


class ClientTrainer(Protocol):
    """Trains on a vehicle's own data; knows the model, which this package does not."""

    def train(
        self,
        vehicle: str,
        start: State,
        *,
        round_number: int,
        num_steps: int,
        proximal_mu: float,
        seed: int,
    ) -> ClientResult:
        """Take ``num_steps`` steps of a round, from 1 on, from ``start``, which stays as it is.

        Raises:
            FladError: if it cannot; the round goes on without this vehicle.
        """

    def evaluate(self, state: State) -> Figures:
        """Figures by town, on data that nobody trains on."""


@dataclass(frozen=True, kw_only=True)
class FederatedConfig:
    """A federated training."""

    active: int = knob(5, unit="vehicles", doc="Asked in a round (the paper: 5 of 50).")
    evaluate_every: int = knob(1, unit="rounds", doc="Between evaluations.")
    seed: int = knob(1, unit="1", doc="Of selection, delays, local training.")
    strategy: StrategyConfig = section(StrategyConfig, doc="How updates become a model.")
    workload: WorkloadConfig = section(WorkloadConfig, doc="How much a vehicle does.")
    gate: GateConfig = section(GateConfig, doc="What is let in, without privacy.")
    privacy: PrivacyConfig | None = knob(
        None, unit="", doc="Clipping and noise; vehicles are then drawn by a coin each."
    )

    def __post_init__(self) -> None:
        if self.active < 1 or self.evaluate_every < 1 or self.seed < 0:
            raise ValueError(
                "active and evaluate_every must be at least 1 and seed not negative, got "
                f"{self.active}, {self.evaluate_every} and {self.seed}"
            )
        if self.privacy is not None and self.strategy.name not in ("fedavg", "fedprox"):
            raise ValueError(
                f"privacy averages clipped updates itself and does not go with the rule "
                f"{self.strategy.name}; choose fedavg or fedprox"
            )


class FederatedTrainer:
    """Rounds from a starting model; single-threaded.

    Args:
        config: of the training.
        layout: of the model.
        vehicles: who may be asked.
        local: trains and evaluates.
        start: the starting model; not changed.

    Raises:
        ValueError: if two vehicles have one name, or ``start`` is not of this layout.
    """

    def __init__(
        self,
        config: FederatedConfig,
        layout: ModelLayout,
        vehicles: Sequence[VirtualVehicle],
        local: ClientTrainer,
        start: State,
    ) -> None:
        names = [vehicle.name for vehicle in vehicles]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"vehicles need names of their own, got {names}")
        if wrong := layout.complaints(start):
            raise ValueError(f"the starting model does not fit: {'; '.join(wrong[:5])}")
        self.config = config
        self._layout = layout
        self._vehicles = tuple(vehicles)
        self._local = local
        self._state: State = {name: tensor.clone() for name, tensor in start.items()}
        self._round = 0
        # A limit that follows other clients' data would void the privacy that clipping gives.
        gate = GateConfig(norm_factor=0.0) if config.privacy else config.gate
        self._norms = NormHistory(gate)
        self._aggregator = Aggregator(config.strategy, layout)
        self._keys = {name: VehicleKey.generate() for name in names}
        ring = KeyRing()
        for name, key in self._keys.items():
            ring = ring.enrol(name, key.public, today=_ENROLLED)
        self._ring = ring
        self._ledger = (
            PrivacyLedger(config.privacy, sampling_rate=self._sampling_rate)
            if config.privacy
            else None
        )

    @property
    def state(self) -> State:
        """The model now."""
        return self._state

    def run(self, num_rounds: int) -> Iterator[RoundReport]:
        """The next rounds, each as it is done."""
        for _ in range(num_rounds):
            yield self.run_round()

    def run_round(self) -> RoundReport:
        """One round; if too few updates count, the model stays and the report says why."""
        self._round += 1
        rng = np.random.default_rng([self.config.seed, self._round])
        asked = {v.name: planned_steps(v, self.config.workload) for v in self._select(rng)}
        reports: list[ClientReport] = []
        updates = self._updates(asked, rng, reports)
        failed = None
        try:
            self._state = self._aggregate(updates)
        except FladError as error:
            if error.code is not ROUND_FAILED:
                raise
            failed = error.detail
        if self._ledger:
            self._ledger.spend()
        due = self._round % self.config.evaluate_every == 0
        return RoundReport(
            round=self._round,
            clients=tuple(reports),
            model_hash=state_hash(self._state),
            failed=failed,
            seconds=max((report.seconds for report in reports), default=0.0),
            figures=self._local.evaluate(self._state) if due else {},
            epsilon=self._ledger.epsilon if self._ledger else None,
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next round depends on."""
        return {
            "round": self._round,
            "state": dict(self._state),
            "aggregator": self._aggregator.state_dict(),
            "norms": self._norms.state_dict(),
            "private_rounds": self._ledger.rounds if self._ledger else 0,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier :meth:`state_dict`."""
        self._round = int(state["round"])
        self._state = {name: tensor.clone() for name, tensor in state["state"].items()}
        self._aggregator.load_state_dict(state["aggregator"])
        self._norms.load_state_dict(state["norms"])
        if self._ledger:
            self._ledger.rounds = int(state["private_rounds"])

    @property
    def _sampling_rate(self) -> float:
        return min(1.0, self.config.active / len(self._vehicles))

    def _select(self, rng: np.random.Generator) -> list[VirtualVehicle]:
        """Vehicles of this round, in a random order."""
        if self.config.privacy:
            # The accountant's promise is for a coin each, over everybody.
            coins = rng.random(len(self._vehicles)) < self._sampling_rate
            drawn = [v for v, chosen in zip(self._vehicles, coins, strict=True) if chosen]
            return [v for v in drawn if planned_steps(v, self.config.workload)]
        able = [v for v in self._vehicles if planned_steps(v, self.config.workload)]
        order = rng.permutation(len(able))[: self.config.active]
        return [able[i] for i in order]

    def _updates(
        self, asked: dict[str, int], rng: np.random.Generator, reports: list[ClientReport]
    ) -> Iterator[ClientState]:
        """Updates that count, by their time of arrival; one is held at a time."""
        workload = self.config.workload
        by_name = {vehicle.name: vehicle for vehicle in self._vehicles}
        outcomes = {name: outcome(by_name[name], n, workload, rng) for name, n in asked.items()}
        ticket = RoundTicket(
            round=self._round,
            start_hash=state_hash(self._state),
            clients=tuple(
                ClientTicket(
                    client=name,
                    parts={name: frozenset(self._layout.tensors)},
                    max_samples=num_steps * workload.batch_size,
                )
                for name, num_steps in asked.items()
            ),
        )
        gate = UpdateGate(self._layout, self._state, ticket, self._ring, self._norms)
        for name in sorted(asked, key=lambda name: (outcomes[name].seconds, name)):
            found, missing = outcomes[name], outcomes[name].missing
            result = update = None
            if missing is None:
                # Who will not be back in time is not trained either: nobody would see it.
                try:
                    result = self._train(name, asked[name])
                    update = gate.admit(self._signed(name, result, ticket))
                except FladError as error:
                    missing = f"{error.code.name}: {error.detail}"
            reports.append(
                ClientReport(
                    client=name,
                    num_steps=asked[name],
                    seconds=found.seconds,
                    num_samples=result.num_samples if result else 0,
                    loss=result.loss if result else None,
                    missing=missing,
                )
            )
            if update is not None:
                yield update

    def _train(self, vehicle: str, num_steps: int) -> ClientResult:
        number = [v.name for v in self._vehicles].index(vehicle)
        seeds = np.random.SeedSequence([self.config.seed, self._round, number])
        return self._local.train(
            vehicle,
            self._state,
            round_number=self._round,
            num_steps=num_steps,
            proximal_mu=self.config.strategy.client_mu,
            seed=int(seeds.generate_state(1)[0]),
        )

    def _signed(self, vehicle: str, result: ClientResult, ticket: RoundTicket) -> SignedUpdate:
        return signed_update(
            self._keys[vehicle],
            result.state,
            vehicle=vehicle,
            client=vehicle,
            round_number=ticket.round,
            round_id=ticket.round_id,
            start_hash=ticket.start_hash,
            num_samples=result.num_samples,
        )

    def _aggregate(self, updates: Iterator[ClientState]) -> State:
        """The next model.

        Raises:
            FladError: (ROUND_FAILED) if there are too few updates; nothing has changed then.
        """
        if self.config.privacy:
            mean = PrivateMean(
                self._layout,
                self._state,
                self.config.privacy,
                expected_clients=self._sampling_rate * len(self._vehicles),
            )
            for update in updates:
                mean.add(update)
            return mean.result()  # of nobody too: that nobody came is hidden as well
        least = self.config.strategy.least_updates
        first = list(itertools.islice(updates, least))
        if len(first) < least:
            raise FladError(
                ROUND_FAILED,
                f"{len(first)} updates counted, {self.config.strategy.name} needs {least}",
            )
        # Let go of one by one, so that a mean holds itself and one client.
        counted = (first.pop(0) for _ in range(len(first)))
        return self._aggregator.aggregate(self._state, itertools.chain(counted, updates))
