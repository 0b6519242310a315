# SPDX-License-Identifier: Apache-2.0
"""What an epoch shows: windows of clips, with rare instructions as often as common ones.

An epoch is a function of lessons, configuration, seed and number, so a resumed run goes on in it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flad_edge.adllm.history import HistoryConfig
from flad_edge.training.config import SharesConfig, WindowConfig
from flad_edge.training.lessons import GROUPS, Lesson
from flad_edge.training.objective import ObjectiveConfig, frame_weights

_MIN_WINDOW = 4
_POOL_BATCHES = 12  # windows of so many batches are sorted by length, which saves padding


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Frames ``start`` up to ``stop`` of a lesson, read as one history."""

    lesson: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def repeats(lessons: Sequence[Lesson], shares: SharesConfig, num_versions: int) -> dict[str, float]:
    """How often an epoch shows a clip of each group.

    Args:
        lessons: all of them.
        shares: what is wanted.
        num_versions: tellings times phases: so often every drive is in ``lessons``.
    """
    frames: Counter[str] = Counter()
    for lesson in lessons:
        frames[lesson.group] += lesson.clip.num_frames
    wanted = {g: getattr(shares, g) if g in GROUPS else shares.follow for g in frames}
    total, sum_wanted = sum(frames.values()), sum(wanted.values())
    if sum_wanted <= 0.0:
        raise ValueError(f"the clips are of groups {sorted(frames)}, all of which have share 0")
    return {
        g: min(shares.max_repeat, wanted[g] / sum_wanted * total / frames[g]) / num_versions
        for g in frames
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Interest:
    """What of a lesson is worth seeing."""

    frames: tuple[int, ...]
    """On which something changes: their weight is above 1."""
    factor: float
    """How much oftener than the others of its group it is shown."""


def interests(lessons: Sequence[Lesson], config: ObjectiveConfig) -> list[Interest]:
    """By the weights of their frames: bends while following a road, starts, stops, turns."""
    weights = [frame_weights(n.clip.waypoints_m, n.clip.speed_mps, config) for n in lessons]
    sums: dict[str, float] = {}
    frames: Counter[str] = Counter()
    for lesson, one in zip(lessons, weights, strict=True):
        sums[lesson.group] = sums.get(lesson.group, 0.0) + float(one.sum())
        frames[lesson.group] += len(one)
    return [
        Interest(
            frames=tuple(np.flatnonzero(one > 1.0).tolist()),
            factor=float(one.mean()) * frames[n.group] / max(sums[n.group], 1e-9),
        )
        for n, one in zip(lessons, weights, strict=True)
    ]


def draw_epoch(
    lessons: Sequence[Lesson],
    times: Mapping[str, float],
    interest: Sequence[Interest],
    history: HistoryConfig,
    config: WindowConfig,
    *,
    batch_frames: int,
    seed: int,
    epoch: int,
) -> list[list[Window]]:
    """The epoch's batches of windows of about ``batch_frames`` frames, padding included.

    No window is longer than a history: frames are read in the contexts that driving has, from the
    beginning of a clip, or (with probability ``restart``) from any frame on. A clip longer than a
    history is entered where the rule drops frames. Short windows look for frames of interest.
    """
    rng = random.Random(f"{seed}/epoch/{epoch}")
    windows: list[Window] = []
    for number, lesson in enumerate(lessons):
        length = lesson.clip.num_frames
        left = times[lesson.group] * length * interest[number].factor
        while left > 0.0:
            start, stop = _span(length, interest[number], history, config, rng)
            if rng.random() < left / (stop - start):  # the last one only as often as it fits
                windows.append(Window(lesson=number, start=start, stop=stop))
            left -= stop - start
    rng.shuffle(windows)
    batches: list[list[Window]] = []
    pool = max(1, _POOL_BATCHES * batch_frames // history.max_frames)
    for first in range(0, len(windows), pool):
        batches += packed(sorted(windows[first : first + pool], key=len), batch_frames)
    rng.shuffle(batches)
    return batches


def _span(
    length: int,
    interest: Interest,
    history: HistoryConfig,
    config: WindowConfig,
    rng: random.Random,
) -> tuple[int, int]:
    """First frame of a window in a clip of ``length`` frames, and the one after its last."""
    parts = 1 + max(0, length - history.max_frames - 1) // history.dropped_frames
    start = history.dropped_frames * rng.randrange(parts)
    most = history.max_frames
    is_short = rng.random() < config.short
    if is_short:
        most = min(most, config.short_frames)
    if (is_short or rng.random() < config.restart) and length > _MIN_WINDOW:
        start = rng.randint(0, length - _MIN_WINDOW)
    if is_short and interest.frames and rng.random() < config.focus:
        start = max(0, rng.choice(interest.frames) - rng.randrange(most))
    return start, min(length, start + most)


def packed(windows: Sequence[Window], batch_frames: int) -> list[list[Window]]:
    """Neighbours in batches of at most ``batch_frames`` frames with padding, one at least."""
    batches: list[list[Window]] = []
    for window in windows:
        last = batches[-1] if batches else None
        if last is None or (len(last) + 1) * max(*map(len, last), len(window)) > batch_frames:
            batches.append([window])
        else:
            last.append(window)
    return batches
