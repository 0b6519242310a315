# SPDX-License-Identifier: Apache-2.0
"""Which frames a frame sees: the one rule that training and driving share.

A history holds at most ``max_frames`` frames. When one more comes, the oldest ``dropped_frames``
go and those that stay are read again, from the instruction on, as if the clip had started there.
"""

from __future__ import annotations

from dataclasses import dataclass

from flad_common.config import knob


@dataclass(frozen=True, kw_only=True)
class HistoryConfig:
    """How much of the past the model reads, and at which rate."""

    frame_interval_s: float = knob(
        0.2, unit="s", doc="From frame to frame; the same in training and in driving."
    )
    max_frames: int = knob(40, unit="1", doc="Of a history; 8 s.")
    dropped_frames: int = knob(20, unit="1", doc="The oldest, which go when a history is full.")

    def __post_init__(self) -> None:
        if not self.frame_interval_s > 0.0:
            raise ValueError(f"frame_interval_s must be positive, got {self.frame_interval_s}")
        if not 1 <= self.dropped_frames <= self.max_frames:
            raise ValueError(
                f"dropped_frames must be in 1..max_frames ({self.max_frames}), "
                f"got {self.dropped_frames}"
            )

    def first_seen(self, frame: int) -> int:
        """The oldest frame that ``frame`` (from 0) sees; it also sees all between, and itself.

        Raises:
            ValueError: if ``frame`` is negative.

        Example:
            >>> [HistoryConfig().first_seen(f) for f in (0, 39, 40, 59, 60)]
            [0, 0, 20, 20, 40]
        """
        if frame < 0:
            raise ValueError(f"frames are counted from 0, got {frame}")
        over = frame - self.max_frames
        return 0 if over < 0 else (over // self.dropped_frames + 1) * self.dropped_frames

    def readings(self, num_frames: int) -> tuple[Reading, ...]:
        """How a clip is read so that every frame sees what the rule says.

        A frame that stays after a drop is read once more, in another context, so one causal mask
        over the clip is not enough: a long clip becomes several readings.

        Example:
            >>> [(r.first, r.answers_from, r.stop) for r in HistoryConfig().readings(70)]
            [(0, 0, 40), (20, 40, 60), (40, 60, 70)]
        """
        readings = []
        answered = 0
        while answered < num_frames:
            first = self.first_seen(answered)
            stop = min(num_frames, first + self.max_frames)
            readings.append(Reading(first=first, answers_from=answered, stop=stop))
            answered = stop
        return tuple(readings)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """Frames ``first`` to ``stop`` in one go; those before ``answers_from`` are context only."""

    first: int
    answers_from: int
    stop: int
