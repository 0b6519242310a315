# SPDX-License-Identifier: Apache-2.0
"""What training minimises (LMDrive's objective), over the frames that count.

Shapes: B clips, F frames, P waypoints. With V the set of valid frames,

    L = L1 + w CE,  w = 0.2
    L1 = 1 / (2 P |V|) sum_{f in V} sum_{p, c} |predicted_fpc - target_fpc|
    CE = -1 / |V| sum_{f in V} log softmax(logits_f)[completed_f]
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

COMPLETED_WEIGHT = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class DrivingLoss:
    """The sum, which has a gradient, and its parts."""

    total: Tensor
    waypoints_m: Tensor
    completed: Tensor


def driving_loss(
    waypoints_m: Tensor,
    completed_logits: Tensor,
    target_waypoints_m: Tensor,
    target_completed: Tensor,
    valid: Tensor,
) -> DrivingLoss:
    """Return the loss over valid frames; what stands elsewhere, even NaN, has no part in it.

    Args:
        waypoints_m: ``[B, F, P, 2]``, predicted.
        completed_logits: ``[B, F, 2]``: carrying on, completed.
        target_waypoints_m: ``[B, F, P, 2]``.
        target_completed: ``[B, F]``, True where the instruction has been carried out.
        valid: ``[B, F]``, bool.

    Raises:
        ValueError: if no frame is valid: a mean over nothing has no meaning.
    """
    if not bool(valid.any()):
        raise ValueError("no frame of the batch is valid; leave such a batch out")
    l1 = waypoint_l1(waypoints_m[valid], target_waypoints_m[valid])
    ce = completed_cross_entropy(completed_logits[valid], target_completed[valid])
    return DrivingLoss(total=l1 + COMPLETED_WEIGHT * ce, waypoints_m=l1, completed=ce)


def waypoint_l1(predicted_m: Tensor, target_m: Tensor) -> Tensor:
    """Mean absolute error of coordinates, in metres."""
    return (predicted_m - target_m).abs().mean()


def completed_cross_entropy(logits: Tensor, completed: Tensor) -> Tensor:
    """Mean negative log-probability of what is true, of ``[N, 2]`` and ``[N]``."""
    log_probability = logits - torch.logsumexp(logits, dim=-1, keepdim=True)
    return -log_probability.gather(-1, completed.long()[:, None]).mean()
