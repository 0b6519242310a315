# SPDX-License-Identifier: Apache-2.0
"""The encoder's predictions as the page draws them: figures of a run, and packed columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flad_carla.report.packing import pack
from flad_carla.report.perception import CELL_M, MATCH_M, Perception
from flad_carla.report.run_file import RunRecord
from flad_carla.report.sweep import num_columns

_SAME_MOMENT_S = 0.16  # a picture and the prediction drawn into it
_CURVE_STEPS = {"t": 0.01, "red": 0.01, "stop": 0.01, "latency": 0.0005}
_STEPS = {"yaw": 0.02, "score": 0.01, "speed": 0.1, "z": 0.1, "length": 0.1, "width": 0.1}


def encoder_words(perception: Perception) -> str:
    """One line that says which model predicted, or that none did."""
    if not perception.encoder and not perception.num_moments:
        return "none ran"
    name = Path(perception.encoder).name or "unnamed"  # a shipped one's name, or a file
    if not perception.num_moments:
        return f"{name}, but no prediction of it arrived"
    return f"{name}, model {perception.model_hash or 'without a hash'}"


def figures(perception: Perception) -> dict[str, Any]:
    """How the predictions of a run compare with the truth; None where there is nothing to count.

    ``red`` and ``free`` are of the moments in which a red light did and did not ask to stop: how
    many were told right, at a probability of one half, and how many there were.
    """
    moments = perception.moments
    found, missed = int(moments["found"].sum()), int(moments["missed"].sum())
    red_true, red = moments["red_true"], moments["red"]
    latency_s = moments["latency"][np.isfinite(moments["latency"])]
    count = perception.num_moments
    return {
        "moments": count,
        "found": found,
        "vehicles": found + missed,
        "extra": round(float(moments["extra"].mean()), 2) if count else None,
        "red": [int(np.sum((red >= 0.5) & (red_true == 1.0))), int(np.sum(red_true == 1.0))],
        "free": [int(np.sum((red < 0.5) & (red_true == 0.0))), int(np.sum(red_true == 0.0))],
        "latency_ms": [round(1e3 * float(np.percentile(latency_s, q))) for q in (50, 95)]
        if latency_s.size
        else None,
    }


def pack_perception(run: RunRecord) -> dict[str, Any] | None:
    """What does not hang on a picture: who predicted, the figures and the curves."""
    seen = run.perception
    if not seen.num_moments:
        return None
    area = seen.area
    return {
        "encoder": encoder_words(seen),
        "hash": seen.model_hash,
        "missing": seen.missing_views,
        "area": [area.x_min_m, area.x_max_m, area.y_min_m, area.y_max_m],
        "cell": CELL_M,
        "columns": num_columns(area, CELL_M),
        "match": MATCH_M,
        "lidar": seen.has_lidar,
        "figures": figures(seen),
        "views": [_view(view) for view in run.views],
        "moments": pack(
            {name: (column, _CURVE_STEPS.get(name, 1.0)) for name, column in seen.moments.items()}
        ),
    }


def pack_scenes(run: RunRecord, keep: Sequence[int]) -> dict[str, Any]:
    """What is drawn into and beside the pictures ``keep``; rows count them from 0.

    ``at`` is the moment that belongs to each picture, -1 for none.
    """
    seen = run.perception
    at = [_moment_of(seen, float(run.thumbnail_times[i])) for i in keep]
    index = {kind.actor_id: i for i, kind in enumerate(run.actor_kinds)}
    row_of = {moment: row for row, moment in enumerate(at) if moment >= 0}
    scenes: dict[str, Any] = {"at": at}
    for name in ("boxes", "truth", "waypoints"):
        scenes[name] = _picked(getattr(seen, name), "moment", row_of, index)
    row_of_picture = {int(picture): row for row, picture in enumerate(keep)}
    scenes["sweeps"] = _picked(seen.sweeps, "picture", row_of_picture, index)
    return scenes


def scenes_bytes(run: RunRecord) -> int:
    """About what the scenes of all pictures need in the page."""
    if not run.perception.num_moments:
        return 0
    packed = pack_scenes(run, range(len(run.thumbnails)))
    return sum(len(part["blob"]) for part in packed.values() if isinstance(part, dict))


def _moment_of(seen: Perception, t: float) -> int:
    if not seen.num_moments:
        return -1
    gaps = np.abs(seen.moments["t"] - t)
    nearest = int(np.argmin(gaps))
    return nearest if gaps[nearest] <= _SAME_MOMENT_S else -1


def _picked(
    table: Any, key: str, row_of: dict[int, int], actor_index: dict[int, int]
) -> dict[str, Any]:
    """The rows of a table whose ``key`` is wanted, with its new number."""
    wanted = [i for i, value in enumerate(table[key].tolist()) if int(value) in row_of]
    columns: dict[str, tuple[Any, float]] = {}
    for name, column in table.items():
        values = column[wanted].tolist()
        if name == key:
            columns["row"] = ([row_of[int(value)] for value in values], 1.0)
        elif name == "actor":
            columns[name] = ([actor_index[int(value)] for value in values], 1.0)
        elif name in ("cell", "state", "hit"):
            columns[name] = (values, 1.0)
        else:
            columns[name] = (values, _STEPS.get(name, 0.05))
    return pack(columns)


def _view(view: Any) -> dict[str, Any]:
    return {
        "id": view.id,
        "x": view.x_m,
        "y": view.y_m,
        "z": view.z_m,
        "pitch": view.pitch_deg,
        "yaw": view.yaw_deg,
        "fov": view.fov_deg,
    }
