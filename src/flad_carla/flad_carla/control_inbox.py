# SPDX-License-Identifier: Apache-2.0
"""Which control a vehicle is under: what arrived, what was refused, what came late.

Plain values; ``bridge_node.py`` fills it from ROS and turns the answers into CARLA's.
"""

from __future__ import annotations

from dataclasses import dataclass

from flad_planner.control import FULL_BRAKE, Control, control_complaint
from flad_planner.manual import ManualConfig, ManualOverride


@dataclass(frozen=True, slots=True)
class StampedControl:
    """A control and the stamp of the step that it answers."""

    stamp_ns: int
    control: Control
    gear: int = 0
    manual_gear_shift: bool = False

    @property
    def complaint(self) -> str | None:
        """Why this must not reach a vehicle, None if it may."""
        c = self.control
        return control_complaint(c.throttle, c.steer, c.brake)


class ControlInbox:
    """One vehicle's controls. Single-threaded.

    In lockstep :meth:`answer` is the control of exactly one step; in realtime :meth:`newest` is
    the last one, as long as it is fresh. While a person has overridden, both are the person's.
    """

    def __init__(self, watchdog_s: float) -> None:
        self._watchdog_s = watchdog_s
        self.manual = ManualOverride(ManualConfig(watchdog_s=watchdog_s))
        self._newest: StampedControl | None = None
        self._newest_at_s = 0.0
        self._manual_gear = StampedControl(0, FULL_BRAKE)
        self.num_refused = 0
        self.num_late = 0

    @property
    def last_stamp_ns(self) -> int | None:
        """Stamp of the last control, None before the first."""
        return None if self._newest is None else self._newest.stamp_ns

    def reset(self) -> None:
        """Forget the controls, not the person: another vehicle has taken the role."""
        self._newest = None

    def put(self, message: StampedControl, step_ns: int, clock_s: float) -> str | None:
        """Take a control while ``step_ns`` is the newest step; returns why it was refused.

        A refused control still answers its step: with the full brake.
        """
        if message.stamp_ns < step_ns:
            self.num_late += 1
        reason = message.complaint
        if reason is not None:
            self.num_refused += 1
            message = StampedControl(message.stamp_ns, FULL_BRAKE)
        self._newest, self._newest_at_s = message, clock_s
        return reason

    def put_manual(self, message: StampedControl, clock_s: float) -> str | None:
        """Take a person's control; returns why it was refused."""
        reason = self.manual.command(message.control, clock_s)
        if reason is None:
            self._manual_gear = message
        else:
            self.num_refused += 1
        return reason

    def answer(self, step_ns: int, clock_s: float) -> StampedControl | None:
        """The control of this step, None if it has not come."""
        if self.manual.active:
            return self._by_hand(step_ns, clock_s)
        if self._newest is not None and self._newest.stamp_ns == step_ns:
            return self._newest
        return None

    def newest(self, step_ns: int, clock_s: float) -> StampedControl:
        """The last control; the full brake before the first, and after silence."""
        if self.manual.active:
            return self._by_hand(step_ns, clock_s)
        if self._newest is None or self.silence_s(clock_s) > self._watchdog_s:
            return StampedControl(step_ns, FULL_BRAKE)
        return self._newest

    def silence_s(self, clock_s: float) -> float:
        """Seconds since the last control; infinite before the first."""
        return float("inf") if self._newest is None else clock_s - self._newest_at_s

    def _by_hand(self, step_ns: int, clock_s: float) -> StampedControl:
        held = self._manual_gear
        control = self.manual.control(clock_s)
        return StampedControl(step_ns, control, held.gear, held.manual_gear_shift)
