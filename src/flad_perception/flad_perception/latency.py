# SPDX-License-Identifier: Apache-2.0
"""Percentiles of the newest durations, for diagnostics."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Percentiles:
    """Of ``count`` durations, in seconds; NaN of none."""

    count: int
    p50_s: float
    p95_s: float
    p99_s: float
    max_s: float


class LatencyWindow:
    """Keeps the newest ``size`` durations. Single-threaded: its owner has the lock.

    Example:
        >>> window = LatencyWindow(size=100)
        >>> for ms in range(1, 101):
        ...     window.add(ms * 1e-3)
        >>> window.percentiles().p95_s
        0.095
    """

    def __init__(self, size: int = 600) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        self._durations_s: deque[float] = deque(maxlen=size)

    def add(self, duration_s: float) -> None:
        """Take one duration in."""
        self._durations_s.append(duration_s)

    def percentiles(self) -> Percentiles:
        """Nearest-rank percentiles of what is kept: each is a duration that did occur."""
        ordered = sorted(self._durations_s)

        def rank(share: float) -> float:
            if not ordered:
                return math.nan
            return ordered[max(0, math.ceil(round(share * len(ordered), 9)) - 1)]

        return Percentiles(
            count=len(ordered),
            p50_s=rank(0.50),
            p95_s=rank(0.95),
            p99_s=rank(0.99),
            max_s=rank(1.0),
        )
