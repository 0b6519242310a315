# SPDX-License-Identifier: Apache-2.0
"""Which frames one epoch shows, and in which order: a pure function of data, seed and epoch.

Recordings are 10 frames a second of a car that often stands still and seldom meets a light, so
neighbours are thinned, long standstills more so, and what is rare is shown more often.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from flad_common.config import knob

RED, GREEN, NONE = 0, 1, 2
"""Kinds of frames: the expert stops for a red light, a light that lets it drive, no light near."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How an epoch is drawn from the frames of the training runs."""

    consecutive: int = knob(
        5, unit="frames", doc="One of so many neighbours is shown an epoch, a random one."
    )
    still_mps: float = knob(0.1, unit="m/s", doc="Slower than this is standing still.")
    still_begin: int = knob(
        20, unit="frames", doc="Of a standstill, so many first frames are kept whatever follows."
    )
    still_end: int = knob(10, unit="frames", doc="Likewise, so many last frames.")
    still_keep: float = knob(0.25, unit="1", doc="Share of a standstill's middle that is shown.")
    balance: bool = knob(True, unit="1", doc="Aim at the shares below; else as frames come.")
    light_m: float = knob(30.0, unit="m", doc="A light is near up to this distance to its line.")
    red_share: float = knob(0.2, unit="1", doc="Wanted share of frames with a red light ahead.")
    green_share: float = knob(0.2, unit="1", doc="Wanted share of frames with another light near.")
    blind_speed: bool = knob(
        True,
        unit="1",
        doc="Of either light kind, show standing and moving frames equally often: else 'it stands, "
        "so it is red' is learned before the lamps are.",
    )
    max_repeat: float = knob(3.0, unit="1", doc="A rare frame is shown at most so often an epoch.")

    def __post_init__(self) -> None:
        if self.consecutive < 1:
            raise ValueError(f"consecutive must be at least 1, got {self.consecutive}")
        if self.still_begin < 0 or self.still_end < 0:
            raise ValueError(
                f"still_begin {self.still_begin} and still_end {self.still_end} must be at least 0"
            )
        if not 0.0 <= self.still_keep <= 1.0:
            raise ValueError(f"still_keep must be in [0, 1], got {self.still_keep}")
        shares = (self.red_share, self.green_share)
        if min(shares) < 0.0 or sum(shares) >= 1.0:
            raise ValueError(f"red_share and green_share must sum to less than 1, got {shares}")
        if self.max_repeat < 1.0:
            raise ValueError(f"max_repeat must be at least 1, got {self.max_repeat}")


@dataclass(frozen=True, kw_only=True)
class FrameTable:
    """What sampling needs of every frame that may be trained on; all arrays ``[N]``.

    Rows are grouped by run and in the order of driving.
    """

    index: Ints
    """The frame's number in the packed data set."""
    run: Ints
    speed_mps: NDArray[np.float64]
    light: Ints
    """Target: 0 a red light stops the expert, 1 else."""
    light_distance_m: NDArray[np.float64]
    """To the stop line of the light ahead; NaN without one."""

    def __post_init__(self) -> None:
        lengths = {name: len(value) for name, value in vars(self).items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"a frame table's columns must be equally long, got {lengths}")

    def __len__(self) -> int:
        return len(self.index)


def kinds(table: FrameTable, light_m: float) -> Ints:
    """:data:`RED`, :data:`GREEN` or :data:`NONE` of every frame, ``[N]``."""
    near = np.nan_to_num(table.light_distance_m, nan=np.inf) <= light_m
    answer: Ints = np.where(table.light == 0, RED, np.where(near, GREEN, NONE)).astype(np.int64)
    return answer


def draw_epoch(table: FrameTable, config: SamplingConfig, seed: int, epoch: int) -> Ints:
    """Indices into the packed data set, in the order of showing; a frame may come twice.

    Each group of ``consecutive`` frames of a run gives one candidate; candidates in the middle of
    a standstill stay with probability ``still_keep``; then each kind is repeated or thinned
    towards its wanted share (at most ``max_repeat`` times) and all are shuffled.
    """
    rng = np.random.default_rng([seed, epoch])
    chosen = _one_of_neighbours(table.run, config.consecutive, rng)
    kept = rng.random(len(chosen)) < np.where(
        _long_still(table, config)[chosen], config.still_keep, 1.0
    )
    chosen = chosen[kept]
    if config.balance:
        moves = table.speed_mps[chosen] > config.still_mps
        weights = _kind_weights(kinds(table, config.light_m)[chosen], moves, config)
    else:
        weights = np.ones(len(chosen))
    # Each appears floor(w) or ceil(w) times, w on average.
    times = np.floor(weights + rng.random(len(chosen))).astype(np.int64)
    order: Ints = table.index[np.repeat(chosen, times)]
    rng.shuffle(order)
    return order


def _one_of_neighbours(run: Ints, consecutive: int, rng: np.random.Generator) -> Ints:
    """Row numbers, one of each full or rest group of neighbours within a run."""
    if len(run) == 0:
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.append(True, run[1:] != run[:-1]))
    ends = np.append(starts[1:], len(run))
    firsts = np.concatenate(
        [np.arange(a, b, consecutive) for a, b in zip(starts, ends, strict=True)]
    )
    limits = np.repeat(ends, -(-(ends - starts) // consecutive))
    sizes = np.minimum(consecutive, limits - firsts)
    chosen: Ints = firsts + np.floor(rng.random(len(firsts)) * sizes).astype(np.int64)
    return chosen


def _long_still(table: FrameTable, config: SamplingConfig) -> NDArray[np.bool_]:
    """Whether a frame is in the middle of a standstill, ``[N]``."""
    still = table.speed_mps < config.still_mps
    middle = np.zeros(len(table), dtype=bool)
    breaks = np.flatnonzero(np.diff(still.astype(np.int8)) | np.diff(table.run)) + 1
    edges = [0, *breaks.tolist(), len(table)]
    for a, b in pairwise(edges):
        if b > a and still[a]:
            middle[a + config.still_begin : max(a, b - config.still_end)] = True
    return middle


def _kind_weights(
    kind: Ints, moves: NDArray[np.bool_], config: SamplingConfig
) -> NDArray[np.float64]:
    """How often each candidate is shown on average, ``[C]``: about C in sum."""
    groups = [(kind == NONE, 1.0 - config.red_share - config.green_share)]
    for number, share in ((RED, config.red_share), (GREEN, config.green_share)):
        if config.blind_speed:
            groups += [((kind == number) & (moves == way), share / 2.0) for way in (True, False)]
        else:
            groups.append((kind == number, share))
    weights = np.zeros(len(kind))
    for members, share in groups:
        if count := int(np.sum(members)):
            weights[members] = min(config.max_repeat, share * len(kind) / count)
    return weights
