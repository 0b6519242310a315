# SPDX-License-Identifier: Apache-2.0
"""Keeps simulated steps at the pace of the wall clock, and says how well that went."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pacer:
    """One step per ``period_s``; lateness is not caught up in a burst.

    Args:
        period_s: wall time of one step.
        clock: seconds, steady.
    """

    def __init__(self, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        if period_s <= 0.0:
            raise ValueError(f"period_s must be positive, got {period_s}")
        self._period_s = period_s
        self._clock = clock
        self._due_s: float | None = None
        self.num_late = 0
        self.worst_lateness_s = 0.0

    @property
    def period_s(self) -> float:
        """Wall time of one step."""
        return self._period_s

    def next_due_s(self) -> float:
        """When the next step shall begin, on the clock; the first one begins now."""
        now_s = self._clock()
        if self._due_s is None:
            self._due_s = now_s
            return now_s
        self._due_s += self._period_s
        lateness_s = now_s - self._due_s
        if lateness_s > 0.0:
            self.num_late += 1
            self.worst_lateness_s = max(self.worst_lateness_s, lateness_s)
            self._due_s = now_s
        return self._due_s
