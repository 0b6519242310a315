# SPDX-License-Identifier: Apache-2.0
"""What training minimises: LMDrive's objective with weights for frames, times and directions.

Most frames of a drive teach nothing (it goes on as it went), and a model that learns to go on as
it went is right on all of them: it never starts again after a stop, the copycat's or inertia's
failure of imitation (Wen et al. 2020, 2021). So frames on which something changes count more. With
frames f, points p and coordinates c, weights w_f, a_p, b_c:

    L = sum w_f a_p b_c h(predicted - target) / sum w_f a_p b_c  +  0.2 CE

h is the absolute value (sharp zeros: a standing vehicle that creeps is not held by the planner), or
Huber's where ``soft_m`` is given. With all weights 1 and the absolute value this is
:func:`flad_edge.adllm.losses.driving_loss`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flad_common.config import knob
from flad_edge.adllm.losses import COMPLETED_WEIGHT, DrivingLoss, completed_cross_entropy

_STANDING_MPS = 0.5
_MOVES_M = 1.0
_TURNS_M = 1.5
_BRAKES = 0.7
_MIN_BRAKING_MPS = 2.0


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights; what several names fit is weighted by their product."""

    start: float = knob(4.0, unit="1", doc="Of frames in which a standing vehicle shall go.")
    stand: float = knob(0.5, unit="1", doc="Of frames in which a standing vehicle shall stand.")
    brake: float = knob(2.0, unit="1", doc="Of frames in which a moving vehicle shall slow down.")
    turn: float = knob(2.0, unit="1", doc="Of frames from which the way leads to a side.")
    horizon_power: float = knob(
        1.0, unit="1", doc="A point t s ahead counts 1 / t^this; the planner steers by the nearest."
    )
    lateral: float = knob(2.0, unit="1", doc="Of errors to the side, those along are 1.")
    soft_m: float = knob(
        0.0, unit="m", doc="Errors below it count by their square over twice this (Huber); 0: L1."
    )
    completed: float = knob(COMPLETED_WEIGHT, unit="1", doc="Of 'instruction completed'.")

    def __post_init__(self) -> None:
        for name in ("start", "stand", "brake", "turn", "lateral"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("horizon_power", "soft_m", "completed"):
            if getattr(self, name) < 0.0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


def must_start(
    waypoints_m: NDArray[np.float32], speed_mps: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """``[F]``: stands, and the label goes within the horizon."""
    return np.asarray((speed_mps < _STANDING_MPS) & (waypoints_m[:, -1, 0] > _MOVES_M))


def must_stand(
    waypoints_m: NDArray[np.float32], speed_mps: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """``[F]``: stands, and the label stays."""
    return np.asarray((speed_mps < _STANDING_MPS) & (waypoints_m[:, -1, 0] <= _MOVES_M))


def must_brake(
    waypoints_m: NDArray[np.float32], speed_mps: NDArray[np.float32], step_s: float = 0.5
) -> NDArray[np.bool_]:
    """``[F]``: moves, and the label is much slower at its end."""
    last_mps = np.linalg.norm(waypoints_m[:, -1] - waypoints_m[:, -2], axis=-1) / step_s
    return np.asarray((speed_mps > _MIN_BRAKING_MPS) & (last_mps < _BRAKES * speed_mps))


def must_turn(waypoints_m: NDArray[np.float32]) -> NDArray[np.bool_]:
    """``[F]``: the label ends beside the vehicle's present course."""
    return np.asarray(np.abs(waypoints_m[:, -1, 1]) > _TURNS_M)


def frame_weights(
    waypoints_m: NDArray[np.float32], speed_mps: NDArray[np.float32], config: ObjectiveConfig
) -> NDArray[np.float32]:
    """``[F]``; 0 where waypoints ``[F, P, 2]`` are not known."""
    with np.errstate(invalid="ignore"):
        weights = np.ones(len(waypoints_m), dtype=np.float32)
        weights[must_start(waypoints_m, speed_mps)] *= config.start
        weights[must_stand(waypoints_m, speed_mps)] *= config.stand
        weights[must_brake(waypoints_m, speed_mps)] *= config.brake
        weights[must_turn(waypoints_m)] *= config.turn
    weights[~np.isfinite(waypoints_m).all(axis=(1, 2))] = 0.0
    return weights


def weighted_error(
    predicted_m: Tensor, target_m: Tensor, weights: Tensor, config: ObjectiveConfig
) -> Tensor:
    """Weighted mean error of ``[N, P, 2]``, metres; targets of weight 0 may be NaN.

    Raises:
        ValueError: if no frame counts.
    """
    counts = weights > 0.0
    if not bool(counts.any()):
        raise ValueError("no frame of the batch has a label; leave such a batch out")
    errors = (predicted_m[counts] - target_m[counts]).abs()
    if config.soft_m > 0.0:
        near_m = errors.clamp(max=config.soft_m)
        errors = errors - near_m + 0.5 * near_m**2 / config.soft_m
    num_points = errors.shape[1]
    times = torch.arange(1, num_points + 1, device=errors.device, dtype=errors.dtype)
    near = times**-config.horizon_power
    sides = errors.new_tensor([1.0, config.lateral])
    shares = weights[counts][:, None, None] * near[:, None] * sides
    return (errors * shares).sum() / shares.sum()


def objective(
    predicted_m: Tensor,
    completed_logits: Tensor,
    target_m: Tensor,
    completed: Tensor,
    weights: Tensor,
    config: ObjectiveConfig,
) -> DrivingLoss:
    """The loss over the frames of a batch, all of them real.

    Args:
        predicted_m: ``[N, P, 2]``.
        completed_logits: ``[N, 2]``.
        target_m: ``[N, P, 2]``.
        completed: ``[N]``, int8 as in :class:`FeatureClip`.
        weights: ``[N]``.
        config: of the parts.
    """
    error = weighted_error(predicted_m, target_m, weights, config)
    told = completed >= 0
    ce = error.new_zeros(())
    if bool(told.any()):
        ce = completed_cross_entropy(completed_logits[told], completed[told])
    return DrivingLoss(total=error + config.completed * ce, waypoints_m=error, completed=ce)
