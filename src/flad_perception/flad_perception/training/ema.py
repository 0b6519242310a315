# SPDX-License-Identifier: Apache-2.0
"""A running mean of the weights: what is evaluated and shipped."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    r"""Exponential mean :math:`m \leftarrow d\,m + (1 - d)\,w` of a model's parameters.

    The decay grows as :math:`\min(d, (1 + t) / (10 + t))`, so that the random start is forgotten
    in a short run too. Buffers (BatchNorm's statistics) are copied. Decay 0 is the model itself.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self._decay = decay
        self._num_updates = 0
        self._mean = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self._learned = {name for name, _ in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        decay = min(self._decay, (1.0 + self._num_updates) / (10.0 + self._num_updates))
        self._num_updates += 1
        for name, value in model.state_dict().items():
            if name in self._learned:
                self._mean[name].lerp_(value, 1.0 - decay)
            else:
                self._mean[name].copy_(value)

    def weights(self) -> dict[str, Tensor]:
        """The mean, in the form of a ``state_dict``; copies."""
        return {name: value.clone() for name, value in self._mean.items()}

    def state_dict(self) -> dict[str, object]:
        """What :meth:`load_state_dict` takes."""
        return {"num_updates": self._num_updates, "mean": self.weights()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from an earlier :meth:`state_dict` of the same model."""
        mean, updates = state["mean"], state["num_updates"]
        assert isinstance(mean, dict) and isinstance(updates, int)
        for name, value in self._mean.items():
            value.copy_(mean[name])
        self._num_updates = updates
