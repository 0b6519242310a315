# SPDX-License-Identifier: Apache-2.0
"""Figures from the rows of ``./flad bench swift``: Fig. 5a, 6a, 6b of the paper, scale, cells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flad_bringup.bench.line_plot import LinePlot
from flad_bringup.bench.rows import Row

Points = list[tuple[float, float]]


def draw(rows: Sequence[Row], folder: Path) -> None:
    """Write ``swift_*.svg`` of what the rows hold."""
    plots: dict[str, dict[str, Any]] = {
        "swift_fig5a": dict(
            title="Planning time, all first vehicles",
            x="vehicles",
            y="ms a pipeline",
            log_y=True,
            lines={
                "phase 1 (greedy)": _values(rows, r"swift_fig5a_(\d+)_greedy_ms"),
                "phase 2 (DQN)": _values(rows, r"swift_fig5a_(\d+)_dqn_ms"),
                "exact": _values(rows, r"swift_fig5a_(\d+)_exact_ms"),
            },
        ),
        "swift_fig6a": dict(
            title="One micro-batch, 11.10 GB",
            x="vehicles",
            y="s",
            lines=_three(rows, r"swift_fig6a_(\d+)_vehicles"),
        ),
        "swift_fig6b": dict(
            title="One micro-batch, five vehicles",
            x="GB",
            y="s",
            lines=_three(rows, r"swift_fig6b_(\d+(?:_\d+)?)_gb"),
        ),
        "swift_scale": dict(
            title="Clusters and all pipelines of an edge",
            x="vehicles",
            y="s",
            log_x=True,
            log_y=True,
            lines={"one core": _values(rows, r"swift_fleet_(\d+)_s")},
        ),
        "swift_cells": dict(
            title="Where a vehicle will be: said and happened",
            x="said",
            y="happened",
            lines={
                "10 s ahead": _values(rows, r"swift_cells_10s_(\d+)"),
                "30 s ahead": _values(rows, r"swift_cells_30s_(\d+)"),
                "calibrated": [(0.0, 0.0), (1.0, 1.0)],
            },
        ),
    }
    for name, plot in plots.items():
        if any(line for key, line in plot["lines"].items() if key != "calibrated"):
            LinePlot(**plot).save(folder / f"{name}.svg")


def _values(rows: Sequence[Row], pattern: str, *, baseline: bool = False) -> Points:
    """(number in the name, value); a number of percent where the name is of cells."""
    points = []
    for row in rows:
        value = row.baseline_value if baseline else row.value
        if (found := re.fullmatch(pattern, row.name)) and value is not None:
            number = float(found[1].replace("_", "."))
            points.append((number / 100.0 if "cells" in pattern else number, value))
    return sorted(points)


def _three(rows: Sequence[Row], pattern: str) -> dict[str, Points]:
    exact, greedy = _values(rows, f"{pattern}_s"), _values(rows, f"{pattern}_s", baseline=True)
    gain, slow = dict(_values(rows, f"{pattern}_dqn_gain")), dict(greedy)
    dqn = [(x, slow[x] - gain[x] * (slow[x] - y)) for x, y in exact if x in gain and x in slow]
    return {"greedy": greedy, "DQN": dqn, "exact": exact}
