# SPDX-License-Identifier: Apache-2.0
"""Which frames of a packed data set the learning bench trains on, and on which it looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flad_perception.data.dataset import Ints, PackedDataset, PackedRun
from flad_perception.data.split import SplitConfig, split
from flad_perception.training.sampling import GREEN, RED, FrameTable, kinds

_LIGHT_M = 30.0
_LEAST_OF_A_KIND = 20
_DRAWS = 200


@dataclass(frozen=True, kw_only=True)
class OwnFrames:
    """The vehicles' own towns."""

    tables: Mapping[str, FrameTable]
    """What each vehicle trains on."""
    groups: Mapping[str, str]
    """The town that most of a vehicle's frames are of."""
    evaluation: Ints
    """Frames near a light, of runs that no vehicle trains on."""
    unevenness: float
    """Of the split: 0 if all have the mixture of the whole, towards 1 if each has one class."""


def own_frames(
    dataset: PackedDataset,
    towns: Collection[str],
    *,
    weathers: Collection[int] | None = None,
    num_vehicles: int,
    level: float,
    held_out: float,
    at_most: int,
    seed: int,
) -> OwnFrames:
    """Hold out whole runs of each town, divide the rest over vehicles.

    Args:
        dataset: the packed frames.
        towns: of the vehicles.
        weathers: in which they drive, LMDrive's ids; None: all that there are.
        num_vehicles: among which the frames are divided, as unevenly as ``level`` says.
        level: non-IID level (:mod:`flad_perception.data.split`).
        held_out: share of a town's runs that nobody trains on.
        at_most: frames to look at, evenly spread, as many of each town as it has of its share.
        seed: of what is held out and of the split.

    Raises:
        ValueError: if a town is not there, or has too few lights for an evaluation.
    """
    rng = np.random.default_rng([seed, 1])
    theirs = [run for run in dataset.runs if weathers is None or run.weather_id in weathers]
    by_town = {town: _held_out_runs(dataset, theirs, town, held_out, rng) for town in sorted(towns)}
    apart = set().union(*by_town.values())
    runs = [run for run in theirs if run.town in towns and run.name not in apart]
    dealt = split(runs, SplitConfig(num_vehicles=num_vehicles, level=level, seed=seed))
    tables, groups = {}, {}
    for vehicle in range(num_vehicles):
        name, numbers = f"vehicle_{vehicle}", np.sort(dealt.numbers(dataset, vehicle))
        tables[name] = frame_table(dataset, numbers)
        of_town = Counter[str]()
        for clip in dealt.clips:
            if clip.vehicle == vehicle:
                of_town[clip.town] += len(clip)
        groups[name] = of_town.most_common(1)[0][0]
    looked_at = [
        spread(near_lights(dataset, np.sort(_numbers(dataset, names))), at_most // len(by_town))
        for names in by_town.values()
    ]
    return OwnFrames(
        tables=tables,
        groups=groups,
        evaluation=np.sort(np.concatenate(looked_at)),
        unevenness=dealt.unevenness,
    )


def frame_table(dataset: PackedDataset, numbers: Ints) -> FrameTable:
    """What sampling needs of these frames."""
    rows = dataset.table[numbers]
    return FrameTable(
        index=numbers,
        run=rows["run"].astype(np.int64),
        speed_mps=rows["speed_mps"].astype(np.float64),
        light=rows["light"].astype(np.int64),
        light_distance_m=rows["light_distance_m"].astype(np.float64),
    )


def near_lights(dataset: PackedDataset, numbers: Ints) -> Ints:
    """Those of ``numbers`` on which the light figure is defined."""
    rows = dataset.table[numbers]
    near = np.nan_to_num(rows["light_distance_m"].astype(np.float64), nan=np.inf) <= _LIGHT_M
    chosen: Ints = numbers[near & (rows["light_state"] >= 0)]
    return chosen


def spread(numbers: Ints, at_most: int) -> Ints:
    """At most so many of ``numbers``, evenly over them."""
    if len(numbers) <= at_most:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, at_most).round().astype(np.int64)]


def _numbers(dataset: PackedDataset, runs: Collection[str]) -> Ints:
    parts = [
        np.arange(run.start, run.start + run.num_frames) for run in dataset.runs if run.name in runs
    ]
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)


def _held_out_runs(
    dataset: PackedDataset,
    runs: Sequence[PackedRun],
    town: str,
    share: float,
    rng: np.random.Generator,
) -> set[str]:
    """Whole runs of a town, with enough red and other lights to tell them apart."""
    names = sorted(run.name for run in runs if run.town == town)
    if len(names) < 2:
        there = sorted({run.town for run in runs})
        raise ValueError(
            f"{dataset.path} has {len(names)} runs of {town!r} in these weathers, needs 2: one to "
            f"train on and one to look at; its towns there are {there}"
        )
    count = min(len(names) - 1, max(1, round(share * len(names))))
    most = Counter[int]()
    for _ in range(_DRAWS):
        chosen = {names[i] for i in rng.permutation(len(names))[:count]}
        table = frame_table(dataset, near_lights(dataset, _numbers(dataset, chosen)))
        found = Counter(kinds(table, _LIGHT_M).tolist())
        if min(found[RED], found[GREEN]) >= _LEAST_OF_A_KIND:
            return chosen
        if min(found[RED], found[GREEN]) >= min(most[RED], most[GREEN]):
            most = found
    raise ValueError(
        f"no {count} of {len(names)} runs of {town} have {_LEAST_OF_A_KIND} frames of a red light "
        f"and as many of another; the best have {most[RED]} and {most[GREEN]}. Record with "
        "--lights favoured, or hold out more"
    )
