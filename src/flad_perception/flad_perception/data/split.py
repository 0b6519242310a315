# SPDX-License-Identifier: Apache-2.0
r"""Divides a packed data set over N vehicles, by town and weather, more or less unevenly.

A vehicle's mixture of classes (town and weather) is drawn from a Dirichlet distribution around the
mixture of the whole, :math:`q_v \sim \mathrm{Dir}(\alpha K p)` with K classes of shares p (Hsu et
al., 2019, arXiv:1909.06335, Sec. 3); the mixtures are then scaled so that vehicles have equally
many frames and every frame has one owner. The non-IID level L sets the concentration:

.. math:: \alpha(L) = 1 / L^2

Level 0 is IID (every vehicle has the mixture of the whole), 1 a flat Dirichlet, 2 (alpha 0.25) what
:data:`PAPER_LEVEL` names; the higher, the fewer classes a vehicle sees.

What is dealt out are whole runs, or clips of a few seconds. Neighbouring clips of a run that go to
different vehicles lose the frames of the horizon between them, so that no vehicle is trained on
what another one sees.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flad_common.config import knob
from flad_perception.data import shards
from flad_perception.data.dataset import Ints, PackedDataset, PackedRun

PAPER_LEVEL = 2.0
"""The paper trains at "non-IID level 2" (Sec. 5.1) over 50 vehicles and does not define it."""

_FLOOR = 1e-9  # of a share, so that scaling can always succeed
_SCALINGS = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How frames are divided."""

    num_vehicles: int = knob(unit="1", doc="Vehicles.")
    level: float = knob(PAPER_LEVEL, unit="1", doc="Non-IID level; 0 is IID, 2 the paper's.")
    seed: int = knob(0, unit="1", doc="Of mixtures and of dealing.")
    unit: Literal["run", "clip"] = knob(
        "clip", unit="1", doc="What is dealt out: whole runs, or clips of them."
    )
    clip_frames: int = knob(100, unit="frames", doc="Length of a clip; the paper has 5 to 15 s.")
    gap_frames: int = knob(
        25, unit="frames", doc="Left out between clips of one run that different vehicles get."
    )

    def __post_init__(self) -> None:
        if self.num_vehicles < 1:
            raise ValueError(f"num_vehicles must be at least 1, got {self.num_vehicles}")
        if not (self.level >= 0.0 and math.isfinite(self.level)):
            raise ValueError(f"level must be 0 or more, got {self.level}")
        if self.seed < 0 or self.gap_frames < 0:
            raise ValueError(
                f"seed ({self.seed}) and gap_frames ({self.gap_frames}) must not be negative"
            )
        if self.clip_frames <= self.gap_frames:
            raise ValueError(
                f"clip_frames ({self.clip_frames}) must be more than gap_frames "
                f"({self.gap_frames}), which a clip may lose"
            )


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Consecutive frames of one run, by their numbers within it, and whose they are."""

    run: str
    town: str
    weather_id: int
    start: int
    stop: int
    vehicle: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True)
class Split:
    """Who has which clips."""

    config: SplitConfig
    clips: tuple[Clip, ...]
    frames_left_out: int
    """Between neighbours of different vehicles."""

    def numbers(self, dataset: PackedDataset, vehicle: int) -> Ints:
        """Numbers of a vehicle's frames in ``dataset``, in order.

        Raises:
            ValueError: if the vehicle is not in the split, or ``dataset`` lacks one of its runs.
        """
        if not 0 <= vehicle < self.config.num_vehicles:
            raise ValueError(f"vehicle {vehicle} is not in 0..{self.config.num_vehicles - 1}")
        runs = {run.name: run for run in dataset.runs}
        parts = []
        for clip in self.clips:
            if clip.vehicle == vehicle:
                run = runs.get(clip.run)
                if run is None or clip.stop > run.num_frames:
                    raise ValueError(f"{dataset.path} has no {len(clip)} frames of {clip.run}")
                parts.append(np.arange(run.start + clip.start, run.start + clip.stop))
        return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)

    @property
    def counts(self) -> dict[tuple[str, int], list[int]]:
        """Frames of each vehicle by class."""
        table = {
            kind: [0] * self.config.num_vehicles
            for kind in sorted({(clip.town, clip.weather_id) for clip in self.clips})
        }
        for clip in self.clips:
            table[(clip.town, clip.weather_id)][clip.vehicle] += len(clip)
        return table

    @property
    def unevenness(self) -> float:
        r"""How much vehicles differ: mean over them of :math:`\frac12 \sum_c |q_{vc} - p_c|`.

        0 if all have the mixture of the whole; towards 1 if each has one class of many.
        """
        table = np.array(list(self.counts.values()), dtype=np.float64)  # [K, N]
        table = table[:, table.sum(axis=0) > 0]
        whole = table.sum(axis=1, keepdims=True) / table.sum()
        own = table / table.sum(axis=0, keepdims=True)
        return float(np.abs(own - whole).sum(axis=0).mean() / 2.0)


def concentration(level: float) -> float:
    """Concentration of a non-IID level: ``1 / level^2``, infinite for 0.

    Example:
        >>> [concentration(level) for level in (0.0, 1.0, 2.0)]
        [inf, 1.0, 0.25]
    """
    return math.inf if level == 0.0 else 1.0 / level**2


def split(runs: Sequence[PackedRun], config: SplitConfig) -> Split:
    """Divide ``runs`` over vehicles; the same for the same runs and config.

    Raises:
        ValueError: if there are fewer runs or clips than vehicles.
    """
    rng = np.random.default_rng(config.seed)
    clips = [clip for run in sorted(runs, key=lambda run: run.name) for clip in _cut(run, config)]
    if len(clips) < config.num_vehicles:
        hint = "" if config.unit == "clip" else "; --unit clip cuts runs into clips"
        raise ValueError(
            f"{len(clips)} {config.unit}s cannot be divided over {config.num_vehicles} vehicles"
            + hint
        )
    kinds = sorted({(clip.town, clip.weather_id) for clip in clips})
    number = {kind: i for i, kind in enumerate(kinds)}
    of_kind = np.array([number[(clip.town, clip.weather_id)] for clip in clips])
    sizes = np.array([len(clip) for clip in clips], dtype=np.float64)
    wanted = _wanted(np.bincount(of_kind, weights=sizes).astype(np.float64), config, rng)
    owners = _deal(of_kind, sizes, wanted, rng)
    dealt = [replace(clip, vehicle=int(owner)) for clip, owner in zip(clips, owners, strict=True)]
    kept = _with_gaps(dealt, config)
    lost = sum(map(len, dealt)) - sum(map(len, kept))
    return Split(config=config, clips=tuple(kept), frames_left_out=lost)


def write_split(path: Path, result: Split) -> None:
    """Write a split as JSON."""
    document = asdict(result) | {
        "concentration": None if result.config.level == 0 else concentration(result.config.level),
        "unevenness": result.unevenness,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    shards.write_json(path, document)


def read_split(path: Path) -> Split:
    """Read what :func:`write_split` wrote.

    Raises:
        ValueError: if it is no split.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Split(
            config=SplitConfig(**document["config"]),
            clips=tuple(Clip(**clip) for clip in document["clips"]),
            frames_left_out=int(document["frames_left_out"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no split of ./flad data split: {error!r}") from error


def histogram(result: Split, width: int = 40) -> str:
    """The split as text: a line a vehicle, a bar of its towns, its weathers by frames."""
    counts = result.counts
    towns = sorted({town for town, _ in counts})
    letters = {town: mark for town, mark in zip(towns, "#=+o*x%@&~" * len(towns), strict=False)}
    totals = [sum(column) for column in zip(*counts.values(), strict=True)]
    most = max(1, *totals)
    lines = [
        f"level {result.config.level:g} (concentration {concentration(result.config.level):g}), "
        f"{sum(totals)} frames over {len(totals)} vehicles, unevenness {result.unevenness:.2f}",
        "towns: " + ", ".join(f"{letters[town]} {town}" for town in towns),
    ]
    for vehicle, total in enumerate(totals):
        bar, weathers = "", Counter[int]()
        for town in towns:
            own = {w: column[vehicle] for (t, w), column in counts.items() if t == town}
            bar += letters[town] * round(width * sum(own.values()) / most)
            weathers.update({w: n for w, n in own.items() if n})
        named = " ".join(f"w{w}:{n}" for w, n in weathers.most_common(5))
        more = f" and {len(weathers) - 5} more" if len(weathers) > 5 else ""
        lines.append(f"vehicle {vehicle:3d} {total:6d} |{bar:{width + 2}}| {named}{more}")
    return "\n".join(lines)


def _cut(run: PackedRun, config: SplitConfig) -> list[Clip]:
    """A run as what is dealt out; the rest of a run joins its last clip."""
    length = run.num_frames if config.unit == "run" else config.clip_frames
    starts = [*range(0, max(1, run.num_frames - length + 1), length)]
    stops = [*starts[1:], run.num_frames]
    return [
        Clip(run=run.name, town=run.town, weather_id=run.weather_id, start=a, stop=b, vehicle=-1)
        for a, b in zip(starts, stops, strict=True)
    ]


def _wanted(frames: Floats, config: SplitConfig, rng: np.random.Generator) -> Floats:
    """Frames of each class that each vehicle shall get, ``[N, K]``; rows equal, columns all."""
    shares = frames / frames.sum()
    num = config.num_vehicles
    if config.level == 0.0:
        mixtures = np.tile(shares, (num, 1))
    else:
        alpha = concentration(config.level) * len(frames) * shares
        mixtures = rng.dirichlet(alpha, num)
    wanted = mixtures + _FLOOR
    for _ in range(_SCALINGS):  # iterative proportional fitting
        wanted *= (frames / wanted.sum(axis=0))[None, :]
        wanted *= (frames.sum() / num / wanted.sum(axis=1))[:, None]
    return wanted


def _deal(
    of_kind: NDArray[np.intp], sizes: Floats, wanted: Floats, rng: np.random.Generator
) -> NDArray[np.intp]:
    """The owner of each clip: who lacks most of its class and of everything; no one goes empty."""
    owners = np.full(len(sizes), -1, dtype=np.intp)
    missing, room = wanted.copy(), wanted.sum(axis=1)
    for clip in rng.permutation(len(sizes)):
        kind = of_kind[clip]
        score = missing[:, kind] + np.minimum(room, 0.0) + 1e-6 * room
        best = np.flatnonzero(score >= score.max() - 1e-9)
        owners[clip] = owner = rng.choice(best)
        missing[owner, kind] -= sizes[clip]
        room[owner] -= sizes[clip]
    for vehicle in range(len(wanted)):
        while not np.any(owners == vehicle):
            richest = np.bincount(owners, minlength=len(wanted)).argmax()
            owners[rng.choice(np.flatnonzero(owners == richest))] = vehicle
    return owners


def _with_gaps(clips: Sequence[Clip], config: SplitConfig) -> list[Clip]:
    """Clips shortened at their beginning where the clip before it is another vehicle's."""
    kept = []
    for before, clip in zip([None, *clips[:-1]], clips, strict=True):
        start = clip.start
        if before is not None and before.run == clip.run and before.vehicle != clip.vehicle:
            start += config.gap_frames
        if start < clip.stop:
            kept.append(replace(clip, start=start))
    return kept
