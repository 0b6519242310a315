# SPDX-License-Identifier: Apache-2.0
"""Percentiles are durations that occurred, of the newest ones only."""

from __future__ import annotations

import math
import random

import pytest

from flad_perception.latency import LatencyWindow


@pytest.mark.parametrize("count", [1, 2, 19, 20, 100, 101])
def test_at_least_the_share_is_not_above_and_less_is_below(count):
    rng = random.Random(count)
    durations = [rng.random() for _ in range(count)]
    window = LatencyWindow()
    for duration in durations:
        window.add(duration)
    found = window.percentiles()
    for share, value in ((0.5, found.p50_s), (0.95, found.p95_s), (0.99, found.p99_s)):
        assert value in durations
        assert sum(d <= value for d in durations) >= share * count - 1e-9
        assert sum(d < value for d in durations) < share * count
    assert found.max_s == max(durations) and found.count == count


def test_old_durations_leave():
    window = LatencyWindow(size=3)
    for duration in (9.0, 1.0, 2.0, 3.0):
        window.add(duration)
    assert window.percentiles().max_s == 3.0


def test_nothing_is_nan():
    assert math.isnan(LatencyWindow().percentiles().p95_s)
