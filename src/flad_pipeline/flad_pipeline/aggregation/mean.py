# SPDX-License-Identifier: Apache-2.0
"""FedAvg (McMahan et al., 2017, arXiv:1602.05629, Alg. 1): the mean of states, by samples."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from flad_pipeline.aggregation.layout import (
    ClientState,
    ModelLayout,
    State,
    accumulator_dtype,
    into,
)


def fed_avg(layout: ModelLayout, updates: Iterable[ClientState]) -> State:
    r"""The mean :math:`\sum_k n_k w_k / \sum_k n_k` over clients with :math:`n_k` samples.

    Buffers are averaged like parameters. One client's state is held at a time, so the peak is two
    models where ``updates`` is lazy.

    Raises:
        ValueError: if there is no update.
    """
    mean = StreamingMean(layout)
    for update in updates:
        mean.add(update)
    return mean.result()


class StreamingMean:
    """A mean that holds one model, however many clients it has heard; single-threaded."""

    def __init__(self, layout: ModelLayout) -> None:
        self._layout = layout
        self._mean: dict[str, Tensor] = {}
        self._num_samples = 0

    @property
    def num_samples(self) -> int:
        """Of all clients so far."""
        return self._num_samples

    @torch.no_grad()
    def add(self, update: ClientState) -> None:
        """Take in one client; its tensors are read, not kept.

        Raises:
            ValueError: if it trained on no sample.
        """
        if update.num_samples < 1:
            raise ValueError(f"{update.client} trained on {update.num_samples} samples, needs 1")
        self._num_samples += update.num_samples
        share = update.num_samples / self._num_samples
        for name, layout in self._layout.tensors.items():
            value = update.tensors[name].to(accumulator_dtype(layout.dtype))
            if name in self._mean:
                self._mean[name].lerp_(value, share)
            else:
                self._mean[name] = value.clone()

    def result(self) -> State:
        """The mean of what was added.

        Raises:
            ValueError: if nothing was.
        """
        if not self._mean:
            raise ValueError("no update to average; a round needs at least one")
        return {name: into(self._mean[name], t) for name, t in self._layout.tensors.items()}
