# SPDX-License-Identifier: Apache-2.0
"""Each loss against its equation, cell by cell, and its gradient against differences."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from flad_perception import losses
from flad_perception.batch import Targets
from flad_perception.losses import LossConfig, encoder_losses
from flad_perception.model.encoder import EncoderOutput

_WEIGHTED = {
    "offset": slice(1, 3),
    "heading": slice(3, 5),
    "size": slice(5, 7),
    "speed": slice(7, 8),
}


def _detection(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 3, 4, 8))
    t = rng.normal(size=(2, 3, 4, 8))
    t[..., 0] = rng.uniform(0.3, 1.0, (2, 3, 4)) * (rng.uniform(size=(2, 3, 4)) < 0.4)
    return torch.from_numpy(x), torch.from_numpy(t)


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


@pytest.mark.parametrize("seed", range(3))
def test_probability_loss_is_its_equation(seed):
    x, t = _detection(seed)
    above = below = 0.0
    for logit, p in zip(x[..., 0].flatten().tolist(), t[..., 0].flatten().tolist(), strict=True):
        weight = _sigmoid(logit * (1.0 - 2.0 * p))
        entropy = -p * math.log(_sigmoid(logit)) - (1.0 - p) * math.log(1.0 - _sigmoid(logit))
        above, below = above + weight * entropy, below + weight

    assert losses.probability_loss(x, t).item() == pytest.approx(above / below, rel=1e-12)


@pytest.mark.parametrize("name", _WEIGHTED)
def test_weighted_losses_are_their_equation(name):
    x, t = (v.numpy() for v in _detection(5))
    errors, weights = [], []
    for cell in np.ndindex(x.shape[:3]):
        for channel in range(8)[_WEIGHTED[name]]:
            errors.append(t[cell][0] * abs(x[cell][channel] - t[cell][channel]))
        weights.append(t[cell][0])

    got = getattr(losses, f"{name}_loss")(torch.from_numpy(x), torch.from_numpy(t)).item()
    assert got == pytest.approx(np.mean(errors) / np.mean(weights), rel=1e-12)


@pytest.mark.parametrize("name", ["probability", *_WEIGHTED])
def test_gradients_of_detection_losses(name):
    x, t = _detection(7)
    loss = getattr(losses, f"{name}_loss")

    assert torch.autograd.gradcheck(lambda v: loss(v, t), x.requires_grad_())


def test_gradients_of_the_other_losses():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(3, 5, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    logits = torch.randn(3, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    there, true = torch.zeros(3, 5, 2, dtype=torch.float64), torch.tensor([0, 1, 1])

    assert torch.autograd.gradcheck(lambda v: losses.waypoint_loss(v, there), points)
    assert torch.autograd.gradcheck(lambda v: losses.light_loss(v, true, (3.0, 1.0)), logits)
    assert torch.autograd.gradcheck(lambda v: losses.stop_loss(v, true), logits)


def test_gradient_of_the_total():
    x, t = _detection(3)
    targets = _targets(t)
    parts = [v.detach().double().requires_grad_() for v in (x, *_rest())]

    def total(detection, waypoints, light, stop):
        output = EncoderOutput(
            torch.zeros(2, 1, 4), detection, waypoints, light, stop, waypoints[:, None, :0]
        )
        return encoder_losses(output, targets).total

    assert torch.autograd.gradcheck(total, parts)


def test_waypoint_loss_is_the_mean_error_of_a_coordinate():
    there = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])

    assert losses.waypoint_loss(there + torch.tensor([0.5, -1.5]), there).item() == 1.0


def test_path_loss_is_of_the_told_command_and_of_known_places_only():
    # Two frames, three commands, two places; frame 0 turns left, frame 1 goes on.
    paths = torch.zeros(2, 3, 2, 2, dtype=torch.float64)
    paths[0, 0] = torch.tensor([[3.0, 4.5], [0.0, 0.0]])
    paths[1, 1] = torch.tensor([[4.0, 0.0], [0.0, 0.0]])
    target = torch.tensor([[[3.0, 4.0], [math.nan, math.nan]], [[5.0, 0.0], [0.0, 10.0]]])
    paths.requires_grad_()

    loss = losses.path_loss(paths, target.double(), torch.tensor([0, 1]))
    loss.backward()

    assert loss.item() == pytest.approx((0.5 / 5.0 + 1.0 / 5.0 + 10.0 / 10.0) / 3.0)
    assert torch.isfinite(paths.grad).all()
    assert paths.grad[0, 1:].abs().sum() == paths.grad[1, 0].abs().sum() == 0.0


def test_an_encoder_without_a_path_head_has_no_path_loss():
    nothing = losses.path_loss(torch.zeros(2, 1, 0, 2), torch.zeros(2, 0, 2), torch.tensor([0, 1]))

    assert nothing.item() == 0.0


def test_cross_entropies_are_their_equation():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0]], dtype=torch.float64)
    wrong = [-math.log(_sigmoid(2.0)), -math.log(_sigmoid(1.0)), -math.log(_sigmoid(-0.5))]
    true = torch.tensor([0, 1, 1])

    assert losses.stop_loss(logits, true).item() == pytest.approx(sum(wrong) / 3)
    weighted = (4.0 * wrong[0] + wrong[1] + wrong[2]) / 6.0
    assert losses.light_loss(logits, true, (4.0, 1.0)).item() == pytest.approx(weighted)


def test_no_object_is_no_error_of_place():
    x, t = _detection(1)
    t[..., 0] = 0.0
    x.requires_grad_()
    for name in _WEIGHTED:
        loss = getattr(losses, f"{name}_loss")(x, t)
        loss.backward()
        assert loss.item() == 0.0
    assert torch.isfinite(losses.probability_loss(x, t))
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_total_weighs_as_the_paper_does():
    x, t = _detection(2)
    output = EncoderOutput(torch.zeros(2, 1, 4), x, *_rest(), torch.zeros(2, 1, 0, 2))
    found = encoder_losses(output, _targets(t))
    traffic = 0.4 * found.probability + 0.2 * (found.offset + found.heading + found.size)
    total = 0.5 * traffic + 0.5 * found.waypoints + 0.05 * found.speed
    total = total + 0.1 * found.light + 0.01 * found.stop

    assert found.total.item() == pytest.approx(total.item(), rel=1e-6)
    assert next(iter(found.terms())) == "total"


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match=r"loss weight light must not be negative, got -1\.0"):
        LossConfig(light=-1.0)
    with pytest.raises(ValueError, match="light_class_weights"):
        dataclasses.replace(LossConfig(), light_class_weights=(0.0, 0.0))


def _rest() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return (
        torch.randn(2, 5, 2, generator=generator, dtype=torch.float64),
        torch.randn(2, 2, generator=generator, dtype=torch.float64),
        torch.randn(2, 2, generator=generator, dtype=torch.float64),
    )


def _targets(detection: torch.Tensor) -> Targets:
    return Targets(
        detection=detection,
        waypoints_m=torch.ones(2, 5, 2, dtype=torch.float64),
        path_m=torch.zeros(2, 0, 2),
        command=torch.tensor([0, 1]),
        light=torch.tensor([0, 1]),
        stop=torch.tensor([0, 0]),
    )


def test_a_constant_weight_never_raises_an_empty_cell():
    # Cells without an object, from sure to unsure, beside one object that is not found yet.
    logits = torch.tensor([-4.0, -2.0, -1.0, 2.0, -1.0])
    detection = torch.zeros(1, 1, 5, 8)
    detection[0, 0, :, 0] = logits
    target = torch.zeros(1, 1, 5, 8)
    target[0, 0, 4, 0] = 1.0

    def slopes(detach_weight):
        x = detection.clone().requires_grad_()
        losses.probability_loss(x, target, detach_weight=detach_weight).backward()
        return x.grad[0, 0, :, 0]

    assert (slopes(True)[:4] > 0.0).all()  # a step against the slope lowers them
    assert slopes(True)[4] < 0.0
    # As LMDrive has it, cells below L / (2 + L) rise.
    s = torch.sigmoid(logits[:4])
    loss = losses.probability_loss(detection, target)
    expected = (1 - s) * (-torch.log1p(-s) - loss) + s
    assert torch.equal(slopes(False)[:4] > 0.0, expected > 0.0)
    assert slopes(False)[0] < 0.0 < slopes(False)[3]
