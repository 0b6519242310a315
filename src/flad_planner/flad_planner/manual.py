# SPDX-License-Identifier: Apache-2.0
"""Manual override: a person has the controls until the person lets go of them."""

from __future__ import annotations

from dataclasses import dataclass

from flad_common.config import knob
from flad_planner.control import FULL_BRAKE, Control, control_complaint


@dataclass(frozen=True, kw_only=True)
class ManualConfig:
    """How long a manual command holds."""

    watchdog_s: float = knob(0.5, unit="s", doc="Silence after which an overridden vehicle brakes.")

    def __post_init__(self) -> None:
        if not self.watchdog_s > 0.0:
            raise ValueError(f"watchdog_s must be positive, got {self.watchdog_s}")


class ManualOverride:
    """Whether a person drives, and with what. Single-threaded; the caller owns the clock.

    While overridden, the newest command holds for ``watchdog_s`` and then the vehicle brakes; it
    stays under manual control until released.
    """

    def __init__(self, config: ManualConfig) -> None:
        self._config = config
        self.active = False
        self._since_s = 0.0
        self._command: Control | None = None

    def set_active(self, active: bool, now_s: float) -> None:
        """The person takes (or releases) the controls; old commands do not count."""
        if active and not self.active:
            self._command = None
            self._since_s = now_s
        self.active = active

    def command(self, control: Control, now_s: float) -> str | None:
        """Take a command; returns why it was refused, None if it was taken."""
        reason = control_complaint(control.throttle, control.steer, control.brake)
        if reason is None:
            self._command, self._since_s = control, now_s
        return reason

    def control(self, now_s: float) -> Control:
        """What the vehicle shall do now, under manual control."""
        return FULL_BRAKE if self.silence(now_s) or self._command is None else self._command

    def silence(self, now_s: float) -> str | None:
        """Why the watchdog brakes, None while a command is fresh."""
        quiet_s = now_s - self._since_s
        if quiet_s > self._config.watchdog_s:
            return f"no manual command for {quiet_s:.1f} s"
        return None
