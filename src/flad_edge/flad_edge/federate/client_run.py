# SPDX-License-Identifier: Apache-2.0
"""A client while its round runs: its order, who holds which cut, what it went through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from flad_edge.federate.planning import Templates
from flad_pipeline.partition import Partition
from flad_pipeline.round.journal import order_as_json, order_from_json
from flad_pipeline.round.order import Order, Stand, Status, VehicleFacts


@dataclass(kw_only=True)
class ClientRun:
    """One client of the round that is under way."""

    client: str
    num_units: int
    order: Order
    """The newest that says TRAIN."""
    templates: Templates
    facts: dict[str, VehicleFacts]
    held: dict[str, dict[int, frozenset[int]]] = field(default_factory=dict)
    """Units in every vehicle's own cuts, by step."""
    pause: Order | None = None
    joining: set[str] = field(default_factory=set)
    joins: dict[str, int] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    """Members that will be let go at the next rotation, because their stay ends."""
    let_go: list[dict[str, Any]] = field(default_factory=list)
    """Those who were, when, and whether the client ended with them."""
    step_s: float = 0.0
    """What SWIFT says that a step takes."""
    submitted: set[str] = field(default_factory=set)
    """Vehicles whose update for this order is here."""
    dropped: str = ""
    """Why it does not count; empty while it does."""
    recoveries: list[dict[str, Any]] = field(default_factory=list)
    copied_bytes: int = 0
    members: set[str] = field(default_factory=set)
    """Who is left of the order's vehicles: fewer while it waits for somebody to come."""
    waiting_s: float | None = None
    """Since when, if those who are left cannot hold the model."""
    waiting_why: str = ""

    def __post_init__(self) -> None:
        self.members = self.members or set(self.order.vehicles)

    @property
    def pipelines(self) -> tuple[Partition, ...]:
        """That take turns."""
        return self.order.pipelines

    @property
    def is_cluster(self) -> bool:
        """Whether it began as several vehicles: others may join it."""
        return self.client not in self.facts

    @property
    def lost(self) -> frozenset[str]:
        """Who is gone since the order."""
        return frozenset(set(self.order.vehicles) - self.members)

    def waits(self, members: set[str], now_s: float, why: str) -> None:
        """Those who are left are too few; others may come."""
        self.members, self.waiting_why = members, why
        self.waiting_s = now_s if self.waiting_s is None else self.waiting_s

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes from it."""
        whole = self.waiting_s is None and self.submitted == set(self.order.vehicles)
        return bool(self.dropped) or whole

    def begin(self, order: Order) -> None:
        """Follow another order."""
        self.order, self.pause, self.joining, self.leaving = order, None, set(), set()
        self.members, self.waiting_s = set(order.vehicles), None

    def note(self, status: Status) -> None:
        """Which units a vehicle has in its cuts: those that it held when the cut was made.

        A vehicle that goes back to a cut keeps what it had of it, so that a cut only grows.
        """
        if (status.client, status.round) != (self.client, self.order.round):
            return
        before = self.held.get(status.vehicle, {})
        now = {step: before[step] for step in status.cuts if step in before}
        follows = status.order == self.order.order
        for step in status.cuts:
            made = step > self.order.from_step or (
                step == self.order.from_step and status.state is not Stand.LOADING
            )
            if follows and made:
                units = self.order.pipeline(step).units_of(status.vehicle)
                now[step] = now.get(step, frozenset()) | frozenset(units)
        self.held[status.vehicle] = now

    def report(self) -> dict[str, Any]:
        """For the round's report."""
        return {
            "vehicles": list(self.order.vehicles),
            "steps": self.order.end_step,
            "dropped": self.dropped,
            "recoveries": self.recoveries,
            "let_go": self.let_go,
            "copied_bytes": self.copied_bytes,
            "pipelines": [p.as_json() for p in self.order.pipelines],
        }

    def as_json(self) -> dict[str, Any]:
        """For the journal: what another process needs to go on."""
        return {
            "client": self.client,
            "order": order_as_json(self.order),
            "facts": {v: asdict(f) for v, f in self.facts.items()},
            "submitted": sorted(self.submitted),
            "dropped": self.dropped,
            "recoveries": self.recoveries,
            "let_go": self.let_go,
            "joins": self.joins,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], num_units: int) -> ClientRun:
        """What :meth:`as_json` made; templates are planned when they are needed."""
        return cls(
            client=values["client"],
            num_units=num_units,
            order=order_from_json(values["order"]),
            templates={},
            facts={v: VehicleFacts(**f) for v, f in values["facts"].items()},
            submitted=set(values["submitted"]),
            dropped=values["dropped"],
            recoveries=list(values["recoveries"]),
            let_go=list(values["let_go"]),
            joins=dict(values["joins"]),
        )
