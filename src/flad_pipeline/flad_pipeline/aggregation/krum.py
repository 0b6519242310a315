# SPDX-License-Identifier: Apache-2.0
"""Krum (Blanchard et al., 2017, arXiv:1703.02757): the one client that lies among most others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flad_pipeline.aggregation.layout import ClientState, ModelLayout, State
from flad_pipeline.aggregation.order import CHUNK_ELEMENTS, for_each_chunk


def krum(
    layout: ModelLayout,
    updates: Sequence[ClientState],
    *,
    num_byzantine: int,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> State:
    """The state of the client whose distance to its ``K - f - 2`` nearest others is least.

    Raises:
        ValueError: if there are fewer than ``2 f + 3`` clients: below that Krum promises nothing.
    """
    scores = krum_scores(
        layout, updates, num_byzantine=num_byzantine, chunk_elements=chunk_elements
    )
    return dict(updates[int(scores.argmin())].tensors)


def krum_scores(
    layout: ModelLayout,
    updates: Sequence[ClientState],
    *,
    num_byzantine: int,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> Tensor:
    """Sum of squared distances to the ``K - f - 2`` nearest other clients, ``[K]``.

    Distances are over all real numbers of the state, statistics included: a client must not hide
    there. Counters grow with the steps a client took and say nothing, so they do not count.

    Raises:
        ValueError: as :func:`krum`.
    """
    num, needed = len(updates), 2 * num_byzantine + 3
    if num_byzantine < 0:
        raise ValueError(f"num_byzantine must not be negative, got {num_byzantine}")
    if num < needed:
        raise ValueError(
            f"Krum with {num_byzantine} malicious clients needs {needed} updates, got {num}; "
            "lower num_byzantine or wait for more"
        )
    squared = torch.zeros(num, num, dtype=torch.float64)

    def gather(_: str, __: slice, values: Tensor) -> None:
        centred = values.double() - values[0].double()  # differences are small beside weights
        products = centred @ centred.T
        norms = products.diagonal()
        squared.add_(norms[:, None] + norms[None, :] - 2.0 * products)

    for_each_chunk(layout, updates, layout.names("trained", "statistic"), chunk_elements, gather)
    others = squared.clamp_min(0.0).fill_diagonal_(torch.inf)
    return others.sort(dim=1).values[:, : num - num_byzantine - 2].sum(dim=1)
