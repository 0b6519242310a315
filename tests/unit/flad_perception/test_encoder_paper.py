# SPDX-License-Identifier: Apache-2.0
"""``paper`` has the sizes of LMDrive's fact sheet, counted by hand here."""

from __future__ import annotations

import pytest
import torch

from flad_perception.batch import Targets
from flad_perception.losses import encoder_losses
from flad_perception.model.encoder import build_encoder, encode

D, FFN = 256, 2048
_ATTENTION = 4 * (D * D + D)
_FEED_FORWARD = D * FFN + FFN + FFN * D + D
_LAYER_NORM = 2 * D


def _convs(width_in: int, width: int, num: int) -> int:
    """3x3 convolutions without bias, each with a BatchNorm."""
    return 9 * width_in * width + 9 * width * width * (num - 1) + num * 2 * width


EXPECTED = {
    # torchvision's ResNet-50 has 25,557,032 parameters, 2,049,000 of them in its classifier.
    "view_tokens.backbone": 25_557_032 - (2048 * 1000 + 1000),
    "view_tokens.project": 2048 * D + D,
    "lidar.points": (9 * 32 + 32 + 64) + (32 * 32 + 32 + 64),
    "lidar.stages.0": _convs(32, 32, 4),
    "lidar.stages.1": _convs(32, 64, 6),
    "lidar.stages.2": _convs(64, 64, 6),
    "lidar.joins": (32 * 64 + 128) + (4 * 4 * 64 * 64 + 128) + (4 * 4 * 64 * 64 + 128),
    "lidar.neck": 9 * 192 * 192 + 2 * 192,
    "lidar.reduce": 2 * 2 * 192 * D + D,
    "encoder": _ATTENTION + _FEED_FORWARD + 2 * _LAYER_NORM,
    "decoder": 3 * (2 * _ATTENTION + _FEED_FORWARD + 3 * _LAYER_NORM),
    "decoder_norm": _LAYER_NORM,
    "memory_norm": 0,
    "speed": D + D,
    "detection": (D + 32) * 64 + 64 + 64 * 8 + 8,
    "waypoints": (2 * 64 + 64) + 3 * 64 * (D + 64 + 2) + (64 * 2 + 2),
    "light": 2 * D + 2,
    "stop": 2 * D + 2,
}
# Queries and their positions (6 each), embeddings of views and of their global tokens (5 each).
EXPECTED_LOOSE = (6 + 6 + 5 + 5) * D


@pytest.fixture(scope="module")
def model(paper):
    return build_encoder(paper, seed=0)


@pytest.mark.parametrize("name, expected", EXPECTED.items())
def test_parameters_of_each_part(model, name, expected):
    assert sum(p.numel() for p in model.get_submodule(name).parameters()) == expected


def test_parameters_of_the_whole(model):
    whole = sum(p.numel() for p in model.parameters())

    assert EXPECTED["view_tokens.backbone"] == 23_508_032
    assert whole == sum(EXPECTED.values()) + EXPECTED_LOOSE


def test_token_counts(paper):
    assert paper.num_image_tokens == 118
    assert paper.num_queries == 2506
    assert (paper.num_tokens, paper.embed_dim) == (106, 256)
    assert paper.lidar.shape == (240, 240)
    assert paper.grid.shape == (50, 50)


def test_one_step_forward_and_backward(paper, model, make_input):
    batch = make_input(paper, 1)
    seen = {}

    def note(name):
        def hook(module, arguments, output):
            seen[name] = [x.shape for x in arguments]

        return hook

    hooks = [
        model.encoder[0].register_forward_hook(note("encoder")),
        model.decoder[0].register_forward_hook(note("decoder")),
    ]
    output = encode(model, batch)
    for hook in hooks:
        hook.remove()
    targets = Targets(
        detection=torch.full((1, 50, 50, 8), 0.5),
        waypoints_m=torch.ones(1, 5, 2),
        path_m=torch.zeros(1, 0, 2),
        command=torch.tensor([1]),
        light=torch.tensor([0]),
        stop=torch.tensor([1]),
    )
    encoder_losses(output, targets).total.backward()

    assert seen["encoder"][0] == (1, 118, 256)
    assert seen["decoder"][0] == (1, 2506, 256)
    assert [tuple(x.shape) for x in output] == [
        (1, 106, 256),
        (1, 50, 50, 8),
        (1, 5, 2),
        (1, 2),
        (1, 2),
        (1, 1, 0, 2),  # LMDrive's has no path head
    ]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
