# SPDX-License-Identifier: Apache-2.0
"""Members of a process group as threads of the test's own process.

PyTorch keeps one default group per process. Its own tests make that one per thread, and so do ours:
a process per member would cost seconds each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar
from unittest import mock

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import _set_thread_isolation_mode
from torch.testing._internal.distributed.multi_threaded_pg import ThreadLocalWorld

from flad_pipeline.group.deadlines import TransportConfig
from flad_pipeline.group.memory_link import MemoryNetwork
from flad_pipeline.group.process_group import joined
from flad_pipeline.group.transport import Transport

Result = TypeVar("Result")

_DEADLINE_S = 120.0


@contextmanager
def a_world_per_thread() -> Iterator[None]:
    """While this runs, every thread has its own default group.

    PyTorch's schedules put the default generator back to where it was when they have looked at the
    stages' shapes. It is the process's: another thread may be drawing from it just then, so here
    they leave it alone. ``seeds.seeded`` has its own reference, and a lock.
    """
    c10d = dist.distributed_c10d
    before = c10d._world
    c10d._world = ThreadLocalWorld()
    _set_thread_isolation_mode(True)
    try:
        with mock.patch("torch.random.fork_rng", lambda **_: nullcontext()):
            yield
    finally:
        _set_thread_isolation_mode(False)
        c10d._world = before


def in_threads(runs: Sequence[Callable[[], Result]]) -> list[Result]:
    """Call each in a thread of its own; their results in order, or the first one's error."""
    results: list[Result] = [None] * len(runs)  # type: ignore[list-item]
    errors: list[BaseException] = []

    def call(index: int) -> None:
        try:
            results[index] = runs[index]()
        except BaseException as error:  # it belongs to the test's thread
            errors.append(error)

    threads = [threading.Thread(target=call, args=(i,), daemon=True) for i in range(len(runs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_DEADLINE_S)
        assert not thread.is_alive(), "a member did not end"
    if errors:
        raise errors[0]
    return results


def with_dds(
    transports: Sequence[Transport], epoch: int, run: Callable[[int], Result], **options: object
) -> list[Result]:
    """``run(rank)`` on every transport's thread, inside a group of all of them."""
    members = tuple(transport.name for transport in transports)

    def member(rank: int) -> Result:
        with joined(transports[rank], epoch=epoch, members=members, **options):
            return run(rank)

    with a_world_per_thread():
        return in_threads([lambda rank=rank: member(rank) for rank in range(len(transports))])


def with_gloo(size: int, run: Callable[[int], Result]) -> list[Result]:
    """The same over PyTorch's own group."""
    store = dist.HashStore()

    def member(rank: int) -> Result:
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
        try:
            return run(rank)
        finally:
            dist.destroy_process_group()

    with a_world_per_thread():
        return in_threads([lambda rank=rank: member(rank) for rank in range(size)])


@contextmanager
def memory_transports(
    size: int, config: TransportConfig | None = None
) -> Iterator[list[Transport]]:
    """Transports of ``vehicle_0`` to ``vehicle_{size - 1}`` that reach each other."""
    network = MemoryNetwork()
    transports = [Transport(network.link(f"vehicle_{i}"), config) for i in range(size)]
    try:
        yield transports
    finally:
        for transport in transports:
            transport.close()


def seeded(shape: Sequence[int], seed: int) -> torch.Tensor:
    """Normal numbers that depend on ``seed`` alone."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))
