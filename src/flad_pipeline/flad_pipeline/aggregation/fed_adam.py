# SPDX-License-Identifier: Apache-2.0
"""FedAdam (Reddi et al., 2021, arXiv:2003.00295, Alg. 2): the server follows the mean with Adam."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flad_pipeline.aggregation.layout import ModelLayout, State, accumulator_dtype, into


class FedAdam:
    r"""Adam on the difference between the clients' mean and the model.

    With :math:`\Delta` that difference, t the round from 1 on:
    :math:`m = \beta_1 m + (1 - \beta_1) \Delta`, :math:`v = \beta_2 v + (1 - \beta_2) \Delta^2`,
    :math:`x \leftarrow x + \eta c_t m / (\sqrt{v} + \tau)` with Flower's correction
    :math:`c_t = \sqrt{1 - \beta_2^{t+1}} / (1 - \beta_1^{t+1})`; the paper has none.

    Only trained tensors move so; buffers are the mean's. Single-threaded; holds two models.
    """

    def __init__(
        self, layout: ModelLayout, *, rate: float, beta1: float, beta2: float, tau: float
    ) -> None:
        self._layout = layout
        self._rate, self._beta1, self._beta2, self._tau = rate, beta1, beta2, tau
        self._round = 0
        self._first: dict[str, Tensor] = {}
        self._second: dict[str, Tensor] = {}

    @torch.no_grad()
    def step(self, current: State, mean: State) -> State:
        """The next model.

        Args:
            current: the model that the clients started from.
            mean: of what they made of it (:func:`~flad_pipeline.aggregation.mean.fed_avg`).
        """
        self._round += 1
        t = self._round + 1
        corrected = self._rate * (1 - self._beta2**t) ** 0.5 / (1 - self._beta1**t)
        following = dict(mean)
        for name in self._layout.names("trained"):
            layout = self._layout.tensors[name]
            dtype = accumulator_dtype(layout.dtype)
            start = current[name].to(dtype)
            delta = mean[name].to(dtype) - start
            first = self._first.setdefault(name, torch.zeros_like(delta))
            second = self._second.setdefault(name, torch.zeros_like(delta))
            first.lerp_(delta, 1 - self._beta1)
            second.mul_(self._beta2).addcmul_(delta, delta, value=1 - self._beta2)
            following[name] = into(start + corrected * first / (second.sqrt() + self._tau), layout)
        return following

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything that the next step depends on."""
        first, second = (
            {name: tensor.clone() for name, tensor in moments.items()}
            for moments in (self._first, self._second)
        )
        return {"round": self._round, "first": first, "second": second}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier :meth:`state_dict`."""
        self._round = int(state["round"])
        self._first = {name: tensor.clone() for name, tensor in state["first"].items()}
        self._second = {name: tensor.clone() for name, tensor in state["second"].items()}
