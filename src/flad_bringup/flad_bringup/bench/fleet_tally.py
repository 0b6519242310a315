# SPDX-License-Identifier: Apache-2.0
"""Keeps account of every request of a fleet: asked once, ended once. No ROS."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from flad_edge.service.requests import Outcome


@dataclass(frozen=True, slots=True)
class Asked:
    """Names one request."""

    vehicle: str
    session: str
    stamp_ns: int


class FleetTally:
    """What an ear on both topics heard; messages of different topics may overtake each other."""

    def __init__(self) -> None:
        self._asked: Counter[Asked] = Counter()
        self._ended: Counter[Asked] = Counter()
        self._latencies_s: list[float] = []
        self._at_vehicle_s: list[float] = []
        self.outcomes: Counter[Outcome] = Counter()
        self.refusals: Counter[int] = Counter()
        """By the number of the error."""

    def asked(self, request: Asked) -> None:
        """A vehicle asked."""
        self._asked[request] += 1

    def ended(self, request: Asked, outcome: Outcome, latency_s: float, error: int) -> None:
        """The edge said how a request ended."""
        self._ended[request] += 1
        self.outcomes[outcome] += 1
        if outcome is Outcome.ANSWERED:
            self._latencies_s.append(latency_s)
        elif error:
            self.refusals[error] += 1

    def drove(self, latency_s: float) -> None:
        """A vehicle's driver says how long a frame took from its arrival to its plan."""
        if np.isfinite(latency_s):
            self._at_vehicle_s.append(latency_s)

    @property
    def num_asked(self) -> int:
        """Requests."""
        return self._asked.total()

    @property
    def num_open(self) -> int:
        """Requests whose end has not been heard."""
        return (self._asked - self._ended).total()

    @property
    def num_unaccounted(self) -> int:
        """Requests that ended never or more than once, and ends of requests that nobody made."""
        return self.num_open + (self._ended - self._asked).total()

    def per_vehicle(self) -> dict[str, int]:
        """Requests of each."""
        found: Counter[str] = Counter()
        for request, count in self._asked.items():
            found[request.vehicle] += count
        return dict(sorted(found.items()))

    def edge_latency_s(self, percentile: float) -> float:
        """Of the answered ones, as the edge says; NaN before the first."""
        return _percentile(self._latencies_s, percentile)

    def vehicle_latency_s(self, percentile: float) -> float:
        """From a frame's arrival at its driver to its plan; NaN before the first."""
        return _percentile(self._at_vehicle_s, percentile)


def _percentile(values: list[float], percentile: float) -> float:
    return float(np.percentile(values, percentile)) if values else float("nan")
