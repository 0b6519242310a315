# SPDX-License-Identifier: Apache-2.0
"""The Q-Former is taught what the encoder's heads say, and only where it is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flad_edge.training.reading import HeadsTeacher, Reading
from flad_perception.config import load_encoder_config
from flad_perception.model.encoder import build_encoder


@pytest.fixture(scope="module")
def encoder():
    encoder = build_encoder(load_encoder_config("small"), seed=1).eval()
    with torch.no_grad():
        encoder.paths.out.weight.normal_(0.0, 0.02)
    return encoder


def test_it_is_what_the_heads_say(encoder):
    config = encoder.config
    tokens = torch.randn(3, config.num_tokens, config.embed_dim)

    said = HeadsTeacher(encoder)(tokens)

    with torch.no_grad():
        paths_m = encoder.paths(tokens[:, -config.num_waypoints :])
        red = encoder.light(tokens[:, -config.num_waypoints - 1]).softmax(dim=1)[:, 0]
    shares = said[:, :-1].unflatten(1, (3, -1, 2))
    at_m = torch.tensor(config.path_at_m)
    assert torch.allclose(shares[..., 1] * at_m, paths_m[..., 1], atol=1e-5)
    assert torch.allclose(shares[..., 0] * at_m + at_m, paths_m[..., 0], atol=1e-5)
    assert torch.allclose(said[:, -1], red)


def test_an_encoder_without_a_path_head_is_refused(encoder):
    bare = build_encoder(replace(encoder.config, path_at_m=(), road_widths=()))

    with pytest.raises(ValueError, match="has no path head to learn from"):
        HeadsTeacher(bare)


def test_its_gradient_reaches_what_was_read_and_not_the_encoder(encoder):
    teacher = HeadsTeacher(encoder)
    read = torch.randn(5, 2, 8, requires_grad=True)
    said = teacher(torch.randn(5, encoder.config.num_tokens, encoder.config.embed_dim))

    Reading(teacher, 2, 8)(read, said).backward()

    assert read.grad is not None and float(read.grad.abs().sum()) > 0.0
    assert all(p.grad is None for p in teacher.parameters())
