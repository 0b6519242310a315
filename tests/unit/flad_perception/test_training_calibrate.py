# SPDX-License-Identifier: Apache-2.0
"""The light's threshold is where both recalls are equal, and nothing but a bias moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flad_perception.batch import Batch, FrameInfo, Targets
from flad_perception.model.encoder import build_encoder, encode
from flad_perception.training.calibrate import calibrate_light, equal_recall_threshold


@pytest.mark.parametrize("shift", [-3.0, 0.0, 1.7])
def test_the_threshold_follows_the_margins(shift):
    rng = np.random.default_rng(4)
    is_red = rng.random(4000) < 0.3
    margins = rng.normal(np.where(is_red, 1.0, -1.0) + shift)

    at = equal_recall_threshold(margins, is_red)

    assert at == pytest.approx(shift, abs=0.1)
    red, free = np.mean(margins[is_red] > at), np.mean(margins[~is_red] <= at)
    assert red == pytest.approx(free, abs=0.01)


def _batch(make_input, config, truth, distance_m=10.0) -> Batch:
    num = len(truth)
    return Batch(
        input=make_input(config, num, num_points=60),
        targets=Targets(
            detection=torch.zeros(num, *config.grid.shape, 8),
            waypoints_m=torch.zeros(num, 5, 2),
            path_m=torch.zeros(num, len(config.path_at_m), 2),
            command=torch.ones(num, dtype=torch.int64),
            light=torch.as_tensor(truth),
            stop=torch.zeros(num, dtype=torch.int64),
        ),
        info=FrameInfo(
            town=["Grid"] * num,
            run=["run"] * num,
            weather_id=torch.zeros(num, dtype=torch.int64),
            frame=torch.arange(num),
            light_distance_m=torch.full((num,), distance_m),
            light_state=torch.zeros(num, dtype=torch.int64),
            boxes=torch.zeros(num, 1, 8),
            num_boxes=torch.zeros(num, dtype=torch.int64),
        ),
    )


def test_only_the_lights_bias_moves_and_recalls_become_equal(make_input, small):
    model = build_encoder(small, seed=2).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch = _batch(make_input, small, [0, 1] * 22)
    with torch.no_grad():
        model.light.bias[1] += 5.0  # a model to which everything is free
        tokens = encode(model, batch.input).tokens

    gain = calibrate_light(model, [batch])

    with torch.no_grad():
        after = encode(model, batch.input)
    said, truth = after.light_logits.argmax(dim=1), batch.targets.light
    red, free = (float((said[truth == c] == c).float().mean()) for c in (0, 1))
    assert gain > 3.0
    assert red == pytest.approx(free, abs=0.05)
    assert torch.equal(after.tokens, tokens)
    assert [n for n, t in model.state_dict().items() if not t.equal(before[n])] == ["light.bias"]


@pytest.mark.parametrize("distance_m", [10.0, 40.0])
def test_too_few_frames_change_nothing(make_input, small, distance_m):
    model = build_encoder(small, seed=2).eval()
    bias = model.light.bias.clone()
    truth = [0, 1] * (4 if distance_m < 30.0 else 22)

    assert calibrate_light(model, [_batch(make_input, small, truth, distance_m)]) == 0.0
    assert torch.equal(model.light.bias, bias)
