# SPDX-License-Identifier: Apache-2.0
"""Waiting for the sensors of one frame. Knows no CARLA: anything with a ``frame`` will do."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from flad_carla.session_errors import SensorTimeout

# CARLA may leave out the first frames of a new sensor (the leaderboard ticks until all are ready).
WARM_UP_FRAMES = 3


class Measurement(Protocol):
    """What every ``carla.SensorData`` has."""

    frame: int
    timestamp: float


@dataclass
class SensorSlot:
    """One sensor's way in: the client's threads put, the ticking thread takes."""

    name: str  # role/sensor, for messages
    tick_s: float = 0.0  # seconds between measurements, 0 for every frame
    is_event: bool = False
    inbox: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    last_s: float | None = None  # simulated time of the last measurement
    num_frames: int = 0  # since the sensor was attached

    def put(self, data: Measurement) -> None:
        """Called by the client's threads; nothing else happens there."""
        self.inbox.put(data)

    def is_due(self, now_s: float) -> bool:
        """Whether a measurement of this moment is sure to come."""
        if self.is_event:
            return False
        if self.last_s is None:
            return self.tick_s <= 0.0 and self.num_frames > WARM_UP_FRAMES
        return now_s - self.last_s >= self.tick_s - 1e-4


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """The measurements of one frame, and what happened up to it."""

    data: dict[str, Any]
    events: tuple[tuple[str, Any], ...]
    num_old: int  # measurements of earlier frames, dropped


class SensorGate:
    """Collects one frame's measurements from all slots.

    Args:
        deadline_s: how long a due sensor is waited for, in total.
        first_grace_s: how long a new sensor is waited for in a frame that it may leave out: its
            first ones, and with a period of its own any before its first measurement.
        clock: seconds, steady.
    """

    def __init__(
        self,
        deadline_s: float,
        first_grace_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if deadline_s <= 0.0:
            raise ValueError(f"deadline_s must be positive, got {deadline_s}")
        self._deadline_s = deadline_s
        self._grace_s = first_grace_s
        self._clock = clock

    def gather(self, slots: Iterable[SensorSlot], frame: int, now_s: float) -> Gathered:
        """Wait for every due sensor's measurement of ``frame``.

        Raises:
            SensorTimeout: naming the sensors that were missing when the deadline passed.
        """
        slots = list(slots)
        end_s = self._clock() + self._deadline_s
        data: dict[str, Any] = {}
        missing: list[str] = []
        num_old = 0
        for slot in slots:
            slot.num_frames += 1
        waited = [s for s in slots if s.is_due(now_s)]
        unsure = [s for s in slots if s not in waited and not s.is_event]
        for slot in waited + unsure:
            limit_s = end_s
            if slot in unsure:
                limit_s = self._clock() + (self._grace_s if slot.last_s is None else 0.0)
            found, old = self._take(slot, frame, limit_s)
            num_old += old
            if found is not None:
                slot.last_s = now_s
                data[slot.name] = found
            elif slot in waited:
                missing.append(slot.name)
        if missing:
            raise SensorTimeout(frame, self._deadline_s, tuple(missing))
        events = [(s.name, event) for s in slots if s.is_event for event in _drain(s.inbox)]
        events.sort(key=lambda item: (item[1].frame, item[0]))
        return Gathered(data=data, events=tuple(events), num_old=num_old)

    def _take(self, slot: SensorSlot, frame: int, limit_s: float) -> tuple[Any, int]:
        """The measurement of ``frame`` (or None) and how many older ones were dropped."""
        num_old = 0
        while True:
            left_s = limit_s - self._clock()
            try:
                found = slot.inbox.get(timeout=left_s) if left_s > 0 else slot.inbox.get_nowait()
            except queue.Empty:
                return None, num_old
            if found.frame >= frame:
                return found, num_old
            num_old += 1


def _drain(inbox: queue.SimpleQueue[Any]) -> list[Any]:
    taken = []
    while True:
        try:
            taken.append(inbox.get_nowait())
        except queue.Empty:
            return taken
