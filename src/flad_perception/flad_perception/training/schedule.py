# SPDX-License-Identifier: Apache-2.0
"""The learning rate over a training run, as a function of how far the run is."""

from __future__ import annotations

import math


def rate_factor(progress: float, *, warmup: float, floor: float) -> float:
    r"""What the base rate is multiplied by: linear warm-up, then half a cosine down to a floor.

    With :math:`p` the progress, :math:`w` the warm-up's share of the run and :math:`f` the floor:
    :math:`f + (1 - f) p / w` before the warm-up's end, then
    :math:`f + (1 - f) (1 + \cos(\pi (p - w) / (1 - w))) / 2` (Loshchilov and Hutter, 2017).

    Args:
        progress: share of the run that is over; beyond 1 the floor stays.
        warmup: share of the run, in [0, 1).
        floor: the factor at the start and at the end, in [0, 1].

    Raises:
        ValueError: on a share outside its range.

    Example:
        >>> [rate_factor(p, warmup=0.5, floor=0.0) for p in (0.0, 0.25, 0.5, 1.0)]
        [0.0, 0.5, 1.0, 0.0]
    """
    if not 0.0 <= warmup < 1.0:
        raise ValueError(f"warmup must be in [0, 1), got {warmup}")
    if not 0.0 <= floor <= 1.0:
        raise ValueError(f"floor must be in [0, 1], got {floor}")
    if not progress >= 0.0:
        raise ValueError(f"progress must not be negative, got {progress}")
    if progress < warmup:
        return floor + (1.0 - floor) * progress / warmup
    fallen = min(1.0, (progress - warmup) / (1.0 - warmup))
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * fallen))


def progress_of(*, step: int, num_steps: int, elapsed_s: float, budget_s: float | None) -> float:
    """How far the run is: by steps, or by the clock where a time budget is given.

    A budget stretches or shrinks the schedule so that it ends when the time does, whatever the
    machine's speed; the number of steps (0: no limit) then still ends it, if it is reached first.
    """
    by_steps = step / num_steps if num_steps else 0.0
    return by_steps if budget_s is None else max(by_steps, elapsed_s / budget_s)
