# SPDX-License-Identifier: Apache-2.0
"""Transformer layers: image tokens among themselves, queries among themselves and at them.

Shapes: B frames, T image tokens, Q queries, D channels. Dropout falls on what an attention
returns and not on its weights: the weights are then never stored.
"""

from __future__ import annotations

from torch import Tensor, fx, nn
from torch.nn import functional

from flad_perception.config import EncoderConfig


def attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int, usable: Tensor) -> Tensor:
    """Scaled dot-product attention, ``[B, Q, D]``.

    Args:
        query: ``[B, Q, D]``.
        key: ``[B, T, D]``.
        value: ``[B, T, D]``.
        num_heads: D is split into so many.
        usable: bool ``[B, 1, 1, T]`` or ``[1, 1, 1, 1]``; False is not looked at.
    """
    q, k, v = (x.unflatten(2, (num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    mask = None if usable.numel() == 1 else usable
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).flatten(2)


# A leaf: a trace keeps one node per attention.
fx.wrap("attend")


class Attention(nn.Module):
    """Attention of several heads, with its projections."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key = nn.Linear(embed_dim, embed_dim)
        self.value = nn.Linear(embed_dim, embed_dim)
        self.out = nn.Linear(embed_dim, embed_dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, usable: Tensor) -> Tensor:
        """``[B, Q, D]`` of queries, keys and values; ``usable`` as in :func:`attend`."""
        out: Tensor = self.out(
            attend(self.query(query), self.key(key), self.value(value), self.num_heads, usable)
        )
        return out


class FeedForward(nn.Sequential):
    """``[..., D]`` to ``[..., D]`` through one hidden layer."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(
            nn.Linear(config.embed_dim, config.ffn_dim),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.ffn_dim, config.embed_dim),
        )


class EncoderLayer(nn.Module):
    """Image tokens look at each other."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.pre_norm = config.pre_norm
        self.attention = Attention(config.embed_dim, config.num_heads)
        self.feed_forward = FeedForward(config)
        self.norm1 = nn.LayerNorm(config.embed_dim)
        self.norm2 = nn.LayerNorm(config.embed_dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, usable: Tensor) -> Tensor:
        """``[B, T, D]`` to ``[B, T, D]``."""
        if self.pre_norm:
            x = self.norm1(tokens)
            tokens = tokens + self.dropout(self.attention(x, x, x, usable))
            thought: Tensor = self.dropout(self.feed_forward(self.norm2(tokens)))
            return tokens + thought
        tokens = self.norm1(tokens + self.dropout(self.attention(tokens, tokens, tokens, usable)))
        out: Tensor = self.norm2(tokens + self.dropout(self.feed_forward(tokens)))
        return out


class DecoderLayer(nn.Module):
    """Queries look at each other, then at the image tokens."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.pre_norm = config.pre_norm
        self.self_attention = Attention(config.embed_dim, config.num_heads)
        self.cross_attention = Attention(config.embed_dim, config.num_heads)
        self.feed_forward = FeedForward(config)
        self.norm1 = nn.LayerNorm(config.embed_dim)
        self.norm2 = nn.LayerNorm(config.embed_dim)
        self.norm3 = nn.LayerNorm(config.embed_dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, queries: Tensor, positions: Tensor, memory: Tensor, usable: Tensor, every: Tensor
    ) -> Tensor:
        """``[B, Q, D]`` to ``[B, Q, D]``.

        Args:
            queries: ``[B, Q, D]``.
            positions: ``[Q, D]``, added to queries and keys but not to values.
            memory: image tokens, ``[B, T, D]``.
            usable: of the image tokens.
            every: bool ``[1, 1, 1, 1]``: queries may always look at each other.
        """
        if self.pre_norm:
            x = self.norm1(queries)
            placed = x + positions
            queries = queries + self.dropout(self.self_attention(placed, placed, x, every))
            placed = self.norm2(queries) + positions
            looked = self.cross_attention(placed, memory, memory, usable)
            queries = queries + self.dropout(looked)
            thought: Tensor = self.dropout(self.feed_forward(self.norm3(queries)))
            return queries + thought
        placed = queries + positions
        seen = self.self_attention(placed, placed, queries, every)
        queries = self.norm1(queries + self.dropout(seen))
        looked = self.cross_attention(queries + positions, memory, memory, usable)
        queries = self.norm2(queries + self.dropout(looked))
        out: Tensor = self.norm3(queries + self.dropout(self.feed_forward(queries)))
        return out
