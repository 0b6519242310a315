# SPDX-License-Identifier: Apache-2.0
"""FedProx (Li et al., 2020, arXiv:1812.06127): the client's pull back to where the round began.

The server's half of FedProx is FedAvg.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class ProximalTerm:
    r"""Adds :math:`\frac{\mu}{2} \lVert w - w_0 \rVert^2` to a client's loss, as its gradient.

    :math:`w_0` are the parameters at construction; they are kept as a copy. A stage of a pipeline
    makes one of its own units: the sum over stages is the term of the whole model.

    Args:
        module: whose trained parameters are pulled.
        mu: strength; 0 does nothing and keeps no copy.
        starts: :math:`w_0` by name, where it is not what the parameters are now.

    Raises:
        ValueError: if ``mu`` is negative, or ``starts`` lacks a parameter or has one of another
            shape.
    """

    def __init__(
        self, module: nn.Module, mu: float, starts: Mapping[str, Tensor] | None = None
    ) -> None:
        if mu < 0.0:
            raise ValueError(f"mu must not be negative, got {mu}")
        self._mu = mu
        named = {n: p for n, p in module.named_parameters() if p.requires_grad} if mu > 0.0 else {}
        if starts:
            _check(named, starts)
        self._starts = {n: (starts[n] if starts else p).detach().clone() for n, p in named.items()}
        self._pairs = [(p, self._starts[n]) for n, p in named.items()]

    @property
    def starts(self) -> Mapping[str, Tensor]:
        """:math:`w_0` by name; not to be changed."""
        return self._starts

    @torch.no_grad()
    def add_gradient(self) -> None:
        r"""Add :math:`\mu (w - w_0)` to the gradients, once a step, after the backward pass."""
        for parameter, start in self._pairs:
            if parameter.grad is None:
                parameter.grad = self._mu * (parameter - start)
            else:
                parameter.grad.add_(parameter - start, alpha=self._mu)

    @torch.no_grad()
    def penalty(self) -> float:
        """The term's value, for logs."""
        total = sum(float((p - start).double().square().sum()) for p, start in self._pairs)
        return 0.5 * self._mu * total


def _check(named: Mapping[str, nn.Parameter], starts: Mapping[str, Tensor]) -> None:
    shapes = {name: list(p.shape) for name, p in named.items()}
    given = {name: list(starts[name].shape) for name in sorted(starts) if name in shapes}
    if given != shapes:
        raise ValueError(f"the round's begin must be of {shapes}, got {given}")
