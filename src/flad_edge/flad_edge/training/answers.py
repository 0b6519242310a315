# SPDX-License-Identifier: Apache-2.0
"""A model's answers to whole clips, read as a driving vehicle would read them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from flad_edge.adllm.model import AdLlm
from flad_edge.training.batches import LessonBatch, assemble
from flad_edge.training.lessons import GROUPS, Lesson
from flad_edge.training.objective import ObjectiveConfig
from flad_edge.training.sampling import Window, packed
from flad_planner.language.bank import Bank, Split
from flad_planner.language.kinds import Instruction, Kind

_BATCH_FRAMES = 640

Change = Literal["none", "blind", "swapped"]
"""What is changed of the input: nothing, all tokens zero, or left and right of the instruction."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Of N labelled frames, in any order."""

    predicted_m: NDArray[np.float32]
    """``[N, P, 2]``."""
    target_m: NDArray[np.float32]
    completed_p: NDArray[np.float32]
    completed: NDArray[np.int8]
    speed_mps: NDArray[np.float32]
    group: NDArray[np.int64]
    """Index into GROUPS; -1 for words without a kind."""
    town: NDArray[np.str_]
    weather_id: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.speed_mps)

    def where(self, chosen: NDArray[np.bool_]) -> Answers:
        """Some of them."""
        return Answers(**{name: value[chosen] for name, value in vars(self).items()})


@torch.no_grad()
def answers_of(
    model: AdLlm,
    lessons: Sequence[Lesson],
    bank: Bank,
    *,
    split: Split = Split.TRAINING,
    change: Change = "none",
    seed: int = 0,
    on_frames: Callable[[int], None] = lambda frames: None,
) -> Answers:
    """Ask about every frame of every lesson; the history rule is the driving one.

    Args:
        model: is put into evaluation mode and left there.
        lessons: at least one.
        bank: words.
        split: which phrasings.
        change: of the input. Lessons without a left or right to swap are left out then.
        seed: of the words; the same lessons get the same.
        on_frames: told how many more frames were answered.

    Raises:
        ValueError: if there is no lesson to ask about.
    """
    model.eval()
    asked = [lesson for lesson in lessons if change != "swapped" or swapped(lesson)]
    if not asked:
        raise ValueError("there are no clips to ask about")
    windows = [Window(lesson=i, start=0, stop=n.clip.num_frames) for i, n in enumerate(asked)]
    parts = []
    for batch_windows in packed(sorted(windows, key=len), _BATCH_FRAMES):
        shown = [asked[w.lesson] for w in batch_windows]
        batch = _batch(asked, batch_windows, bank, split, change, seed)
        output = model(batch.clip)
        mask = batch.clip.frame_mask
        parts.append(
            _rows(
                shown,
                batch,
                output.waypoints_m[mask].numpy(),
                output.completed_logits[mask].softmax(-1)[:, 1].numpy(),
            )
        )
        on_frames(batch.num_frames)
    return Answers(
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0])}
    )


def swapped(lesson: Lesson) -> Instruction | None:
    """The lesson's instruction with left and right exchanged; None where it has neither."""
    if lesson.instruction is None or lesson.group not in ("left", "right"):
        return None
    words = lesson.instruction.kind.name.split("_")
    other = {"LEFT": "RIGHT", "RIGHT": "LEFT"}
    name = "_".join(other.get(word, word) for word in words)
    if name not in Kind.__members__:
        return None
    return replace(lesson.instruction, kind=Kind[name])


def _batch(
    lessons: Sequence[Lesson],
    windows: Sequence[Window],
    bank: Bank,
    split: Split,
    change: Change,
    seed: int,
) -> LessonBatch:
    words = []
    for window in windows:
        lesson = lessons[window.lesson]
        rng = random.Random(f"{seed}/{window.lesson}")
        other = swapped(lesson) if change == "swapped" else None
        words.append(bank.render(other, rng, split) if other else lesson.words(bank, rng, split))
    batch = assemble(lessons, windows, ObjectiveConfig(), words, [{} for _ in windows])
    if change == "blind":
        batch = replace(batch, clip=replace(batch.clip, tokens=torch.zeros_like(batch.clip.tokens)))
    return batch


def _rows(
    shown: Sequence[Lesson],
    batch: LessonBatch,
    predicted_m: NDArray[np.float32],
    completed_p: NDArray[np.float32],
) -> Answers:
    counts = batch.clip.num_frames

    def each(values: Sequence[object]) -> NDArray[Any]:
        return np.repeat(np.asarray(values), counts)

    groups = [GROUPS.index(n.group) if n.group in GROUPS else -1 for n in shown]
    whole = Answers(
        predicted_m=predicted_m,
        target_m=np.concatenate([n.clip.waypoints_m for n in shown]),
        completed_p=completed_p,
        completed=np.concatenate([n.clip.completed for n in shown]),
        speed_mps=np.concatenate([n.clip.speed_mps for n in shown]),
        group=each(groups),
        town=each([n.town for n in shown]),
        weather_id=each([n.weather_id for n in shown]),
    )
    return whole.where(np.asarray(np.isfinite(whole.target_m).all(axis=(1, 2))))
