# SPDX-License-Identifier: Apache-2.0
"""A mean from which no single client can be told (McMahan et al., 2018, arXiv:1710.06963).

Each client's difference is clipped, all count the same, and noise is added to their sum. The edge
is trusted: it sees the differences; who gets the model is not. What one client is, a vehicle or a
cluster, is what is protected.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import torch
from torch import Tensor

from flad_common.config import knob
from flad_pipeline.aggregation.accountant import epsilon
from flad_pipeline.aggregation.layout import (
    ClientState,
    ModelLayout,
    State,
    accumulator_dtype,
    into,
)
from flad_pipeline.aggregation.norms import update_norm


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """How much noise hides a client."""

    clip_norm: float = knob(unit="1", doc="Longest difference of a client that counts.")
    noise_multiplier: float = knob(
        1.0, unit="1", doc="Standard deviation of the noise on the sum, over clip_norm; 0: none."
    )
    delta: float = knob(
        1e-5, unit="1", doc="Probability that the promise of epsilon does not hold."
    )

    def __post_init__(self) -> None:
        if not self.clip_norm > 0.0:
            raise ValueError(f"clip_norm must be positive, got {self.clip_norm}")
        if not self.noise_multiplier >= 0.0:
            raise ValueError(f"noise_multiplier must not be negative, got {self.noise_multiplier}")
        if not 0.0 < self.delta < 1.0:
            raise ValueError(f"delta must be in (0, 1), got {self.delta}")


class PrivateMean:
    r"""The model plus :math:`(\sum_k \mathrm{clip}(\Delta_k, S) + N(0, z^2 S^2)) / (q N)`.

    The divisor is the number of clients that is *expected*, so that it says nothing about who came.
    Only trained tensors move: statistics and counters follow the data, too, and are not hidden, so
    they stay as they were. Single-threaded; holds one model.

    Args:
        layout: of the model.
        start: the model that the round began with.
        config: clipping and noise.
        expected_clients: q N of N clients that each take part with probability q.
        generator: of the noise; by default seeded from the system's randomness.
    """

    def __init__(
        self,
        layout: ModelLayout,
        start: State,
        config: PrivacyConfig,
        *,
        expected_clients: float,
        generator: torch.Generator | None = None,
    ) -> None:
        if not expected_clients > 0.0:
            raise ValueError(f"expected_clients must be positive, got {expected_clients}")
        self._layout = layout
        self._start = start
        self._config = config
        self._expected = expected_clients
        self._generator = generator or torch.Generator().manual_seed(secrets.randbits(63))
        self._sums: dict[str, Tensor] = {
            name: torch.zeros_like(start[name], dtype=accumulator_dtype(start[name].dtype))
            for name in layout.names("trained")
        }

    @torch.no_grad()
    def add(self, update: ClientState) -> None:
        """Take in one client; how many samples it has does not count."""
        norm = update_norm(self._layout, update.tensors, self._start, "trained")
        share = clip_factor(norm, self._config.clip_norm)
        for name, total in self._sums.items():
            total.add_(update.tensors[name].to(total.dtype) - self._start[name], alpha=share)

    @torch.no_grad()
    def result(self) -> State:
        """The next model; each call draws other noise, so call once."""
        deviation = self._config.noise_multiplier * self._config.clip_norm
        following = {name: tensor.clone() for name, tensor in self._start.items()}
        for name, total in self._sums.items():
            noise = torch.randn(total.shape, generator=self._generator, dtype=total.dtype)
            moved = (total + deviation * noise) / self._expected
            following[name] = into(self._start[name] + moved, self._layout.tensors[name])
        return following


class PrivacyLedger:
    """What the rounds so far have cost; single-threaded.

    Args:
        config: noise and delta of every round.
        sampling_rate: probability that a client takes part in a round.
    """

    def __init__(self, config: PrivacyConfig, *, sampling_rate: float, rounds: int = 0) -> None:
        self._config = config
        self._rate = sampling_rate
        self.rounds = rounds

    def spend(self) -> None:
        """One more round was published."""
        self.rounds += 1

    @property
    def epsilon(self) -> float:
        """So far, at the config's delta."""
        return epsilon(
            sampling_rate=self._rate,
            noise_multiplier=self._config.noise_multiplier,
            rounds=self.rounds,
            delta=self._config.delta,
        )


def clip_factor(norm: float, limit: float) -> float:
    """What a difference of this length is multiplied by, to be no longer than ``limit``.

    Example:
        >>> clip_factor(10.0, 2.5), clip_factor(1.0, 2.5), clip_factor(0.0, 2.5)
        (0.25, 1.0, 1.0)
    """
    return min(1.0, limit / norm) if norm > 0.0 else 1.0
