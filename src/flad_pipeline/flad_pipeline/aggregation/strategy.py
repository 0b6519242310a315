# SPDX-License-Identifier: Apache-2.0
"""Which rule makes one model of a round's updates, and its numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from flad_common.config import knob
from flad_pipeline.aggregation.fed_adam import FedAdam
from flad_pipeline.aggregation.krum import krum
from flad_pipeline.aggregation.layout import ClientState, ModelLayout, State
from flad_pipeline.aggregation.mean import fed_avg
from flad_pipeline.aggregation.order import median, trimmed_mean


@dataclass(frozen=True, kw_only=True)
class StrategyConfig:
    """How a round's updates become one model."""

    name: Literal["fedavg", "fedprox", "fedadam", "median", "trimmed_mean", "krum"] = knob(
        "fedavg", unit="1", doc="The rule; fedprox is fedavg with a term in the clients' loss."
    )
    proximal_mu: float = knob(
        0.01, unit="1", doc="Of fedprox: strength of the pull back to where the round began."
    )
    server_rate: float = knob(0.1, unit="1", doc="Of fedadam: learning rate.")
    beta1: float = knob(0.9, unit="1", doc="Of fedadam: decay of the mean of updates.")
    beta2: float = knob(0.99, unit="1", doc="Of fedadam: decay of the mean of their squares.")
    tau: float = knob(1e-3, unit="1", doc="Of fedadam: updates well below it are not magnified.")
    trim: float = knob(0.2, unit="1", doc="Of trimmed_mean: share cut off at either end.")
    num_byzantine: int = knob(1, unit="1", doc="Of krum: so many clients may be malicious.")

    def __post_init__(self) -> None:
        if self.proximal_mu < 0.0:
            raise ValueError(f"proximal_mu must not be negative, got {self.proximal_mu}")
        if self.server_rate <= 0.0 or self.tau <= 0.0:
            raise ValueError(
                f"server_rate and tau must be positive, got {self.server_rate} and {self.tau}"
            )
        if not (0.0 <= self.beta1 < 1.0 and 0.0 <= self.beta2 < 1.0):
            raise ValueError(f"betas must be in [0, 1), got {self.beta1} and {self.beta2}")
        if not 0.0 <= self.trim < 0.5:
            raise ValueError(f"trim must be in [0, 0.5), got {self.trim}")
        if self.num_byzantine < 0:
            raise ValueError(f"num_byzantine must not be negative, got {self.num_byzantine}")

    @property
    def client_mu(self) -> float:
        """The proximal term that clients add; 0 unless this is fedprox."""
        return self.proximal_mu if self.name == "fedprox" else 0.0

    @property
    def least_updates(self) -> int:
        """With fewer there is no next model."""
        return 2 * self.num_byzantine + 3 if self.name == "krum" else 1


class Aggregator:
    """One rule with its memory over rounds; single-threaded."""

    def __init__(self, config: StrategyConfig, layout: ModelLayout) -> None:
        self.config = config
        self._layout = layout
        self._adam = FedAdam(
            layout,
            rate=config.server_rate,
            beta1=config.beta1,
            beta2=config.beta2,
            tau=config.tau,
        )

    def aggregate(self, current: State, updates: Iterable[ClientState]) -> State:
        """The next model.

        Args:
            current: the model that the clients started from; not changed.
            updates: read once, in order; only means stream.

        Raises:
            ValueError: if there are too few for the rule.
        """
        c = self.config
        match c.name:
            case "median":
                return median(self._layout, list(updates))
            case "trimmed_mean":
                return trimmed_mean(self._layout, list(updates), trim=c.trim)
            case "krum":
                return krum(self._layout, list(updates), num_byzantine=c.num_byzantine)
            case "fedadam":
                return self._adam.step(current, fed_avg(self._layout, updates))
            case _:
                return fed_avg(self._layout, updates)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next round depends on."""
        return self._adam.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier :meth:`state_dict`."""
        self._adam.load_state_dict(state)
