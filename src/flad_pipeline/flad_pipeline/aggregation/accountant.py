# SPDX-License-Identifier: Apache-2.0
r"""How much privacy the rounds so far have cost, by Rényi differential privacy.

Each round is a Gaussian mechanism on a Poisson sample: every client takes part with probability q,
by its own coin. At a whole order :math:`\alpha` it costs (Mironov, Talwar and Zhang, 2019,
arXiv:1908.10530, Sec. 3.3)

.. math::

   \frac{1}{\alpha - 1} \log \sum_{k=0}^{\alpha} \binom{\alpha}{k} (1 - q)^{\alpha - k} q^k
   e^{(k^2 - k) / (2 z^2)}

with z the noise over the clipping length. Rounds add up. The pair (epsilon, delta) follows by
Canonne, Kamath and Steinke, 2020 (arXiv:2004.00010, Prop. 12).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

ORDERS: Sequence[int] = (*range(2, 65), 80, 96, 128, 192, 256, 384, 512, 1024)
"""The best of these is taken; more would only make epsilon a little smaller."""


def epsilon(*, sampling_rate: float, noise_multiplier: float, rounds: int, delta: float) -> float:
    """Epsilon after so many rounds; infinite without noise, 0 without rounds.

    Args:
        sampling_rate: probability that a client takes part in a round.
        noise_multiplier: standard deviation of the noise on the sum, over the clipping length.
        rounds: so far.
        delta: probability that the promise does not hold; well below one over the clients.

    Raises:
        ValueError: if a number is outside its range.

    Example:
        >>> round(epsilon(sampling_rate=0.1, noise_multiplier=1.0, rounds=20, delta=1e-5), 2)
        4.26
    """
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta must be in (0, 1), got {delta}")
    if rounds < 0:
        raise ValueError(f"rounds must not be negative, got {rounds}")
    if rounds == 0:
        return 0.0
    if noise_multiplier == 0.0:
        return math.inf
    return max(
        0.0,
        min(
            rounds * renyi(sampling_rate, noise_multiplier, order)
            + math.log1p(-1.0 / order)
            - (math.log(delta) + math.log(order)) / (order - 1)
            for order in ORDERS
        ),
    )


def renyi(sampling_rate: float, noise_multiplier: float, order: int) -> float:
    """Cost of one round at one order.

    Raises:
        ValueError: if a number is outside its range.
    """
    if not 0.0 < sampling_rate <= 1.0:
        raise ValueError(f"sampling_rate must be in (0, 1], got {sampling_rate}")
    if not noise_multiplier > 0.0:
        raise ValueError(f"noise_multiplier must be positive, got {noise_multiplier}")
    if order < 2:
        raise ValueError(f"order must be a whole number from 2 on, got {order}")
    if sampling_rate == 1.0:
        return order / (2.0 * noise_multiplier**2)
    terms = [
        _log_binomial(order, k)
        + (order - k) * math.log1p(-sampling_rate)
        + k * math.log(sampling_rate)
        + (k * k - k) / (2.0 * noise_multiplier**2)
        for k in range(order + 1)
    ]
    largest = max(terms)
    return (largest + math.log(sum(math.exp(t - largest) for t in terms))) / (order - 1)


def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
