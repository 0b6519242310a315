# SPDX-License-Identifier: Apache-2.0
"""The packed data set on disk: what lies where, what it was made for, and its checksums.

``index.json`` at the top lists the runs; each run is a folder of ``.npy`` files that are read as
memory maps, with a ``shard.json`` that is written last: a folder without it is the rest of a crash.

    frames.npy        one record a frame: :func:`frame_dtype`
    view_NAME.npy     uint8 [N, h, w, 3], the view and a border for augmentation (see ``borders``)
    points.npy        float16 [P, 4], all frames one after the other, in the vehicle's frame
    point_ends.npy    int64 [N]: where each frame's points end
    detection.npy     float16 [N, R, C, 8]
    boxes.npy         float32 [M, 8]; box_ends.npy int64 [N]
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from flad_common.config import to_mapping
from flad_perception.config import EncoderConfig

FORMAT = 1
INDEX = "index.json"
SHARD = "shard.json"
FRAMES, POINTS, POINT_ENDS = "frames.npy", "points.npy", "point_ends.npy"
DETECTION, BOXES, BOX_ENDS = "detection.npy", "boxes.npy", "box_ends.npy"

_CHUNK = 2**22


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A file that could not be used, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What ``shard.json`` says of one packed run."""

    name: str
    town: str
    weather_id: int
    num_frames: int
    driver: str
    source: str
    source_frames: int
    made_for: str  # see made_for
    files: dict[str, str]  # name -> SHA-256
    trimmed: dict[str, int] = field(default_factory=dict)
    """Frames left out in the ordinary course, by the reason: the first, the last 2.5 s."""
    refused: tuple[Refusal, ...] = ()
    """Files that were broken; each cost its frame."""
    dropped_points: int = 0
    """LiDAR points that were not finite."""
    format: int = FORMAT

    @property
    def folder(self) -> str:
        """Of the run, below the packed data set."""
        return self.folder_of(self.name)

    @staticmethod
    def folder_of(name: str) -> str:
        """Of a run of this name."""
        return "runs/" + name.replace("/", "__")


def view_file(name: str) -> str:
    """The file that holds a view's pictures."""
    return f"view_{name}.npy"


def frame_dtype(config: EncoderConfig) -> np.dtype[Any]:
    """One record of ``frames.npy``; names, units and frames are those of batches."""
    fields: list[tuple[str, DTypeLike] | tuple[str, DTypeLike, Any]] = [
        ("frame", "<i4"),
        ("speed_mps", "<f4"),
        ("target_point_m", "<f4", (2,)),
        ("waypoints_m", "<f4", (config.num_waypoints, 2)),
        ("path_m", "<f4", (len(config.path_at_m), 2)),
        ("command", "i1"),
        ("light", "i1"),
        ("stop", "i1"),
        ("light_distance_m", "<f4"),
        ("light_state", "i1"),
        ("kicked_ahead", "?"),
        ("view_valid", "?", (len(config.views),)),
    ]
    return np.dtype(fields)


def needs(config: EncoderConfig) -> dict[str, Any]:
    """The part of a configuration that packed data depend on; widths and layers do not matter."""
    whole = to_mapping(config)
    area = ("x_min_m", "x_max_m", "y_min_m", "y_max_m")
    own = ("own_half_length_m", "own_half_width_m")
    return {
        "views": whole["views"],
        "lidar": {name: whole["lidar"][name] for name in (*area, "max_points", *own)},
        "grid": {name: whole["grid"][name] for name in (*area, "cell_m")}
        | {"shape": list(config.grid.shape)},
        "num_waypoints": config.num_waypoints,
        "waypoint_step_s": config.waypoint_step_s,
        "path_at_m": list(config.path_at_m),
    }


def made_for(config: EncoderConfig) -> str:
    """Hash of :func:`needs`: data packed for one configuration serve every other of this hash."""
    return hashlib.sha256(json.dumps(needs(config), sort_keys=True).encode()).hexdigest()[:16]


def differences(packed: Mapping[str, Any], wanted: Mapping[str, Any], where: str = "") -> list[str]:
    """Sentences that say in which values two results of :func:`needs` differ."""
    found = []
    for key in sorted(packed.keys() | wanted.keys()):
        a, b, name = packed.get(key), wanted.get(key), f"{where}{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{name}.")
        elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b) and a != b:
            pairs = (dict(enumerate(a)), dict(enumerate(b)))
            found += differences(
                {str(k): v for k, v in pairs[0].items()},
                {str(k): v for k, v in pairs[1].items()},
                f"{name}.",
            )
        elif a != b:
            found.append(f"{name} is {a} in the data and {b} in the configuration")
    return found


def sha256_of(path: Path) -> str:
    """Checksum of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_json(path: Path, document: Any) -> None:
    """Write JSON, whole or not at all."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


def write_shard(folder: Path, shard: Shard) -> None:
    """Write ``shard.json``, which makes a run's folder complete."""
    write_json(folder / SHARD, asdict(shard))


def read_shard(folder: Path) -> Shard:
    """Read ``shard.json``.

    Raises:
        ValueError: if it is missing, broken, or of another format.
    """
    try:
        document = json.loads((folder / SHARD).read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(f"has format {document['format']}, this version reads {FORMAT}")
        refused = tuple(Refusal(**entry) for entry in document.pop("refused"))
        return Shard(**document, refused=refused)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / SHARD}: {error}; pack this run again") from error


def damage(folder: Path, *, check_sums: bool = False) -> Refusal | None:
    """What is wrong with a packed run: a file missing, cut off, or unlike its checksum.

    Args:
        folder: of the run.
        check_sums: read everything; otherwise headers are compared with sizes.
    """
    try:
        shard = read_shard(folder)
    except ValueError as error:
        return Refusal(path=str(folder / SHARD), reason=str(error))
    for name, digest in shard.files.items():
        path = folder / name
        if reason := _damage_of_file(path, digest if check_sums else ""):
            return Refusal(path=str(path), reason=f"{reason}; pack this run again")
    return None


def _damage_of_file(path: Path, digest: str) -> str:
    try:
        np.load(path, mmap_mode="r")  # compares the header with the size
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError, EOFError) as error:
        return f"truncated or no npy ({error})"
    return "differs from its checksum" if digest and sha256_of(path) != digest else ""


def verify(out: Path) -> Iterator[Refusal]:
    """Compare every file with its checksum; yields the first bad file of every bad run."""
    for entry in read_index(out)["runs"]:
        if found := damage(out / entry["folder"], check_sums=True):
            yield found


def read_index(out: Path) -> dict[str, Any]:
    """Read ``index.json``.

    Raises:
        ValueError: if there is none, or of another format.
    """
    path = out / INDEX
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"{out} is no packed data set: it has no {INDEX}; make one with ./flad data pack"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} is broken ({error}); run ./flad data pack again") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"{path} is not of format {FORMAT}; run ./flad data pack again")
    return document


def ends_to_slices(ends: NDArray[np.int64], row: int) -> slice:
    """Where row ``row`` lies in an array whose rows have different lengths."""
    return slice(int(ends[row - 1]) if row else 0, int(ends[row]))
