# SPDX-License-Identifier: Apache-2.0
"""The road reader's own training, before the whole encoder's: pictures of one view and the route.

Most frames of a drive are straight roads that hardly differ, and the whole encoder sees some tens
of thousands of frames an hour on one core. The road reader alone sees ten times as many, and can be
shown what was never driven: a picture that is moved sideways is that of a vehicle that is turned.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from flad_common.config import knob
from flad_perception.data.augment import jitter_colours
from flad_perception.data.dataset import Ints, PackedDataset
from flad_perception.data.shards import view_file
from flad_perception.losses import path_loss
from flad_perception.model.encoder import VisionEncoder, normalise
from flad_perception.training.schedule import progress_of, rate_factor

_CAMERA_X_M, _CAMERA_FOV_DEG = 1.3, 100.0  # LMDrive's front camera
_WARMUP, _FLOOR = 0.05, 0.01


@dataclass(frozen=True, kw_only=True)
class RoadConfig:
    """How the road reader is trained first."""

    minutes: float = knob(0.0, unit="min", doc="Of its own training; 0: none.")
    batch_size: int = knob(32, unit="frames", doc="Of a step.")
    lr: float = knob(0.002, unit="1", doc="Highest learning rate, of AdamW.")
    weight_decay: float = knob(0.02, unit="1", doc="Of AdamW.")
    turned: float = knob(
        0.06, unit="1", doc="Pictures are moved sideways by up to this share of their width."
    )
    colour_jitter: float = knob(0.3, unit="1", doc="As in AugmentConfig.")
    min_speed_mps: float = knob(0.5, unit="m/s", doc="Of the frames that are shown.")

    def __post_init__(self) -> None:
        if not (self.minutes >= 0.0 and self.batch_size >= 1 and self.lr > 0.0):
            raise ValueError(
                f"minutes {self.minutes} must not be negative, batch_size {self.batch_size} and "
                f"lr {self.lr} must be positive"
            )
        if not (0.0 <= self.turned < 0.5 and 0.0 <= self.colour_jitter < 1.0):
            raise ValueError(
                f"turned must be in [0, 0.5) and colour_jitter in [0, 1), got {self.turned} and "
                f"{self.colour_jitter}"
            )


def train_road(
    model: VisionEncoder,
    dataset: PackedDataset,
    indices: Ints,
    config: RoadConfig,
    *,
    seed: int,
    should_stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, float]:
    """Train ``model.road`` and ``model.paths`` in place until the time is over.

    Args:
        model: with ``road_widths``; its other parts do not change.
        dataset: packed for it.
        indices: of frames that may be trained on.
        config: how.
        seed: of order and augmentation.
        should_stop: asked before every step.
        clock: seconds.

    Returns:
        ``frames``, ``steps``, and the loss of the last hundred steps.

    Raises:
        ValueError: if no frame moves.
    """
    indices = indices[dataset.table["speed_mps"][indices] >= config.min_speed_mps]
    if not len(indices):
        raise ValueError(f"no frame moves at {config.min_speed_mps} m/s or more")
    parameters = [*model.road.parameters(), *model.paths.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    rng = np.random.default_rng([seed, 1])
    began = clock()
    losses: list[float] = []
    while (elapsed_s := clock() - began) < 60.0 * config.minutes and not should_stop():
        progress = progress_of(
            step=0, num_steps=0, elapsed_s=elapsed_s, budget_s=60.0 * config.minutes
        )
        for group in optimizer.param_groups:
            group["lr"] = config.lr * rate_factor(progress, warmup=_WARMUP, floor=_FLOOR)
        chosen = rng.choice(indices, min(config.batch_size, len(indices)), replace=False)
        pictures, path_m = road_batch(dataset, chosen, config, rng)
        command = torch.from_numpy(dataset.table["command"][chosen].astype(np.int64))
        loss = path_loss(model.road_alone(normalise(pictures)), path_m, command)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return {
        "frames": float(len(losses) * config.batch_size),
        "steps": float(len(losses)),
        "loss": float(np.mean(losses[-100:])) if losses else math.nan,
    }


def road_batch(
    dataset: PackedDataset, chosen: Ints, config: RoadConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Pictures of the first view, uint8 ``[B, 3, H, W]``, and paths ``[B, P, 2]``, both turned."""
    view = dataset.views[0]
    at = view.part(1.0)
    width_px = view.view.crop_px[0]
    shifts = np.round(rng.uniform(-config.turned, config.turned, len(chosen)) * width_px)
    cut = []
    for number, shift in zip(chosen, shifts.astype(int), strict=True):
        whole = dataset.row(int(number), view_file(view.view.name))
        part = whole[at.top : at.top + at.height, at.left : at.left + at.width]
        columns = np.clip(np.arange(at.width) - shift, 0, at.width - 1)  # the edge is repeated
        cut.append(part[:, columns])
    pictures = torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2)
    if pictures.shape[2:] != (view.view.crop_px[1], width_px):
        pictures = functional.interpolate(
            pictures, tuple(reversed(view.view.crop_px)), mode="bilinear", antialias=True
        )
    if config.colour_jitter > 0.0:
        pictures = jitter_colours(pictures, config.colour_jitter, rng)
    path_m = turned_path(dataset.table["path_m"][chosen], shifts / width_px)
    return pictures, torch.from_numpy(path_m)


def turned_path(path_m: NDArray[np.float32], shares: NDArray[np.float64]) -> NDArray[np.float32]:
    r"""Paths ``[B, P, 2]`` of vehicles turned so that the picture moves by ``shares`` ``[B]``.

    A picture that moves to the right by the share s of its width is that of a camera turned to the
    left by :math:`\psi = \arctan(2 s \tan(F / 2))`, for a field of view F; the vehicle turns
    about the camera.
    """
    turn_rad = np.arctan(2.0 * shares * math.tan(math.radians(_CAMERA_FOV_DEG) / 2.0))
    c, s = np.cos(turn_rad)[:, None], np.sin(turn_rad)[:, None]
    x, y = path_m[..., 0] - _CAMERA_X_M, path_m[..., 1]
    turned = np.stack((c * x + s * y + _CAMERA_X_M, -s * x + c * y), axis=-1)
    return turned.astype(np.float32)
