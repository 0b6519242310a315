# SPDX-License-Identifier: Apache-2.0
"""What a federation under traffic came to: which steps counted, and where the time went.

A step counts if nobody went back behind it and its client's update was averaged. Times are those of
this computer; the bench divides by the dilation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flad_pipeline.round.order import Order, Stand

_AT_WORK = (Stand.LOADING, Stand.TRAINING, Stand.PAUSED, Stand.BROKEN)


def is_at_work(state: Stand) -> bool:
    """Whether a vehicle is bound to a client that has not ended."""
    return state in _AT_WORK


@dataclass(frozen=True, kw_only=True, slots=True)
class Departure:
    """A vehicle that drove out of the coverage."""

    vehicle: str
    at_s: float
    foreseen: bool
    """It had said that it would be gone by now."""
    interrupted: bool
    """It was in the middle of its client's training."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Of one way to make clusters."""

    useful_s: float
    """Seconds of vehicles in steps that counted."""
    wasted_s: float
    """In steps that did not."""
    at_work_s: float
    """Of vehicles bound to a client, waits and regrouping included."""
    present_s: float
    """Of vehicles in the coverage."""
    steps: int
    """Of clients, that counted."""
    lost_steps: int
    """Taken in vain."""
    rounds: int
    departures: Sequence[Departure]
    let_go: int
    """Vehicles whose cluster went on, or ended, before they left."""
    recoveries: int

    @property
    def share(self) -> float:
        """Useful seconds of those in which vehicles were bound to a client."""
        return self.useful_s / max(self.at_work_s, 1e-9)

    @property
    def interrupted(self) -> int:
        """Departures that caught a client in training."""
        return sum(d.interrupted for d in self.departures)

    @property
    def planned_interrupted(self) -> int:
        """Those of them that the vehicle itself had announced."""
        return sum(d.interrupted and d.foreseen for d in self.departures)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """Steps and seconds that counted, and those that did not."""

    useful_s: float
    wasted_s: float
    steps: int
    lost_steps: int


def counted(
    orders: Iterable[Order],
    logs: Mapping[str, Iterable[Mapping[str, Any]]],
    reports: Iterable[Mapping[str, Any]],
) -> Counted:
    """Which steps stand in the end.

    Args:
        orders: every TRAIN that was said.
        logs: of each vehicle its steps: round, step, epoch, seconds.
        reports: of the rounds that ended (``flad.round``).
    """
    said: dict[tuple[int, str], dict[int, Order]] = {}
    for order in orders:
        said.setdefault((order.round, order.client), {})[order.epoch] = order
    client_of = {
        (order.round, order.epoch): client
        for (_, client), epochs in said.items()
        for order in epochs.values()
    }
    averaged = {(r["round"], client) for r in reports for client in r["counted"]}
    useful_s = wasted_s = 0.0
    kept: set[tuple[int, str, int]] = set()
    taken: set[tuple[int, str, int, int]] = set()
    for log in logs.values():
        for line in log:
            client = client_of.get((line["round"], line["epoch"]))
            if client is None:
                continue
            key = (line["round"], client)
            later = [o for e, o in said[key].items() if e > line["epoch"]]
            stands = key in averaged and all(o.from_step > line["step"] for o in later)
            taken.add((*key, line["epoch"], line["step"]))
            if stands:
                kept.add((*key, line["step"]))
                useful_s += line["seconds"]
            else:
                wasted_s += line["seconds"]
    return Counted(
        useful_s=useful_s, wasted_s=wasted_s, steps=len(kept), lost_steps=len(taken) - len(kept)
    )
