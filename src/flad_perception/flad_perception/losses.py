# SPDX-License-Identifier: Apache-2.0
"""LMDrive's losses of the encoder: one function per term, and their weighted sum.

In every equation ``x`` is the prediction, ``t`` the target, ``mean`` runs over frames, cells and
channels, ``s`` is the sigmoid, and ``p = t[0]`` is the target probability of a cell.
Detections are ``[B, R, C, 8]``, channels as in :mod:`flad_perception.detections`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from flad_common.config import knob

if TYPE_CHECKING:
    from flad_perception.batch import Targets
    from flad_perception.model.encoder import EncoderOutput

_PROBABILITY, _OFFSET, _HEADING, _SIZE = slice(0, 1), slice(1, 3), slice(3, 5), slice(5, 7)
_SPEED = slice(7, 8)
_TINY = 1e-6  # a batch without any object has no location to err in


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms; the defaults are LMDrive's."""

    traffic: float = knob(0.5, unit="1", doc="Of detection: probability, place, heading, size.")
    waypoints: float = knob(0.5, unit="1", doc="Of waypoints.")
    speed: float = knob(0.05, unit="1", doc="Of the speed of detected objects.")
    path: float = knob(0.0, unit="1", doc="Of the road ahead, on the told command.")
    light: float = knob(0.1, unit="1", doc="Of the traffic light.")
    stop: float = knob(0.01, unit="1", doc="Of the stop sign.")
    probability: float = knob(0.4, unit="1", doc="Within detection: of the probability.")
    offset: float = knob(0.2, unit="1", doc="Within detection: of the place.")
    heading: float = knob(0.2, unit="1", doc="Within detection: of the heading.")
    size: float = knob(0.2, unit="1", doc="Within detection: of the size.")
    detach_weight: bool = knob(
        False, unit="1", doc="Whether the cells' weights are constants to the gradient."
    )
    light_class_weights: tuple[float, float] = knob(
        (1.0, 1.0), unit="1", doc="Of red and of free frames in the light's cross-entropy."
    )

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if min(value if isinstance(value, tuple) else (value,)) < 0.0:
                raise ValueError(f"loss weight {name} must not be negative, got {value}")
        if sum(self.light_class_weights) <= 0.0:
            raise ValueError("one of light_class_weights must be positive")


@dataclass(frozen=True)
class Losses:
    """The terms before weighting, each a scalar, and their weighted sum."""

    total: Tensor
    probability: Tensor
    offset: Tensor
    heading: Tensor
    size: Tensor
    speed: Tensor
    waypoints: Tensor
    path: Tensor
    light: Tensor
    stop: Tensor

    def terms(self) -> dict[str, Tensor]:
        """All of them by name, the total first."""
        return dict(vars(self))


def encoder_losses(
    output: EncoderOutput, targets: Targets, config: LossConfig | None = None
) -> Losses:
    r"""Every term and the total.

    .. math::
        L = w_{tr} (w_p L_p + w_o L_o + w_h L_h + w_s L_s) + w_{wp} L_{wp} + w_{pa} L_{pa}
            + w_v L_v + w_l L_l + w_{st} L_{st}
    """
    c = config or LossConfig()
    x, t = output.detection, targets.detection
    probability = probability_loss(x, t, detach_weight=c.detach_weight)
    offset = offset_loss(x, t)
    heading, size, speed = heading_loss(x, t), size_loss(x, t), speed_loss(x, t)
    waypoints = waypoint_loss(output.waypoints_m, targets.waypoints_m)
    path = path_loss(output.paths_m, targets.path_m, targets.command)
    light = light_loss(output.light_logits, targets.light, c.light_class_weights)
    stop = stop_loss(output.stop_logits, targets.stop)
    traffic = c.probability * probability + c.offset * offset + c.heading * heading + c.size * size
    total = c.traffic * traffic + c.waypoints * waypoints + c.speed * speed
    total = total + c.path * path + c.light * light + c.stop * stop
    return Losses(
        total=total,
        probability=probability,
        offset=offset,
        heading=heading,
        size=size,
        speed=speed,
        waypoints=waypoints,
        path=path,
        light=light,
        stop=stop,
    )


def probability_loss(detection: Tensor, target: Tensor, *, detach_weight: bool = False) -> Tensor:
    r"""Cross-entropy of objects, in which cells count as much as they are wrong.

    .. math::
        L_p = \frac{\mathrm{mean}(w \cdot \mathrm{BCE}(x_0, p))}{\mathrm{mean}(w)}, \qquad
        w = s(x_0 (1 - 2 p))

    In LMDrive the weight takes part in the gradient. That pushes cells without an object towards
    the probability s at which :math:`(1 - s) (-\ln(1 - s) - L_p) + s = 0`, about
    :math:`L_p / (2 + L_p)`, because easy cells with weight lower the quotient: objects come out of
    that floor only late. ``detach_weight`` makes the weight a constant.
    """
    logit, p = detection[..., _PROBABILITY], target[..., _PROBABILITY]
    weight = torch.sigmoid(logit * (1.0 - 2.0 * p))
    if detach_weight:
        weight = weight.detach()
    entropy = functional.binary_cross_entropy_with_logits(logit, p, reduction="none")
    return (weight * entropy).mean() / weight.mean()


def offset_loss(detection: Tensor, target: Tensor) -> Tensor:
    r"""Where objects are: :math:`L_o = mean(p |x_{1,2} - t_{1,2}|) / mean(p)`."""
    return _weighted_l1(detection, target, _OFFSET)


def heading_loss(detection: Tensor, target: Tensor) -> Tensor:
    r"""Where objects head: :math:`L_h = mean(p |x_{3,4} - t_{3,4}|) / mean(p)`."""
    return _weighted_l1(detection, target, _HEADING)


def size_loss(detection: Tensor, target: Tensor) -> Tensor:
    r"""How big objects are: :math:`L_s = mean(p |x_{5,6} - t_{5,6}|) / mean(p)`."""
    return _weighted_l1(detection, target, _SIZE)


def speed_loss(detection: Tensor, target: Tensor) -> Tensor:
    r"""How fast objects are: :math:`L_v = mean(p |x_7 - t_7|) / mean(p)`."""
    return _weighted_l1(detection, target, _SPEED)


def waypoint_loss(waypoints_m: Tensor, target_m: Tensor) -> Tensor:
    r"""Mean absolute error in metres, ``[B, W, 2]``: :math:`L_{wp} = mean(|x - t|)`."""
    return functional.l1_loss(waypoints_m, target_m)


def path_loss(paths_m: Tensor, target_m: Tensor, command: Tensor) -> Tensor:
    r"""Error of the road ahead per metre of distance, where the route is known; else 0.

    .. math::
        L_{pa} = \frac{\sum_{b,p} k_{bp} |x_{b c_b p} - t_{bp}|_1 / |t_{bp}|_2}{\sum_{b,p} k_{bp}}

    Steering is an angle, so a near point counts as much as a far one.

    Args:
        paths_m: one for each command, ``[B, 3, P, 2]``.
        target_m: ``[B, P, 2]``; k is 0 where it is NaN.
        command: c, ``[B]``.
    """
    if not target_m.shape[1]:
        return paths_m.sum()
    known = target_m.isfinite().all(dim=-1)
    truth_m = target_m.masked_fill(~known[..., None], 1.0)
    told = paths_m[torch.arange(len(command), device=command.device), command]
    error = (told - truth_m).abs().sum(dim=-1) / truth_m.norm(dim=-1).clamp_min(1.0)
    mean: Tensor = (known * error).sum() / known.sum().clamp_min(1)
    return mean


def light_loss(
    logits: Tensor, target: Tensor, class_weights: tuple[float, float] = (1.0, 1.0)
) -> Tensor:
    r"""Cross-entropy of the traffic light, ``[B, 2]`` and ``[B]``.

    .. math:: L_l = \frac{\sum_b a_{t_b} (-\log \mathrm{softmax}(x_b)_{t_b})}{\sum_b a_{t_b}}

    with the class weights :math:`a`; they are 1 in LMDrive.
    """
    return functional.cross_entropy(logits, target, weight=logits.new_tensor(class_weights))


def stop_loss(logits: Tensor, target: Tensor) -> Tensor:
    r"""Cross-entropy of the stop sign: :math:`L_{st} = mean(-log softmax(x)_t)`."""
    return functional.cross_entropy(logits, target)


def _weighted_l1(detection: Tensor, target: Tensor, channels: slice) -> Tensor:
    """Absolute error of some channels, weighted by the target probability; 0 without objects."""
    p = target[..., _PROBABILITY]
    error = (detection[..., channels] - target[..., channels]).abs()
    return (p * error).mean() / p.mean().clamp_min(_TINY)
