# SPDX-License-Identifier: Apache-2.0
"""What the loader is compared with: PyTorch's DataLoader over the files as they were recorded.

Every frame is read, decoded, resized, augmented and given its targets when it is asked for, by the
same functions that packing uses, in one worker process a core.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import flad_perception.torchvision_ops  # noqa: F401 - before torchvision, which DataLoader may load
from flad_perception.batch import pad_points
from flad_perception.config import EncoderConfig
from flad_perception.data import lmdrive
from flad_perception.data.augment import AugmentConfig, cut, draw_scales, jitter_colours
from flad_perception.data.borders import bordered
from flad_perception.data.lmdrive import Run
from flad_perception.data.pack_run import waypoint_frames
from flad_perception.data.scenes import points_from_sensor, scene_of
from flad_perception.preprocess import merge_sweeps, view_from_picture
from flad_perception.targets import box_table, make_targets

Frame = dict[str, Any]
_DEADLINE_S = 300.0


class RecordedFrames(Dataset[Frame]):
    """Frames of recorded runs, each made from its files."""

    def __init__(
        self, runs: Sequence[Run], config: EncoderConfig, augment: AugmentConfig, seed: int
    ) -> None:
        self._config, self._augment, self._seed = config, augment, seed
        self._steps = waypoint_frames(config)
        self._frames = [
            (run, frame) for run in runs for frame in range(1, run.num_frames - self._steps[-1])
        ]
        self._views = [bordered(view) for view in config.views]

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, number: int) -> Frame:
        run, frame = self._frames[number]
        rng = np.random.default_rng([self._seed, number])
        ahead = [lmdrive.read_measurement(run, frame + step) for step in self._steps]
        scene = scene_of(lmdrive.read_measurement(run, frame), [(m["x"], m["y"]) for m in ahead])
        now = lmdrive.read_half_sweep(run, "lidar", frame)
        before = lmdrive.read_half_sweep(run, "lidar_odd", frame - 1)
        points = merge_sweeps(
            points_from_sensor(now), points_from_sensor(before), self._config.lidar
        )
        return {
            **make_targets(scene, self._config),
            "images": self._images(run, frame, rng),
            "points": torch.from_numpy(points),
            "boxes": torch.from_numpy(box_table(scene, points)),
            "speed_mps": scene.speed_mps,
        }

    def _images(self, run: Run, frame: int, rng: np.random.Generator) -> dict[str, Tensor]:
        pictures = lmdrive.read_pictures(run, frame)
        scales = draw_scales(self._views, 1, self._augment.resize, rng)
        images = {}
        for view in self._views:
            is_fallback = view.view.camera not in pictures
            camera = view.view.fallback_camera if is_fallback else view.view.camera
            whole = view_from_picture(pictures[camera], view.stored_view, is_fallback=is_fallback)
            name = view.view.name
            image = cut([whole.permute(1, 2, 0).numpy()], view, scales.get(name))
            images[name] = jitter_colours(image, self._augment.colour_jitter, rng)[0]
        return images


def plain_frames_per_s(dataset: RecordedFrames, batch_size: int, seconds: float) -> float:
    """Frames a second of a shuffled epoch, over ``seconds``; starting the workers is not counted.

    Raises:
        TimeoutError: if no batch comes.
    """
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        num_workers=len(os.sched_getaffinity(0)),
        collate_fn=_together,
        multiprocessing_context="fork",  # PyTorch's own choice; spawned ones abort when they end
        timeout=_DEADLINE_S,
    )
    batches = iter(loader)
    for _ in range(2 * loader.num_workers):  # what was made while the first one was awaited
        next(batches)
    frames, began = 0, time.perf_counter()
    for batch in batches:
        frames += len(batch["speed_mps"])
        if time.perf_counter() - began >= seconds:
            break
    return frames / (time.perf_counter() - began)


def _together(frames: list[Frame]) -> Frame:
    points, num_points = pad_points(frame["points"] for frame in frames)
    together: Frame = {
        "points": points,
        "num_points": num_points,
        "boxes": [frame["boxes"] for frame in frames],
        "images": {
            name: torch.stack([frame["images"][name] for frame in frames])
            for name in frames[0]["images"]
        },
    }
    for name in ("detection", "waypoints_m", "light", "stop", "target_point_m", "speed_mps"):
        together[name] = torch.from_numpy(np.stack([frame[name] for frame in frames]))
    return together
