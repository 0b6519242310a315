# SPDX-License-Identifier: Apache-2.0
"""Small triples and clips that fit together, for tests of releases, uploads and tuning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import tiny_training
import torch
from tiny_adllm import CONFIG as ADLLM
from tiny_adllm import TEXTS, tiny_model

from flad_edge.adllm.history import HistoryConfig
from flad_edge.adllm.weights import save_adllm
from flad_edge.training.clip_file import FeatureClip
from flad_perception.config import CONTRACT_VERSION
from flad_perception.model.encoder import build_encoder
from flad_perception.weights import save_encoder

ENCODER = tiny_training.TINY
TEXT_LEFT = TEXTS[0]
CONFIG = replace(
    ADLLM,
    num_tokens=ENCODER.num_tokens,
    token_dim=ENCODER.embed_dim,
    history=HistoryConfig(max_frames=6, dropped_frames=4),
)


def make_encoder(path: Path, seed: int = 1) -> str:
    """Write an encoder; its hash."""
    return save_encoder(path, build_encoder(ENCODER, seed=seed), ENCODER).hash


def make_adllm(path: Path, seed: int = 1, bias_m: float = 0.0) -> str:
    """Write an AD-LLM whose waypoints are ``bias_m`` farther than another's; its hash."""
    model = tiny_model(CONFIG, seed=seed)
    with torch.no_grad():
        model.waypoint_head[-1].bias.add_(bias_m)
    return save_adllm(path, model).hash


def make_clip(
    encoder_hash: str, seed: int = 0, num_frames: int = 9, town: str = "Ring", **changes
) -> FeatureClip:
    """Frames of noise; where to be depends on them, so that something can be learned."""
    rng = np.random.default_rng(seed)
    tokens = rng.standard_normal((num_frames, CONFIG.num_tokens, CONFIG.token_dim))
    speed = 2.0 + tokens[:, 0, 0]
    waypoints = np.zeros((num_frames, CONFIG.num_waypoints, 2))
    waypoints[..., 0] = speed[:, None] * 0.5 * np.arange(1, CONFIG.num_waypoints + 1)
    values = {
        "instruction": TEXT_LEFT,
        "tokens": tokens.astype(np.float16),
        "waypoints_m": waypoints.astype(np.float32),
        "completed": np.zeros(num_frames, np.int8),
        "speed_mps": speed.astype(np.float32),
        "encoder_hash": encoder_hash,
        "contract_version": CONTRACT_VERSION,
        "about": {"town": town},
    }
    return FeatureClip(**{**values, **changes})
