# SPDX-License-Identifier: Apache-2.0
"""Who is there: what every vehicle said last, and when; what it was told, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flad_edge.federate.client_run import ClientRun
from flad_pipeline.round.order import Order, Status

_SLEPT_SHARE = 0.2  # of silent_after_s: after so long between two looks, words may wait unheard


class Roster:
    """Vehicles that the edge hears, and orders to them. Single-threaded; the time is given.

    Args:
        say: gives an order to the vehicles that it names.
        repeat_s: an order that nobody follows is said again after it.
        silent_after_s: a vehicle that says nothing for so long is silent.
    """

    def __init__(
        self, say: Callable[[Order], None], *, repeat_s: float, silent_after_s: float
    ) -> None:
        self._say, self._repeat_s, self._silent_after_s = say, repeat_s, silent_after_s
        self._statuses: dict[str, Status] = {}
        self._heard_s: dict[str, float] = {}
        self._moved_s: dict[str, float] = {}
        self._said_s: dict[str, float] = {}
        self._looked_s = float("inf")

    @property
    def statuses(self) -> tuple[Status, ...]:
        """The newest of every vehicle that is there."""
        return tuple(self._statuses[v] for v in sorted(self._statuses))

    def get(self, vehicle: str) -> Status | None:
        """What a vehicle said last, if it is there."""
        return self._statuses.get(vehicle)

    def followers(self, run: ClientRun) -> list[Status]:
        """Statuses of those who follow the client's order."""
        there = (self._statuses.get(v) for v in run.order.vehicles)
        return [s for s in there if s is not None and s.order == run.order.order]

    # --- what is heard --------------------------------------------------------------------------

    def hear(self, status: Status, now_s: float) -> Status | None:
        """A vehicle has spoken; returns what it said before."""
        name = status.vehicle
        before = self._statuses.get(name)
        if before is None or (before.progress, before.state) != (status.progress, status.state):
            self._moved_s[name] = now_s
        self._statuses[name], self._heard_s[name] = status, now_s
        return before

    def lose(self, vehicle: str) -> bool:
        """A vehicle is gone; whether it was there."""
        return self._statuses.pop(vehicle, None) is not None

    def expect(self, vehicles: Iterable[str], now_s: float) -> None:
        """They count as heard now."""
        self._heard_s |= dict.fromkeys(vehicles, now_s)

    def look(self, now_s: float) -> None:
        """Call it often: whoever looks after a long sleep has not listened, either."""
        slept_s, self._looked_s = now_s - self._looked_s, now_s
        if slept_s > _SLEPT_SHARE * self._silent_after_s:
            self._heard_s = dict.fromkeys(self._heard_s, now_s)
            self._moved_s = dict.fromkeys(self._moved_s, now_s)

    def silent(self, run: ClientRun, now_s: float) -> tuple[str, float] | None:
        """A vehicle of a client that has said nothing for too long, and for how long."""
        for vehicle in run.order.vehicles:
            silent_s = now_s - self._heard_s.setdefault(vehicle, now_s)
            if silent_s > self._silent_after_s:
                return vehicle, silent_s
        return None

    def stands_s(self, run: ClientRun, now_s: float) -> float:
        """For how long nobody of a client has got anywhere."""
        return now_s - max(self._moved_s.get(v, now_s) for v in run.order.vehicles)

    # --- what is said ---------------------------------------------------------------------------

    def give(self, order: Order, now_s: float) -> None:
        """Say an order."""
        self._said_s |= dict.fromkeys(order.vehicles, now_s)
        self._say(order)

    def repeat(self, order: Order, vehicle: str, now_s: float) -> None:
        """Say it again, if this vehicle was told nothing lately."""
        if self.may_say(vehicle, now_s):
            self.give(order, now_s)

    def may_say(self, vehicle: str, now_s: float) -> bool:
        """Whether a vehicle was told nothing lately."""
        return now_s - self._said_s.get(vehicle, float("-inf")) >= self._repeat_s
