# SPDX-License-Identifier: Apache-2.0
"""Cuts a run's features into clips, each with the one instruction that stood: what is learned from.

What is told, and when, is decided by the narrator that speaks to a driving vehicle
(:mod:`flad_planner.language.clips`); another seed tells the same drive in another way.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flad_common.config import knob, section
from flad_edge.training.clip_file import NO, YES, FeatureClip
from flad_edge.training.features import FRAME_STEP, RunFeatures
from flad_edge.training.labels import Labels
from flad_perception.data.lmdrive import BadFileError, Run
from flad_planner.language.bank import Bank, Split
from flad_planner.language.clips import Clip, MinerConfig, mine
from flad_planner.language.kinds import Instruction, Kind
from flad_planner.language.notices import LightColour
from flad_planner.language.recorded import (
    HindsightConfig,
    Moment,
    RecordingError,
    moments,
    speed_requests,
)
from flad_planner.language.route_view import LANE_CHANGES, Manoeuvre, Place

GROUPS = ("left", "right", "straight", "change", "follow", "start", "speed")
"""Kinds of instruction that ask for the same thing; balanced in training, told apart in figures."""

_STUCK_MPS, _STUCK_PLAN_M = 0.3, 2.0
_STUCK_FRAMES = 15  # 3 s
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)
_PLACES = (Place.UNKNOWN, Place.CROSSING, Place.T_JUNCTION)


@dataclass(frozen=True, kw_only=True)
class LessonConfig:
    """How drives are told."""

    miner: MinerConfig = section(MinerConfig, doc="Where clips are cut.")
    hindsight: HindsightConfig = section(HindsightConfig, doc="'Slow down' and 'stop'.")
    tellings: int = knob(3, unit="1", doc="Ways in which each drive is told, by seed.")
    min_frames: int = knob(4, unit="frames", doc="Shortest clip, at 0.2 s.")
    labels: Labels = knob(
        "plan", unit="", doc="The expert's plan where it is recorded, or later positions always."
    )

    def __post_init__(self) -> None:
        for name in ("tellings", "min_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A clip, and what is known of it besides."""

    clip: FeatureClip
    group: str
    """One of GROUPS; "" where the instruction is text without a kind."""
    town: str
    weather_id: int
    instruction: Instruction | None = None
    """To be put into other words; None leaves the clip's."""
    notices: Mapping[int, Kind] = field(default_factory=dict)
    """By frame; put into words where they are used."""
    kicked: NDArray[np.bool_] | None = None
    """``[F]``: whether the recorder pushes the steering within the horizon."""

    def words(self, bank: Bank, rng: random.Random, split: Split) -> str:
        """The instruction in one of its phrasings."""
        if self.instruction is None:
            return self.clip.instruction
        return bank.render(self.instruction, rng, split)

    def notice_words(self, bank: Bank, rng: random.Random, split: Split) -> dict[int, str]:
        """The notices, as :attr:`ClipBatch.notices` wants them."""
        if self.instruction is None:
            return dict(self.clip.notices)
        return {f: bank.render(Instruction(k), rng, split) for f, k in self.notices.items()}


def group_of(kind: Kind) -> str:
    """Which of GROUPS a kind belongs to.

    Example:
        >>> [group_of(k) for k in (Kind.LIGHT_LEFT_IN, Kind.RIGHT_THEN_LEFT, Kind.KEEP_STRAIGHT)]
        ['left', 'right', 'follow']
    """
    words = kind.name.split("_")
    if words[0] == "CHANGE":
        return "change"
    if kind in (Kind.START, Kind.DRIVE_FREELY):
        return "start" if kind is Kind.START else "follow"
    if kind in (Kind.SLOW_DOWN, Kind.STOP):
        return "speed"
    if kind not in (Kind.KEEP_STRAIGHT, Kind.KEEP_STRAIGHT_FOR):
        for word in words:
            if word in ("LEFT", "RIGHT", "STRAIGHT"):
                return word.lower()
    return "follow"


def wedged(waypoints_m: NDArray[np.float32], speed_mps: NDArray[np.float32]) -> NDArray[np.bool_]:
    """``[N]``: frames of a vehicle that has stood for 3 s although its label goes.

    A model under DAgger may have driven into something: no plan gets it away, and minutes of such
    frames would teach it to want to go wherever it stands. The first 3 s stay: there it failed to
    start.
    """
    with np.errstate(invalid="ignore"):
        stuck = (speed_mps < _STUCK_MPS) & (waypoints_m[:, -1, 0] > _STUCK_PLAN_M)
    result = np.zeros(len(stuck), dtype=np.bool_)
    count = 0
    for frame, is_stuck in enumerate(stuck):
        count = count + 1 if is_stuck else 0
        result[frame] = count > _STUCK_FRAMES
    return result


class Drive:
    """One run's features and its course, to be told in one way or another.

    Raises:
        BadFileError: if the run's measurements cannot be read or told.
        ValueError: if there is nothing to learn from the run, see :meth:`RunFeatures.waypoints`.
    """

    def __init__(self, run: Run, features: RunFeatures, config: LessonConfig) -> None:
        self._features, self._config = features, config
        self._waypoints_m = features.waypoints(config.labels).copy()
        self._waypoints_m[wedged(self._waypoints_m, features.speed_mps)] = np.nan
        self._path = run.folder / "measurements_all.json"
        try:
            told = json.loads(self._path.read_text(encoding="utf-8"))
            self._measured: Sequence[Mapping[str, Any]] = told[: run.num_frames]
            states = _light_states(features, len(self._measured))
            self._course = moments(self._measured, light_states=states)
        except _UNREADABLE as error:
            raise self._bad(error) from error
        self._manoeuvres = _manoeuvres(self._course)

    def lessons(self, bank: Bank, seed: int) -> list[Lesson]:
        """Its clips in one telling; another seed is another telling.

        Raises:
            BadFileError: if it cannot be told.
        """
        lessons = []
        for clip in self.told(seed):
            frame = self._features.frame
            inside = (frame >= clip.start_frame) & (frame < clip.end_frame)
            first, count = int(np.argmax(inside)), int(inside.sum())
            part = slice(first, first + count)
            if count < self._config.min_frames or not np.isfinite(self._waypoints_m[part]).any():
                continue
            lessons.append(_lesson(self._features, self._waypoints_m, clip, part, bank))
        return lessons

    def told(self, seed: int) -> list[Clip]:
        """Where the narrator speaks, at the recording's 10 frames a second.

        Raises:
            BadFileError: if it cannot be told.
        """
        try:
            requests = speed_requests(self._measured, self._config.hindsight, seed)
        except _UNREADABLE as error:
            raise self._bad(error) from error
        places = _places(self._manoeuvres, seed)
        seen = [
            replace(
                moment,
                view=replace(
                    moment.view,
                    request=request,
                    manoeuvres=tuple(places.get(m.start_m, m) for m in moment.view.manoeuvres),
                ),
            )
            for moment, request in zip(self._course, requests, strict=True)
        ]
        return mine(seen, self._config.miner, seed)

    def _bad(self, error: Exception) -> BadFileError:
        what = error if isinstance(error, RecordingError) else repr(error)
        return BadFileError(self._path, f"cannot be told: {what}")


def _light_states(features: RunFeatures, num_frames: int) -> list[int | None]:
    """Per frame of the recording, the state of the next light; those of frames between, too."""
    nearest = np.clip(np.searchsorted(features.frame, np.arange(num_frames)), 0, None)
    states = features.light_state[np.minimum(nearest, len(features.frame) - 1)]
    known = tuple(LightColour)
    return [int(s) if int(s) in known else None for s in states]


def _manoeuvres(course: Iterable[Moment]) -> list[Manoeuvre]:
    """Those that ever came into view, in their order."""
    by_start = {m.start_m: m for moment in course for m in moment.view.manoeuvres}
    return [by_start[start_m] for start_m in sorted(by_start)]


def _places(manoeuvres: Sequence[Manoeuvre], seed: int) -> dict[float, Manoeuvre]:
    """The manoeuvres by their beginning, shapes of their places drawn: no map is recorded.

    A driving vehicle is told of crossings and T-junctions by its map. Which of them it is does not
    matter to where it shall go, so each word must come up with each manoeuvre.
    """
    placed = {}
    for number, manoeuvre in enumerate(manoeuvres):
        if manoeuvre.command not in LANE_CHANGES:
            place = random.Random(f"{seed}/place/{number}").choice(_PLACES)
            facts = replace(manoeuvre.facts, place=place)
            placed[manoeuvre.start_m] = replace(manoeuvre, facts=facts)
    return placed


def _lesson(
    features: RunFeatures,
    waypoints: NDArray[np.float32],
    clip: Clip,
    part: slice,
    bank: Bank,
) -> Lesson:
    completed = np.full(part.stop - part.start, NO, dtype=np.int8)
    if clip.is_completed:
        completed[-1] = YES
    notices = {
        (notice.frame - int(features.frame[part.start])) // FRAME_STEP: notice.kind
        for notice in clip.notices
    }
    kind = clip.instruction.kind
    return Lesson(
        clip=FeatureClip(
            instruction=bank.sentences(clip.instruction, Split.TRAINING)[0],
            tokens=features.tokens[part],
            waypoints_m=waypoints[part],
            completed=completed,
            speed_mps=features.speed_mps[part],
            encoder_hash=features.encoder_hash,
            contract_version=features.contract_version,
            about={
                "source": "recording",
                "run": features.run,
                "town": features.town,
                "weather_id": str(features.weather_id),
                "kind": kind.name,
            },
        ),
        group=group_of(kind),
        town=features.town,
        weather_id=features.weather_id,
        instruction=clip.instruction,
        notices={max(0, frame): kind for frame, kind in notices.items() if frame < len(completed)},
        kicked=features.kicked[part] != 0,
    )
