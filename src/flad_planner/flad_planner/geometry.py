# SPDX-License-Identifier: Apache-2.0
"""Poses on the plane as ROS has them: x forward, y left, yaw to the left; metres, radians."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Pose2:
    """A place and a heading on the plane."""

    x_m: float
    y_m: float
    yaw_rad: float

    def to_world(self, point: Point) -> Point:
        """A point of this pose's own frame, in the frame that the pose is given in."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return (self.x_m + c * point[0] - s * point[1], self.y_m + s * point[0] + c * point[1])

    def to_local(self, point: Point) -> Point:
        """The inverse of :meth:`to_world`."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        dx, dy = point[0] - self.x_m, point[1] - self.y_m
        return (c * dx + s * dy, -s * dx + c * dy)


class PoseHistory:
    """Where the vehicle was during the last seconds. Single-threaded."""

    def __init__(self, span_s: float) -> None:
        if span_s <= 0.0:
            raise ValueError(f"span_s must be positive, got {span_s}")
        self._span_ns = round(span_s * 1e9)
        self._entries: deque[tuple[int, Pose2]] = deque()

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the last pose, None before the first."""
        return self._entries[-1][0] if self._entries else None

    def clear(self) -> None:
        """Forget the past."""
        self._entries.clear()

    def add(self, stamp_ns: int, pose: Pose2) -> None:
        """Append a pose, newer than the last.

        Raises:
            ValueError: if it is not.
        """
        if self._entries and stamp_ns <= self._entries[-1][0]:
            raise ValueError(f"{stamp_ns} ns is not after {self._entries[-1][0]} ns")
        self._entries.append((stamp_ns, pose))
        while stamp_ns - self._entries[0][0] > self._span_ns:
            self._entries.popleft()

    def at(self, stamp_ns: int) -> Pose2 | None:
        """The pose at a time, interpolated; None outside the history."""
        stamps = [stamp for stamp, _ in self._entries]
        if not stamps or not stamps[0] <= stamp_ns <= stamps[-1]:
            return None
        after = bisect_left(stamps, stamp_ns)
        if stamps[after] == stamp_ns:
            return self._entries[after][1]
        (t0, a), (t1, b) = self._entries[after - 1], self._entries[after]
        share = (stamp_ns - t0) / (t1 - t0)
        turn = math.remainder(b.yaw_rad - a.yaw_rad, math.tau)
        return Pose2(
            a.x_m + share * (b.x_m - a.x_m),
            a.y_m + share * (b.y_m - a.y_m),
            a.yaw_rad + share * turn,
        )
