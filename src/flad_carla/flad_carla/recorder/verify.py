# SPDX-License-Identifier: Apache-2.0
"""Checks a data set: every file there, unchanged, and of the shape that loaders expect."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flad_carla.recorder.fields import NUM_FUTURE
from flad_carla.recorder.layout import (
    BY_FOLDER,
    INDEX,
    MEASUREMENTS_ALL,
    RUN,
)
from flad_carla.recorder.runs import RECORDING, recorded_runs
from flad_carla.recorder.store import complete_frames, read_checksums

_POINT_DIMS = 4


@dataclass(frozen=True)
class Finding:
    """Something wrong: where and what."""

    place: Path
    what: str


def verify(root: Path, on_run: Callable[[Path], None] = lambda folder: None) -> list[Finding]:
    """Everything that is wrong with a data set; ``on_run`` is called for each run's folder."""
    runs = list(recorded_runs(root))
    if not runs:
        return [Finding(root, "holds no recorded run (routes_*/run.json)")]
    found = list(_check_index(root, runs))
    for folder, document in runs:
        on_run(folder)
        found += _check_run(folder, document)
    return found


def _check_index(root: Path, runs: Sequence[tuple[Path, dict[str, Any]]]) -> Iterator[Finding]:
    path = root / INDEX
    if not path.exists():
        yield Finding(path, "is missing: record again, or run the same recording once more")
        return
    counts = {folder.name: document["num_frames"] for folder, document in runs}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, count = line.partition(" ")
        if str(counts.get(name)) != count:
            yield Finding(path, f"says {line!r}, but the folder has {counts.get(name)} frames")


def _check_run(folder: Path, document: dict[str, Any]) -> Iterator[Finding]:
    if document["status"] == RECORDING:
        yield Finding(folder, "is being recorded, or was cut off: record again to put it in order")
        return
    checksums = read_checksums(folder)
    num_frames = complete_frames(checksums)
    if num_frames != document["num_frames"]:
        yield Finding(folder / RUN, f"says {document['num_frames']} frames, {num_frames} are whole")
    known = set(checksums)
    for path in sorted(folder.glob("*/*")):
        if str(path.relative_to(folder)) not in known:
            yield Finding(path, "is in no frame")
    for name, digest in checksums.items():
        yield from _check_file(folder, name, digest, document)
    yield from _check_measurements_all(folder, num_frames)


def _check_file(
    folder: Path, name: str, digest: str, document: dict[str, Any]
) -> Iterator[Finding]:
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        yield Finding(path, error.strerror or str(error))
        return
    if hashlib.sha256(content).hexdigest() != digest:
        yield Finding(path, "has changed since it was recorded (checksum)")
        return
    try:
        complaint = _complaint(Path(name).parent.name, content, document)
    except (ValueError, KeyError, OSError) as error:
        complaint = f"cannot be read ({type(error).__name__}: {error})"
    if complaint:
        yield Finding(path, complaint)


def _complaint(kind: str, content: bytes, document: dict[str, Any]) -> str:
    """What is wrong with a file's content, empty if nothing is."""
    suffix = BY_FOLDER[kind].suffix
    if suffix == ".json":
        parsed = json.loads(content)
        if kind == "measurements" and not 1 <= len(parsed["future_waypoints"]) <= NUM_FUTURE:
            return f"has {len(parsed['future_waypoints'])} future waypoints, expected 1..50"
        return ""
    if suffix == ".jpg":
        size = Image.open(io.BytesIO(content)).size
        expected = _picture_size(kind, document)
        return "" if expected in (None, size) else f"is {size} pixels, expected {expected}"
    array = np.load(io.BytesIO(content), allow_pickle=True)
    if kind in ("lidar", "lidar_odd") and (
        array.dtype != np.float16 or array.ndim != 2 or array.shape[1] != _POINT_DIMS
    ):
        return f"is {array.dtype} {list(array.shape)}, expected float16 [N, 4]"
    return ""


def _picture_size(kind: str, document: dict[str, Any]) -> tuple[int, int] | None:
    if kind == "rgb_full":
        width, height = document["image_size"]
        return (width, 4 * height)
    return {"birdview": (400, 400), "topdown": (512, 512)}.get(kind)


def _check_measurements_all(folder: Path, num_frames: int) -> Iterator[Finding]:
    path = folder / MEASUREMENTS_ALL
    try:
        count = len(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        yield Finding(path, f"cannot be read ({error})")
        return
    if count != num_frames:
        yield Finding(path, f"holds {count} frames, {num_frames} were recorded")
