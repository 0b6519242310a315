# SPDX-License-Identifier: Apache-2.0
"""Who drives a vehicle from frame to frame: the edge, the model on board, or nobody.

Plain values, no clock, no ROS; ``driver_node.py`` brings frames and answers. Time is the stamps of
the frames, so what is decided here repeats when the same frames and answers come again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Literal

from flad_common.config import knob
from flad_common.periods import is_due

_NS = 1_000_000_000
_REORDERED_NS = 1 * _NS  # a stamp that is older than this came not late but from another drive


class Who(IntEnum):
    """Who makes the plan of a frame, with the numbers of ``flad_msgs/DriverStatus``."""

    NONE = 0
    ADLLM = 1
    ADM = 2


class Ended(Enum):
    """How the question to the edge about a frame ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, kw_only=True)
class DriverConfig:
    """When the edge is asked, and when it is given up."""

    drive_by: Literal["edge", "adm"] = knob(
        "edge", unit="", doc="Who drives: the edge with the ADM to fall back on, or the ADM alone."
    )
    frame_period_s: float = knob(
        0.2,
        unit="s",
        doc="Time between two frames that are driven by; the models' histories have it.",
    )
    fallback_after_s: float = knob(
        0.3, unit="s", doc="Age of the edge's last answered frame after which the ADM drives."
    )
    answer_within_s: float = knob(
        0.4,
        unit="s",
        doc="In realtime, time that an answer may take; a later one is not driven by.",
    )
    catch_up_frames: int = knob(
        10,
        unit="1",
        doc="Newest frames that the ADM reads when it takes over, if it is not up to date.",
    )
    is_blind: bool = knob(
        False, unit="", doc="Show the models zeros in place of tokens: a floor to compare with."
    )

    def __post_init__(self) -> None:
        for name in ("frame_period_s", "fallback_after_s", "answer_within_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.catch_up_frames < 1:
            raise ValueError(f"catch_up_frames must be at least 1, got {self.catch_up_frames}")


class Driver:
    """Decides per frame; single-threaded.

    Args:
        config: limits.
        has_adm: whether there is a model on board.
        aligned: frames are at multiples of the period (lockstep), not just a period apart.
    """

    def __init__(self, config: DriverConfig, *, has_adm: bool, aligned: bool) -> None:
        if config.drive_by == "adm" and not has_adm:
            raise ValueError(
                "drive_by is 'adm', but there is no ADM: give the parameter adm a file"
            )
        self._config = config
        self._has_adm = has_adm
        self._aligned = aligned
        self._frame_ns: int | None = None
        self._good_ns: int | None = None  # the newest answered frame, at first the first one
        self._was_answered = False
        self.ended: Counter[Ended] = Counter()
        self.driven: Counter[Who] = Counter()

    @property
    def asks_the_edge(self) -> bool:
        """Whether frames are sent to the edge."""
        return self._config.drive_by == "edge"

    def begins_anew(self, stamp_ns: int) -> bool:
        """Whether a stamp belongs to another drive: time has gone back, and not by a late frame.

        Where frames are aligned none is late, and one that comes again is another drive's first.
        """
        if self._frame_ns is None:
            return False
        if self._aligned:
            return stamp_ns <= self._frame_ns
        return stamp_ns < self._frame_ns - _REORDERED_NS

    def forget(self) -> None:
        """Another drive begins; the counts go on."""
        self._frame_ns = self._good_ns = None
        self._was_answered = False

    def takes(self, stamp_ns: int) -> bool:
        """Whether a moment is a frame that is driven by; then it is the newest one.

        One that is not newer than the newest is not: it came late, or twice.
        """
        period_s = self._config.frame_period_s
        if self._frame_ns is not None and stamp_ns <= self._frame_ns:
            return False
        if self._aligned:
            due = is_due(stamp_ns, period_s)
        else:  # a sensor's own clock may be a little early
            due = self._frame_ns is None or stamp_ns - self._frame_ns > 0.9 * period_s * _NS
        if due:
            self._frame_ns = stamp_ns
            if self._good_ns is None:
                self._good_ns = stamp_ns
        return due

    def is_newest(self, stamp_ns: int) -> bool:
        """Whether this is the newest frame."""
        return stamp_ns == self._frame_ns

    def answered(self, stamp_ns: int) -> None:
        """The edge has waypoints for a frame."""
        self._was_answered = True
        self._good_ns = max(stamp_ns, self._good_ns or 0)

    def close(self, who: Who, how: Ended | None) -> None:
        """A frame is over: count who drove it, and how the question to the edge ended, if any."""
        self.driven[who] += 1
        if how is not None:
            self.ended[how] += 1

    def is_adms(self, stamp_ns: int) -> bool:
        """Whether the ADM has to drive a frame unless the edge answers it after all."""
        if not self._has_adm:
            return False
        return not self.asks_the_edge or self.silence_s(stamp_ns) > self._config.fallback_after_s

    def silence_s(self, stamp_ns: int) -> float:
        """From the newest answered frame to this one; from the first frame before any answer."""
        return 0.0 if self._good_ns is None else (stamp_ns - self._good_ns) / _NS

    def why_not(self, stamp_ns: int) -> str:
        """In words, why the edge does not drive a frame that it was asked about."""
        if not self._was_answered:
            return "the edge has not answered yet"
        return f"no answer from the edge for {self.silence_s(stamp_ns):.1f} s"
