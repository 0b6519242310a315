# SPDX-License-Identifier: Apache-2.0
"""Requests that wait, fairly over vehicles. Single-threaded: its owner has the lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Taken(Generic[Item]):
    """What left the queue at once."""

    batch: list[Item]
    """At most one per vehicle."""
    expired: list[Item]


class FairQueue(Generic[Item]):
    """Vehicles take turns; within a vehicle the oldest comes first.

    A vehicle that begins to wait goes to the end of the line, and so does one that was served: it
    is reached after at most one request of each vehicle before it, however many those send.

    Args:
        max_waiting: per vehicle; a further one makes its oldest give way.
    """

    def __init__(self, max_waiting: int) -> None:
        if max_waiting < 1:
            raise ValueError(f"max_waiting must be at least 1, got {max_waiting}")
        self._max_waiting = max_waiting
        self._lines: dict[str, deque[Item]] = {}  # the order of the dict is the vehicles' turn

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __contains__(self, vehicle: str) -> bool:
        return vehicle in self._lines

    def waiting(self) -> list[Item]:
        """All that wait."""
        return [item for line in self._lines.values() for item in line]

    def put(self, vehicle: str, item: Item) -> Item | None:
        """Wait; returns the one of the same vehicle that gave way."""
        line = self._lines.setdefault(vehicle, deque())
        line.append(item)
        return line.popleft() if len(line) > self._max_waiting else None

    def take(self, max_batch: int, expired: Callable[[Item], bool]) -> Taken[Item]:
        """The next batch. What has expired leaves too, and costs its vehicle no turn."""
        late = self.remove(expired)
        batch = []
        for vehicle in list(self._lines)[:max_batch]:
            line = self._lines.pop(vehicle)
            batch.append(line.popleft())
            if line:
                self._lines[vehicle] = line
        return Taken(batch, late)

    def remove(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """All that are ``unwanted`` leave."""
        removed = []
        for vehicle, line in list(self._lines.items()):
            removed += [item for item in line if unwanted(item)]
            keep = deque(item for item in line if not unwanted(item))
            if keep:
                self._lines[vehicle] = keep
            else:
                del self._lines[vehicle]
        return removed
