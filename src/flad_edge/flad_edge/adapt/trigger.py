# SPDX-License-Identifier: Apache-2.0
"""When the edge tunes: enough was uploaded, and driving leaves it time. No clock of its own."""

from __future__ import annotations

from dataclasses import dataclass

from flad_common.config import knob


@dataclass(frozen=True, kw_only=True)
class TriggerConfig:
    """What a tuning waits for."""

    min_new_frames: int = knob(
        2000,
        unit="1",
        doc="Uploaded since the last tuning, with known waypoints; 400 s of driving.",
    )
    max_busy_share: float = knob(
        0.25, unit="1", doc="Of the time that the driving model may work while the edge is idle."
    )
    idle_s: float = knob(30.0, unit="s", doc="For which the edge must have been idle.")
    min_pause_s: float = knob(600.0, unit="s", doc="Between the ends and beginnings of tunings.")

    def __post_init__(self) -> None:
        if self.min_new_frames < 1:
            raise ValueError(f"min_new_frames must be at least 1, got {self.min_new_frames}")
        if not 0.0 <= self.max_busy_share <= 1.0:
            raise ValueError(f"max_busy_share must be in [0, 1], got {self.max_busy_share}")
        for name in ("idle_s", "min_pause_s"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


class TuneTrigger:
    """Looks once a second; single-threaded.

    Args:
        config: what is waited for.
    """

    def __init__(self, config: TriggerConfig) -> None:
        self._config = config
        self._idle_since_s: float | None = None
        self._ended_s: float | None = None

    def is_due(self, now_s: float, *, new_frames: int, busy_share: float) -> bool:
        """Whether a tuning should begin now; asked while none runs.

        Args:
            now_s: on the caller's steady clock.
            new_frames: uploaded since the last tuning.
            busy_share: of the last period, in which the driving model worked.
        """
        c = self._config
        if busy_share > c.max_busy_share:
            self._idle_since_s = None
            return False
        if self._idle_since_s is None:
            self._idle_since_s = now_s
        if self._ended_s is not None and now_s - self._ended_s < c.min_pause_s:
            return False
        return new_frames >= c.min_new_frames and now_s - self._idle_since_s >= c.idle_s

    def ended(self, now_s: float) -> None:
        """A tuning ended, however it did."""
        self._ended_s = now_s
