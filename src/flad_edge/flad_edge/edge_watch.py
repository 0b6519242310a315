# SPDX-License-Identifier: Apache-2.0
"""Whether an edge is there, from what DDS says of its topics; reads no clock."""

from __future__ import annotations

from typing import Literal

_SETTLE_S = {"realtime": 0.2, "lockstep": 1.0}
"""From seeing an edge's topics until the edge surely sees ours."""
_GONE_S = {"realtime": 0.0, "lockstep": 2.0}
"""From losing it until it is believed; in lockstep a loaded machine is not a dead edge."""


class EdgeWatch:
    """Single-threaded."""

    def __init__(self, mode: Literal["lockstep", "realtime"]) -> None:
        self._mode = mode
        self._num_writers = 0
        self._changed_s = 0.0
        self.is_alive = False
        self.is_deaf = False
        """It is there, but did not answer within the deadline: nobody waits for it again, until it
        does."""

    def set_writers(self, num_alive: int, now_s: float) -> None:
        """How many processes that answer are alive, as DDS's liveliness says."""
        if (num_alive > 0) != (self._num_writers > 0):
            self._changed_s = now_s
        self._num_writers = num_alive

    def step(self, hears_us: bool, now_s: float) -> bool:
        """Look again; True if :attr:`is_alive` has changed.

        Args:
            hears_us: whether somebody reads requests.
            now_s: of a clock that never goes back.
        """
        is_there = self._num_writers > 0 and hears_us
        patience_s = (_SETTLE_S if is_there else _GONE_S)[self._mode]
        if is_there == self.is_alive or now_s - self._changed_s < patience_s:
            return False
        self.is_alive = is_there
        self.is_deaf = False
        return True

    @property
    def answers(self) -> bool:
        """Whether an answer is worth waiting for."""
        return self.is_alive and not self.is_deaf
