# SPDX-License-Identifier: Apache-2.0
"""The encoder of any configuration, in training, on a batch as large as they come."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flad_common.config import to_mapping
from flad_common.profiling.formulas import Formula, fused_attention, no_products
from flad_common.profiling.profile import Profile, profile_model
from flad_perception.config import EncoderConfig, load_encoder_config
from flad_perception.model.encoder import build_encoder, normalise
from flad_perception.model.pillars import decorate, scatter_max
from flad_perception.model.transformer import attend

FORMULAS: Mapping[Any, Formula] = {
    attend: fused_attention,
    decorate: no_products,
    scatter_max: no_products,
}
"""FLOPs of the encoder's own functions."""


def profile_encoder_named(name: str, **options: Any) -> Profile:
    """Profile a configuration by its name or file; ``options`` as in :func:`profile_encoder`."""
    return profile_encoder(load_encoder_config(name), **options)


def profile_encoder(
    config: EncoderConfig, *, batch_size: int, seed: int = 1, **options: Any
) -> Profile:
    """Profile a training step of the encoder; ``options`` are those of ``profile_model``.

    Raises:
        ValueError: if ``batch_size`` is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    facts = {
        "model": config.name,
        "batch_size": batch_size,
        "contract_version": config.contract_version,
        "config": to_mapping(config),
    }
    build = functools.partial(build_case, config, batch_size, seed)
    return profile_model(build, facts=facts, formulas=FORMULAS, **options)


def build_case(
    config: EncoderConfig, batch_size: int, seed: int
) -> tuple[nn.Module, Sequence[Any]]:
    """The encoder in training mode and a batch of noise with full sweeps."""
    generator = torch.Generator().manual_seed(seed)
    return build_encoder(config, seed).train(), noise_inputs(config, batch_size, generator)


def noise_inputs(
    config: EncoderConfig, batch_size: int, generator: torch.Generator
) -> Sequence[Any]:
    """Arguments of the encoder's forward, in its order."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    lidar = config.lidar
    low = torch.tensor([lidar.x_min_m, lidar.y_min_m, 0.0, 0.0])
    high = torch.tensor([lidar.x_max_m, lidar.y_max_m, 3.0, 1.0])
    images = {
        view.name: normalise(
            (uniform(batch_size, 3, view.crop_px[1], view.crop_px[0]) * 255.0).to(torch.uint8)
        )
        for view in config.views
    }
    return (
        images,
        torch.ones(batch_size, len(config.views), dtype=torch.bool),
        low + uniform(batch_size, lidar.max_points, 4) * (high - low),
        torch.full((batch_size,), lidar.max_points),
        uniform(batch_size) * 10.0,
        uniform(batch_size, 2) * 20.0,
    )
