# SPDX-License-Identifier: Apache-2.0
"""Frames whose driver is not known yet, and until when each may stay so. Single-threaded."""

from __future__ import annotations

from dataclasses import dataclass

from flad_edge.driver import Ended
from flad_edge.service.requests import DriveRequest


@dataclass(slots=True, eq=False)
class OpenFrame:
    """A frame that somebody may still drive. Times are of a clock that never goes back."""

    stamp_ns: int
    arrived_s: float
    due_s: float
    """When whoever works on it is given up."""
    request: DriveRequest
    how: Ended | None = None
    """How the question to the edge ended, once it has."""
    why: str = ""
    adm_runs: bool = False


class OpenFrames:
    """By stamp, in the order in which they came.

    Args:
        limit_s: that the edge has for an answer; and, from when it is asked, the ADM again.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._frames: dict[int, OpenFrame] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def open(self, stamp_ns: int, request: DriveRequest, now_s: float) -> OpenFrame:
        """A frame has come."""
        frame = OpenFrame(stamp_ns, now_s, now_s + self._limit_s, request)
        self._frames[stamp_ns] = frame
        return frame

    def find(self, stamp_ns: int) -> OpenFrame | None:
        """The frame of a stamp, if it is open."""
        return self._frames.get(stamp_ns)

    def adm_starts(self, frame: OpenFrame, now_s: float) -> None:
        """The ADM is asked about a frame: it has as long as the edge had."""
        frame.adm_runs = True
        frame.due_s = now_s + self._limit_s

    def close(self, stamp_ns: int) -> OpenFrame | None:
        """The frame of a stamp is over, if it was open."""
        return self._frames.pop(stamp_ns, None)

    def close_all(self) -> list[OpenFrame]:
        """All are over."""
        frames = list(self._frames.values())
        self._frames.clear()
        return frames

    def overdue(self, now_s: float) -> list[OpenFrame]:
        """Those whose time is over."""
        return [frame for frame in self._frames.values() if now_s > frame.due_s]

    def at_the_edge(self) -> list[OpenFrame]:
        """Those that the edge may still answer."""
        return [frame for frame in self._frames.values() if frame.how is None]
