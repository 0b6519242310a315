# SPDX-License-Identifier: Apache-2.0
"""One route run as a file: a compressed ``.npz`` of columns, with the rest as JSON inside.

``collect`` makes a :class:`RunRecord`, ``page`` draws it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flad_carla.report.perception import TABLES, Perception, View
from flad_carla.report.sweep import Area
from flad_carla.run_log import Infraction, LaneShape, RoutePoint, RunInfo, RunResult

Column = NDArray[Any]

FORMAT = 3
# One value per tick.
EGO_COLUMNS = (
    "t",
    "x",
    "y",
    "yaw",
    "speed",
    "desired",
    "throttle",
    "brake",
    "steer",
    "completion",
    "latency",
    "perturbation",
    "light",  # state of the light ahead, NaN where there is none
    "answer",  # s of wall time from the newest frame's tokens to its plan, NaN without words
    "completed",  # probability that the instruction has been carried out, NaN where not said
)
# One value per actor and animation step, sorted by actor, then step.
TRACK_COLUMNS = ("actor", "step", "x", "y", "yaw")
# One value per change of a light.
LIGHT_COLUMNS = ("light", "t", "state")
# One value per plan point; ``plan`` counts the plans, ``t`` is when the plan was first followed.
PLAN_COLUMNS = ("plan", "t", "x", "y")
TEXT_TRACKS = ("instruction", "planner_state", "expert", "driver", "notice")
_PERCEPTION_FACTS = ("encoder", "model_hash", "missing_views", "has_lidar")


class RunFileError(ValueError):
    """A run file cannot be read; the message says which and why."""


@dataclass(frozen=True, kw_only=True)
class ActorKind:
    """What an actor is, for drawing."""

    actor_id: int
    type_id: str
    length: float
    width: float
    height: float = 1.5


@dataclass(frozen=True, kw_only=True)
class LightPlace:
    """Where a light's stop line is: the middle of its trigger volume."""

    light_id: int
    x: float
    y: float
    yaw: float


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Everything the report draws of one route run. Columns are arrays of equal length."""

    info: RunInfo
    result: RunResult
    ego: Mapping[str, Column]
    tracks: Mapping[str, Column]
    track_step_s: float
    lights: Mapping[str, Column]
    plans: Mapping[str, Column]
    ego_size: tuple[float, float] = (4.9, 2.1)
    actor_kinds: tuple[ActorKind, ...] = ()
    light_places: tuple[LightPlace, ...] = ()
    infractions: tuple[Infraction, ...] = ()
    texts: Mapping[str, tuple[tuple[float, str], ...]] = field(default_factory=dict)
    thumbnail_times: Column = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    thumbnails: tuple[bytes, ...] = ()
    insets: tuple[bytes, ...] = ()  # of the far camera, one per thumbnail; empty where none came
    views: tuple[View, ...] = ()  # of the thumbnails, and of the insets if there are any
    perception: Perception = field(default_factory=Perception)

    @property
    def camera(self) -> str:
        """The sensor that the thumbnails are of."""
        return self.views[0].id if self.views else ""


def run_file_name(info: RunInfo) -> str:
    """The file of a run: one per route and repetition, so that a repeated run replaces it."""
    return f"{info.index:03d}_{_plain(info.route_id)}_rep{info.repetition}.npz"


def save_run(record: RunRecord, folder: Path) -> Path:
    """Write a run into ``folder`` (made if missing), whole or not at all; returns the file.

    The town's lanes go into a file of their own, shared by all runs in that town.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _save_town(record.info, folder)
    route = record.info.route
    meta = {
        "format": FORMAT,
        "info": _fields(record.info),
        "result": _fields(record.result),
        "track_step_s": record.track_step_s,
        "ego_size": record.ego_size,
        "actor_kinds": [_fields(kind) for kind in record.actor_kinds],
        "light_places": [_fields(place) for place in record.light_places],
        "infractions": [_fields(event) for event in record.infractions],
        "texts": record.texts,
        "views": [_fields(view) for view in record.views],
        "perception": {
            "area": _fields(record.perception.area),
            **{name: getattr(record.perception, name) for name in _PERCEPTION_FACTS},
        },
    }
    arrays = {
        "meta": _text_to_array(json.dumps(meta)),
        "route": np.array(
            [(p.x, p.y, p.z, p.yaw, p.command) for p in route], dtype=np.float32
        ).reshape(-1, 5),
        "thumbnail_times": record.thumbnail_times,
        "thumbnail_sizes": np.array([len(jpeg) for jpeg in record.thumbnails], dtype=np.int64),
        "thumbnails": np.frombuffer(b"".join(record.thumbnails), dtype=np.uint8),
        "inset_sizes": np.array([len(jpeg) for jpeg in record.insets], dtype=np.int64),
        "insets": np.frombuffer(b"".join(record.insets), dtype=np.uint8),
        **_prefixed("ego", record.ego, EGO_COLUMNS),
        **_prefixed("tracks", record.tracks, TRACK_COLUMNS),
        **_prefixed("lights", record.lights, LIGHT_COLUMNS),
        **_prefixed("plans", record.plans, PLAN_COLUMNS),
    }
    for name, columns in record.perception.tables().items():
        arrays.update(_prefixed(name, columns, TABLES[name]))
    path = folder / run_file_name(record.info)
    _savez(path, arrays)
    return path


def load_run(path: Path) -> RunRecord:
    """Read what :func:`save_run` wrote.

    Raises:
        RunFileError: if the file is missing, truncated, or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        meta = json.loads(arrays["meta"].tobytes())
        if meta["format"] != FORMAT:
            raise RunFileError(
                f"{path} has format {meta['format']}, this version reads {FORMAT}: "
                "evaluate again, or use the version that wrote it"
            )
        return _record(meta, arrays, _load_town(meta["info"]["town"], path.parent))
    except RunFileError:
        raise
    except Exception as error:
        raise RunFileError(
            f"{path} is not a readable run file ({type(error).__name__}: {error}); "
            "delete it and evaluate that route again"
        ) from error


def load_runs(folder: Path) -> list[RunRecord]:
    """Read every run in ``folder``, in the order of the route file, repetitions last.

    Raises:
        RunFileError: if there is none, or one cannot be read.
    """
    paths = sorted(p for p in folder.glob("*_rep*.npz") if not p.name.startswith("."))
    if not paths:
        raise RunFileError(f"no run files (*_rep*.npz) in {folder}: evaluate with --report first")
    runs = [load_run(path) for path in paths]
    return sorted(runs, key=lambda r: (r.info.index, r.info.route_id, r.info.repetition))


def _record(
    meta: dict[str, Any], arrays: Mapping[str, Column], lanes: tuple[LaneShape, ...]
) -> RunRecord:
    route = tuple(
        RoutePoint(x=x, y=y, z=z, yaw=yaw, command=int(command))
        for x, y, z, yaw, command in arrays["route"].tolist()
    )
    info = {**meta["info"], "lanes": lanes, "route": route}
    info["geo_origin"] = tuple(info["geo_origin"])
    seen = meta["perception"]
    return RunRecord(
        info=RunInfo(**info),
        result=RunResult(**meta["result"]),
        ego=_taken("ego", arrays, EGO_COLUMNS),
        tracks=_taken("tracks", arrays, TRACK_COLUMNS),
        track_step_s=meta["track_step_s"],
        lights=_taken("lights", arrays, LIGHT_COLUMNS),
        plans=_taken("plans", arrays, PLAN_COLUMNS),
        ego_size=(meta["ego_size"][0], meta["ego_size"][1]),
        actor_kinds=tuple(ActorKind(**kind) for kind in meta["actor_kinds"]),
        light_places=tuple(LightPlace(**place) for place in meta["light_places"]),
        infractions=tuple(Infraction(**event) for event in meta["infractions"]),
        texts={
            name: tuple((t, text) for t, text in track) for name, track in meta["texts"].items()
        },
        thumbnail_times=arrays["thumbnail_times"],
        thumbnails=_parts(arrays["thumbnails"], arrays["thumbnail_sizes"]),
        insets=_parts(arrays["insets"], arrays["inset_sizes"]),
        views=tuple(View(**view) for view in meta["views"]),
        perception=Perception(
            encoder=seen["encoder"],
            model_hash=seen["model_hash"],
            missing_views=tuple(seen["missing_views"]),
            area=Area(**seen["area"]),
            has_lidar=seen["has_lidar"],
            **{name: _taken(name, arrays, columns) for name, columns in TABLES.items()},
        ),
    )


def _parts(blob: Column, sizes: Column) -> tuple[bytes, ...]:
    data, ends = blob.tobytes(), np.cumsum(sizes).tolist()
    return tuple(data[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=False))


def _save_town(info: RunInfo, folder: Path) -> None:
    path = folder / _town_file(info.town)
    if path.exists() or not info.lanes:
        return
    meta = [[lane.kind, lane.is_junction, len(lane.left), len(lane.right)] for lane in info.lanes]
    points = [p for lane in info.lanes for p in (*lane.left, *lane.right)]
    _savez(
        path,
        {
            "meta": _text_to_array(json.dumps(meta)),
            "points": np.array(points, dtype=np.float32).reshape(-1, 2),
        },
    )


def _load_town(town: str, folder: Path) -> tuple[LaneShape, ...]:
    path = folder / _town_file(town)
    if not path.exists():
        return ()
    with np.load(path, allow_pickle=False) as data:
        meta = json.loads(data["meta"].tobytes())
        points = [(float(x), float(y)) for x, y in data["points"].tolist()]
    lanes, at = [], 0
    for kind, is_junction, num_left, num_right in meta:
        left = tuple(points[at : at + num_left])
        right = tuple(points[at + num_left : at + num_left + num_right])
        lanes.append(LaneShape(left=left, right=right, kind=kind, is_junction=is_junction))
        at += num_left + num_right
    return tuple(lanes)


def _town_file(town: str) -> str:
    return f"town_{_plain(town)}.npz"


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


def _prefixed(
    prefix: str, columns: Mapping[str, Column], names: tuple[str, ...]
) -> dict[str, Column]:
    return {f"{prefix}_{name}": columns[name] for name in names}


def _taken(prefix: str, arrays: Mapping[str, Column], names: tuple[str, ...]) -> dict[str, Column]:
    return {name: arrays[f"{prefix}_{name}"] for name in names}


def _fields(value: Any) -> dict[str, Any]:
    """Shallow, for the frozen and slotted classes: ``vars`` does not work on them."""
    return {
        f.name: _plain_data(getattr(value, f.name))
        for f in dataclasses.fields(value)
        if f.name not in ("lanes", "route", "rig")
    }


def _plain_data(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain_data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_data(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def _text_to_array(text: str) -> Column:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _savez(path: Path, arrays: Mapping[str, Column]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **dict(arrays))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
