# SPDX-License-Identifier: Apache-2.0
"""Rows of different lengths through one Llama, with or without what was read before.

A token's column in the cache is its position, so "column <= position" is the whole mask: of
causality, of padding (it stands to the right), and of columns that nobody has written yet.
Shapes: B rows, N new tokens, T columns, L layers, G heads of keys and values, C channels each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class BatchCache:
    """Keys and values of a batch while one forward pass adds to them; what Llama asks a cache for.

    Args:
        kv: ``[2, L, B, G, T, C]``; written to, at each new token's column.
        positions: ``[B, N]``, of the new tokens.
    """

    def __init__(self, kv: Tensor, positions: Tensor) -> None:
        self.kv = kv
        self._positions = positions
        self._rows = torch.arange(len(positions), device=positions.device)[:, None]

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the new tokens' keys and values ``[B, G, N, C]``; return all of the layer's."""
        for all_of_layer, new in ((self.kv[0, layer], keys), (self.kv[1, layer], values)):
            all_of_layer[self._rows, :, self._positions] = new.transpose(1, 2)
        return self.kv[0, layer], self.kv[1, layer]

    def get_seq_length(self, layer: int = 0) -> int:
        """Asked for where positions are not given; ours always are."""
        return 0


def read(llm: Any, embeddings: Tensor, positions: Tensor, kv: Tensor | None = None) -> Tensor:
    """Hidden states ``[B, N, H]`` of the new tokens.

    Args:
        llm: a ``LlamaModel``, or what wraps one.
        embeddings: ``[B, N, H]``.
        positions: ``[B, N]``.
        kv: ``[2, L, B, G, T, C]``, what was read before; None if nothing was.
    """
    num_columns = embeddings.shape[1] if kv is None else kv.shape[4]
    hidden: Tensor = llm(
        inputs_embeds=embeddings,
        attention_mask=additive_mask(positions, num_columns, embeddings.dtype),
        position_ids=positions,
        past_key_values=None if kv is None else BatchCache(kv, positions),
        use_cache=kv is not None,
    ).last_hidden_state
    return hidden


def additive_mask(positions: Tensor, num_columns: int, dtype: torch.dtype) -> Tensor:
    """``[B, 1, N, T]``: 0 where a token sees a column, the lowest number where it does not."""
    unseen = torch.arange(num_columns, device=positions.device) > positions[..., None]
    mask = torch.zeros(unseen.shape, dtype=dtype, device=positions.device)
    return mask.masked_fill_(unseen, torch.finfo(dtype).min)[:, None]
