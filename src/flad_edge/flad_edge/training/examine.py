# SPDX-License-Identifier: Apache-2.0
"""The last look at a trained model: held-out drives told truly, otherwise, and to a blind one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flad_edge.adllm.model import AdLlm
from flad_edge.training.answers import Answers, answers_of
from flad_edge.training.answers import swapped as swapped_instruction
from flad_edge.training.figures import by_part, figures, swap_figures
from flad_edge.training.lessons import GROUPS, Lesson
from flad_planner.language.bank import Bank, Split

Figures = dict[str, dict[str, float]]
_TURNS = (GROUPS.index("left"), GROUPS.index("right"))


def some(lessons: Sequence[Lesson], most_frames: int, seed: int = 0) -> list[Lesson]:
    """Whole lessons, drawn by seed, of about ``most_frames`` labelled frames at most."""
    order = list(lessons)
    random.Random(seed).shuffle(order)
    chosen: list[Lesson] = []
    left = most_frames
    for lesson in order:
        if left <= 0:
            break
        chosen.append(lesson)
        left -= lesson.clip.num_frames
    return chosen


def examine(
    model: AdLlm,
    lessons: Sequence[Lesson],
    bank: Bank,
    on_frames: Callable[[int], None] = lambda frames: None,
) -> Figures:
    """Figures by part, and of the same frames under other conditions.

    ``told in other words`` are the phrasings that training never saw, ``blind`` is the same model
    with every token zero, ``words exchanged`` says what left and right of the instruction decide.
    """
    if not lessons:
        return {}
    plain = answers_of(model, lessons, bank, on_frames=on_frames)
    parts = by_part(plain)
    other = answers_of(model, lessons, bank, split=Split.HELD_OUT, on_frames=on_frames)
    parts["told in other words"] = figures(other)
    parts["blind"] = figures(answers_of(model, lessons, bank, change="blind", on_frames=on_frames))
    if any(swapped_instruction(lesson) for lesson in lessons):
        wrong = answers_of(model, lessons, bank, change="swapped", on_frames=on_frames)
        parts["words exchanged"] = swap_figures(_turns(plain), _turns(wrong))
    return parts


def summary_line(parts: dict[str, Any]) -> str:
    """The figures that matter most, for a terminal."""
    whole, blind = parts.get("all", {}), parts.get("blind", {})
    if not whole.get("frames"):
        return "no frames"
    words = [
        f"waypoint L1 {whole['waypoint_l1_m']:.2f} m "
        f"(constant velocity {whole['waypoint_l1_m_constant_velocity']:.2f}"
        + (f", blind {blind['waypoint_l1_m']:.2f})" if blind else ")")
    ]
    names = {
        "wanted_speed_error_mps": "wanted speed off by {:.2f} m/s",
        "aim_error_deg": "aim by {:.1f} deg",
        "starts_when_it_shall": "starts {:.0%}",
        "stands_when_it_shall": "stands {:.0%}",
        "turns_to_the_right_side": "turns {:.0%}",
    }
    words += [text.format(whole[name]) for name, text in names.items() if name in whole]
    exchanged = parts.get("words exchanged", {}).get("goes_the_recorded_way_told_the_opposite")
    if exchanged is not None and np.isfinite(exchanged):
        words.append(f"told the opposite still {exchanged:.0%}")
    return ", ".join(words)


def _turns(answers: Answers) -> Answers:
    return answers.where(np.isin(answers.group, _TURNS))
