# SPDX-License-Identifier: Apache-2.0
"""The runs in a data set: which are complete, what a crash left behind, and the index."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flad_carla.recorder.layout import CHECKSUMS, INDEX, RUN, run_folder_name
from flad_carla.recorder.store import discard_leftovers, replace_text, write_json
from flad_carla.run_log import RunInfo

RECORDING, COMPLETE, PARTIAL = "recording", "complete", "partial"


@dataclass(frozen=True)
class RunKey:
    """What makes two recordings the same run."""

    town: str
    route_id: str
    repetition: int
    seed: int
    driver: str
    route_digest: str
    """Of what the route is; empty in data sets of before it was noted, and equal to any other."""

    def is_same_as(self, other: RunKey) -> bool:
        """Whether both are recordings of one run."""
        known = self.route_digest and other.route_digest
        return self == (other if known else replace(other, route_digest=self.route_digest))


def run_key(document: dict[str, Any]) -> RunKey:
    """The key of a ``run.json``."""
    return RunKey(
        town=document["town"],
        route_id=document["route_id"],
        repetition=document["repetition"],
        seed=document["seed"],
        driver=document["driver"],
        route_digest=document.get("route_digest", ""),
    )


def recorded_runs(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folder and ``run.json`` of every run, by name."""
    for path in sorted(root.glob(f"routes_*/{RUN}")):
        yield path.parent, json.loads(path.read_text(encoding="utf-8"))


def completed_keys(root: Path) -> set[RunKey]:
    """Runs that need not be recorded again."""
    return {run_key(run) for _, run in recorded_runs(root) if run["status"] == COMPLETE}


def salvage(root: Path, min_frames: int) -> list[Path]:
    """Put a data set in order after a crash; returns the folders that were cut off.

    Half-written frames are discarded. What is whole stays, as a partial run, until the same run
    has been recorded from its start to its end.
    """
    cut_off = []
    for folder in sorted(root.glob("routes_*")):
        if not (folder / RUN).exists():
            if (folder / CHECKSUMS).exists():  # crashed before its first frame
                shutil.rmtree(folder)
            continue
        document = json.loads((folder / RUN).read_text(encoding="utf-8"))
        if document["status"] == RECORDING:
            num_frames = discard_leftovers(folder)
            write_json(folder / RUN, {**document, "status": PARTIAL, "num_frames": num_frames})
            cut_off.append(folder)
    if root.exists():
        write_index(root, min_frames)
    return cut_off


def remove_others(root: Path, finished: Path) -> None:
    """Remove other recordings of the run that ``finished`` holds completely."""
    key = run_key(json.loads((finished / RUN).read_text(encoding="utf-8")))
    for folder, document in recorded_runs(root):
        if folder != finished and run_key(document).is_same_as(key):
            shutil.rmtree(folder)


def write_index(root: Path, min_frames: int) -> None:
    """Write ``dataset_index.txt``: a line per run with its folder and number of frames."""
    lines = [
        f"{folder.name} {document['num_frames']}\n"
        for folder, document in recorded_runs(root)
        if document["status"] != RECORDING and document["num_frames"] >= min_frames
    ]
    replace_text(root / INDEX, "".join(lines))
    link = root / "data"  # LMDrive's vision loader looks for the folders below data/
    if not link.is_symlink() and not link.exists():
        link.symlink_to(".", target_is_directory=True)


def new_folder(root: Path, info: RunInfo) -> Path:
    """A folder that does not exist yet, by LMDrive's naming."""
    length_m = float(max(0, len(info.route) - 1))
    name = run_folder_name(info.town, length_m, info.weather_id, info.started)
    path, number = root / name, 1
    while path.exists():
        number += 1
        path = root / f"{name}_{number}"
    return path
