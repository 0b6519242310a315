# SPDX-License-Identifier: Apache-2.0
"""Packs data sets: each run once, several at a time, going on where it was cut off.

A packed run is complete or not there (``pack_run``); the index is written from what is complete.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from flad_common.config import to_mapping
from flad_common.folder_lock import folder_lock
from flad_perception.config import EncoderConfig
from flad_perception.data import shards
from flad_perception.data.lmdrive import BadFileError, Run, find_runs
from flad_perception.data.pack_run import pack_run
from flad_perception.data.shards import Refusal, Shard

COMPLETE, RECORDING = "complete", "recording"
_POLL_S = 0.3


@dataclass(frozen=True, kw_only=True)
class PackReport:
    """What packing did."""

    shards: tuple[Shard, ...]
    """Every run that the packed data set now holds."""
    num_new: int
    """Of which so many were packed by this call."""
    refused_runs: tuple[Refusal, ...]
    seconds: float
    new_frames: int

    @property
    def num_frames(self) -> int:
        """Frames in the packed data set."""
        return sum(shard.num_frames for shard in self.shards)

    @property
    def trimmed(self) -> dict[str, int]:
        """Frames left out in the ordinary course, by the reason."""
        counts: Counter[str] = Counter()
        for shard in self.shards:
            counts.update(shard.trimmed)
        return dict(counts)

    @property
    def refused(self) -> list[Refusal]:
        """Runs and files that could not be used."""
        return [*self.refused_runs, *(r for shard in self.shards for r in shard.refused)]

    @property
    def dropped_points(self) -> int:
        """LiDAR points that were not finite."""
        return sum(shard.dropped_points for shard in self.shards)


@dataclass
class _Work:
    """Runs still to be packed and what became of the others."""

    todo: list[Run] = field(default_factory=list)
    done: list[Shard] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)


def pack(
    roots: Iterable[Path],
    out: Path,
    config: EncoderConfig,
    *,
    jobs: int = 0,
    with_partial: bool = False,
    on_start: Callable[[int, int], None] = lambda runs, frames: None,
    on_frames: Callable[[int], None] = lambda frames: None,
) -> PackReport:
    """Pack every complete run below ``roots`` that ``out`` does not hold yet.

    Args:
        roots: data sets or runs, see :func:`find_runs`.
        out: the packed data set; is made, or goes on.
        config: what it is packed for.
        jobs: processes; 0 for one a core, 1 packs in this process.
        with_partial: take runs that ended early because something broke, too.
        on_start: told the numbers of runs and frames there are to pack.
        on_frames: told how many more frames have been read, now and then.

    Raises:
        ValueError: if a root holds no run, ``out`` was packed for another configuration, or
            another process packs into it.
    """
    began = time.perf_counter()
    runs, bad = find_runs(roots)
    check_made_for(out, config)
    with folder_lock(out):
        remove_leftovers(out)
        work = _sort(runs, out, config, with_partial)
        work.refused += [Refusal(path=str(e.path), reason=e.reason) for e in bad]
        num_old = len(work.done)
        on_start(len(work.todo), sum(run.num_frames for run in work.todo))
        try:
            pack_all = _pack_here if jobs == 1 or len(work.todo) < 2 else _pack_in_processes
            for result in pack_all(work.todo, out, config, jobs, on_frames):
                if isinstance(result, Shard):
                    work.done.append(result)
                else:
                    work.refused.append(result)
        finally:
            write_index(out, config, work.refused)
    return PackReport(
        shards=tuple(sorted(work.done, key=lambda shard: shard.name)),
        num_new=len(work.done) - num_old,
        new_frames=sum(shard.num_frames for shard in work.done[num_old:]),
        refused_runs=tuple(work.refused),
        seconds=time.perf_counter() - began,
    )


def check_made_for(out: Path, config: EncoderConfig) -> None:
    """Check that ``out`` is new or was packed for views, areas and waypoints like ``config``'s.

    Raises:
        ValueError: naming the values that differ.
    """
    if not (out / shards.INDEX).is_file():
        return
    needs = shards.read_index(out)["needs"]
    if found := shards.differences(needs, shards.needs(config)):
        raise ValueError(
            f"{out} was packed for another configuration than {config.name}: {'; '.join(found)}; "
            "pack into another folder"
        )


def write_index(out: Path, config: EncoderConfig, refused: Sequence[Refusal]) -> None:
    """List every complete run of ``out`` in ``index.json``."""
    entries: list[dict[str, Any]] = []
    for path in sorted((out / "runs").glob(f"*/{shards.SHARD}")):
        shard = shards.read_shard(path.parent)
        if path.parent.name.endswith(".new") or shard.made_for != shards.made_for(config):
            continue
        names = ("name", "town", "weather_id", "num_frames", "driver", "trimmed", "dropped_points")
        entries.append(
            {name: getattr(shard, name) for name in names}
            | {"folder": shard.folder, "num_refused": len(shard.refused)}
        )
    shards.write_json(
        out / shards.INDEX,
        {
            "format": shards.FORMAT,
            "config": to_mapping(config),
            "needs": shards.needs(config),
            "num_frames": sum(entry["num_frames"] for entry in entries),
            "runs": entries,
            "refused_runs": [vars(refusal) for refusal in refused],
        },
    )


def _sort(runs: Sequence[Run], out: Path, config: EncoderConfig, with_partial: bool) -> _Work:
    """Which runs are packed already, which must be, and which may not be."""
    work = _Work()
    for run in runs:
        if run.status == RECORDING:
            reason = "is being recorded, or its recorder crashed: ./flad record goes on with it"
            work.refused.append(Refusal(path=str(run.folder), reason=reason))
        elif run.status != COMPLETE and not with_partial:
            reason = f"is {run.status}; --partial takes it"
            work.refused.append(Refusal(path=str(run.folder), reason=reason))
        elif shard := _packed(run, out, config):
            work.done.append(shard)
        else:
            work.todo.append(run)
    # The longest first, so that no process is left alone with one in the end.
    work.todo.sort(key=lambda run: (-run.num_frames, run.name))
    return work


def _packed(run: Run, out: Path, config: EncoderConfig) -> Shard | None:
    """The run's shard if it is there, made for this configuration and from the same frames."""
    folder = out / Shard.folder_of(run.name)
    if not (folder / shards.SHARD).is_file():
        return None
    try:
        shard = shards.read_shard(folder)
    except ValueError:  # it is packed anew
        return None
    same = (
        shard.made_for == shards.made_for(config)
        and shard.source_frames == run.num_frames
        and all((folder / name).is_file() for name in shard.files)
    )
    return shard if same else None


def _pack_here(
    runs: Sequence[Run],
    out: Path,
    config: EncoderConfig,
    jobs: int,
    on_frames: Callable[[int], None],
) -> Iterator[Shard | Refusal]:
    for run in runs:
        yield _try(run, out, config, lambda: on_frames(1))


def _pack_in_processes(
    runs: Sequence[Run],
    out: Path,
    config: EncoderConfig,
    jobs: int,
    on_frames: Callable[[int], None],
) -> Iterator[Shard | Refusal]:
    context = multiprocessing.get_context("spawn")  # forked threads of torch may hang
    count = context.Value("q", 0)
    cores = jobs or len(os.sched_getaffinity(0))
    seen = 0
    with ProcessPoolExecutor(
        min(cores, len(runs)), mp_context=context, initializer=_begin, initargs=(count,)
    ) as pool:
        pending: dict[Future[Shard | Refusal], Run] = {
            pool.submit(_pack_counted, run, out, config): run for run in runs
        }
        try:
            while pending:
                finished, _ = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                on_frames(count.value - seen)
                seen = count.value
                for future in finished:
                    run = pending.pop(future)
                    yield _result(future, run)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _result(future: Future[Shard | Refusal], run: Run) -> Shard | Refusal:
    try:
        return future.result()
    except BrokenProcessPool:
        return Refusal(path=str(run.folder), reason="the process that packed it died (memory?)")


_count: Any = None
"""Frames read by all processes; set in each when it begins."""


def _begin(count: Any) -> None:
    global _count  # the only way a pool hands shared memory to its processes
    _count = count
    torch.set_num_threads(1)  # there is a process a core


def _pack_counted(run: Run, out: Path, config: EncoderConfig) -> Shard | Refusal:
    def add() -> None:
        with _count.get_lock():
            _count.value += 1

    return _try(run, out, config, add)


def _try(
    run: Run, out: Path, config: EncoderConfig, on_frame: Callable[[], None]
) -> Shard | Refusal:
    try:
        return pack_run(run, out, config, on_frame)
    except BadFileError as error:
        return Refusal(path=str(error.path), reason=error.reason)


def remove_leftovers(out: Path) -> None:
    """Remove what a crash left behind."""
    for folder in (out / "runs").glob("*.new"):
        shutil.rmtree(folder, ignore_errors=True)
