# SPDX-License-Identifier: Apache-2.0
"""Listens to runs and records each into a folder of a data set (``store`` is the disk's side).

Saves at 10 Hz in a world of 20 Hz, as LMDrive does: a frame with everything, and from the tick
after it the LiDAR's other half sweep.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flad_carla.recorder import fields, layout
from flad_carla.recorder.label import ExpertLabel
from flad_carla.recorder.raster import RasterView, make_views
from flad_carla.recorder.runs import (
    COMPLETE,
    PARTIAL,
    RECORDING,
    new_folder,
    remove_others,
    write_index,
)
from flad_carla.recorder.store import FrameStore, write_json
from flad_carla.recorder.weather import weather_id_of
from flad_carla.report.thumbnails import Rgb, encode_jpeg, image_to_rgb
from flad_carla.run_log import LaneShape, Observer, RunInfo, RunResult, SensorTick, TickEntry

_log = logging.getLogger(__name__)

CAMERAS = ("rgb_front", "rgb_left", "rgb_right", "rgb_rear")  # from top to bottom in rgb_full
FOCUS = "rgb_focus"
LIDAR, IMU, GNSS = "lidar", "imu", "gnss"
_EVERY = 2  # ticks per frame
_EXPERT_WITHIN_S = 0.5  # of the start
# Words of the leaderboard's status for runs that ended early because something broke.
_NOT_THE_DRIVERS_FAULT = ("crashed", "invalid", "couldn't be set up")


@dataclass(frozen=True, kw_only=True)
class RecorderConfig:
    """What a data set is like."""

    jpeg_quality: int = 90  # LMDrive's 75 smears lamps of two pixels
    min_frames: int = 32  # shorter runs are kept but not listed, as in LMDrive's clean-up
    reserve_bytes: int = 2**20
    lights: str = "town"  # whose light times: the towns' own, or "favoured"

    def __post_init__(self) -> None:
        if not 1 <= self.jpeg_quality <= 95:
            raise ValueError(f"jpeg_quality must be in 1..95, got {self.jpeg_quality}")
        if self.min_frames < 1:
            raise ValueError(f"min_frames must be at least 1, got {self.min_frames}")


class DatasetRecorder(Observer):
    """Records every run under ``root``. A full disk ends the recording, not the drive.

    Args:
        root: the data set.
        config: what the data set is like.

    ``failures`` says what could not be recorded, and ``is_full`` that more tries are in vain.
    """

    def __init__(self, root: Path, *, config: RecorderConfig | None = None) -> None:
        self.root = root
        self.failures: list[str] = []
        self.folders: list[Path] = []
        self._config = config or RecorderConfig()
        self._run: _Run | None = None
        self._views: Mapping[str, RasterView] = {}
        self._views_of: tuple[LaneShape, ...] | None = None

    @property
    def is_full(self) -> bool:
        """Whether the disk ran full."""
        return bool(self.failures)

    def on_start(self, info: RunInfo) -> None:
        """Open the folder of a run."""
        if info.weather_id < 0:
            info = replace(info, weather_id=weather_id_of(info.weather))
        if info.lanes is not self._views_of:
            self._views, self._views_of = make_views(info.lanes), info.lanes
        folder = new_folder(self.root, info)
        try:
            self._run = _Run(info, folder, self._config, self._views)
        except OSError as error:
            self._report(folder, 0, error)
            return
        self.folders.append(folder)

    def on_tick(self, tick: SensorTick, entry: TickEntry) -> None:
        """Record a tick, unless the disk is full.

        Raises:
            ValueError: if the rig or the driver does not give what a data set needs.
        """
        run = self._run
        if run is None:
            return
        try:
            run.add(tick, entry)
        except OSError as error:
            self._run = None
            self._report(run.folder, run.num_frames, error)
            self._close(run, PARTIAL, None)

    def on_end(self, result: RunResult) -> None:
        """Close the folder and list it in the index."""
        run, self._run = self._run, None
        if run is not None:
            broken = any(word in result.status for word in _NOT_THE_DRIVERS_FAULT)
            status = PARTIAL if broken else COMPLETE
            self._close(run, status, result)

    def _close(self, run: _Run, status: str, result: RunResult | None) -> None:
        try:
            run.close(status, result)
            if status == COMPLETE:
                remove_others(self.root, run.folder)
            write_index(self.root, self._config.min_frames)
        except OSError as error:
            self._report(run.folder, run.num_frames, error)

    def _report(self, folder: Path, num_frames: int, error: OSError) -> None:
        message = (
            f"recording into {folder} stopped after {num_frames} frames: "
            f"{error.strerror or error}; those frames are complete and readable. "
            "Free some space and run the same command again: finished routes are skipped, "
            "this one is recorded anew"
        )
        self.failures.append(message)
        _log.error(message)


class _Run:
    """The folder of the run that is being recorded."""

    def __init__(
        self, info: RunInfo, folder: Path, config: RecorderConfig, views: Mapping[str, RasterView]
    ) -> None:
        self.folder = folder
        self.num_frames = 0
        self._info, self._config, self._views = info, config, views
        self._gps = fields.GpsPlane(info.geo_origin)
        self._stops = fields.StopSignWatch()
        self._label = ExpertLabel(expert_drives=info.driver == "expert")
        self._measurements: list[dict[str, Any]] = []
        self._ticks_since_frame = _EVERY
        self._image_size: tuple[int, int] | None = None
        # Cameras with a period of their own give an extra picture when they are new: the
        # recording begins where their rhythm is seen, so that frames are evenly apart.
        slow = [s for s in info.rig.sensors if s.id in CAMERAS and s.tick_s > 1.5 * info.step_s]
        self._awaits_rhythm = bool(slow)
        self._store = FrameStore(folder, config.reserve_bytes)
        write_json(folder / layout.RUN, self._document(RECORDING, None))

    def add(self, tick: SensorTick, entry: TickEntry) -> None:
        data = tick.data.get(self._info.role, {})
        if entry.expert is None and self.num_frames == 0 and entry.sim_time_s < _EXPERT_WITHIN_S:
            return  # it answers at 10 Hz, and has not yet
        if entry.expert is None:
            raise ValueError(
                f"tick {entry.frame} has no answer of the expert; recording needs it in every tick"
            )
        label = self._label.step(entry)
        owes_stop = self._stops.step(entry, self._info.route)
        self._ticks_since_frame += 1
        # Cameras may run at 10 Hz of their own: then they say which ticks are frames.
        if self._awaits_rhythm:
            self._awaits_rhythm = all(name in data for name in CAMERAS)
            self._ticks_since_frame = _EVERY
        elif self._ticks_since_frame >= _EVERY and all(name in data for name in CAMERAS):
            self._add_frame(data, entry, label, owes_stop)
            self._ticks_since_frame = 0
        elif self._ticks_since_frame == 1 and LIDAR in data:
            self._store.put(self.num_frames - 1, {layout.ODD: _half_sweep(data[LIDAR])})
        elif self._ticks_since_frame > 2 * _EVERY:
            missing = [name for name in CAMERAS if name not in data]
            raise ValueError(
                f"no picture of {', '.join(missing)} for {self._ticks_since_frame} ticks; the rig "
                f"needs the cameras {', '.join(CAMERAS)} at 10 Hz or more, a {LIDAR}, {IMU}, {GNSS}"
            )

    def close(self, status: str, result: RunResult | None) -> None:
        self._store.finish(
            {
                layout.MEASUREMENTS_ALL: self._measurements,
                layout.RUN: self._document(status, result),
            }
        )

    def _add_frame(
        self, data: Mapping[str, Any], entry: TickEntry, label: Any, owes_stop: bool
    ) -> None:
        expert = entry.expert
        assert expert is not None
        if missing := [name for name in (LIDAR, IMU, GNSS) if name not in data]:
            raise ValueError(
                f"frame {entry.frame} has no {', '.join(missing)}: the rig needs them in every "
                "frame that has pictures"
            )
        gnss, here = data[GNSS], entry.ego.pose
        gps = self._gps.position(gnss.latitude, gnss.longitude, here.y)
        measured = fields.measurement(self._info, entry, expert, label, gps, data[IMU].compass)
        actors = fields.actors_data(entry)
        stop_sign = owes_stop or bool(expert.stop_signs)
        extra = fields.extension(entry, expert, label, self._info.driver)
        full = {**measured, "actors_data": actors, "stop_sign": stop_sign, "flad": extra}
        quality = self._config.jpeg_quality
        files = {
            "rgb_full": encode_jpeg(self._stack(data), quality=quality),
            "lidar": _half_sweep(data[LIDAR]),
            "3d_bbs": _npy(fields.boxes_3d(entry)),
            "affordances": _npy(fields.affordances(entry, stop_sign)),
            "actors_data": json.dumps(actors).encode(),
            "measurements": json.dumps(measured).encode(),
            "measurements_full": json.dumps(full).encode(),
        }
        for name, view in self._views.items():
            # Class ids must survive JPEG; colours need not.
            best = 100 if name == "topdown" else quality
            files[name] = encode_jpeg(view.draw(entry, self._info.route), quality=best)
        if FOCUS in data:
            files[FOCUS] = encode_jpeg(image_to_rgb(data[FOCUS]), quality=quality)
        self._store.put(self.num_frames, files)
        self._measurements.append(measured)
        self.num_frames += 1
        if self.num_frames == 1:  # the pictures' size is known now
            write_json(self.folder / layout.RUN, self._document(RECORDING, None))

    def _stack(self, data: Mapping[str, Any]) -> Rgb:
        """The four pictures below each other, as LMDrive merges them."""
        sizes = {(data[name].width, data[name].height) for name in CAMERAS}
        if len(sizes) != 1:
            raise ValueError(f"the cameras {', '.join(CAMERAS)} differ in size: {sorted(sizes)}")
        self._image_size = sizes.pop()
        return np.concatenate([image_to_rgb(data[name]) for name in CAMERAS])

    def _document(self, status: str, result: RunResult | None) -> dict[str, Any]:
        info = self._info
        return {
            "format": 1,
            "status": status,
            "route_id": info.route_id,
            "route_digest": info.route_digest,
            "index": info.index,
            "repetition": info.repetition,
            "town": info.town,
            "seed": info.seed,
            "driver": info.driver,
            "label": "expert",
            "weather_id": info.weather_id,
            "protocol": info.protocol,
            "commit": info.commit,
            "started": info.started,
            "num_frames": self.num_frames,
            "image_size": self._image_size,
            "config": asdict(self._config),
            "result": None
            if result is None
            else {
                "status": result.status,
                "driving_score": result.driving_score,
                "route_completion": result.route_completion,
                "infractions": {k: list(v) for k, v in result.infractions.items()},
            },
        }


def _half_sweep(measurement: Any) -> bytes:
    """The sweep's points ``[N, 4]`` (x, y, z, intensity) as float16, as LMDrive keeps them."""
    points = np.frombuffer(measurement.raw_data, dtype=np.float32).reshape(-1, 4)
    return _npy(points.astype(np.float16))


def _npy(value: Any) -> bytes:
    """A ``.npy`` file; LMDrive keeps dictionaries in such files too, as pickles."""
    out = io.BytesIO()
    np.save(out, value, allow_pickle=True)
    return out.getvalue()
