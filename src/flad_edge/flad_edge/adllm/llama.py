# SPDX-License-Identifier: Apache-2.0
"""The Llama in the middle: new, or from a folder on this machine.

Only the trunk is kept: no text is generated, so the output layer over the vocabulary is of no use.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import flad_perception.torchvision_ops  # noqa: F401  before transformers, always
from flad_edge.adllm.config import AdLlmConfig

# isort: split
from transformers import AutoModel, LlamaConfig, LlamaForCausalLM


def new_llama(config: AdLlmConfig) -> Any:
    """A ``LlamaModel`` with weights drawn from torch's random state."""
    c = config.llm
    return AutoModel.from_config(
        LlamaConfig(
            vocab_size=config.text.vocab_size,
            hidden_size=c.hidden,
            num_hidden_layers=c.layers,
            num_attention_heads=c.heads,
            num_key_value_heads=c.kv_heads,
            intermediate_size=c.ffn,
            rope_theta=c.rope_theta,
            rms_norm_eps=c.norm_eps,
            max_position_embeddings=config.max_sequence,
        ),
        dtype=_dtype(config),
        attn_implementation="sdpa",
    )


def llama_from_checkpoint(config: AdLlmConfig, folder: Path) -> Any:
    """A ``LlamaModel`` with the weights that lie in ``folder``; nothing is downloaded.

    Raises:
        ValueError: if ``folder`` holds no Llama, or one of other sizes than ``config``.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no checkpoint: it has no config.json")
    found = LlamaConfig.from_pretrained(folder, local_files_only=True)
    if complaints := _differences(found, config):
        raise ValueError(f"{folder} does not fit configuration {config.name}: {complaints}")
    whole = LlamaForCausalLM.from_pretrained(
        folder, local_files_only=True, dtype=_dtype(config), attn_implementation="sdpa"
    )
    return whole.model


def _differences(found: Any, config: AdLlmConfig) -> str:
    """What of a checkpoint is not as the configuration says; "" if nothing."""
    c = config.llm
    # transformers 5 keeps the rotary positions in one mapping, 4.57 in two attributes.
    rope = getattr(found, "rope_parameters", None) or {
        "rope_theta": getattr(found, "rope_theta", 10000.0),
        **(getattr(found, "rope_scaling", None) or {}),
    }
    pairs = {
        "model_type": (found.model_type, "llama"),
        "vocab_size": (found.vocab_size, config.text.vocab_size),
        "hidden_size": (found.hidden_size, c.hidden),
        "num_hidden_layers": (found.num_hidden_layers, c.layers),
        "num_attention_heads": (found.num_attention_heads, c.heads),
        "num_key_value_heads": (found.num_key_value_heads, c.kv_heads),
        "head_dim": (found.head_dim, c.hidden // c.heads),
        "intermediate_size": (found.intermediate_size, c.ffn),
        "hidden_act": (found.hidden_act, "silu"),
        "rms_norm_eps": (found.rms_norm_eps, c.norm_eps),
        "rope_theta": (float(rope["rope_theta"]), c.rope_theta),
        "rope_type": (rope.get("rope_type", "default"), "default"),
        "attention_bias": (found.attention_bias, False),
        "mlp_bias": (found.mlp_bias, False),
    }
    return "; ".join(f"{k} is {got}, not {want}" for k, (got, want) in pairs.items() if got != want)


def _dtype(config: AdLlmConfig) -> torch.dtype:
    return torch.float32 if config.llm.dtype == "float32" else torch.bfloat16
