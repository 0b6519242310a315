# SPDX-License-Identifier: Apache-2.0
"""Fills the cache of features with several processes, one thread each."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

from flad_edge.training.features import (
    FRAME_STEP,
    cache_file,
    cached_features,
    open_encoder,
    read_features,
)
from flad_perception.data.lmdrive import BadFileError, Run
from flad_perception.weights import LoadedEncoder

_POLL_S = 0.3

Job = tuple[Run, int]
"""A run and a phase."""


def fill_cache(
    jobs: Sequence[Job],
    encoder_name: str,
    cache: Path,
    num_processes: int,
    on_frames: Callable[[int], None] = lambda frames: None,
) -> None:
    """Make the features that are missing; runs that cannot be used are left to be named later.

    Args:
        jobs: what is wanted.
        encoder_name: as :func:`open_encoder` takes it.
        cache: where they go.
        num_processes: at most.
        on_frames: told how many more frames are done.
    """
    encoder = open_encoder(encoder_name)
    todo = missing(jobs, encoder, cache)
    if not todo:
        return
    todo.sort(key=lambda job: -job[0].num_frames)  # no process is left alone with a long one
    context = multiprocessing.get_context("spawn")  # forked threads of torch may hang
    count = context.Value("q", 0)
    seen = 0
    with ProcessPoolExecutor(
        min(num_processes, len(todo)),
        mp_context=context,
        initializer=_begin,
        initargs=(encoder_name, cache, count),
    ) as pool:
        pending: set[Future[None]] = {pool.submit(_make, run, phase) for run, phase in todo}
        try:
            while pending:
                finished, pending = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                on_frames(count.value - seen)
                seen = count.value
                for future in finished:
                    future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def missing(jobs: Sequence[Job], encoder: LoadedEncoder, cache: Path) -> list[Job]:
    """Of what is wanted, what the cache does not hold."""
    return [
        (run, phase)
        for run, phase in jobs
        if read_features(cache_file(cache, encoder.identity.hash, run, phase), run) is None
    ]


def num_frames(jobs: Sequence[Job]) -> int:
    """Frames of the runs' phases."""
    return sum(len(range(phase, run.num_frames, FRAME_STEP)) for run, phase in jobs)


_worker: Any = None
"""Encoder, cache and counter of a process of the pool."""


def _begin(encoder_name: str, cache: Path, count: Any) -> None:
    global _worker  # the only way a pool hands shared memory to its processes
    torch.set_num_threads(1)
    _worker = (open_encoder(encoder_name), cache, count)


def _make(run: Run, phase: int) -> None:
    encoder, cache, count = _worker

    def add(frames: int) -> None:
        with count.get_lock():
            count.value += frames

    try:
        cached_features(run, encoder, cache, phase, add)
    except BadFileError:
        return  # whoever reads the corpus meets it again, and names it
