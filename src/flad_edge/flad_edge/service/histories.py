# SPDX-License-Identifier: Apache-2.0
"""What the model remembers of each vehicle, and when it must not. Used by one thread."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from flad_edge.service.driving_model import DrivingModel
from flad_edge.service.requests import DriveRequest


class Dropped(enum.Enum):
    """Why a history ended."""

    INSTRUCTION = "instruction"
    COMPLETED = "completed"
    SWAP = "swap"
    GAP = "gap"
    SESSION = "session"
    GONE = "gone"
    FAILED = "failed"


@dataclass(slots=True)
class _Kept:
    session: str
    instruction: str
    stamp_ns: int
    history: Any


class Histories:
    """One history per vehicle that is being driven.

    Args:
        max_gap_s: between two frames of a history; after a longer one it would mislead.
    """

    def __init__(self, max_gap_s: float) -> None:
        self._max_gap_s = max_gap_s
        self._kept: dict[str, _Kept] = {}
        self.dropped: Counter[Dropped] = Counter()

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, requests: Sequence[DriveRequest], model: DrivingModel) -> list[Any]:
        """The history that each request continues; new ones are started, all at once."""
        for request in requests:
            kept = self._kept.get(request.head.vehicle)
            if kept and (why := self._ends(kept, request)):
                self.drop(request.head.vehicle, why)
        new = [r for r in requests if r.head.vehicle not in self._kept]
        if new:
            started = model.start([r.instruction for r in new])
            for request, history in zip(new, started, strict=True):
                head = request.head
                self._kept[head.vehicle] = _Kept(
                    head.session, request.instruction, head.stamp_ns, history
                )
        for request in requests:
            self._kept[request.head.vehicle].stamp_ns = request.head.stamp_ns
        return [self._kept[r.head.vehicle].history for r in requests]

    def all(self) -> list[Any]:
        """Every vehicle's."""
        return [kept.history for kept in self._kept.values()]

    def drop(self, vehicle: str, why: Dropped) -> None:
        """End one history, where there is one."""
        if self._kept.pop(vehicle, None) is not None:
            self.dropped[why] += 1

    def drop_all(self, why: Dropped) -> None:
        """End all histories."""
        for vehicle in list(self._kept):
            self.drop(vehicle, why)

    def keep_only(self, vehicles: Collection[str]) -> None:
        """End the histories of vehicles that are gone."""
        for vehicle in [v for v in self._kept if v not in vehicles]:
            self.drop(vehicle, Dropped.GONE)

    def _ends(self, kept: _Kept, request: DriveRequest) -> Dropped | None:
        if kept.session != request.head.session:
            return Dropped.SESSION
        if kept.instruction != request.instruction:
            return Dropped.INSTRUCTION
        gap_s = (request.head.stamp_ns - kept.stamp_ns) * 1e-9
        return None if 0.0 < gap_s <= self._max_gap_s else Dropped.GAP
