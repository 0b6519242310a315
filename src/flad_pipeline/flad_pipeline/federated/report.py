# SPDX-License-Identifier: Apache-2.0
"""What one federated round did, for logs, curves and tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Figures = Mapping[str, Mapping[str, float]]
"""Figures by town."""


@dataclass(frozen=True, kw_only=True)
class ClientReport:
    """One client that was asked."""

    client: str
    num_steps: int
    seconds: float
    """Emulated."""
    num_samples: int = 0
    loss: float | None = None
    missing: str | None = None
    """Why its update does not count: late, left, or the error it was refused with."""


@dataclass(frozen=True, kw_only=True)
class RoundReport:
    """One round."""

    round: int
    clients: tuple[ClientReport, ...]
    """In the order of arrival; those without an update too."""
    model_hash: str
    """After it."""
    failed: str | None
    """Why the model stayed as it was."""
    seconds: float
    """Emulated: until the last update, or the deadline where somebody was late."""
    figures: Figures
    """Of the model after it; empty in rounds without evaluation."""
    epsilon: float | None = None
    """Privacy spent so far; None without a privacy config."""

    @property
    def num_updates(self) -> int:
        """That counted."""
        return sum(client.missing is None for client in self.clients)

    @property
    def summary(self) -> str:
        """One line."""
        missing = [f"{c.client} {c.missing.split(':')[0]}" for c in self.clients if c.missing]
        parts = [
            f"round {self.round}: {self.num_updates} of {len(self.clients)} updates",
            f"{sum(c.num_samples for c in self.clients if not c.missing)} samples",
            f"{self.seconds:.0f} s emulated",
            *([f"missing: {', '.join(missing)}"] if missing else []),
            *([f"FAILED: {self.failed}"] if self.failed else []),
            *([f"epsilon {self.epsilon:.2f}"] if self.epsilon is not None else []),
        ]
        return "; ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"num_updates": self.num_updates}
