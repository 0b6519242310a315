# SPDX-License-Identifier: Apache-2.0
"""Reads LMDrive's folder layout: recordings of ``./flad record`` and LMDrive's own download.

Values come as they are in the files, in CARLA's world; :mod:`scenes` turns them into the vehicle's
frame. Nothing is unpickled: every field that is needed is also in the JSON files.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

INDEX = "dataset_index.txt"
RUN = "run.json"
CAMERAS = ("rgb_front", "rgb_left", "rgb_right", "rgb_rear")  # from top to bottom in rgb_full
FOCUS = "rgb_focus"  # ours; LMDrive's download lacks it
FRAMES_PER_S = 10.0
NEEDED = (
    "x",
    "y",
    "theta",
    "speed",
    "far_node_x",
    "far_node_y",
    "is_red_light_present",
    "affected_light_id",
    "actors_data",
    "stop_sign",
)
_NUMBERS = ("x", "y", "speed", "far_node_x", "far_node_y")

# The towns of LMDrive's folder names that are not TownNN.
_TOWNS = {"10": "Town10HD", "91": "Grid", "92": "OldTown", "93": "Ring", "94": "Quarter"}
_NAME = re.compile(r"routes_town(?P<town>\d\d)_\w+?_w(?P<weather>\d+)_")

Rgb = NDArray[np.uint8]

# What PIL raises for files that are cut off, no pictures, or absurdly large.
_NO_PICTURE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


class BadFileError(Exception):
    """A file of a recording that cannot be used: ``path`` and ``reason``."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[type[BadFileError], tuple[Path, str]]:
        return (type(self), (self.path, self.reason))  # crosses processes


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One recorded drive: a folder of the data set."""

    folder: Path
    town: str
    weather_id: int
    num_frames: int
    driver: str = "expert"
    status: str = "complete"

    @property
    def name(self) -> str:
        """Name of its data set's folder and its own: ``grid/routes_town91_...``."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    def file(self, kind: str, frame: int) -> Path:
        """Path of one file of one frame."""
        return self.folder / kind / f"{frame:04d}{_SUFFIX[kind]}"


_SUFFIX = {
    "rgb_full": ".jpg",
    FOCUS: ".jpg",
    "lidar": ".npy",
    "lidar_odd": ".npy",
    "measurements_full": ".json",
}


def find_runs(roots: Iterable[Path]) -> tuple[list[Run], list[BadFileError]]:
    """Every run below ``roots``, by name, and what looked like one and is none.

    A root is a data set (with ``dataset_index.txt`` or ``routes_*`` folders) or the folder of one
    run. Runs that are being recorded are not listed in the index; they are found all the same and
    keep their status.

    Raises:
        ValueError: if a root is no folder, holds no run, or two runs have the same name.
    """
    runs: dict[str, Run] = {}
    bad: list[BadFileError] = []
    for root in roots:
        if not root.is_dir():
            raise ValueError(
                f"{root} is no folder; expected a data set of ./flad record or LMDrive"
            )
        folders = _run_folders(root.resolve())
        if not folders:
            raise ValueError(f"{root} holds no run: neither {INDEX} nor a folder routes_*")
        for folder in folders:
            try:
                run = open_run(folder)
            except BadFileError as error:
                bad.append(error)
                continue
            other = runs.setdefault(run.name, run)
            if other.folder != run.folder:
                raise ValueError(
                    f"{other.folder} and {run.folder} would both be {run.name}; rename one data set"
                )
    return [runs[name] for name in sorted(runs)], bad


def _run_folders(root: Path) -> list[Path]:
    if (root / "measurements_full").is_dir():
        return [root]
    folders = {path for path in root.glob("routes_*") if path.is_dir()}
    index = root / INDEX
    if index.is_file():
        for line in index.read_text(encoding="utf-8").splitlines():
            if words := line.split():
                below = root / "data" / words[0]
                folders.add(below if not (root / words[0]).exists() else root / words[0])
    return sorted({folder.resolve() for folder in folders})


def open_run(folder: Path) -> Run:
    """What a run's folder says about itself, by ``run.json`` or else by its name.

    Raises:
        BadFileError: if it has neither, or no frame.
    """
    if (folder / RUN).is_file():
        document = _read_json(folder / RUN)
        try:
            return Run(
                folder=folder,
                town=str(document["town"]),
                weather_id=int(document["weather_id"]),
                num_frames=int(document["num_frames"]),
                driver=str(document.get("driver", "expert")),
                status=str(document["status"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadFileError(folder / RUN, f"bad or missing field: {error}") from error
    match = _NAME.match(folder.name)
    if match is None:
        raise BadFileError(folder, f"has no {RUN} and no name like routes_town05_short_w8_...")
    if not (folder / "measurements_full").is_dir():
        raise BadFileError(folder / "measurements_full", "missing")
    number = match["town"]
    return Run(
        folder=folder,
        town=_TOWNS.get(number, f"Town{number}"),
        weather_id=int(match["weather"]),
        num_frames=sum(1 for _ in (folder / "measurements_full").glob("*.json")),
    )


def read_measurement(run: Run, frame: int) -> dict[str, Any]:
    """``measurements_full`` of a frame, with the fields that are needed.

    Raises:
        BadFileError: if it is missing or broken, or a field is missing or not finite.
    """
    path = run.file("measurements_full", frame)
    document = _read_json(path)
    if missing := [name for name in NEEDED if name not in document]:
        raise BadFileError(path, f"lacks {', '.join(missing)}")
    for name in _NUMBERS:
        value = document[name]
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise BadFileError(path, f"{name} is {value!r}, expected a finite number")
    if not isinstance(document["actors_data"], dict):
        raise BadFileError(path, "actors_data is no mapping")
    return document


def read_half_sweep(run: Run, kind: str, frame: int) -> NDArray[np.float32]:
    """Points ``[N, 4]`` (x, y, z, intensity) as the sensor gave them; ``kind`` names the folder.

    Raises:
        BadFileError: if the file is missing, broken, empty, or of another shape.
    """
    path = run.file(kind, frame)
    try:
        points = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise BadFileError(path, "missing") from error
    except (OSError, ValueError, EOFError) as error:
        raise BadFileError(path, f"truncated or no npy: {error}") from error
    if points.ndim != 2 or points.shape[1] != 4:
        raise BadFileError(path, f"has shape {list(points.shape)}, expected [N, 4]")
    if len(points) == 0:
        raise BadFileError(path, "empty sweep")
    return np.asarray(points, dtype=np.float32)


def read_pictures(run: Run, frame: int, least_px: tuple[int, int] = (0, 0)) -> dict[str, Rgb]:
    """Pictures ``[H, W, 3]`` RGB by camera; ``rgb_focus`` where the data set has it.

    Args:
        run: the drive.
        frame: its frame.
        least_px: width and height that one camera's picture must keep: larger ones are halved
            while they are decoded, which is several times faster. ``(0, 0)`` keeps full size.

    Raises:
        BadFileError: if a file is missing, truncated or of an impossible size.
    """
    full = read_jpeg(run.file("rgb_full", frame), (least_px[0], len(CAMERAS) * least_px[1]))
    if full.shape[0] % len(CAMERAS) and least_px[0]:  # halved to a fraction of a row
        full = read_jpeg(run.file("rgb_full", frame))
    height = full.shape[0] // len(CAMERAS)
    if full.shape[0] % len(CAMERAS) or height < 8:
        path = run.file("rgb_full", frame)
        raise BadFileError(path, f"is {full.shape[0]} pixels high, expected four pictures stacked")
    pictures = {name: full[i * height : (i + 1) * height] for i, name in enumerate(CAMERAS)}
    if (run.folder / FOCUS).is_dir():
        pictures[FOCUS] = read_jpeg(run.file(FOCUS, frame))
    return pictures


def read_jpeg(path: Path, least_px: tuple[int, int] = (0, 0)) -> Rgb:
    """A picture ``[H, W, 3]``, halved while decoding as long as it stays ``least_px`` or more.

    Raises:
        BadFileError: if it is missing, truncated or no picture.
    """
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            if least_px[0] > 0:
                image.draft("RGB", least_px)
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise BadFileError(path, "missing") from error
    except _NO_PICTURE as error:
        raise BadFileError(path, f"truncated or no picture: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFileError(path, "missing") from error
    except (OSError, ValueError) as error:
        raise BadFileError(path, f"truncated or no JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadFileError(path, "is no JSON object")
    return document
