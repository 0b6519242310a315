# SPDX-License-Identifier: Apache-2.0
"""Every size of the AD-LLM; ``config/adllm/*.yaml`` hold the configurations that ship."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flad_common.config import from_yaml, knob, section
from flad_edge.adllm.history import HistoryConfig


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Instructions and notices as token ids."""

    vocab_size: int = knob(unit="1", doc="Rows of the embeddings; a tokenizer may have fewer ids.")
    max_instruction_tokens: int = knob(64, unit="1", doc="A longer instruction is refused.")
    max_notice_tokens: int = knob(64, unit="1", doc="A longer notice is refused.")
    max_pieces_per_word: float = knob(
        3.0, unit="1", doc="Mean, of an instruction; above it is no language that was trained."
    )

    def __post_init__(self) -> None:
        _at_least_one(self, "max_instruction_tokens", "max_notice_tokens")
        if self.vocab_size < 64:
            raise ValueError(f"vocab_size must be at least 64, got {self.vocab_size}")
        if not self.max_pieces_per_word >= 1.0:
            raise ValueError(
                f"max_pieces_per_word must be at least 1, got {self.max_pieces_per_word}"
            )


@dataclass(frozen=True, kw_only=True)
class QFormerConfig:
    """InstructBLIP's Q-Former: one frame's scene tokens and the instruction to few tokens."""

    num_queries: int = knob(4, unit="1", doc="Tokens of a frame in the language model.")
    hidden: int = knob(unit="1", doc="Channels.")
    layers: int = knob(unit="1", doc="Of the transformer.")
    heads: int = knob(unit="1", doc="Of every attention.")
    ffn: int = knob(unit="1", doc="Hidden channels after every attention.")
    cross_every: int = knob(2, unit="1", doc="Every so many layers the queries look at the scene.")
    dropout: float = knob(0.1, unit="1", doc="While training.")

    def __post_init__(self) -> None:
        _at_least_one(self, "num_queries", "hidden", "layers", "heads", "ffn", "cross_every")
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")


@dataclass(frozen=True, kw_only=True)
class LlmConfig:
    """The Llama in the middle."""

    hidden: int = knob(unit="1", doc="Channels.")
    layers: int = knob(unit="1", doc="Of the transformer.")
    heads: int = knob(unit="1", doc="Of every attention.")
    kv_heads: int = knob(unit="1", doc="Of keys and values; a divisor of heads.")
    ffn: int = knob(unit="1", doc="Hidden channels after every attention.")
    rope_theta: float = knob(10000.0, unit="1", doc="Base of the rotary positions.")
    norm_eps: float = knob(1e-6, unit="1", doc="Added under the root of every norm.")
    dtype: Literal["float32", "bfloat16"] = knob(
        "float32", unit="1", doc="Of its weights and cache; everything else is float32."
    )

    def __post_init__(self) -> None:
        _at_least_one(self, "hidden", "layers", "heads", "kv_heads", "ffn")
        if self.hidden % (2 * self.heads):
            raise ValueError(
                f"hidden ({self.hidden}) must be a multiple of 2 x heads ({self.heads}): rotary "
                "positions turn pairs of channels"
            )
        if self.heads % self.kv_heads:
            raise ValueError(
                f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})"
            )
        if not (self.rope_theta > 0.0 and self.norm_eps > 0.0):
            raise ValueError(
                f"rope_theta and norm_eps must be positive, got {self.rope_theta}, {self.norm_eps}"
            )


@dataclass(frozen=True, kw_only=True)
class AdLlmConfig:
    """One AD-LLM, whole."""

    name: str = knob(unit="1", doc="Of the configuration.")
    encoder: str = knob(unit="1", doc="Configuration of the encoder whose tokens it reads.")
    num_tokens: int = knob(unit="1", doc="Scene tokens of a frame.")
    token_dim: int = knob(unit="1", doc="Channels of a scene token.")
    text: TextConfig = knob(unit="", doc="Instructions and notices.")
    qformer: QFormerConfig = knob(unit="", doc="Frames to few tokens.")
    llm: LlmConfig = knob(unit="", doc="The language model.")
    history: HistoryConfig = section(HistoryConfig, doc="What it remembers.")
    num_waypoints: int = knob(5, unit="1", doc="Positions ahead in time.")
    waypoint_step_s: float = knob(0.5, unit="s", doc="Time between them.")

    def __post_init__(self) -> None:
        _at_least_one(self, "num_tokens", "token_dim", "num_waypoints")
        if not self.waypoint_step_s > 0.0:
            raise ValueError(f"waypoint_step_s must be positive, got {self.waypoint_step_s}")

    @property
    def max_sequence(self) -> int:
        """Tokens of the longest sequence: a full history with a notice after every frame."""
        per_frame = self.qformer.num_queries + self.text.max_notice_tokens
        return self.text.max_instruction_tokens + self.history.max_frames * per_frame


def load_adllm_config(name: str | Path) -> AdLlmConfig:
    """Read a configuration by its file, or by its name in ``config/adllm``.

    Raises:
        ValueError: if there is none, or it does not hold together.
    """
    if Path(name).is_file():
        return from_yaml(AdLlmConfig, Path(name))
    here = Path(__file__).resolve()
    folders = [
        here.parents[4] / "config/adllm",  # a checkout: src/flad_edge/flad_edge/adllm
        here.parents[5] / "share/flad_edge/config/adllm",  # installed beside lib/python3.X
    ]
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return from_yaml(AdLlmConfig, folder / f"{name}.yaml")
    known = sorted({p.stem for folder in folders for p in folder.glob("*.yaml")})
    raise ValueError(
        f"there is no AD-LLM {str(name)!r}; known are {', '.join(known) or 'none'}, or a file"
    )


def _at_least_one(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(config, name)}")
