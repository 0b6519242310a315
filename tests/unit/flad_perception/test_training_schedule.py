# SPDX-License-Identifier: Apache-2.0
"""Rates over a run, and what a time budget does to them."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from flad_perception.training.schedule import progress_of, rate_factor


@pytest.mark.parametrize("warmup, floor", [(0.0, 0.0), (0.05, 0.01), (0.3, 0.5)])
def test_it_rises_to_one_and_falls_to_the_floor_without_a_jump(warmup, floor):
    factors = [rate_factor(i / 1000, warmup=warmup, floor=floor) for i in range(1201)]
    top = factors.index(max(factors))

    assert max(factors) == pytest.approx(1.0, abs=1e-6)
    assert top == pytest.approx(1000 * warmup, abs=1)
    assert factors[1000:] == pytest.approx([floor] * 201)
    assert all(a <= b for a, b in pairwise(factors[: top + 1]))
    assert all(a >= b for a, b in pairwise(factors[top:]))
    steepest = max(abs(a - b) for a, b in pairwise(factors))
    assert steepest <= max(math.pi / 2 / (1 - warmup), 1 / max(warmup, 1e-9)) / 1000 * 1.001


@pytest.mark.parametrize(
    "progress, warmup, floor, words",
    [(0.5, 1.0, 0.0, "warmup"), (0.5, 0.1, 1.5, "floor"), (math.nan, 0.1, 0.0, "progress")],
)
def test_shares_outside_their_range_are_refused(progress, warmup, floor, words):
    with pytest.raises(ValueError, match=words):
        rate_factor(progress, warmup=warmup, floor=floor)


def test_a_budget_lets_the_clock_lead_and_steps_still_end_the_run():
    assert progress_of(step=10, num_steps=100, elapsed_s=50.0, budget_s=None) == 0.1
    assert progress_of(step=10, num_steps=100, elapsed_s=50.0, budget_s=100.0) == 0.5
    assert progress_of(step=100, num_steps=100, elapsed_s=5.0, budget_s=100.0) == 1.0
