# SPDX-License-Identifier: Apache-2.0
"""One frame's scene tokens, read with the instruction in mind: a few tokens for the LLM.

InstructBLIP's Q-Former (Dai et al. 2023): the library's layers, with weights made here. They are
called one by one, because a vehicle's instruction stays and its frames come: what the first layer
does before it looks at a scene is done once, and what the last one makes of the text is read by
nobody. Shapes: N frames, K scene tokens of D channels, L ids of text, Q queries of C channels, H
channels of the LLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import flad_perception.torchvision_ops  # noqa: F401  before transformers, always
from flad_edge.adllm.config import AdLlmConfig

# isort: split
from transformers import InstructBlipQFormerConfig, InstructBlipQFormerModel

_QUERY_STD = 0.02  # the library's initializer_range
_PLACE_STD = 0.2  # beside tokens of deviation 1


class Instructions(NamedTuple):
    """What the Q-Former makes of instructions before it looks at a scene."""

    queries: Tensor
    """``[N, Q, C]``."""
    text: Tensor
    """``[N, L, C]``, padded at the end."""
    is_text: Tensor | None
    """``[N, L]``, True where ``text`` is no padding; None if none is."""

    @property
    def num_bytes(self) -> int:
        """Memory of all of them."""
        return sum(t.numel() * t.element_size() for t in self if t is not None)

    def repeat(self, repeats: Tensor) -> Instructions:
        """Each as often as its clip has frames ``[N]``."""
        queries, text = (t.repeat_interleave(repeats, dim=0) for t in (self.queries, self.text))
        is_text = self.is_text
        return Instructions(
            queries, text, None if is_text is None else is_text.repeat_interleave(repeats, dim=0)
        )


class FrameReader(nn.Module):
    """LayerNorm, places, Q-Former, projection."""

    def __init__(self, config: AdLlmConfig) -> None:
        super().__init__()
        q = config.qformer
        self.norm = nn.LayerNorm(config.token_dim)
        # Attention has no order: which token stands for which place must be said.
        self.places = nn.Parameter(torch.randn(config.num_tokens, config.token_dim) * _PLACE_STD)
        self.queries = nn.Parameter(torch.randn(1, q.num_queries, q.hidden) * _QUERY_STD)
        self.qformer = InstructBlipQFormerModel(
            InstructBlipQFormerConfig(
                vocab_size=config.text.vocab_size,
                hidden_size=q.hidden,
                num_hidden_layers=q.layers,
                num_attention_heads=q.heads,
                intermediate_size=q.ffn,
                hidden_dropout_prob=q.dropout,
                attention_probs_dropout_prob=q.dropout,
                max_position_embeddings=config.text.max_instruction_tokens,
                cross_attention_frequency=q.cross_every,
                encoder_hidden_size=config.token_dim,
                pad_token_id=0,
            )
        )
        self.project = nn.Linear(q.hidden, config.llm.hidden)

    def read_instructions(self, ids: Tensor, is_text: Tensor | None) -> Instructions:
        """Read text: the same for every frame that comes.

        Args:
            ids: ``[N, L]``, padded at the end.
            is_text: ``[N, L]``, True where ``ids`` is no padding; None if none is.
        """
        queries = self.queries.expand(len(ids), -1, -1)
        embedded = self.qformer.embeddings(input_ids=ids, query_embeds=queries)
        first, *others = self.qformer.encoder.layer
        queries, text = self._together(first, embedded, is_text)
        if not others:
            return Instructions(queries, text[:, :0], None)
        return Instructions(queries, first.feed_forward_chunk(text), is_text)

    def forward(self, tokens: Tensor, instructions: Instructions) -> Tensor:
        """Return ``[N, Q, H]``.

        Args:
            tokens: ``[N, K, D]``.
            instructions: of each frame.
        """
        scene = self.norm(tokens) + self.places
        queries, text, is_text = instructions
        first, *others = self.qformer.encoder.layer
        queries = _look(first, queries, scene)
        for layer in others:
            queries, text = self._together(layer, torch.cat([queries, text], dim=1), is_text)
            queries = _look(layer, queries, scene)
            if layer is not others[-1]:
                text = layer.feed_forward_chunk(text)
        projected: Tensor = self.project(queries)
        return projected

    def _together(
        self, layer: Any, hidden: Tensor, is_text: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Attention among queries and text ``[N, Q + L, C]``; both of them."""
        num_queries = self.queries.shape[1]
        mask = None
        if is_text is not None:
            seen = torch.cat([is_text.new_ones(len(is_text), num_queries), is_text], dim=1)
            mask = torch.zeros(seen.shape, dtype=hidden.dtype, device=hidden.device)
            mask = mask.masked_fill_(~seen, torch.finfo(hidden.dtype).min)[:, None, None]
        attended = _only_tensor(layer.attention(hidden, attention_mask=mask))
        return attended[:, :num_queries], attended[:, num_queries:]


def _look(layer: Any, queries: Tensor, scene: Tensor) -> Tensor:
    """The rest of a layer for the queries: at the scene, then for themselves."""
    if layer.has_cross_attention:
        queries = _only_tensor(layer.crossattention(queries, encoder_hidden_states=scene))
    found: Tensor = layer.feed_forward_chunk_query(queries)
    return found


def _only_tensor(output: Any) -> Tensor:
    """Of an attention: transformers 5 returns a tensor, 4.57 a tuple that begins with it."""
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


def as_batch(parts: Sequence[Instructions]) -> Instructions:
    """Single instructions (N = 1, nothing padded) as one batch."""
    queries = torch.cat([part.queries for part in parts])
    if len({part.text.shape[1] for part in parts}) == 1:
        return Instructions(queries, torch.cat([part.text for part in parts]), None)
    lengths = torch.tensor([part.text.shape[1] for part in parts], device=queries.device)
    text = nn.utils.rnn.pad_sequence([part.text[0] for part in parts], batch_first=True)
    is_text = torch.arange(text.shape[1], device=queries.device) < lengths[:, None]
    return Instructions(queries, text, is_text)


def pad_ids(ids: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Lists of ids as ``[N, L]``, and where they are no padding; None if none is."""
    if len({len(one) for one in ids}) == 1:
        return torch.tensor(ids, device=device), None
    lengths = torch.tensor([len(one) for one in ids])
    padded = nn.utils.rnn.pad_sequence([torch.tensor(one) for one in ids], batch_first=True)
    is_text = torch.arange(padded.shape[1]) < lengths[:, None]
    return padded.to(device), is_text.to(device)
