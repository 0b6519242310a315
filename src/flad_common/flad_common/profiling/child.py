# SPDX-License-Identifier: Apache-2.0
"""Measures training steps of a model in a process of its own.

Only a fresh process tells what a step adds to the memory of a process, and only an undisturbed one
how long a step takes: the recorder of :mod:`flad_common.profiling.record` keeps everything.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flad_common.profiling.trace import scalar_loss, storage_bytes, storage_key, tensors_in

Build = Callable[[], tuple[nn.Module, Sequence[Any]]]
"""Makes a model in training mode and its inputs; it must be picklable."""


@dataclass(frozen=True, kw_only=True)
class StepMeasured:
    """A training step (forward, backward, AdamW), second of its kind: AdamW's moments exist."""

    resident_bytes: int
    """Weights, buffers, AdamW's moments and the batch, which stay between steps."""
    allocator_peak_bytes: int
    """Most bytes held through PyTorch's allocator during the step, the resident ones included."""
    rss_peak_bytes: int | None
    """Growth of the process from before the model to the step's peak; None without ``/proc``."""
    forward_s: float
    backward_s: float
    optimizer_s: float


def measure_step(build: Build, *, repeats: int = 3, deadline_s: float = 600.0) -> StepMeasured:
    """Build the model in a fresh process and measure one training step.

    Raises:
        RuntimeError: if the process fails; its traceback is on its standard error.
        TimeoutError: if it takes longer than ``deadline_s``.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    threads = torch.get_num_threads()
    child = context.Process(target=_main, args=(theirs, build, repeats, threads), daemon=True)
    child.start()
    theirs.close()
    try:
        if not ours.poll(deadline_s):
            raise TimeoutError(f"one training step took longer than {deadline_s:g} s to measure")
        measured: StepMeasured = ours.recv()
        return measured
    except EOFError:
        child.join(5.0)
        raise RuntimeError(
            f"the measuring process ended with status {child.exitcode}; "
            "a negative 9 means that the machine ran out of memory"
        ) from None
    finally:
        if child.is_alive():
            child.terminate()
        child.join(5.0)
        ours.close()


def allocated_peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes that ``work`` holds at one time through PyTorch's allocator, above the start."""
    with (
        _quiet(),
        torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profiler,
    ):
        work()
    return _allocated_peak(profiler)


def _main(pipe: Connection, build: Build, repeats: int, threads: int) -> None:
    torch.set_num_threads(threads)
    _warm_up()
    _reset_rss_peak()
    before = _status_bytes("VmRSS")
    model, inputs = build()
    optimizer = torch.optim.AdamW(model.parameters())
    # Twice: the allocator's free lists and oneDNN's caches are what they will be.
    times = [_step(model, inputs, optimizer) for _ in range(2)]
    resident = _resident_bytes(model, inputs, optimizer)
    peak = _status_bytes("VmHWM")
    times += [_step(model, inputs, optimizer) for _ in range(max(repeats - 1, 0))]
    peak_above = allocated_peak_bytes(lambda: _step(model, inputs, optimizer))
    forward_s, backward_s, optimizer_s = (min(column) for column in zip(*times[1:], strict=True))
    pipe.send(
        StepMeasured(
            resident_bytes=resident,
            allocator_peak_bytes=resident + peak_above,
            rss_peak_bytes=None if peak is None or before is None else peak - before,
            forward_s=forward_s,
            backward_s=backward_s,
            optimizer_s=optimizer_s,
        )
    )
    pipe.close()


def _step(
    model: nn.Module, inputs: Sequence[Any], optimizer: torch.optim.Optimizer
) -> tuple[float, float, float]:
    start = time.perf_counter()
    output = model(*inputs)
    loss = scalar_loss(output)
    forward = time.perf_counter()
    loss.backward()
    backward = time.perf_counter()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return forward - start, backward - forward, time.perf_counter() - backward


def _warm_up() -> None:
    """Load the libraries behind products and convolutions, which are no model's cost."""
    convolution = nn.Conv2d(4, 4, 3)
    optimizer = torch.optim.AdamW(convolution.parameters())
    _step(convolution, (torch.zeros(1, 4, 8, 8),), optimizer)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the profiler's own lines about its start and stop from the user's terminal."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _resident_bytes(
    model: nn.Module, inputs: Sequence[Any], optimizer: torch.optim.Optimizer
) -> int:
    states = [list(state.values()) for state in optimizer.state.values()]
    tensors = [*model.parameters(), *model.buffers(), *tensors_in(states), *tensors_in(inputs)]
    return sum({storage_key(t): storage_bytes(t) for t in tensors}.values())


def _allocated_peak(profiler: torch.profiler.profile) -> int:
    """Highest running sum of the step's allocations and frees."""
    events: list[Any] = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    level = highest = 0
    for _, change in sorted(changes, key=lambda item: item[0]):
        level += change
        highest = max(highest, level)
    return highest


def _reset_rss_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return  # then the peak of the imports stands, which is lower than any model's


def _status_bytes(name: str) -> int | None:
    """One line of Linux's account of this process."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None
