# SPDX-License-Identifier: Apache-2.0
"""On the vehicle: clips that wait to be uploaded, one under way at a time. No clock, no ROS."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from dataclasses import dataclass

from flad_common.config import knob


@dataclass(frozen=True, kw_only=True)
class OutboxConfig:
    """How much waits, and how patiently."""

    max_waiting: int = knob(20, unit="1", doc="Clips; the oldest gives way.")
    receipt_within_s: float = knob(10.0, unit="s", doc="Else the clip is sent once more.")
    pause_s: float = knob(2.0, unit="s", doc="Between two uploads, so that driving comes first.")
    max_attempts: int = knob(3, unit="1", doc="Then a clip is given up.")

    def __post_init__(self) -> None:
        for name in ("max_waiting", "max_attempts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not (self.receipt_within_s > 0.0 and self.pause_s >= 0.0):
            raise ValueError(
                f"receipt_within_s must be positive and pause_s not negative, got "
                f"{self.receipt_within_s} and {self.pause_s}"
            )


class Outbox:
    """Every clip ends as accepted, refused, given way or given up; single-threaded.

    Args:
        config: limits.
    """

    def __init__(self, config: OutboxConfig) -> None:
        self._config = config
        self._waiting: deque[bytes] = deque()
        self._under_way: tuple[str, bytes] | None = None
        self._attempts = 0
        self._sent_s = float("-inf")
        self.counts: Counter[str] = Counter()

    def put(self, data: bytes) -> None:
        """A clip wants to go."""
        self.counts["clips"] += 1
        self._waiting.append(data)
        if len(self._waiting) > self._config.max_waiting:
            self._waiting.popleft()
            self.counts["gave_way"] += 1

    def due(self, now_s: float, *, someone_listens: bool) -> bytes | None:
        """What to send now, if anything."""
        c = self._config
        if self._under_way is not None and now_s - self._sent_s >= c.receipt_within_s:
            if self._attempts >= c.max_attempts:
                self._under_way = None
                self.counts["given_up"] += 1
            elif someone_listens:
                self._attempts += 1
                self._sent_s = now_s
                return self._under_way[1]
        if self._under_way is not None or not self._waiting or not someone_listens:
            return None
        if now_s - self._sent_s < c.pause_s:
            return None
        data = self._waiting.popleft()
        self._under_way = (hashlib.sha256(data).hexdigest()[:16], data)
        self._attempts, self._sent_s = 1, now_s
        return data

    def receipt(self, clip: str, *, accepted: bool) -> bool:
        """The edge says what became of a clip; whether it was ours."""
        if self._under_way is None or self._under_way[0] != clip:
            return False
        self._under_way = None
        self.counts["accepted" if accepted else "refused"] += 1
        return True

    @property
    def num_waiting(self) -> int:
        """Clips, the one under way included."""
        return len(self._waiting) + (self._under_way is not None)
