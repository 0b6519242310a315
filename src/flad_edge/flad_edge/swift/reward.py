# SPDX-License-Identifier: Apache-2.0
"""Eq. 12: what a step of planning earns."""

from __future__ import annotations

from dataclasses import dataclass

from flad_common.config import knob


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """The weights of Eq. 12; the paper does not give them."""

    w_time: float = knob(1.0, unit="1", doc="w1: of a stage's time, as a share of a typical path.")
    w_memory: float = knob(0.1, unit="1", doc="w2: the stage fits its vehicle's memory.")
    w_disjoint: float = knob(0.1, unit="1", doc="w3: no unit is placed twice.")
    w_valid: float = knob(0.1, unit="1", doc="w4: the order is a valid pipeline.")
    dead_end: float = knob(4.0, unit="1", doc="Taken off where no legal stage is left.")

    def __post_init__(self) -> None:
        for name in ("w_time", "w_memory", "w_disjoint", "w_valid", "dead_end"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    @property
    def indicators(self) -> float:
        """What a legal stage earns beside its time: masks leave only legal ones."""
        return self.w_memory + self.w_disjoint + self.w_valid


def stage_reward(
    config: RewardConfig,
    *,
    seconds: float,
    scale_s: float,
    fits_memory: bool,
    is_disjoint: bool,
    is_valid: bool,
) -> float:
    """Eq. 12 of one stage: r = w1 (-(t_cmp + t_com)) + w2 1(memory) + w3 1(disjoint) + w4 1(valid).

    Args:
        config: the weights.
        seconds: computation of the stage and the hop into it.
        scale_s: seconds that count as 1; the paper's sum mixes seconds with indicators.
        fits_memory: c2 of Eq. 11.
        is_disjoint: c5.
        is_valid: c3 and c4.
    """
    return (
        -config.w_time * seconds / scale_s
        + config.w_memory * fits_memory
        + config.w_disjoint * is_disjoint
        + config.w_valid * is_valid
    )


def terminal_reward(path_s: float, scale_s: float) -> float:
    """What the last stage earns besides: -t_path (Eq. 10)."""
    return -path_s / scale_s
