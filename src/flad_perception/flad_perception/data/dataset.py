# SPDX-License-Identifier: Apache-2.0
"""A packed data set, opened: a table of its frames in memory, the rest as memory maps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from flad_common.config import from_mapping
from flad_perception.config import EncoderConfig
from flad_perception.data import shards
from flad_perception.data.borders import BorderedView, bordered
from flad_perception.data.shards import Refusal

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class PackedRun:
    """One run of a packed data set; its frames are ``start`` up to ``start + num_frames``."""

    name: str
    town: str
    weather_id: int
    start: int
    num_frames: int
    folder: Path


class PackedDataset:
    """Frames by number, 0 to ``len() - 1``, grouped by run and in the order of driving.

    Args:
        out: what ``./flad data pack`` made.
        config: what is going to read it; None for what it was packed for.
        check_sums: whether to read every file and compare checksums, not only headers and sizes.

    Damaged runs are left out and stand in :attr:`refused`.

    Raises:
        ValueError: if it is none, holds no sound run, or does not suit ``config``.
    """

    def __init__(
        self, out: Path, config: EncoderConfig | None = None, *, check_sums: bool = False
    ) -> None:
        index = shards.read_index(out)
        self.path = out
        self.config = config or from_mapping(EncoderConfig, index["config"])
        if unlike := shards.differences(index["needs"], shards.needs(self.config)):
            raise ValueError(
                f"{out} does not suit configuration {self.config.name}: {'; '.join(unlike)}; "
                f"pack the recordings for it: ./flad data pack --config {self.config.name}"
            )
        self.views: tuple[BorderedView, ...] = tuple(bordered(v) for v in self.config.views)
        self._damaged: list[Refusal] = []
        entries = []
        for entry in index["runs"]:
            if found := shards.damage(out / entry["folder"], check_sums=check_sums):
                self._damaged.append(found)
            else:
                entries.append(entry)
        if not entries:
            why = f"; the first: {self._damaged[0]}" if self._damaged else ""
            raise ValueError(
                f"{out} holds no sound run; its {shards.INDEX} says what was refused{why}"
            )
        index = {**index, "runs": entries}
        self.runs = _runs(out, index)
        self.table = _table(self.runs, self.config)
        """A record a frame: ``frame_dtype``'s fields and ``run``, ``weather_id``."""
        self._index = index
        self._arrays: dict[tuple[int, str], NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self.table)

    @property
    def trimmed(self) -> dict[str, int]:
        """Frames left out of packing in the ordinary course, by the reason."""
        counts: dict[str, int] = {}
        for entry in self._index["runs"]:
            for reason, count in entry["trimmed"].items():
                counts[reason] = counts.get(reason, 0) + count
        return counts

    @property
    def refused(self) -> list[Refusal]:
        """Runs and files that could not be packed or have been damaged since, with the reason."""
        whole = [Refusal(**entry) for entry in self._index["refused_runs"]]
        return (
            self._damaged
            + whole
            + [r for run in self.runs for r in shards.read_shard(run.folder).refused]
        )

    def run_of(self, number: int) -> PackedRun:
        """The run that a frame belongs to."""
        return self.runs[int(self.table["run"][number])]

    def row(self, number: int, name: str) -> NDArray[Any]:
        """A frame's row of a file with one row a frame; not copied."""
        run = int(self.table["run"][number])
        value: NDArray[Any] = self._array(run, name)[number - self.runs[run].start]
        return value

    def rows(self, number: int, name: str, ends: str) -> NDArray[Any]:
        """A frame's rows of a file whose rows ``ends`` counts; not copied."""
        run = int(self.table["run"][number])
        at = shards.ends_to_slices(self._array(run, ends), number - self.runs[run].start)
        return self._array(run, name)[at]

    def _array(self, run: int, name: str) -> NDArray[Any]:
        array = self._arrays.get((run, name))
        if array is None:
            path = self.runs[run].folder / name
            # A memmap's own class makes every slice of it slow.
            array = np.asarray(np.load(path, mmap_mode="r"))
            self._arrays[(run, name)] = array
        return array


def select(
    dataset: PackedDataset,
    *,
    towns: Collection[str] | None = None,
    weathers: Collection[int] | None = None,
    runs: Collection[str] | None = None,
    exclude_towns: Collection[str] = (),
    exclude_weathers: Collection[int] = (),
    kicked: bool = True,
) -> Ints:
    """Numbers of the frames of whole runs that match everything asked for, in order.

    Args:
        dataset: where from.
        towns: of these towns only; None for all.
        weathers: in these weathers only.
        runs: of runs with these names only.
        exclude_towns: but not of these.
        exclude_weathers: but not in these.
        kicked: whether frames stay within whose horizon the recorder kicks the steering.

    Raises:
        ValueError: if a town or run is asked for that the data set does not hold.
    """
    known = {run.town for run in dataset.runs}
    if unknown := sorted(set(towns or ()) - known):
        raise ValueError(f"no town {', '.join(unknown)} in {dataset.path}; it has {sorted(known)}")
    if unknown := sorted(set(runs or ()) - {run.name for run in dataset.runs}):
        raise ValueError(f"no run {', '.join(unknown)} in {dataset.path}")
    keep = np.array(
        [
            (towns is None or run.town in towns)
            and (weathers is None or run.weather_id in weathers)
            and (runs is None or run.name in runs)
            and run.town not in exclude_towns
            and run.weather_id not in exclude_weathers
            for run in dataset.runs
        ]
    )
    chosen = keep[dataset.table["run"]]
    if not kicked:
        chosen &= ~dataset.table["kicked_ahead"]
    return np.flatnonzero(chosen).astype(np.int64)


def weather_ids(text: str, option: str) -> list[int]:
    """Weathers of a command line, ``12,13``; empty for none.

    Raises:
        ValueError: naming ``option``, if one is no number.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if wrong := [word for word in words if not word.isdigit()]:
        raise ValueError(
            f"{option} has {', '.join(wrong)}; expected LMDrive's numbers such as 12,13"
        )
    return [int(word) for word in words]


def _runs(out: Path, index: dict[str, Any]) -> tuple[PackedRun, ...]:
    runs, start = [], 0
    for entry in index["runs"]:
        runs.append(
            PackedRun(
                name=entry["name"],
                town=entry["town"],
                weather_id=entry["weather_id"],
                start=start,
                num_frames=entry["num_frames"],
                folder=out / entry["folder"],
            )
        )
        start += entry["num_frames"]
    return tuple(runs)


def _table(runs: tuple[PackedRun, ...], config: EncoderConfig) -> NDArray[Any]:
    dtype = shards.frame_dtype(config)
    own: list[tuple[str, DTypeLike]] = [("run", "<i4"), ("weather_id", "<i4")]
    table = np.zeros(sum(run.num_frames for run in runs), dtype=np.dtype(own + dtype.descr))
    for number, run in enumerate(runs):
        frames = np.load(run.folder / shards.FRAMES)
        if frames.dtype != dtype or len(frames) != run.num_frames:
            raise ValueError(
                f"{run.folder / shards.FRAMES} holds {len(frames)} records of {frames.dtype}, "
                f"expected {run.num_frames} of {dtype}; pack again"
            )
        part = table[run.start : run.start + run.num_frames]
        part["run"], part["weather_id"] = number, run.weather_id
        for name in dtype.names or ():
            part[name] = frames[name]
    return table
