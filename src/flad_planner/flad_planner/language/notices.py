# SPDX-License-Identifier: Apache-2.0
"""Notices: short warnings besides the instruction, each told once and held for a while."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from flad_common.config import knob
from flad_planner.language.kinds import Kind


class LightColour(IntEnum):
    """Colours that are told, with CARLA's numbers."""

    RED = 0
    YELLOW = 1
    GREEN = 2


_OF_LIGHT = {
    LightColour.RED: Kind.NOTICE_LIGHT_RED,
    LightColour.YELLOW: Kind.NOTICE_LIGHT_YELLOW,
    LightColour.GREEN: Kind.NOTICE_LIGHT_GREEN,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What could be told about at one moment."""

    light: LightColour | None = None  # of the next lights on the route
    light_m: float | None = None  # how far they are
    has_pedestrian: bool = False
    has_cyclist: bool = False
    has_sudden_stop: bool = False  # the vehicle ahead brakes hard, or has cut in
    has_runner_left: bool = False
    has_runner_ahead: bool = False
    is_bumpy: bool = False
    is_tunnel: bool = False


@dataclass(frozen=True, kw_only=True)
class NoticeConfig:
    """How long and how often notices are told."""

    hold_s: float = knob(4.0, unit="s", doc="How long a notice stands.")
    absent_s: float = knob(
        3.0, unit="s", doc="How long its cause must be gone before a notice is told again."
    )
    light_range_m: float = knob(40.0, unit="m", doc="Farthest lights whose colour is told.")

    def __post_init__(self) -> None:
        for name in ("hold_s", "absent_s", "light_range_m"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice that stands; ``number`` counts them, so the same number is the same telling."""

    number: int
    kind: Kind


class NoticeBoard:
    """One vehicle's notices; not for several threads."""

    def __init__(self, config: NoticeConfig) -> None:
        self._config = config
        self._number = -1
        self._notice: Notice | None = None
        self._told_s = 0.0
        self._last_seen_s: dict[Kind, float] = {}

    def step(self, time_s: float, surroundings: Surroundings) -> Notice | None:
        """The notice that stands now.

        What is new replaces a notice of lower rank at once, and lights that change replace their
        former colour; else it waits until the standing one's time is over.
        """
        causes = self._causes(surroundings)
        new = [kind for kind in causes if self._is_new(kind, time_s)]
        if self._notice is not None and time_s - self._told_s >= self._config.hold_s:
            self._notice = None
        told = None
        if new and (self._notice is None or self._may_replace(self._notice.kind, new[0])):
            told = new[0]
            self._number += 1
            self._notice = Notice(self._number, told)
            self._told_s = time_s
        for kind in causes:
            if kind is told or kind not in new:  # what had to wait stays new
                self._last_seen_s[kind] = time_s
        return self._notice

    def _causes(self, s: Surroundings) -> list[Kind]:
        """What there is to tell, the most urgent first."""
        present = (
            (s.has_pedestrian, Kind.NOTICE_PEDESTRIAN),
            (s.has_cyclist, Kind.NOTICE_CYCLIST),
            (s.has_runner_left, Kind.NOTICE_RUNNER_LEFT),
            (s.has_runner_ahead, Kind.NOTICE_RUNNER_AHEAD),
            (s.has_sudden_stop, Kind.NOTICE_SUDDEN_STOP),
        )
        causes = [kind for is_there, kind in present if is_there]
        is_near = s.light_m is not None and s.light_m <= self._config.light_range_m
        if s.light is not None and is_near:
            causes.append(_OF_LIGHT[s.light])
        if s.is_bumpy:
            causes.append(Kind.NOTICE_BUMPY_ROAD)
        if s.is_tunnel:
            causes.append(Kind.NOTICE_TUNNEL)
        return causes

    def _is_new(self, kind: Kind, time_s: float) -> bool:
        seen_s = self._last_seen_s.get(kind)
        if seen_s is None:
            return True
        if kind in _OF_LIGHT.values():  # red again after green is news; red that goes on is not
            others = [s for k, s in self._last_seen_s.items() if k in _OF_LIGHT.values()]
            if seen_s < max(others):
                return True
        return time_s - seen_s >= self._config.absent_s

    @staticmethod
    def _may_replace(standing: Kind, new: Kind) -> bool:
        lights = _OF_LIGHT.values()
        if standing in lights and new in lights:
            return True
        return _RANK[new] < _RANK[standing]


_RANK = {
    Kind.NOTICE_PEDESTRIAN: 0,
    Kind.NOTICE_CYCLIST: 0,
    Kind.NOTICE_RUNNER_LEFT: 1,
    Kind.NOTICE_RUNNER_AHEAD: 1,
    Kind.NOTICE_SUDDEN_STOP: 2,
    Kind.NOTICE_LIGHT_RED: 3,
    Kind.NOTICE_LIGHT_YELLOW: 3,
    Kind.NOTICE_LIGHT_GREEN: 3,
    Kind.NOTICE_BUMPY_ROAD: 4,
    Kind.NOTICE_TUNNEL: 4,
}
