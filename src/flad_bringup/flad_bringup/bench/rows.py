# SPDX-License-Identifier: Apache-2.0
"""The figures of a benchmark, in the one schema that all of them write."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure. ``name`` is stable and listed in ``docs/benchmarks.md``."""

    name: str
    value: float
    unit: str
    baseline: str | None = None
    """The system measured in the same run, or the paper, then said so."""
    baseline_value: float | None = None
    bar: float | None = None
    """What the project promises."""
    better: Literal["higher", "lower"] = "higher"

    @property
    def ratio(self) -> float | None:
        """Ours by the baseline's."""
        return self.value / self.baseline_value if self.baseline_value else None

    @property
    def holds(self) -> bool | None:
        """Whether the promise is kept; None where nothing is promised."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.better == "higher" else self.value <= self.bar

    def as_json(self) -> dict[str, Any]:
        """The row as ``--json`` writes it."""
        return dataclasses.asdict(self) | {"ratio": self.ratio, "holds": self.holds}


def as_json(bench: str, rows: Sequence[Row], *, seed: int, started: str, root: Path) -> Any:
    """The whole file that ``--json`` writes."""
    return {
        "bench": bench,
        "commit": commit(root),
        "machine": machine(),
        "seed": seed,
        "started": started,
        "rows": [row.as_json() for row in rows],
    }


def now() -> str:
    """The time of starting, in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {"cpu": _cpu_name(), "cores": len(os.sched_getaffinity(0)), "gpu": _gpu_name()}


def commit(root: Path) -> str:
    """The commit that was measured; ``+`` where files differ from it."""
    if shutil.which("git") is None:
        return "unknown"
    head = _said(["git", "-C", str(root), "rev-parse", "HEAD"])
    changed = _said(["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"])
    return (head or "unknown") + ("+" if changed else "")


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _gpu_name() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    names = _said(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])
    return names.splitlines()[0] if names else None


def _said(command: list[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return ended.stdout.strip() if ended.returncode == 0 else ""
