# SPDX-License-Identifier: Apache-2.0
"""The evaluation's progress on a terminal: one bar over all routes; plain lines elsewhere."""

from __future__ import annotations

from typing import TextIO

from tqdm import tqdm

from flad_carla.evaluation.statistics import Json


class ProgressBar:
    """A bar counted in percent of a route, so that it moves while one is driven."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._bar: tqdm[None] | None = None
        self._done = 0.0
        self._percent = 0.0

    def route_begins(self, number: int, count: int, name: str) -> None:
        """Route run ``number`` (from 0) of ``count``."""
        if self._bar is None and self._out.isatty():
            self._bar = tqdm(
                total=100.0 * count,
                initial=100.0 * number,
                file=self._out,
                bar_format="{l_bar}{bar}| [{elapsed}<{remaining}] {postfix}",
            )
        self._percent = 0.0
        if self._bar is not None:
            self._bar.set_description(f"route {number + 1}/{count} {name}")

    def route_moves(self, percent: float, sim_s: float) -> None:
        """The route has been driven to ``percent``."""
        if self._bar is not None and percent - self._percent >= 0.5:
            self._bar.set_postfix_str(f"{sim_s:.0f} s driven", refresh=False)
            self._bar.update(percent - self._percent)
            self._percent = percent

    def route_ends(self, record: Json) -> None:
        """The route has this record."""
        if self._bar is not None:
            self._bar.update(100.0 - self._percent)
            return
        name = record["route_id"].removeprefix("RouteScenario_")
        score = record["scores"]["score_composed"]
        self._out.write(f"route {name}: {record['status']}, driving score {score:.1f}\n")
        self._out.flush()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
