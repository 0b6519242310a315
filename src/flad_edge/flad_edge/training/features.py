# SPDX-License-Identifier: Apache-2.0
"""Recordings as an encoder sees them: tokens and labels every 0.2 s, made once per encoder.

A cache keeps one file per run and phase below a folder named by the encoder's hash, so that another
encoder never finds the tokens of this one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import torch
from numpy.typing import NDArray

from flad_edge.training.labels import NUM_WAYPOINTS, FrameLabels, Labels, frame_labels
from flad_perception.batch import EncoderInput, pad_points
from flad_perception.data import lmdrive
from flad_perception.data.lmdrive import BadFileError, Run
from flad_perception.data.scenes import points_from_sensor
from flad_perception.live_input import encoder_input, needed_cameras
from flad_perception.live_sensors import CameraPicture, LiveSensors
from flad_perception.model.encoder import encode
from flad_perception.scene_encoder import model_file
from flad_perception.weights import LoadedEncoder, load_encoder

FORMAT = "1"
FRAME_STEP = 2
"""Recordings have 10 frames a second, clips 5."""
PHASES = (1, 2)
"""First frames of the two ways to take every other one; frame 0 has no half sweep before it."""
_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class RunFeatures:
    """Every other frame of one run; N frames."""

    run: str
    town: str
    weather_id: int
    driver: str
    encoder_hash: str
    contract_version: int
    frame: NDArray[np.int32]
    """``[N]``, numbers in the recording."""
    tokens: NDArray[np.float16]
    """``[N, K, D]``."""
    speed_mps: NDArray[np.float32]
    plan_m: NDArray[np.float32]
    """``[N, P, 2]``, NaN where there was no plan."""
    driven_m: NDArray[np.float32]
    """``[N, P, 2]``, NaN near the end."""
    kicked: NDArray[np.int8]
    light: NDArray[np.int8]
    light_state: NDArray[np.int8]
    light_m: NDArray[np.float32]

    def waypoints(self, labels: Labels) -> NDArray[np.float32]:
        """What is to be learned; plans where the recording has any, unless asked otherwise.

        Raises:
            ValueError: if another driver drove and no plan of the expert's is there.
        """
        if labels == "plan" and np.isfinite(self.plan_m).any():
            return self.plan_m
        if self.driver != "expert":
            raise ValueError(
                f"{self.run} was driven by {self.driver!r} and holds no plan of the expert: where "
                "it went teaches nothing"
            )
        return self.driven_m


def open_encoder(name: str) -> LoadedEncoder:
    """A shipped encoder by name, or one by its ``.safetensors`` file.

    Raises:
        OSError, ValueError, FladError: if there is none, or it is damaged.
    """
    return load_encoder(model_file(name))


def features_of(
    run_dir: Path,
    encoder: LoadedEncoder,
    phase: int = 1,
    on_frames: Callable[[int], None] = lambda frames: None,
) -> RunFeatures:
    """Encode every other frame of a recorded run.

    Args:
        run_dir: the run's folder.
        encoder: what sees it.
        phase: 1 for frames 1, 3, 5, ...; 2 for 2, 4, 6, ...
        on_frames: told how many more frames are done, now and then.

    Raises:
        BadFileError: if the run is none, or a file of it cannot be used.
    """
    if phase not in PHASES:
        raise ValueError(f"phase must be one of {PHASES}, got {phase}")
    run = lmdrive.open_run(run_dir)
    numbers = list(range(phase, run.num_frames, FRAME_STEP))
    if not numbers:
        raise BadFileError(run.folder, f"has {run.num_frames} frames, too few")
    measured = [lmdrive.read_measurement(run, frame) for frame in range(run.num_frames)]
    labels = [_labels(run, measured, number) for number in numbers]
    tokens = []
    for start in range(0, len(numbers), _BATCH):
        part = numbers[start : start + _BATCH]
        tokens.append(_encoded(run, encoder, part, measured))
        on_frames(len(part))
    return RunFeatures(
        run=run.name,
        town=run.town,
        weather_id=run.weather_id,
        driver=run.driver,
        encoder_hash=encoder.identity.hash,
        contract_version=encoder.identity.contract_version,
        frame=np.asarray(numbers, dtype=np.int32),
        tokens=np.concatenate(tokens),
        **_columns(labels),
    )


def cached_features(
    run: Run,
    encoder: LoadedEncoder,
    cache: Path,
    phase: int,
    on_frames: Callable[[int], None] = lambda frames: None,
) -> RunFeatures:
    """:func:`features_of`, read from ``cache`` where it is there already, written where not."""
    path = cache_file(cache, encoder.identity.hash, run, phase)
    if found := read_features(path, run):
        on_frames(len(found.frame))
        return found
    made = features_of(run.folder, encoder, phase, on_frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    safetensors.numpy.save_file(_arrays(made), partial, metadata=_header(made, run))
    os.replace(partial, path)
    return made


def cache_file(cache: Path, encoder_hash: str, run: Run, phase: int) -> Path:
    """Where the features of a run's phase lie."""
    return cache / encoder_hash / f"{run.name}.{phase}.safetensors"


def read_features(path: Path, run: Run) -> RunFeatures | None:
    """The features in a cache's file; None if there are none of this run as it is now."""
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError:  # it is made anew
        return None
    if header.get("format") != FORMAT or header.get("num_frames") != str(run.num_frames):
        return None
    return RunFeatures(
        run=run.name,
        town=run.town,
        weather_id=run.weather_id,
        driver=run.driver,
        encoder_hash=header["encoder_hash"],
        contract_version=int(header["contract_version"]),
        **arrays,
    )


def _header(features: RunFeatures, run: Run) -> dict[str, str]:
    return {
        "format": FORMAT,
        "num_frames": str(run.num_frames),
        "encoder_hash": features.encoder_hash,
        "contract_version": str(features.contract_version),
    }


def _arrays(features: RunFeatures) -> dict[str, NDArray[Any]]:
    return {k: v for k, v in vars(features).items() if isinstance(v, np.ndarray)}


def _labels(run: Run, measured: Sequence[Mapping[str, Any]], number: int) -> FrameLabels:
    try:
        return frame_labels(measured, number)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        path = run.file("measurements_full", number)
        raise BadFileError(path, f"bad or missing field: {error!r}") from error


def _columns(labels: Sequence[FrameLabels]) -> dict[str, Any]:
    return {
        "speed_mps": np.asarray([one.speed_mps for one in labels], dtype=np.float32),
        "plan_m": np.stack([one.plan_m for one in labels]).reshape(-1, NUM_WAYPOINTS, 2),
        "driven_m": np.stack([one.driven_m for one in labels]).reshape(-1, NUM_WAYPOINTS, 2),
        "kicked": np.asarray([one.kicked for one in labels], dtype=np.int8),
        "light": np.asarray([one.light for one in labels], dtype=np.int8),
        "light_state": np.asarray([one.light_state for one in labels], dtype=np.int8),
        "light_m": np.asarray([one.light_m for one in labels], dtype=np.float32),
    }


def _encoded(
    run: Run, encoder: LoadedEncoder, numbers: Sequence[int], measured: Sequence[Mapping[str, Any]]
) -> NDArray[np.float16]:
    """``[n, K, D]``."""
    frames = [_input(run, encoder, n, float(measured[n]["speed"])) for n in numbers]
    points, num_points = pad_points([frame.points[0] for frame in frames])
    batch = EncoderInput(
        images={k: torch.cat([f.images[k] for f in frames]) for k in frames[0].images},
        view_valid=torch.cat([f.view_valid for f in frames]),
        points=points,
        num_points=num_points,
        speed_mps=torch.cat([f.speed_mps for f in frames]),
        target_point_m=torch.cat([f.target_point_m for f in frames]),
    )
    with torch.inference_mode():
        tokens = encode(encoder.model, batch).tokens
    half: NDArray[np.float16] = tokens.to(torch.float16).numpy()
    if not np.isfinite(half).all():
        raise BadFileError(run.folder, f"the encoder's tokens of frames {numbers} are not finite")
    return half


def _input(run: Run, encoder: LoadedEncoder, number: int, speed_mps: float) -> EncoderInput:
    """A recorded frame as the live node would have it."""
    pictures = lmdrive.read_pictures(run, number)
    now = lmdrive.read_half_sweep(run, "lidar", number)
    before = lmdrive.read_half_sweep(run, "lidar_odd", number - 1)
    needed = needed_cameras(encoder.config, tuple(pictures))
    sensors = LiveSensors(
        pictures={name: CameraPicture(pixels=pictures[name]) for name in needed},
        sweep=points_from_sensor(now),
        previous_sweep=points_from_sensor(before),
        speed_mps=speed_mps,
    )
    return encoder_input(sensors, encoder.config, tuple(pictures))
