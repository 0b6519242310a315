# SPDX-License-Identifier: Apache-2.0
"""Who moves how: detections of one moment after another, brought together on the ground.

An encoder looks at one moment and can hardly see speeds: ours says of a car that stands at a red
light that it goes about as fast as we do. So speeds are measured here, from where a road user was.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from flad_common.config import knob
from flad_planner.geometry import Pose2

_LEAST_POINTS = 3


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """What is the same road user, and how long it is remembered."""

    gate_m: float = knob(2.5, unit="m", doc="A detection this near to where one should be is it.")
    window_s: float = knob(0.8, unit="s", doc="Speeds are measured over this time.")
    kept_s: float = knob(0.5, unit="s", doc="Who was not seen for longer is forgotten.")
    max_speed_mps: float = knob(30.0, unit="m/s", doc="Faster is a mistake.")

    def __post_init__(self) -> None:
        for name in ("gate_m", "window_s", "kept_s", "max_speed_mps"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Box:
    """A detection, in the frame that the context says; metres, radians."""

    x_m: float
    y_m: float
    yaw_rad: float
    half_length_m: float
    half_width_m: float
    score: float
    """Probability, 0..1."""

    def is_finite(self) -> bool:
        """Whether this can be reckoned with."""
        values = (self.x_m, self.y_m, self.yaw_rad, self.half_length_m, self.half_width_m)
        return all(map(math.isfinite, (*values, self.score)))

    def on_ground(self, pose: Pose2) -> Box:
        """The same in the frame that ``pose`` is given in, seen from there."""
        x_m, y_m = pose.to_world((self.x_m, self.y_m))
        return replace(self, x_m=x_m, y_m=y_m, yaw_rad=pose.yaw_rad + self.yaw_rad)


@dataclass(frozen=True, slots=True)
class RoadUser:
    """Somebody around, on the ground."""

    box: Box
    velocity_mps: tuple[float, float] | None
    """None: not seen long enough to tell."""

    @property
    def speed_mps(self) -> float:
        """Its absolute value; 0 while nobody can tell."""
        return math.hypot(*self.velocity_mps) if self.velocity_mps else 0.0

    def after(self, time_s: float) -> RoadUser:
        """Where it will be, going on as now."""
        if self.velocity_mps is None:
            return self
        vx, vy = self.velocity_mps
        box = replace(self.box, x_m=self.box.x_m + vx * time_s, y_m=self.box.y_m + vy * time_s)
        return replace(self, box=box)


@dataclass
class _Track:
    box: Box
    places: deque[tuple[float, float, float]] = field(default_factory=deque)  # s, m, m

    @property
    def last_s(self) -> float:
        return self.places[-1][0]

    def user(self) -> RoadUser:
        return RoadUser(self.box, _velocity(self.places))


class Tracker:
    """Boxes on the ground in, road users out. Single-threaded; reads no clock."""

    def __init__(self, config: TrackingConfig) -> None:
        self._config = config
        self._tracks: list[_Track] = []

    def clear(self) -> None:
        """Forget everybody."""
        self._tracks.clear()

    def update(self, time_s: float, boxes: Sequence[Box]) -> None:
        """Take what was detected at a time, later than all before; nearest pairs first."""
        c = self._config
        self._tracks = [t for t in self._tracks if time_s - t.last_s <= c.kept_s]
        pairs = sorted(
            (distance_m, k, n)
            for k, track in enumerate(self._tracks)
            for n, box in enumerate(boxes)
            if (distance_m := self._distance_m(track, box, time_s)) <= c.gate_m
        )
        old: set[int] = set()
        matched: set[int] = set()
        for _, k, n in pairs:
            if k not in old and n not in matched:
                old.add(k)
                matched.add(n)
                self._see(self._tracks[k], time_s, boxes[n])
        for n, box in enumerate(boxes):
            if n not in matched:
                track = _Track(box)
                self._see(track, time_s, box)
                self._tracks.append(track)

    def users(self, time_s: float) -> list[RoadUser]:
        """Everybody who is remembered, where they are at a time."""
        return [
            track.user().after(time_s - track.last_s)
            for track in self._tracks
            if time_s - track.last_s <= self._config.kept_s + 1e-6
        ]

    def _distance_m(self, track: _Track, box: Box, time_s: float) -> float:
        expected = track.user().after(time_s - track.last_s).box
        return math.hypot(box.x_m - expected.x_m, box.y_m - expected.y_m)

    def _see(self, track: _Track, time_s: float, box: Box) -> None:
        track.box = box
        track.places.append((time_s, box.x_m, box.y_m))
        while time_s - track.places[0][0] > self._config.window_s + 1e-6:
            track.places.popleft()
        velocity = _velocity(track.places)
        if velocity is not None and math.hypot(*velocity) > self._config.max_speed_mps:
            track.places = deque([track.places[-1]])


def _velocity(places: Sequence[tuple[float, float, float]]) -> tuple[float, float] | None:
    """Slope of the straight line through places over time, by least squares."""
    if len(places) < _LEAST_POINTS:
        return None
    n = len(places)
    mean_s = sum(p[0] for p in places) / n
    spread = sum((p[0] - mean_s) ** 2 for p in places)
    if spread <= 0.0:
        return None
    vx = sum((p[0] - mean_s) * p[1] for p in places) / spread
    vy = sum((p[0] - mean_s) * p[2] for p in places) / spread
    return (vx, vy)
