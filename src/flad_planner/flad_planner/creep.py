# SPDX-License-Identifier: Apache-2.0
"""Creeping: who has stood for longer than any red light, with nobody ahead, rolls a little.

A learned driver can stand for ever: at a light that only it sees, or as another scene would want.
Rolling shows it another scene (as TransFuser's agent does, Chitta et al., 2022, arXiv:2205.15997).
"""

from __future__ import annotations

from dataclasses import dataclass

from flad_common.config import knob


@dataclass(frozen=True, kw_only=True)
class CreepConfig:
    """When and how; only where the collision monitor looks out."""

    enabled: bool = knob(True, unit="", doc="Creep at all.")
    after_s: float = knob(60.0, unit="s", doc="Standing for so long; longer than red lights last.")
    for_s: float = knob(3.0, unit="s", doc="How long it rolls; then it has to stand again.")
    speed_mps: float = knob(3.0, unit="m/s", doc="How fast.")
    standing_mps: float = knob(0.1, unit="m/s", doc="Slower than this is standing.")

    def __post_init__(self) -> None:
        for name in ("after_s", "for_s", "speed_mps", "standing_mps"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


class Creep:
    """Tells when to creep, from how long the vehicle stands. To be stepped in order of time."""

    def __init__(self, config: CreepConfig) -> None:
        self._config = config
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._since_s: float | None = None
        self._until_s: float | None = None

    def step(self, now_s: float, speed_mps: float, *, is_free: bool) -> bool:
        """Whether to creep now; ``is_free`` says that nobody is in the way of it."""
        c = self._config
        if not c.enabled:
            return False
        if self._until_s is not None:
            if is_free and now_s < self._until_s:
                return True
            self.reset()
        if speed_mps >= c.standing_mps:
            self._since_s = None
            return False
        if self._since_s is None:
            self._since_s = now_s
        if not is_free or now_s - self._since_s < c.after_s:
            return False
        self._until_s = now_s + c.for_s
        return True
