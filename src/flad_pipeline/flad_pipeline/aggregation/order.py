# SPDX-License-Identifier: Apache-2.0
"""Median and trimmed mean per number (Yin et al., 2018, arXiv:1803.01498), in chunks.

Both need every client's value at once, so what they hold beside the states is one chunk of each
client, not one model of each. Samples do not count: nobody outvotes others by claiming many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from flad_pipeline.aggregation.layout import (
    ClientState,
    ModelLayout,
    State,
    accumulator_dtype,
    into,
)

CHUNK_ELEMENTS = 1 << 18
"""Per client; 1 MiB of single precision."""


def median(
    layout: ModelLayout, updates: Sequence[ClientState], *, chunk_elements: int = CHUNK_ELEMENTS
) -> State:
    """The median of every number over clients; of an even number the mean of the middle two.

    Bears just under half of the clients being malicious.

    Raises:
        ValueError: if there is no update.
    """
    half = (len(updates) - 1) // 2
    return _trimmed(layout, updates, half, chunk_elements)


def trimmed_mean(
    layout: ModelLayout,
    updates: Sequence[ClientState],
    *,
    trim: float,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> State:
    """The mean of every number without the ``floor(trim * K)`` lowest and as many highest of K.

    Bears a share ``trim`` of the clients being malicious.

    Raises:
        ValueError: if there is no update, or ``trim`` is not in [0, 0.5).
    """
    if not 0.0 <= trim < 0.5:
        raise ValueError(f"trim must be in [0, 0.5): a share cut off at either end, got {trim}")
    return _trimmed(layout, updates, int(trim * len(updates)), chunk_elements)


@torch.no_grad()
def for_each_chunk(
    layout: ModelLayout,
    updates: Sequence[ClientState],
    names: Sequence[str],
    chunk_elements: int,
    use: Callable[[str, slice, Tensor], None],
) -> None:
    """Call ``use(name, where, values)`` with values ``[K, C]`` of K clients, C at a time."""
    for name in names:
        dtype = accumulator_dtype(layout.tensors[name].dtype)
        flat = [update.tensors[name].reshape(-1) for update in updates]
        for start in range(0, flat[0].numel(), chunk_elements):
            where = slice(start, min(start + chunk_elements, flat[0].numel()))
            use(name, where, torch.stack([one[where].to(dtype) for one in flat]))


def _trimmed(
    layout: ModelLayout, updates: Sequence[ClientState], cut: int, chunk_elements: int
) -> State:
    """The mean of what lies between the ``cut`` lowest and the ``cut`` highest of each number."""
    if not updates:
        raise ValueError("no update to aggregate; a round needs at least one")
    if chunk_elements < 1:
        raise ValueError(f"chunk_elements must be at least 1, got {chunk_elements}")
    out = {name: torch.empty(t.shape, dtype=t.dtype) for name, t in layout.tensors.items()}

    def reduce(name: str, where: slice, values: Tensor) -> None:
        kept = values.sort(dim=0).values[cut : len(updates) - cut]
        out[name].view(-1)[where] = into(kept.mean(dim=0), layout.tensors[name])

    for_each_chunk(layout, updates, list(layout.tensors), chunk_elements, reduce)
    return out
