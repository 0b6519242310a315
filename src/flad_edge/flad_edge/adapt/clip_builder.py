# SPDX-License-Identifier: Apache-2.0
"""On the vehicle: what it saw and was told, and where it then went, as clips for the edge.

Only features, words, speeds and positions relative to the vehicle go in. Where the vehicle is in
the world, and every picture, stay. Plain values, no clock: time is the stamps.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flad_common.config import knob
from flad_edge.training.clip_file import FRAME_INTERVAL_S, UNKNOWN, FeatureClip

_NS = 1_000_000_000
_JITTER_S = 0.05
_MOST_CLOSED = 8  # clips that wait for the places after them; more only where none come


@dataclass(frozen=True, kw_only=True)
class ClipBuilderConfig:
    """How a drive is cut."""

    max_frames: int = knob(100, unit="1", doc="Of a clip, one every 0.2 s.")
    min_frames: int = knob(10, unit="1", doc="A shorter clip is thrown away.")
    num_waypoints: int = knob(5, unit="1", doc="Positions afterwards that are noted.")
    waypoint_step_s: float = knob(0.5, unit="s", doc="Time between them.")

    def __post_init__(self) -> None:
        if not 1 <= self.min_frames <= self.max_frames:
            raise ValueError(
                f"min_frames must be in 1..max_frames ({self.max_frames}), got {self.min_frames}"
            )
        if self.num_waypoints < 1 or not self.waypoint_step_s > 0.0:
            raise ValueError(
                f"num_waypoints must be at least 1 and waypoint_step_s positive, got "
                f"{self.num_waypoints} and {self.waypoint_step_s}"
            )

    @property
    def horizon_s(self) -> float:
        """To the last waypoint."""
        return self.num_waypoints * self.waypoint_step_s


@dataclass(frozen=True, kw_only=True)
class SeenFrame:
    """What the vehicle's encoder made of one moment, and what it had been told."""

    stamp_ns: int
    tokens: NDArray[np.float32]
    """``[K, D]``."""
    speed_mps: float
    encoder_hash: str
    contract_version: int
    instruction: str
    notice: str | None = None
    """Said since the frame before."""


@dataclass(frozen=True, slots=True)
class _Pose:
    stamp_ns: int
    x_m: float
    y_m: float
    yaw_rad: float


class ClipBuilder:
    """Cuts a drive into clips; single-threaded.

    Args:
        config: how.
        vehicle: its name, which the clips bear.
    """

    def __init__(self, config: ClipBuilderConfig, vehicle: str) -> None:
        self._config = config
        self._vehicle = vehicle
        self._open: list[SeenFrame] = []
        self._closed: deque[list[SeenFrame]] = deque(maxlen=_MOST_CLOSED)
        self._poses: deque[_Pose] = deque()

    def frame(self, frame: SeenFrame) -> None:
        """The vehicle saw something; frames that come too soon are left out."""
        if self._open:
            last = self._open[-1]
            gap_s = (frame.stamp_ns - last.stamp_ns) / _NS
            if 0.0 <= gap_s < FRAME_INTERVAL_S - _JITTER_S:
                return
            if not 0.0 < gap_s <= FRAME_INTERVAL_S + _JITTER_S or not _continues(last, frame):
                self.cut()
        self._open.append(frame)
        if len(self._open) == self._config.max_frames:
            self.cut()

    def cut(self) -> None:
        """What comes now does not continue what came: another driver, a standstill, a new drive."""
        if len(self._open) >= self._config.min_frames:
            self._closed.append(self._open)
        self._open = []

    def pose(self, stamp_ns: int, x_m: float, y_m: float, yaw_rad: float) -> list[FeatureClip]:
        """The vehicle is there now, in any fixed frame (x, y, yaw counter-clockwise).

        Returns:
            The clips that are complete: all of their waypoints have been reached, or time has gone
            back, and another drive begins.
        """
        done: list[FeatureClip] = []
        if self._poses and stamp_ns == self._poses[-1].stamp_ns:
            return done
        if self._poses and stamp_ns < self._poses[-1].stamp_ns:
            done += self.finish()
        self._poses.append(_Pose(stamp_ns, x_m, y_m, yaw_rad))
        horizon_ns = round(self._config.horizon_s * _NS)
        if self._open and self._open[-1].stamp_ns + horizon_ns <= stamp_ns:
            self.cut()  # nothing is seen any more
        while self._closed and self._closed[0][-1].stamp_ns + horizon_ns <= stamp_ns:
            clip = self._built(self._closed.popleft())
            if clip is not None:
                done.append(clip)
        oldest = [frames[0].stamp_ns for frames in (*self._closed, self._open) if frames]
        keep_ns = min([*oldest, stamp_ns - _NS]) - _NS
        while self._poses[0].stamp_ns < keep_ns:
            self._poses.popleft()
        return done

    def finish(self) -> list[FeatureClip]:
        """The drive is over: what there is of it, where the places after a frame are known."""
        self.cut()
        done = [clip for frames in self._closed if (clip := self._built(frames)) is not None]
        self._closed.clear()
        self._poses.clear()
        return done

    def _built(self, frames: list[SeenFrame]) -> FeatureClip | None:
        if not self._poses:
            return None
        waypoints_m = self._waypoints_m(np.array([f.stamp_ns for f in frames]))
        if not np.isfinite(waypoints_m).all(axis=(1, 2)).any():
            return None
        return FeatureClip(
            instruction=frames[0].instruction,
            tokens=np.stack([f.tokens for f in frames]).astype(np.float16),
            waypoints_m=waypoints_m,
            completed=np.full(len(frames), UNKNOWN, np.int8),
            speed_mps=np.array([f.speed_mps for f in frames], np.float32),
            encoder_hash=frames[0].encoder_hash,
            contract_version=frames[0].contract_version,
            notices={i: f.notice for i, f in enumerate(frames) if f.notice},
            about={"source": "vehicle", "vehicle": self._vehicle},
        )

    def _waypoints_m(self, stamps_ns: NDArray[np.int64]) -> NDArray[np.float32]:
        """``[F, P, 2]``: where it went, seen from where it was; NaN where that is not known."""
        c = self._config
        origin_ns = stamps_ns[0]
        at_s = np.array([(p.stamp_ns - origin_ns) / _NS for p in self._poses])
        x_m = np.array([p.x_m for p in self._poses])
        y_m = np.array([p.y_m for p in self._poses])
        yaw_rad = np.unwrap([p.yaw_rad for p in self._poses])
        now_s = (stamps_ns - origin_ns) / _NS
        then_s = now_s[:, None] + c.waypoint_step_s * np.arange(1, c.num_waypoints + 1)
        dx = np.interp(then_s, at_s, x_m) - np.interp(now_s, at_s, x_m)[:, None]
        dy = np.interp(then_s, at_s, y_m) - np.interp(now_s, at_s, y_m)[:, None]
        heading = np.interp(now_s, at_s, yaw_rad)[:, None]
        forward = np.cos(heading) * dx + np.sin(heading) * dy
        left = -np.sin(heading) * dx + np.cos(heading) * dy
        waypoints = np.stack([forward, left], axis=-1)
        waypoints[(now_s < at_s[0]) | (then_s[:, -1] > at_s[-1] + 1e-6)] = np.nan
        return waypoints.astype(np.float32)


def _continues(last: SeenFrame, frame: SeenFrame) -> bool:
    return (
        last.instruction == frame.instruction
        and last.encoder_hash == frame.encoder_hash
        and last.contract_version == frame.contract_version
        and last.tokens.shape == frame.tokens.shape
    )
