# SPDX-License-Identifier: Apache-2.0
"""The round that is under way: its clients, and when it began."""

from __future__ import annotations

from dataclasses import dataclass, field

from flad_edge.federate.client_run import ClientRun


@dataclass(kw_only=True)
class RoundRun:
    """One round, from planning to publishing."""

    number: int
    round_id: str
    start_hash: str
    began_s: float
    deadline_s: float
    clients: dict[str, ClientRun]
    left_out: dict[str, str] = field(default_factory=dict)

    def run_of(self, vehicle: str) -> ClientRun | None:
        """The client that a vehicle is a member of."""
        return next((r for r in self.clients.values() if vehicle in r.members), None)

    def since_s(self, now_s: float) -> float:
        """Time of the round."""
        return round(now_s - self.began_s, 3)
