# SPDX-License-Identifier: Apache-2.0
"""Eqs. 1 and 2: who can take part in training, and who can train alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from flad_common.config import knob

Availability = Literal["unavailable", "limited", "sufficient"]


@dataclass(frozen=True, kw_only=True)
class TaskNeeds:
    """What training the model asks for."""

    flops_per_epoch: float = knob(unit="FLOP", doc="M_cmp: of one epoch.")
    epochs: float = knob(unit="1", doc="e_req: the least number of epochs.")
    capacity_bytes: float = knob(unit="B", doc="M_cap: activations, weights, gradients, optimizer.")
    least_share: float = knob(0.2, unit="1", doc="alpha: the share that a vehicle must be able to.")

    def __post_init__(self) -> None:
        for name in ("flops_per_epoch", "epochs", "capacity_bytes"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if not 0.0 <= self.least_share <= 1.0:
            raise ValueError(f"least_share must be in [0, 1], got {self.least_share}")

    @property
    def flops(self) -> float:
        """M_cmp e_req."""
        return self.flops_per_epoch * self.epochs


def is_available(dwell_s: float, flops_per_s: float, needs: TaskNeeds) -> bool:
    """Eq. 1, read as *enough*: dwl cmp >= alpha M_cmp e_req; the paper's sign says the opposite.

    Args:
        dwell_s: how long the vehicle will stay.
        flops_per_s: the rate that it reaches, not the data sheet's.
        needs: of the task.

    Example:
        >>> needs = TaskNeeds(flops_per_epoch=1e12, epochs=10, capacity_bytes=1e9, least_share=0.5)
        >>> is_available(20.0, 0.25e12, needs), is_available(19.0, 0.25e12, needs)
        (True, False)
    """
    _check(dwell_s, flops_per_s)
    return dwell_s * flops_per_s >= needs.least_share * needs.flops


def is_sufficient(
    dwell_s: float, flops_per_s: float, available_bytes: float, needs: TaskNeeds
) -> bool:
    """Eq. 2: dwl cmp >= M_cmp e_req, and mem >= M_cap."""
    _check(dwell_s, flops_per_s)
    return dwell_s * flops_per_s >= needs.flops and available_bytes >= needs.capacity_bytes


def availability(
    dwell_s: float, flops_per_s: float, available_bytes: float, needs: TaskNeeds
) -> Availability:
    """Which of the three kinds a vehicle is."""
    if is_sufficient(dwell_s, flops_per_s, available_bytes, needs):
        return "sufficient"
    return "limited" if is_available(dwell_s, flops_per_s, needs) else "unavailable"


def _check(dwell_s: float, flops_per_s: float) -> None:
    for name, value in (("dwell_s", dwell_s), ("flops_per_s", flops_per_s)):
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"{name} must be finite and not negative, got {value}")
