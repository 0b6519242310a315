# SPDX-License-Identifier: Apache-2.0
"""What a route's results say about a language driver: who drove how long, latency, its words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from flad_carla.evaluation.statistics import Json
from flad_carla.run_log import DriverView

_MAX_SAID = 200  # changes of words and drivers that are kept


class DriverTally:
    """Counts frames; ask it once per tick, it tells new frames by themselves."""

    def __init__(self) -> None:
        self._last: DriverView | None = None
        self._frames: Counter[str] = Counter()
        self._latencies_s: list[float] = []
        self._changes: list[dict[str, Any]] = []

    def step(self, view: DriverView | None, time_s: float) -> None:
        """Look at one tick."""
        if view is None or view is self._last:
            return
        before, self._last = self._last, view
        self._frames[view.who] += 1
        if math.isfinite(view.latency_s):
            self._latencies_s.append(view.latency_s)
        words = (view.who, view.instruction, view.notice)
        if before is not None and words == (before.who, before.instruction, before.notice):
            return
        if len(self._changes) < _MAX_SAID:
            self._changes.append(
                {
                    "time_s": round(time_s, 3),
                    "who": view.who,
                    "why": view.why,
                    "instruction": view.instruction,
                    "notice": view.notice,
                }
            )

    def document(self) -> dict[str, Any]:
        """For the results file; empty where no frame was driven by words."""
        if not self._frames:
            return {}
        latency_ms = {
            f"p{q}": round(1e3 * float(np.percentile(self._latencies_s, q)), 2)
            for q in (50, 95, 99)
            if self._latencies_s
        }
        return {
            "frames": dict(sorted(self._frames.items())),
            "latency_ms": latency_ms,
            "timeline": self._changes,
        }


def driver_summary(records: Sequence[Json]) -> str:
    """All runs in one line: who drove, and how many turns were taken as told; empty if nobody."""
    frames: Counter[str] = Counter()
    turns: list[dict[str, str]] = []
    for record in records:
        driver = record["meta"].get("driver", {})
        frames.update(driver.get("frames", {}))
        turns += driver.get("turns", [])
    if not frames:
        return ""
    total = sum(frames.values())
    shares = ", ".join(f"{who} {100.0 * n / total:.1f} %" for who, n in frames.most_common())
    as_told = sum(turn["taken"] == turn["told"] for turn in turns)
    as_planned = sum(turn["taken"] == turn["planned"] for turn in turns)
    return (
        f"frames driven by: {shares}; of {len(turns)} turns {as_told} were taken as told, "
        f"{as_planned} as the route has them"
    )
