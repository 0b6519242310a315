# SPDX-License-Identifier: Apache-2.0
"""Clips out of recordings: held-out ones for the gate, older ones against forgetting."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from flad_edge.training.clip_file import write_clip
from flad_edge.training.config import AdLlmTrainConfig, load_train_config
from flad_edge.training.corpus import usable_runs
from flad_edge.training.feature_jobs import fill_cache
from flad_edge.training.features import PHASES, cached_features, open_encoder
from flad_edge.training.lessons import Drive, Lesson
from flad_perception.data.lmdrive import BadFileError, Run
from flad_planner.language.bank import Split, load_bank

Part = Literal["training", "weathers", "towns"]
PARTS: tuple[Part, ...] = ("training", "weathers", "towns")
"""As ``./flad train adllm`` divides recordings: learned from, held-out weathers, held-out towns."""

_TELLING = 2_000_000  # seed of a telling that no training drive has


def clips_of_recordings(
    roots: Sequence[Path],
    out: Path,
    *,
    encoder: str,
    features: Path,
    training: str,
    parts: Collection[str],
    towns: Collection[str] = (),
    leave_out: Sequence[str] = (),
    only: Sequence[str] = (),
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> int:
    """Write clips as an encoder sees them; returns how many.

    Args:
        roots: of recordings.
        out: folder for ``NUMBER.safetensors``; new or empty.
        encoder: a name or a file.
        features: cache of tokens, shared with training.
        training: configuration that says what is held out: a name or a file.
        parts: of PARTS.
        towns: only these; none: all.
        leave_out: not runs with one of these in the name.
        only: runs with one of these in the name; none: all.
        seed: of the words.
        say: told of runs that cannot be used.

    Raises:
        OSError, FladError: see :func:`flad_edge.training.features.open_encoder`.
        ValueError: if ``out`` has files already, or nothing is left to write.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; clips of two kinds must not mix")
    config = load_train_config(training)
    runs, _ = usable_runs(roots, leave_out)
    runs = [r for r in runs if part_of(r, config) in parts and (not towns or r.town in towns)]
    runs = [r for r in runs if not only or any(text in r.name for text in only)]
    loaded = open_encoder(encoder)
    jobs = [(run, PHASES[0]) for run in runs]
    fill_cache(jobs, encoder, features, os.cpu_count() or 1)
    bank, lessons = load_bank(), []
    for run, phase in jobs:
        try:
            drive = Drive(run, cached_features(run, loaded, features, phase), config.lessons)
            lessons += drive.lessons(bank, _TELLING)
        except (BadFileError, ValueError) as error:
            say(f"left out: {run.name}: {error}")
    return write_lessons(lessons, out, seed)


def part_of(run: Run, config: AdLlmTrainConfig) -> Part:
    """To which of PARTS training counts a run."""
    if run.town in config.holdout_towns:
        return "towns"
    return "weathers" if run.weather_id in config.holdout_weathers else "training"


def write_lessons(lessons: Sequence[Lesson], out: Path, seed: int = 0) -> int:
    """Write lessons as clips, each in words drawn from the training phrasings.

    Raises:
        ValueError: if there is none.
    """
    if not lessons:
        raise ValueError("no clip is left: no usable run is of these towns and parts")
    bank, rng = load_bank(), random.Random(seed)
    out.mkdir(parents=True, exist_ok=True)
    for number, lesson in enumerate(lessons):
        clip = replace(
            lesson.clip,
            instruction=lesson.words(bank, rng, Split.TRAINING),
            notices=lesson.notice_words(bank, rng, Split.TRAINING),
            about={**lesson.clip.about, "town": lesson.town},
        )
        write_clip(out / f"{number:05d}.safetensors", clip)
    return len(lessons)
