# SPDX-License-Identifier: Apache-2.0
"""One frame's scene tokens, read with the instruction in mind: a few tokens for the LLM.

InstructBLIP's Q-Former (Dai et al. 2023) as the library has it; its weights are made here.
Shapes: N frames, K scene tokens of D channels, L ids of text, Q queries, H channels of the LLM.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import flad_perception.torchvision_ops  # noqa: F401  before transformers, always
from flad_edge.adllm.config import AdLlmConfig

# isort: split
from transformers import InstructBlipQFormerConfig, InstructBlipQFormerModel

_QUERY_STD = 0.02  # the library's initializer_range
_PLACE_STD = 0.2  # beside tokens of deviation 1


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
        # Of the last layer only the queries are read: its feed-forward on the text is left out.
        self.qformer.encoder.layer[-1].feed_forward_chunk = _unchanged
        self.project = nn.Linear(q.hidden, config.llm.hidden)

    def forward(self, tokens: Tensor, ids: Tensor, is_text: Tensor | None) -> Tensor:
        """Return ``[N, Q, H]``.

        Args:
            tokens: ``[N, K, D]``.
            ids: ``[N, L]``, of each frame's instruction, padded at the end.
            is_text: ``[N, L]``, True where ``ids`` is no padding; None if none is.
        """
        queries = self.queries.expand(len(tokens), -1, -1)
        seen = None
        if is_text is not None:
            seen = torch.cat([is_text.new_ones(queries.shape[:2]), is_text], dim=1).long()
        read = self.qformer(
            input_ids=ids,
            attention_mask=seen,
            query_embeds=queries,
            encoder_hidden_states=self.norm(tokens) + self.places,
        ).last_hidden_state
        # The text's own outputs follow the queries'.
        projected: Tensor = self.project(read[:, : queries.shape[1]])
        return projected


def _unchanged(text: Tensor) -> Tensor:
    return text


def pad_ids(ids: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Lists of ids as ``[N, L]``, and where they are no padding; None if none is."""
    if len({len(one) for one in ids}) == 1:
        return torch.tensor(ids, device=device), None
    lengths = torch.tensor([len(one) for one in ids])
    padded = nn.utils.rnn.pad_sequence([torch.tensor(one) for one in ids], batch_first=True)
    is_text = torch.arange(padded.shape[1]) < lengths[:, None]
    return padded.to(device), is_text.to(device)
