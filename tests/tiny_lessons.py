# SPDX-License-Identifier: Apache-2.0
"""Recorded drives as features, without an encoder: tokens that tell where the vehicle is."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from spoken_route import FOLLOW, LEFT, RIGHT, measurements, route_points, steady_drive

from flad_edge.training.clip_file import FeatureClip
from flad_edge.training.features import RunFeatures
from flad_perception.data.lmdrive import Run
from flad_planner.language.route_view import RoadCommand, RouteOutline

HASH = "0123456789abcdef"
NUM_TOKENS, DIM = 6, 8  # tiny_adllm's
ROUTE = ((FOLLOW, 60), (LEFT, 14), (FOLLOW, 70), (RIGHT, 14), (FOLLOW, 60))


def clip(num_frames: int = 5, instruction: str = "Turn left.", **changes: Any) -> FeatureClip:
    """A clip of nothing in particular; every number in it differs."""
    rng = np.random.default_rng(num_frames)
    parts = {
        "instruction": instruction,
        "tokens": rng.normal(size=(num_frames, NUM_TOKENS, DIM)).astype(np.float16),
        "waypoints_m": rng.normal(size=(num_frames, 5, 2)).astype(np.float32),
        "completed": np.zeros(num_frames, dtype=np.int8),
        "speed_mps": rng.uniform(0.0, 8.0, num_frames).astype(np.float32),
        "encoder_hash": HASH,
        "contract_version": 1,
    }
    return FeatureClip(**{**parts, **changes})


def write_drive(
    root: Path,
    parts: Sequence[tuple[RoadCommand, int]] = ROUTE,
    name: str = "routes_town05_short_w8_11_22_15_30_54",
) -> Run:
    """A run's folder with what the narrator reads, and no pictures."""
    folder = root / name
    (folder / "measurements_full").mkdir(parents=True)
    points = route_points(*parts)
    drive = steady_drive(RouteOutline(points))
    told = measurements(points, drive)
    (folder / "measurements_all.json").write_text(json.dumps(told))
    return Run(folder=folder, town="Town05", weather_id=8, num_frames=len(told))


def features(run: Run, phase: int = 1, **changes: Any) -> RunFeatures:
    """Features of :func:`write_drive`'s run; the plan follows the route exactly."""
    told = json.loads((run.folder / "measurements_all.json").read_text())
    frames = np.arange(phase, len(told), 2, dtype=np.int32)
    places = np.array([[-m["y"], m["x"]] for m in told])  # north, east
    plan = np.full((len(frames), 5, 2), np.nan, dtype=np.float32)
    for row, frame in enumerate(frames):
        steps = [frame + 5 * (i + 1) for i in range(5)]
        if steps[-1] < len(told):
            plan[row] = _local(places, frame, steps)
    rng = np.random.default_rng(phase)
    parts = {
        "run": run.name,
        "town": run.town,
        "weather_id": run.weather_id,
        "driver": run.driver,
        "encoder_hash": HASH,
        "contract_version": 1,
        "frame": frames,
        "tokens": rng.normal(size=(len(frames), NUM_TOKENS, DIM)).astype(np.float16),
        "speed_mps": np.array([told[f]["speed"] for f in frames], dtype=np.float32),
        "plan_m": plan,
        "driven_m": plan + 1.0,
        "kicked": np.zeros(len(frames), dtype=np.int8),
        "light": np.full(len(frames), -1, dtype=np.int8),
        "light_state": np.full(len(frames), -1, dtype=np.int8),
        "light_m": np.full(len(frames), np.nan, dtype=np.float32),
    }
    return RunFeatures(**{**parts, **changes})


def _local(places: np.ndarray, frame: int, steps: Sequence[int]) -> np.ndarray:
    ahead = places[frame + 1] - places[frame]
    heading = math.atan2(ahead[1], ahead[0])  # from north towards east: to the right
    c, s = math.cos(heading), math.sin(heading)
    moved = places[list(steps)] - places[frame]
    return np.stack(
        [c * moved[:, 0] + s * moved[:, 1], s * moved[:, 0] - c * moved[:, 1]], axis=1
    ).astype(np.float32)
