# SPDX-License-Identifier: Apache-2.0
"""Eqs. 3 to 5 on traces: mobility patterns of a town, and how well calibrated they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flad_common.config import knob
from flad_edge.mobility.traces import Traces
from flad_edge.swift.cluster import Floats
from flad_edge.swift.mobility import (
    GridConfig,
    MobilityPatterns,
    Trace,
    learn_patterns,
    nearness,
    stability,
)


@dataclass(frozen=True, kw_only=True)
class PositionsConfig:
    """How movement is divided in space and time."""

    cell_m: float = knob(50.0, unit="m", doc="Side of a cell (rho).")
    step_s: int = knob(5, unit="s", doc="Of the Markov chains.")
    patterns: int = knob(4, unit="1", doc="K: mobility patterns.")
    vehicles: int = knob(600, unit="1", doc="Traces to learn from, at most.")

    def __post_init__(self) -> None:
        for name in ("cell_m", "step_s", "patterns", "vehicles"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


class Positions:
    """A town's grid and its patterns.

    Args:
        grid: cells; their south-west corner is ``corner_m``.
        corner_m: least x and y of the area.
        patterns: Markov chains over the cells.
        step_s: of the chains.
    """

    def __init__(
        self,
        grid: GridConfig,
        corner_m: tuple[float, float],
        patterns: MobilityPatterns,
        step_s: int,
    ) -> None:
        self.grid, self.patterns, self.step_s = grid, patterns, step_s
        self._corner_m = corner_m

    def cell_of(self, x_m: float, y_m: float) -> int:
        """The cell of a position.

        Raises:
            ValueError: if it is outside of the town, or not a number.
        """
        return self.grid.cell_of(x_m - self._corner_m[0], y_m - self._corner_m[1])

    def stability(self, histories: Sequence[Trace], radius_m: float, horizon_s: float) -> Floats:
        """``[n, n]``: Eq. 5 of every pair over the horizon, 0 (apart) to 1 (together)."""
        steps = max(1, round(horizon_s / self.step_s))
        near = nearness(self.grid.centres_m(), radius_m)
        ahead = [self.patterns.ahead(history, steps) for history in histories]
        both = [[stability(a, b, near) / (steps + 1) for b in ahead] for a in ahead]
        return np.array(both).reshape(len(ahead), len(ahead))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Predicted probabilities of cells against how often the vehicle was there."""

    said: Floats
    """``[B]``: mean prediction of each bin."""
    happened: Floats
    """``[B]``: share of its cells that came true."""
    count: Floats
    """``[B]``: cells in the bin."""

    @property
    def error(self) -> float:
        """Mean distance of the two, by how often a probability was said."""
        return float((self.count * np.abs(self.said - self.happened)).sum() / self.count.sum())


def cell_traces(
    traces: Traces, positions_of: GridConfig, corner_m: tuple[float, float], step_s: int
) -> list[Trace]:
    """Each vehicle's cells, one a step."""
    found: list[Trace] = []
    for vehicle in range(traces.num_vehicles):
        begin, end = traces.rows_of[vehicle], traces.rows_of[vehicle + 1]
        rows = range(begin, end, step_s)
        found.append(
            [
                positions_of.cell_of(traces.x_m[i] - corner_m[0], traces.y_m[i] - corner_m[1])
                for i in rows
            ]
        )
    return found


def learn_positions(
    traces: Traces, config: PositionsConfig, rng: np.random.Generator
) -> tuple[Positions, list[Trace]]:
    """Patterns from the first vehicles; the cells of the others, which were not looked at."""
    west, south = float(traces.x_m.min()) - 1.0, float(traces.y_m.min()) - 1.0
    grid = GridConfig(
        width_m=float(traces.x_m.max()) + 1.0 - west,
        height_m=float(traces.y_m.max()) + 1.0 - south,
        cell_m=config.cell_m,
    )
    cells = [c for c in cell_traces(traces, grid, (west, south), config.step_s) if len(c) > 4]
    learned = cells[: min(config.vehicles, 2 * len(cells) // 3)]
    patterns = learn_patterns(
        learned, grid.num_cells, num_patterns=config.patterns, rng=rng, rounds=15
    )
    positions = Positions(grid, (west, south), patterns, config.step_s)
    return positions, cells[len(learned) :]


def calibrate(
    positions: Positions, unseen: Sequence[Trace], *, seen_steps: int, ahead_steps: int
) -> Calibration:
    """Predict each vehicle ``ahead_steps`` on, from its first ``seen_steps``; compare."""
    said, happened = [], []
    for trace in unseen:
        if len(trace) < seen_steps + ahead_steps:
            continue
        ahead = positions.patterns.ahead(trace[:seen_steps], ahead_steps)[-1]
        came = np.zeros(len(ahead))
        came[trace[seen_steps + ahead_steps - 1]] = 1.0
        said.append(ahead)
        happened.append(came)
    if not said:
        raise ValueError(
            f"none of {len(unseen)} traces has {seen_steps + ahead_steps} steps to look at"
        )
    flat, came = np.concatenate(said), np.concatenate(happened)
    bins = np.minimum((flat * 10).astype(np.int64), 9)
    use = flat > 0.005  # a town's other cells would drown the rest
    count = np.bincount(bins[use], minlength=10).astype(np.float64)
    sums = [np.bincount(bins[use], v[use], minlength=10) for v in (flat, came)]
    with np.errstate(invalid="ignore"):
        means = [np.where(count > 0, s / count, np.nan) for s in sums]
    kept = count > 0
    return Calibration(means[0][kept], means[1][kept], count[kept])
