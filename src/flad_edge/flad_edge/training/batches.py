# SPDX-License-Identifier: Apache-2.0
"""Windows of clips as one batch of tensors, with words drawn for each.

Shapes: B windows, F frames (padded), K scene tokens of D channels, P waypoints.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flad_edge.adllm.clip import ClipBatch
from flad_edge.training.clip_file import UNKNOWN
from flad_edge.training.lessons import Lesson
from flad_edge.training.objective import ObjectiveConfig, frame_weights
from flad_edge.training.sampling import Window
from flad_planner.language.bank import Bank, Split


@dataclass(frozen=True, kw_only=True)
class LessonBatch:
    """What the model reads, and what it shall answer."""

    clip: ClipBatch
    waypoints_m: Tensor
    """``[B, F, P, 2]``."""
    completed: Tensor
    """int8 ``[B, F]``, as in :class:`FeatureClip`."""
    weights: Tensor
    """``[B, F]``; 0 where there is nothing to learn."""

    @property
    def num_frames(self) -> int:
        """Without padding."""
        return sum(self.clip.num_frames)


def assemble(
    lessons: Sequence[Lesson],
    windows: Sequence[Window],
    config: ObjectiveConfig,
    instructions: Sequence[str],
    notices: Sequence[Mapping[int, str]],
) -> LessonBatch:
    """The windows with these words.

    Args:
        lessons: all of them.
        windows: of the batch.
        config: weights.
        instructions: one per window.
        notices: per window, by the lesson's frames; those outside the window are left out.
    """
    clips = [lessons[w.lesson].clip for w in windows]
    longest = max(map(len, windows))
    num_tokens, dim = clips[0].tokens.shape[1:]
    num_points = clips[0].waypoints_m.shape[1]
    tokens = np.zeros((len(windows), longest, num_tokens, dim), dtype=np.float32)
    waypoints = np.zeros((len(windows), longest, num_points, 2), dtype=np.float32)
    completed = np.full((len(windows), longest), UNKNOWN, dtype=np.int8)
    weights = np.zeros((len(windows), longest), dtype=np.float32)
    for row, (window, clip) in enumerate(zip(windows, clips, strict=True)):
        part = slice(window.start, window.stop)
        tokens[row, : len(window)] = clip.tokens[part]
        waypoints[row, : len(window)] = clip.waypoints_m[part]
        completed[row, : len(window)] = clip.completed[part]
        weights[row, : len(window)] = frame_weights(
            clip.waypoints_m[part], clip.speed_mps[part], config
        )
    return LessonBatch(
        clip=ClipBatch(
            instructions=tuple(instructions),
            tokens=torch.from_numpy(tokens),
            num_frames=tuple(map(len, windows)),
            notices=tuple(
                {f - w.start: text for f, text in told.items() if w.start <= f < w.stop}
                for w, told in zip(windows, notices, strict=True)
            ),
        ),
        waypoints_m=torch.from_numpy(waypoints),
        completed=torch.from_numpy(completed),
        weights=torch.from_numpy(weights),
    )


def training_batch(
    lessons: Sequence[Lesson],
    windows: Sequence[Window],
    config: ObjectiveConfig,
    bank: Bank,
    rng: random.Random,
    notice_share: float,
) -> LessonBatch:
    """The windows in words of the training phrasings, drawn anew each time."""
    shown = [lessons[w.lesson] for w in windows]
    words = [lesson.words(bank, rng, Split.TRAINING) for lesson in shown]
    notices: list[Mapping[int, str]] = [
        lesson.notice_words(bank, rng, Split.TRAINING) if rng.random() < notice_share else {}
        for lesson in shown
    ]
    return assemble(lessons, windows, config, words, notices)
