# SPDX-License-Identifier: Apache-2.0
"""Packs one run: decodes every frame once and writes it as arrays. One process, one run.

A frame that cannot be used is left out, and what was wrong is kept with the name of the file;
the rest of the run goes on.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flad_perception.batch import BOX_FIELDS
from flad_perception.config import NUM_DETECTION_CHANNELS, EncoderConfig
from flad_perception.data import lmdrive, shards
from flad_perception.data.borders import BorderedView, bordered
from flad_perception.data.lmdrive import BadFileError, Rgb, Run
from flad_perception.data.npy_file import NpyWriter
from flad_perception.data.scenes import kick, points_from_sensor, scene_of
from flad_perception.data.shards import Refusal, Shard
from flad_perception.preprocess import merge_sweeps, view_from_picture
from flad_perception.scene import Scene
from flad_perception.targets import box_table, make_targets

FIRST = "has no half sweep before it"
LAST = "the run ends within the horizon"
GAP = "a frame within the horizon is broken"

_STATES = {"none": -1, "red": 0, "yellow": 1, "green": 2}

Measurements = list[Mapping[str, Any] | None]


def pack_run(
    run: Run, out: Path, config: EncoderConfig, on_frame: Callable[[], None] = lambda: None
) -> Shard:
    """Pack a run into its folder below ``out``, replacing what is there.

    Args:
        run: the drive.
        out: the packed data set.
        config: what it is packed for.
        on_frame: called once for every frame of the source, used or not.

    Raises:
        BadFileError: if no frame of the run can be used.
        OSError: if it cannot be written.
    """
    steps = waypoint_frames(config)
    if run.num_frames <= steps[-1]:
        for _ in range(run.num_frames):
            on_frame()
        raise BadFileError(
            run.folder,
            f"has {run.num_frames} frames, needs more than the {steps[-1]} of the horizon of "
            f"{steps[-1] / lmdrive.FRAMES_PER_S:g} s",
        )
    target = out / Shard.folder_of(run.name)
    temporary = target.with_name(target.name + ".new")
    for folder in (temporary, target):
        shutil.rmtree(folder, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with _Packer(run, temporary, config) as packer:
            packer.pack(steps, on_frame)
        shard = packer.shard()
        if shard.num_frames == 0:
            first = shard.refused[0] if shard.refused else Refusal(path="", reason="no frame left")
            raise BadFileError(
                run.folder, f"no frame can be used; the first: {first.path}: {first.reason}"
            )
        shards.write_shard(temporary, shard)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return shard


def waypoint_frames(config: EncoderConfig) -> list[int]:
    """How many frames ahead each waypoint is."""
    step = config.waypoint_step_s * lmdrive.FRAMES_PER_S
    if abs(step - round(step)) > 1e-6:
        raise ValueError(
            f"waypoint_step_s is {config.waypoint_step_s}, recordings have "
            f"{lmdrive.FRAMES_PER_S:g} frames a second"
        )
    return [round(step) * (i + 1) for i in range(config.num_waypoints)]


class _Packer:
    """The open files of one run."""

    def __init__(self, run: Run, folder: Path, config: EncoderConfig) -> None:
        self._run, self._folder, self._config = run, folder, config
        self._views = [bordered(view) for view in config.views]
        self._least_px = _least_px(self._views, run)
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._trimmed: Counter[str] = Counter()
        self._refused: list[Refusal] = []
        self._dropped_points = self._num_points = self._num_boxes = 0
        self._stack = ExitStack()
        detection = (*config.grid.shape, NUM_DETECTION_CHANNELS)
        self._files = {
            shards.FRAMES: self._open(shards.FRAMES, shards.frame_dtype(config)),
            shards.POINTS: self._open(shards.POINTS, "<f2", (4,)),
            shards.POINT_ENDS: self._open(shards.POINT_ENDS, "<i8"),
            shards.DETECTION: self._open(shards.DETECTION, "<f2", detection),
            shards.BOXES: self._open(shards.BOXES, "<f4", (len(BOX_FIELDS),)),
            shards.BOX_ENDS: self._open(shards.BOX_ENDS, "<i8"),
        }
        for view in self._views:
            width, height = view.stored_px
            name = shards.view_file(view.view.name)
            self._files[name] = self._open(name, "u1", (height, width, 3))

    def _open(self, name: str, dtype: Any, row: tuple[int, ...] = ()) -> NpyWriter:
        return self._stack.enter_context(NpyWriter(self._folder / name, dtype, row))

    def __enter__(self) -> _Packer:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def pack(self, steps: list[int], on_frame: Callable[[], None]) -> None:
        measurements = self._read_measurements()
        for frame, measurement in enumerate(measurements):
            on_frame()
            ahead = measurements[frame + 1 : frame + 1 + steps[-1]]
            if measurement is None:
                continue
            if frame == 0:
                self._trimmed[FIRST] += 1
            elif len(ahead) < steps[-1]:
                self._trimmed[LAST] += 1
            elif any(later is None for later in ahead):
                self._trimmed[GAP] += 1
            else:
                self._try_frame(frame, measurement, [m for m in ahead if m is not None], steps)

    def shard(self) -> Shard:
        """What was packed; the files must be closed."""
        empty = _empty_shard(self._run, self._config)
        return Shard(
            **{
                **vars(empty),
                "num_frames": self._files[shards.FRAMES].num_rows,
                "files": {name: shards.sha256_of(self._folder / name) for name in self._files},
                "trimmed": dict(self._trimmed),
                "refused": tuple(self._refused),
                "dropped_points": self._dropped_points,
            }
        )

    def _read_measurements(self) -> Measurements:
        measurements: Measurements = []
        for frame in range(self._run.num_frames):
            try:
                measurements.append(lmdrive.read_measurement(self._run, frame))
            except BadFileError as error:
                self._refuse(error)
                measurements.append(None)
        return measurements

    def _try_frame(
        self,
        frame: int,
        measurement: Mapping[str, Any],
        ahead: list[Mapping[str, Any]],
        steps: list[int],
    ) -> None:
        try:
            scene = self._scene(frame, measurement, ahead, steps)
            views = self._read_views(frame)
            points = self._read_points(frame)
        except BadFileError as error:
            self._refuse(error)
            return
        self._write(frame, scene, views, points, any(kick(m) for m in (measurement, *ahead)))

    def _scene(
        self,
        frame: int,
        measurement: Mapping[str, Any],
        ahead: list[Mapping[str, Any]],
        steps: list[int],
    ) -> Scene:
        future = [(ahead[step - 1]["x"], ahead[step - 1]["y"]) for step in steps]
        if self._run.driver != "expert":
            # Where the vehicle went is another driver's doing: the expert's plan is the label.
            future = measurement.get("flad", {}).get("plan_world", [])[: len(steps)]
        try:
            scene = scene_of(measurement, future)
            if len(scene.future_m) < len(steps):
                raise ValueError("the expert's plan is too short")
            return scene
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            path = self._run.file("measurements_full", frame)
            raise BadFileError(path, f"bad or missing field: {error!r}") from error

    def _read_views(self, frame: int) -> dict[str, NDArray[np.uint8]]:
        pictures = lmdrive.read_pictures(self._run, frame, self._least_px)
        self._check_sizes(frame, pictures)
        return {view.view.name: _stored(pictures, view) for view in self._views}

    def _check_sizes(self, frame: int, pictures: Mapping[str, Rgb]) -> None:
        for camera, picture in pictures.items():
            usual = self._sizes.setdefault(camera, picture.shape)
            if picture.shape != usual:
                kind = lmdrive.FOCUS if camera == lmdrive.FOCUS else "rgb_full"
                raise BadFileError(
                    self._run.file(kind, frame),
                    f"{camera} is {picture.shape[1]}x{picture.shape[0]}, "
                    f"in the frames before it was {usual[1]}x{usual[0]}",
                )

    def _read_points(self, frame: int) -> NDArray[np.float32]:
        now = lmdrive.read_half_sweep(self._run, "lidar", frame)
        before = lmdrive.read_half_sweep(self._run, "lidar_odd", frame - 1)
        for sweep in (now, before):
            self._dropped_points += int(np.sum(~np.isfinite(sweep).all(axis=1)))
        points = merge_sweeps(
            points_from_sensor(now), points_from_sensor(before), self._config.lidar
        )
        if len(points) == 0:
            path = self._run.file("lidar", frame)
            raise BadFileError(path, "no finite point within the LiDAR's area")
        return points

    def _write(
        self,
        frame: int,
        scene: Scene,
        views: Mapping[str, NDArray[np.uint8]],
        points: NDArray[np.float32],
        kicked: bool,
    ) -> None:
        targets = make_targets(scene, self._config)
        boxes = box_table(scene, points)
        record = np.zeros(1, dtype=shards.frame_dtype(self._config))
        record["frame"], record["speed_mps"] = frame, scene.speed_mps
        record["target_point_m"] = targets["target_point_m"]
        record["waypoints_m"] = targets["waypoints_m"]
        record["path_m"], record["command"] = targets["path_m"], targets["command"]
        record["light"], record["stop"] = targets["light"], targets["stop"]
        record["light_distance_m"] = scene.light_distance_m
        record["light_state"] = _STATES[scene.light_state]
        record["kicked_ahead"], record["view_valid"] = kicked, True
        self._num_points += len(points)
        self._num_boxes += len(boxes)
        rows: dict[str, NDArray[Any]] = {
            shards.FRAMES: record,
            shards.POINTS: points.astype(np.float16),
            shards.POINT_ENDS: np.array([self._num_points]),
            shards.DETECTION: targets["detection"][None],
            shards.BOXES: boxes,
            shards.BOX_ENDS: np.array([self._num_boxes]),
        }
        rows |= {shards.view_file(name): view[None] for name, view in views.items()}
        for name, row in rows.items():
            self._files[name].append(row)

    def _refuse(self, error: BadFileError) -> None:
        self._refused.append(Refusal(path=str(error.path), reason=error.reason))


def _empty_shard(run: Run, config: EncoderConfig) -> Shard:
    return Shard(
        name=run.name,
        town=run.town,
        weather_id=run.weather_id,
        num_frames=0,
        driver=run.driver,
        source=str(run.folder),
        source_frames=run.num_frames,
        made_for=shards.made_for(config),
        files={},
    )


def _stored(pictures: Mapping[str, Rgb], view: BorderedView) -> NDArray[np.uint8]:
    """What is kept of a view, ``[h, w, 3]``."""
    is_fallback = view.view.camera not in pictures
    camera = view.view.fallback_camera if is_fallback else view.view.camera
    if camera not in pictures:
        raise ValueError(
            f"view {view.view.name} needs camera {view.view.camera}; recordings have "
            f"{', '.join(pictures)}"
        )
    tensor = view_from_picture(pictures[camera], view.stored_view, is_fallback=is_fallback)
    array: NDArray[np.uint8] = tensor.permute(1, 2, 0).numpy()
    return array


def _least_px(views: list[BorderedView], run: Run) -> tuple[int, int]:
    """The size to which the four cameras' pictures may shrink while they are decoded."""
    has_focus = (run.folder / lmdrive.FOCUS).is_dir()
    for view in views:
        if view.view.fallback_camera and not (has_focus or view.view.camera != lmdrive.FOCUS):
            return (0, 0)  # cut out of a picture at its full size
    sizes = [v.view.resize_px for v in views if v.view.camera in lmdrive.CAMERAS]
    return (max(w for w, _ in sizes), max(h for _, h in sizes)) if sizes else (0, 0)
