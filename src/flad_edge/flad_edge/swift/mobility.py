# SPDX-License-Identifier: Apache-2.0
"""Eqs. 3 to 5: where vehicles will be, and how long two of them stay near each other.

The area is a grid of cells; a mobility pattern is a Markov chain over them. Patterns are learned
from traces as a mixture of chains, so a vehicle's history tells which pattern it follows.
Letters: ``C`` cells, ``K`` patterns, ``T`` steps ahead.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flad_common.config import knob
from flad_edge.swift.cluster import Floats

Trace = Sequence[int]
"""Cells of one vehicle, one a step."""


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """Cells of an edge's area."""

    width_m: float = knob(unit="m", doc="Of the area, east to west.")
    height_m: float = knob(unit="m", doc="Of the area, north to south.")
    cell_m: float = knob(50.0, unit="m", doc="Side of a cell (rho).")

    def __post_init__(self) -> None:
        for name in ("width_m", "height_m", "cell_m"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    @property
    def columns(self) -> int:
        """Cells from west to east."""
        return max(1, int(np.ceil(self.width_m / self.cell_m)))

    @property
    def num_cells(self) -> int:
        """``C``."""
        return self.columns * max(1, int(np.ceil(self.height_m / self.cell_m)))

    def cell_of(self, x_m: float, y_m: float) -> int:
        """The cell of a position in the area, from its south-west corner.

        Raises:
            ValueError: if the position is outside, or not a number.
        """
        if not (0.0 <= x_m <= self.width_m and 0.0 <= y_m <= self.height_m):
            raise ValueError(
                f"position ({x_m}, {y_m}) is outside the area of {self.width_m} m x "
                f"{self.height_m} m; leave the vehicle out"
            )
        rows = self.num_cells // self.columns
        column = min(int(x_m / self.cell_m), self.columns - 1)
        return min(int(y_m / self.cell_m), rows - 1) * self.columns + column

    def centres_m(self) -> Floats:
        """``[C, 2]``."""
        cells = np.arange(self.num_cells)
        both = np.stack([cells % self.columns, cells // self.columns], axis=1)
        return np.asarray((both + 0.5) * self.cell_m)


class MobilityPatterns:
    """The chains m_1 to m_K with their shares; made by :func:`learn_patterns`.

    Args:
        moves: ``[K, C, C]``, P(c_i -> c_j | m_k); rows sum to 1.
        shares: ``[K]``, how frequent each pattern is.

    Raises:
        ValueError: if shapes or sums are wrong.
    """

    def __init__(self, moves: Floats, shares: Floats) -> None:
        if moves.ndim != 3 or moves.shape[1] != moves.shape[2] or len(shares) != len(moves):
            raise ValueError(
                f"moves must have shape [K, C, C] and shares [K], got {list(moves.shape)} "
                f"and {list(shares.shape)}"
            )
        if not (np.allclose(moves.sum(axis=2), 1.0) and np.isclose(shares.sum(), 1.0)):
            raise ValueError("rows of moves and shares must each sum to 1")
        self.moves, self.shares = moves, shares

    def follows(self, history: Trace) -> Floats:
        """``[K]``: P(m_k | H), by Bayes from the steps of the history."""
        return _posterior(np.log(np.maximum(self.moves, 1e-300)), np.log(self.shares), history)

    def ahead(self, history: Trace, steps: int) -> Floats:
        """Eq. 3 for all cells and times: ``[steps + 1, C]``, the first row is where it is now.

        P(c_n -> c_f | H) = sum_k P(m_k | H) P(c_n -> c_f | m_k), the latter in so many steps.

        Raises:
            ValueError: if the history is empty.
        """
        if not len(history):
            raise ValueError("a history needs at least the present cell")
        follows = self.follows(history)
        by_pattern = np.zeros((len(follows), self.moves.shape[1]))
        by_pattern[:, history[-1]] = 1.0
        rows = [follows @ by_pattern]
        for _ in range(steps):
            by_pattern = np.einsum("kc,kcd->kd", by_pattern, self.moves)
            rows.append(follows @ by_pattern)
        return np.stack(rows)


def learn_patterns(
    traces: Sequence[Trace],
    num_cells: int,
    *,
    num_patterns: int,
    rng: np.random.Generator,
    rounds: int = 30,
    smoothing: float = 0.01,
) -> MobilityPatterns:
    """A mixture of Markov chains by expectation maximisation.

    Args:
        traces: cells of past vehicles, one a step.
        num_cells: ``C``.
        num_patterns: ``K``.
        rng: of the start.
        rounds: of expectation and maximisation.
        smoothing: moves assumed from every cell to each cell that any trace entered from it, and
            to stay; a move that was never seen keeps no probability.

    Raises:
        ValueError: if there is no trace with a move, or a cell is not of the grid.
    """
    counts = np.zeros((len(traces), num_cells, num_cells))
    for number, trace in enumerate(traces):
        if len(trace) and not 0 <= min(trace) <= max(trace) < num_cells:
            raise ValueError(f"trace {number} leaves the grid of {num_cells} cells: {trace}")
        np.add.at(counts[number], (np.asarray(trace[:-1], int), np.asarray(trace[1:], int)), 1.0)
    if not counts.any():
        raise ValueError(f"none of {len(traces)} traces has a move to learn from")
    possible = (counts.sum(axis=0) > 0) | np.eye(num_cells, dtype=np.bool_)
    flat = counts.reshape(len(traces), -1)
    belongs = rng.dirichlet(np.ones(num_patterns), size=len(traces))
    moves, shares = _maximised(flat, belongs, possible, smoothing)
    for _ in range(rounds):
        logs = np.log(np.maximum(moves, 1e-300)).reshape(num_patterns, -1)
        score = flat @ logs.T + np.log(shares)
        score -= score.max(axis=1, keepdims=True)
        belongs = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
        moves, shares = _maximised(flat, belongs, possible, smoothing)
    return MobilityPatterns(moves, shares)


def joint_probability(ahead_v: Floats, ahead_nb: Floats) -> Floats:
    """Eq. 4: ``[T, C, C]``, both vehicles' cells at each time, moving independently."""
    return np.asarray(ahead_v[:, :, None] * ahead_nb[:, None, :])


def nearness(centres_m: Floats, radius_m: float) -> Floats:
    """``[C, C]``: max(0, 1 - RD / R_v), 1 in the same cell and 0 out of range."""
    apart_m = np.linalg.norm(centres_m[:, None, :] - centres_m[None, :, :], axis=2)
    return np.asarray(np.maximum(0.0, 1.0 - apart_m / radius_m))


def stability(ahead_v: Floats, ahead_nb: Floats, near: Floats) -> float:
    """Eq. 5, read as the expected nearness, summed over the time that the vehicle stays.

    The paper sums distances and maximises them, which would prefer neighbours that part.

    Args:
        ahead_v: ``[T, C]``, of Eq. 3, for the time that v stays.
        ahead_nb: the same of its neighbour.
        near: of :func:`nearness`.
    """
    # the sum over Eq. 4's joint probabilities, without making them
    return float(np.einsum("tc,cd,td->", ahead_v, near, ahead_nb))


def _maximised(
    flat: Floats, belongs: Floats, possible: NDArray[np.bool_], smoothing: float
) -> tuple[Floats, Floats]:
    cells = len(possible)
    moves = (belongs.T @ flat).reshape(-1, cells, cells) + smoothing * possible
    moves /= moves.sum(axis=2, keepdims=True)
    shares = np.maximum(belongs.mean(axis=0), 1e-9)
    return moves, shares / shares.sum()


def _posterior(log_moves: Floats, log_shares: Floats, history: Trace) -> Floats:
    score = log_shares.copy()
    for a, b in itertools.pairwise(history):
        score = score + np.maximum(log_moves[:, a, b], -50.0)
    score = np.exp(score - score.max())
    return np.asarray(score / score.sum())
