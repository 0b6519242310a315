# SPDX-License-Identifier: Apache-2.0
"""AD-LLMs with a few thousand random weights, which tests build in milliseconds."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flad_edge.adllm.config import AdLlmConfig, LlmConfig, QFormerConfig, TextConfig
from flad_edge.adllm.history import HistoryConfig
from flad_edge.adllm.model import AdLlm, build_adllm
from flad_edge.adllm.tokenizer import TextTokenizer, train_tokenizer
from flad_edge.adllm.weights import save_adllm
from flad_planner.language.bank import load_bank

TEXTS = (
    "Turn left at the next crossing.",
    "Turn right at the traffic light.",
    "In 20 metres, turn left.",
    "Keep straight on until the next junction.",
    "Follow the road for 150 metres.",
    "Watch out, a pedestrian is ahead.",
    "The traffic light ahead is red.",
)

CONFIG = AdLlmConfig(
    name="test",
    encoder="small",
    num_tokens=6,
    token_dim=8,
    text=TextConfig(vocab_size=128),
    qformer=QFormerConfig(hidden=16, layers=2, heads=2, ffn=24, cross_every=2),
    llm=LlmConfig(hidden=16, layers=2, heads=4, kv_heads=2, ffn=24),
)
SHORT = replace(CONFIG, history=HistoryConfig(max_frames=6, dropped_frames=4))


def tiny_tokenizer(config: AdLlmConfig = CONFIG) -> TextTokenizer:
    return train_tokenizer(TEXTS, config.text)


def tiny_model(config: AdLlmConfig = CONFIG, seed: int = 1, **changes: Any) -> AdLlm:
    """In evaluation mode, with weights large enough that every input matters."""
    model = build_adllm(replace(config, **changes), tiny_tokenizer(config), seed=seed).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    return model


def tiny_tokens(*shape: int, seed: int = 0) -> Tensor:
    """``[*shape, K, D]``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, CONFIG.num_tokens, CONFIG.token_dim, generator=generator)


def straight_adllm(path: Path, speed_mps: float = 5.0, seed: int = 1) -> None:
    """Write an untrained model for the small encoder's tokens that drives straight ahead."""
    said = list(load_bank().corpus(random.Random(0)))
    config = replace(CONFIG, num_tokens=42, token_dim=64, text=TextConfig(vocab_size=512))
    model = build_adllm(config, train_tokenizer(said, config.text), seed=seed).eval()
    last = model.waypoint_head[-1]
    with torch.no_grad():
        last.bias.view(-1, 2)[:, 0] = speed_mps * 0.5 * torch.arange(1.0, 6.0)
        last.bias.view(-1, 2)[:, 1] = 0.0
        last.weight[1::2] = 0.0  # to the side
        model.completed_head[-1].bias[1] = -4.0
    save_adllm(path, model)
