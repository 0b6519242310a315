# SPDX-License-Identifier: Apache-2.0
"""FedProx (Li et al., 2020, arXiv:1812.06127): the client's pull back to where the round began.

The server's half of FedProx is FedAvg.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ProximalTerm:
    r"""Adds :math:`\frac{\mu}{2} \lVert w - w_0 \rVert^2` to a client's loss, as its gradient.

    :math:`w_0` are the parameters at construction; they are kept as a copy. A stage of a pipeline
    makes one of its own units: the sum over stages is the term of the whole model.

    Args:
        module: whose trained parameters are pulled.
        mu: strength; 0 does nothing and keeps no copy.

    Raises:
        ValueError: if ``mu`` is negative.
    """

    def __init__(self, module: nn.Module, mu: float) -> None:
        if mu < 0.0:
            raise ValueError(f"mu must not be negative, got {mu}")
        self._mu = mu
        trained = [p for p in module.parameters() if p.requires_grad] if mu > 0.0 else []
        self._pairs: list[tuple[nn.Parameter, Tensor]] = [(p, p.detach().clone()) for p in trained]

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
