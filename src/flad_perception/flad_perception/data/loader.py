# SPDX-License-Identifier: Apache-2.0
"""Batches of a packed data set, made ahead of time by one thread.

A batch depends on the data, the order, the seed, the epoch and the step and on nothing else, so
training that stops at a step goes on there with the same batches.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import torch

from flad_common.config import knob
from flad_perception.batch import Batch
from flad_perception.data.assemble import assemble
from flad_perception.data.augment import AugmentConfig
from flad_perception.data.dataset import Ints, PackedDataset

Order = Callable[[int], Ints]
"""The numbers of an epoch's frames, in the order of showing them."""

_START_DEADLINE_S = 10.0
_POLL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How batches are made."""

    batch_size: int = knob(unit="frames", doc="Of every batch but perhaps an epoch's last.")
    seed: int = knob(0, unit="1", doc="Of augmentation.")
    augment: AugmentConfig | None = knob(None, unit="", doc="How frames are changed; or not.")
    prefetch: int = knob(3, unit="batches", doc="Made ahead by a thread; 0 for none, no thread.")
    drop_last: bool = knob(
        False, unit="1", doc="Whether an epoch's smaller last batch is left out."
    )

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.prefetch < 0:
            raise ValueError(f"prefetch must not be negative, got {self.prefetch}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")


class Loader:
    """Iterates over batches. One epoch at a time; single-threaded towards its user.

    Args:
        dataset: where from.
        order: frames of an epoch, or an array: the same frames in every epoch.
        config: how batches are made.
    """

    def __init__(self, dataset: PackedDataset, order: Order | Ints, config: LoaderConfig) -> None:
        self.waited_s = 0.0
        """How long the user has waited for batches since the loader was made."""
        self._dataset, self._config = dataset, config
        self._order: Order = order if callable(order) else _the_same(order)

    def num_steps(self, epoch: int) -> int:
        """Batches of an epoch."""
        return _num_steps(len(self._order(epoch)), self._config)

    def epoch(self, epoch: int, start_step: int = 0) -> Generator[Batch, None, None]:
        """The batches of an epoch from ``start_step`` on. Closing the iterator ends its thread.

        Raises:
            ValueError: if there is no frame of that number.
        """
        numbers = np.asarray(self._order(epoch), dtype=np.int64)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self._dataset):
            raise ValueError(
                f"frames are numbered 0..{len(self._dataset) - 1}, the order has "
                f"{numbers.min()}..{numbers.max()}"
            )
        steps = range(start_step, _num_steps(len(numbers), self._config))
        if self._config.prefetch == 0:
            for step in steps:
                began = time.perf_counter()
                batch = self._make(numbers, epoch, step)
                self.waited_s += time.perf_counter() - began
                yield batch
            return
        producer = _Producer(lambda step: self._make(numbers, epoch, step), self._config.prefetch)
        producer.start(steps)
        try:
            for _ in steps:
                began = time.perf_counter()
                batch = producer.take()
                self.waited_s += time.perf_counter() - began
                yield batch
        finally:
            producer.stop()

    def _make(self, numbers: Ints, epoch: int, step: int) -> Batch:
        size = self._config.batch_size
        rng = np.random.default_rng([self._config.seed, epoch, step])
        chosen = numbers[step * size : (step + 1) * size]
        return assemble(self._dataset, chosen, self._config.augment, rng)


class _Producer:
    """A thread that makes things in order into a short queue."""

    def __init__(self, make: Callable[[int], Batch], ahead: int) -> None:
        self._make = make
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=ahead)
        self._ended = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, steps: range) -> None:
        """Begin with ``steps``."""
        # With one thread of computation: two loads on two cores would wait for each other. Setting
        # it counts for the calling thread and for threads to come, so the caller's is set again.
        before = torch.get_num_threads()
        self._thread = threading.Thread(target=self._run, args=(steps,), name="loader", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_DEADLINE_S):
            raise TimeoutError(f"the loader's thread did not start within {_START_DEADLINE_S} s")
        torch.set_num_threads(before)

    def take(self) -> Batch:
        """The next thing; what went wrong in the thread is raised here."""
        assert self._thread is not None
        while True:
            try:
                item = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                if self._thread.is_alive() or not self._queue.empty():
                    continue
                raise RuntimeError("the loader's thread ended before its time") from None
            if isinstance(item, BaseException):
                raise item
            return item

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, steps: range) -> None:
        torch.set_num_threads(1)
        self._ready.set()
        try:
            for step in steps:
                if self._ended.is_set() or not self._put(self._make(step)):
                    return
        except Exception as error:  # crosses to the user's thread, with its traceback
            self._put(error)

    def _put(self, item: Batch | BaseException) -> bool:
        while not self._ended.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False


def _the_same(numbers: Ints) -> Order:
    return lambda epoch: numbers


def _num_steps(num_frames: int, config: LoaderConfig) -> int:
    if config.drop_last:
        return num_frames // config.batch_size
    return -(-num_frames // config.batch_size)
