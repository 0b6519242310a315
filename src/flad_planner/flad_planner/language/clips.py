# SPDX-License-Identifier: Apache-2.0
"""Cuts a recorded run into clips, each with the one instruction that stood during it.

The live narrator decides here too: a clip begins and ends where a vehicle on that route would
have been told something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flad_common.config import knob, section
from flad_planner.language.kinds import Instruction, Kind
from flad_planner.language.narrator import Narrator, NarratorConfig, Utterance
from flad_planner.language.navigator import Ending
from flad_planner.language.recorded import Moment


@dataclass(frozen=True, kw_only=True)
class MinerConfig:
    """How runs are cut."""

    narrator: NarratorConfig = section(NarratorConfig, doc="What decides, as on the road.")
    min_frames: int = knob(8, unit="frames", doc="Shorter clips are trimmed: left out.")

    def __post_init__(self) -> None:
        if self.min_frames < 1:
            raise ValueError(f"min_frames must be at least 1, got {self.min_frames}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipNotice:
    """A notice that begins in a clip."""

    frame: int  # of the run
    kind: Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """Frames ``start_frame`` up to, not with, ``end_frame`` of a run, under one instruction."""

    start_frame: int
    end_frame: int
    instruction: Instruction
    is_completed: bool  # what the instruction asks for is done when the clip ends
    is_misleading: bool = False
    notices: tuple[ClipNotice, ...] = ()


def mine(moments: Sequence[Moment], config: MinerConfig, seed: int) -> list[Clip]:
    """The clips of one run, in order; another seed tells it differently.

    ``is_completed`` needs an instruction that says when it is done: "follow the road" is never
    completed, nor is what the run's end or another instruction cut short.
    """
    narrator = Narrator(config.narrator, seed)
    told = [narrator.step(m.view, m.surroundings, m.time_s) for m in moments]
    starts = [f for f, u in enumerate(told) if f == 0 or u.number != told[f - 1].number]
    clips = []
    for start, end in zip(starts, [*starts[1:], len(told)], strict=True):
        if end - start >= config.min_frames:
            ended = told[end].ended if end < len(told) else None
            clips.append(_clip(told, start, end, ended))
    return clips


def _clip(told: Sequence[Utterance], start: int, end: int, ended: Ending | None) -> Clip:
    notices = []
    for frame in range(start, end):
        notice, before = told[frame].notice, told[frame - 1].notice if frame else None
        if notice is not None and notice != before:
            notices.append(ClipNotice(frame=frame, kind=notice.kind))
    return Clip(
        start_frame=start,
        end_frame=end,
        instruction=told[start].instruction,
        is_completed=ended is Ending.DONE,
        is_misleading=told[start].is_misleading,
        notices=tuple(notices),
    )
