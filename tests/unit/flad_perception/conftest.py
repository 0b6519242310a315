# SPDX-License-Identifier: Apache-2.0
"""Encoders and inputs of a size for tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from flad_perception.batch import EncoderInput
from flad_perception.config import EncoderConfig, load_encoder_config


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small() -> EncoderConfig:
    return load_encoder_config("small")


@pytest.fixture(scope="session")
def paper() -> EncoderConfig:
    return load_encoder_config("paper")


@pytest.fixture(scope="session")
def small_batchnorm(small: EncoderConfig) -> EncoderConfig:
    """``small``'s sizes with ``paper``'s kinds of layers."""
    backbone = dataclasses.replace(small.backbone, norm="batch")
    return dataclasses.replace(small, backbone=backbone, pre_norm=False, dropout=0.1)


@pytest.fixture(scope="session")
def make_input() -> Callable[..., EncoderInput]:
    def make(
        config: EncoderConfig, num_frames: int = 2, num_points: int = 500, seed: int = 0
    ) -> EncoderInput:
        """Noise in every picture, points all over the area and a little beyond."""
        generator = torch.Generator().manual_seed(seed)
        lidar = config.lidar
        low = torch.tensor([lidar.x_min_m - 2.0, lidar.y_min_m - 2.0, -1.0, 0.0])
        high = torch.tensor([lidar.x_max_m + 2.0, lidar.y_max_m + 2.0, 4.0, 1.0])
        points = torch.rand(num_frames, num_points, 4, generator=generator) * (high - low) + low
        counts = num_points - torch.arange(num_frames) * 10  # frames differ
        return EncoderInput(
            images={
                v.name: torch.randint(
                    0,
                    256,
                    (num_frames, 3, v.crop_px[1], v.crop_px[0]),
                    generator=generator,
                    dtype=torch.uint8,
                )
                for v in config.views
            },
            view_valid=torch.ones(num_frames, len(config.views), dtype=torch.bool),
            points=points,
            num_points=counts.clamp_min(0),
            speed_mps=torch.rand(num_frames, generator=generator) * 8.0,
            target_point_m=torch.rand(num_frames, 2, generator=generator) * 20.0,
        )

    return make
