# SPDX-License-Identifier: Apache-2.0
"""Names in a data set: LMDrive's folders and files, and the few that we add."""

from __future__ import annotations

import re
from dataclasses import dataclass

INDEX = "dataset_index.txt"
MEASUREMENTS_ALL = "measurements_all.json"
# Ours, beside LMDrive's: what a folder holds, and the checksum of every file of every frame.
RUN = "run.json"
CHECKSUMS = "checksums.txt"

ODD = "lidar_odd"  # belongs to the tick after the frame; may be missing for the last frame

_TOWN_NUMBERS = {
    "Grid": 91,
    "OldTown": 92,
    "Ring": 93,
    "Quarter": 94,
}  # LMDrive's loader wants two digits
_OTHER_TOWN = 99


@dataclass(frozen=True, slots=True)
class FrameFile:
    """One kind of file of a frame."""

    folder: str
    suffix: str
    is_extension: bool = False  # ours; not in every data set

    def path(self, frame: int) -> str:
        """Relative to the folder of the run."""
        return f"{self.folder}/{frame:04d}{self.suffix}"


FRAME_FILES = (
    FrameFile("rgb_full", ".jpg"),
    FrameFile("lidar", ".npy"),
    FrameFile(ODD, ".npy"),
    FrameFile("birdview", ".jpg"),
    FrameFile("topdown", ".jpg"),
    FrameFile("3d_bbs", ".npy"),
    FrameFile("affordances", ".npy"),
    FrameFile("actors_data", ".json"),
    FrameFile("measurements", ".json"),
    FrameFile("measurements_full", ".json"),
    FrameFile("rgb_focus", ".jpg", is_extension=True),
)
BY_FOLDER = {file.folder: file for file in FRAME_FILES}
REQUIRED = tuple(f.folder for f in FRAME_FILES if not f.is_extension and f.folder != ODD)


def town_number(town: str) -> int:
    """The two digits of a folder's name: CARLA's town number, 91 and up for the own towns."""
    if town in _TOWN_NUMBERS:
        return _TOWN_NUMBERS[town]
    match = re.search(r"Town(\d\d)", town)
    return int(match.group(1)) if match else _OTHER_TOWN


def length_class(route_length_m: float) -> str:
    """LangAuto's words: tiny below 150 m, short to 500 m, long above."""
    return "tiny" if route_length_m < 150.0 else "short" if route_length_m <= 500.0 else "long"


def run_folder_name(town: str, route_length_m: float, weather_id: int, started: str) -> str:
    """LMDrive's name of a run's folder; ``started`` is ISO 8601.

    Example:
        >>> run_folder_name("Town02", 300.0, 3, "2026-01-02T03:04:05")
        'routes_town02_short_w3_01_02_03_04_05'
    """
    date, _, clock = started.partition("T")
    moment = [*date.split("-")[1:], *clock[:8].split(":")]
    number, size = town_number(town), length_class(route_length_m)
    return f"routes_town{number:02d}_{size}_w{weather_id}_{'_'.join(moment)}"
