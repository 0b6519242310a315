# SPDX-License-Identifier: Apache-2.0
"""Drivers on the same routes with the same seeds, and how sure a difference between them is.

Two runs of one route resemble each other more than runs of two routes do, so intervals come from a
bootstrap over routes: a route is drawn with all of its seeds, and for all drivers at once.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_WORLD = ("routes", "protocol", "scenarios", "traffic", "walkers", "simulator", "mode")
"""Of an evaluation's settings: what must not differ."""
_CONFIDENCE = 0.95
_RESAMPLES = 10_000
_SEED = 0
_SCORE, _COMPLETION = "score_composed", "score_route"
_CRASHED = "crashed"
"""In the status of a run that ended because a process of ours or of the driver did."""

_REPETITION = re.compile(r"_rep\d+$")
"""Leaderboard 2 has it in a run's id; the seed says it, too."""

RunKey = tuple[str, int]
"""Route and seed."""


@dataclass(frozen=True, kw_only=True)
class DriverRuns:
    """What one driver did."""

    name: str
    world: Mapping[str, Any]
    score: Mapping[RunKey, float]
    """Driving score, 0 to 100."""
    completion: Mapping[RunKey, float]
    """Route completion, per cent."""
    crashed: tuple[RunKey, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A mean, and the interval in which 95 % of the resampled means lie."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"


@dataclass(frozen=True, kw_only=True)
class DriverFigures:
    """One line of the table."""

    name: str
    runs: int
    score: Figure
    completion: Figure
    share: float
    """Its driving score over the first driver's; NaN where that one has none."""
    crashed: int
    """Runs that count as the leaderboard counts them, but say nothing of how it drives."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Driving score of ``of`` less that of ``less``, on the same runs."""

    of: str
    less: str
    by: Figure

    @property
    def is_sure(self) -> bool:
        """Whether the interval does not hold zero."""
        return self.by.low > 0.0 or self.by.high < 0.0


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Of drivers, the first being what the others are measured by."""

    drivers: tuple[DriverFigures, ...]
    differences: tuple[Difference, ...]


def read_runs(name: str, files: Iterable[Path]) -> DriverRuns:
    """A driver's runs from results files of ``./flad evaluate``, one or several seeds in each.

    Raises:
        ValueError: if a file is none, if two were made in different worlds, or if a run is there
            twice; it says which.
    """
    world: Mapping[str, Any] | None = None
    score: dict[RunKey, float] = {}
    completion: dict[RunKey, float] = {}
    crashed: list[RunKey] = []
    for file in files:
        here, records = _read(file)
        _same_world(world or here, here, name, str(file))
        world = here
        for key, record in records:
            if key in score:
                raise ValueError(f"{name} has {_words(key)} twice; the second is in {file}")
            score[key] = float(record["scores"][_SCORE])
            completion[key] = float(record["scores"][_COMPLETION])
            crashed += [key] if _CRASHED in record["status"] else []
    if world is None or not score:
        raise ValueError(f"{name} has no run")
    return DriverRuns(
        name=name, world=world, score=score, completion=completion, crashed=tuple(crashed)
    )


def compare(drivers: Sequence[DriverRuns]) -> Comparison:
    """Means with their intervals, and every pair's difference.

    Raises:
        ValueError: if two have one name, drove different runs, or in different worlds.
    """
    names = [driver.name for driver in drivers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(twice)} is given twice; put its files behind one name")
    first = drivers[0]
    for other in drivers[1:]:
        _same_world(first.world, other.world, first.name, other.name)
        if odd := sorted(first.score.keys() ^ other.score.keys()):
            has, lacks = (first, other) if odd[0] in first.score else (other, first)
            raise ValueError(
                f"{has.name} drove {_words(odd[0])}, {lacks.name} did not, and {len(odd)} runs "
                "in all are of one of them only; compare the same routes with the same seeds"
            )
    keys = sorted(first.score)
    draws = _draws(keys)
    scores = {d.name: np.array([d.score[key] for key in keys]) for d in drivers}
    base = float(scores[first.name].mean())
    lines = tuple(
        DriverFigures(
            name=d.name,
            runs=len(keys),
            score=_figure(scores[d.name], draws),
            completion=_figure(np.array([d.completion[key] for key in keys]), draws),
            share=float(scores[d.name].mean()) / base if base else float("nan"),
            crashed=len(d.crashed),
        )
        for d in drivers
    )
    return Comparison(
        drivers=lines,
        differences=tuple(
            Difference(of=a, less=b, by=_figure(scores[a] - scores[b], draws))
            for a, b in itertools.combinations(scores, 2)
        ),
    )


def as_text(comparison: Comparison) -> str:
    """For a terminal."""
    wide = max(len("driver"), *(len(d.name) for d in comparison.drivers))
    lines = [
        f"{'driver':<{wide}}  runs  {'driving score':<22}{'route completion':<22}"
        f"of {comparison.drivers[0].name}"
    ]
    lines += [
        f"{d.name:<{wide}}  {d.runs:>4}  {d.score!s:<22}{d.completion!s:<22}{d.share:.2f}"
        + (f"   {d.crashed} crashed: run them again" if d.crashed else "")
        for d in comparison.drivers
    ]
    lines += ["", "driving score, difference on the same runs (95 %, bootstrap over routes):"]
    lines += [
        f"  {d.of} - {d.less}: {d.by}{'' if d.is_sure else '   may be chance'}"
        for d in comparison.differences
    ]
    return "\n".join(lines)


def _read(file: Path) -> tuple[Mapping[str, Any], list[tuple[RunKey, Mapping[str, Any]]]]:
    """Settings of the world, and the records by run."""
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
        settings = read["flad"]["config"]
        records = [
            ((_REPETITION.sub("", record["route_id"]), int(record["meta"]["seed"])), record)
            for record in read["_checkpoint"]["records"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is no results file of ./flad evaluate") from error
    return {knob: settings.get(knob) for knob in _WORLD}, records


def _draws(keys: Sequence[RunKey]) -> npt.NDArray[np.float64]:
    """Weights of the runs in every resample, [resamples, runs]; each row adds up to 1."""
    routes = sorted({route for route, _ in keys})
    of_route = np.array([routes.index(route) for route, _ in keys])
    rng = np.random.default_rng(_SEED)
    counts = rng.multinomial(len(routes), np.full(len(routes), 1.0 / len(routes)), size=_RESAMPLES)
    runs = counts[:, of_route]
    weights: npt.NDArray[np.float64] = runs / runs.sum(axis=1, keepdims=True)
    return weights


def _figure(values: npt.NDArray[np.float64], draws: npt.NDArray[np.float64]) -> Figure:
    tail = 50.0 * (1.0 - _CONFIDENCE)
    low, high = np.percentile(draws @ values, [tail, 100.0 - tail])
    return Figure(mean=float(values.mean()), low=float(low), high=float(high))


def _same_world(a: Mapping[str, Any], b: Mapping[str, Any], name_a: str, name_b: str) -> None:
    for knob in _WORLD:
        if a[knob] != b[knob]:
            raise ValueError(
                f"{name_a} and {name_b} cannot be compared: {knob} is {a[knob]!r} and {b[knob]!r}"
            )


def _words(key: RunKey) -> str:
    return f"{key[0]} with seed {key[1]}"
