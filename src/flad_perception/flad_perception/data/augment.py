# SPDX-License-Identifier: Apache-2.0
"""Augmentation of a batch, on tensors: LMDrive's, and sensors that fail.

Random numbers come from the caller's generator, so a batch is the same for the same seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from flad_common.config import knob
from flad_perception.data.borders import SMALLEST_SCALE, BorderedView, Rectangle

_GRAY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL and torchvision have it


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How much a batch is changed."""

    colour_jitter: float = knob(
        0.1, unit="1", doc="Brightness, contrast and saturation change by up to this share."
    )
    resize: float = knob(
        0.1, unit="1", doc="Pictures are resized by up to this share before they are cropped."
    )
    zoom: float = knob(
        0.0, unit="1", doc="The zoom view is scaled by up to this share, up or down, and"
    )
    shift: float = knob(
        0.0, unit="1", doc="moved by up to this share of its size; its edge is repeated."
    )
    mirror: float = knob(
        0.0, unit="1", doc="Probability that the zoom view is mirrored: lamps have no side."
    )
    view_dropout: float = knob(
        0.0, unit="1", doc="Probability that a view is missing, one draw a view; never all of them."
    )
    point_dropout: float = knob(
        0.0, unit="1", doc="A frame loses up to this share of its LiDAR points, at random."
    )

    def __post_init__(self) -> None:
        if not 0.0 <= self.mirror <= 1.0:
            raise ValueError(f"mirror must be in [0, 1], got {self.mirror}")
        if not 0.0 <= self.colour_jitter < 1.0:
            raise ValueError(f"colour_jitter must be in [0, 1), got {self.colour_jitter}")
        most = 1.0 - SMALLEST_SCALE
        if not 0.0 <= self.resize <= most + 1e-9:
            raise ValueError(
                f"resize must be in [0, {most:.2g}], got {self.resize}: packed pictures have no "
                "wider border"
            )
        for name in ("zoom", "shift", "view_dropout", "point_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")


def cut(
    pictures: Sequence[NDArray[np.uint8]],
    view: BorderedView,
    scales: NDArray[np.float64] | None,
) -> Tensor:
    """Stored pictures ``[h, w, 3]`` as the view ``[B, 3, H, W]`` uint8, in channels-last memory.

    Args:
        pictures: one a frame, as packed: with their border.
        view: of these pictures.
        scales: ``[B]``, how much each picture is resized before it is cropped; None for not.
    """
    width, height = view.view.crop_px
    out = torch.empty((len(pictures), height, width, 3), dtype=torch.uint8)
    for i, picture in enumerate(pictures):
        at = view.part(1.0 if scales is None else float(scales[i]))
        part = _cut(picture, at)
        if (at.width, at.height) == (width, height):
            out[i] = torch.from_numpy(np.array(part))
        else:
            source = torch.from_numpy(np.array(part)).permute(2, 0, 1).unsqueeze(0)
            resized = functional.interpolate(
                source, (height, width), mode="bilinear", antialias=True
            )
            out[i] = resized[0].permute(1, 2, 0)
    return out.permute(0, 3, 1, 2)


def warped(images: Tensor, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """Scale, move and mirror each picture of uint8 ``[B, 3, H, W]``, bilinearly."""
    num = len(images)
    scales = rng.uniform(1.0 - config.zoom, 1.0 + config.zoom, num)
    sides = np.where(rng.random(num) < config.mirror, -1.0, 1.0)
    maps = np.zeros((num, 2, 3))  # of places in the result to places in the picture, in -1..1
    maps[:, 0, 0], maps[:, 1, 1] = scales * sides, scales
    maps[:, :, 2] = 2.0 * rng.uniform(-config.shift, config.shift, (num, 2))
    grid = functional.affine_grid(
        torch.from_numpy(maps).float(), list(images.shape), align_corners=False
    )
    moved = functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return moved.round_().to(torch.uint8).contiguous(memory_format=torch.channels_last)


def jitter_colours(images: Tensor, amount: float, rng: np.random.Generator) -> Tensor:
    r"""Change brightness, then contrast, then saturation of each picture by random factors.

    With b, c, s drawn from :math:`[1 - a, 1 + a]`, grey value g of a pixel and mean grey value m of
    the brightened picture, :math:`x \to s\,y + (1 - s)\,g(y)` with
    :math:`y = c\,b\,x + (1 - c)\,m`: one affine map of the three channels a picture. Values are cut
    off at 0 and 255 in the end.

    Args:
        images: uint8 ``[B, 3, H, W]``.
        amount: a, in [0, 1).
        rng: draws three numbers a picture.
    """
    b, c, s = torch.from_numpy(rng.uniform(1.0 - amount, 1.0 + amount, (3, len(images)))).float()
    x = images.permute(0, 2, 3, 1).flatten(1, 2).float()  # [B, H*W, 3]
    gray = torch.tensor(_GRAY)
    mean = b * (x.mean(dim=1) @ gray)  # [B]
    # Rows are inputs, columns outputs: y = x m, and every output mixes in the same grey value.
    keep = torch.eye(3).expand(len(images), 3, 3) * s[:, None, None]
    mix = keep + (1.0 - s)[:, None, None] * gray[None, :, None]
    shift = ((1.0 - c) * mean)[:, None, None].expand(-1, 1, 3)  # grey stays grey
    y = torch.baddbmm(shift, x, mix * (c * b)[:, None, None])
    out = y.round_().clamp_(0.0, 255.0).to(torch.uint8)
    rows, columns = images.shape[2:]
    return out.view(len(images), rows, columns, 3).permute(0, 3, 1, 2)


def drop_views(valid: Tensor, probability: float, rng: np.random.Generator) -> Tensor:
    """Mark views ``[B, V]`` as missing, each with ``probability``; a frame keeps one at least."""
    keep = torch.from_numpy(rng.random(tuple(valid.shape)) >= probability)
    kept = valid & keep
    return torch.where(kept.any(dim=1, keepdim=True), kept, valid)


def drop_points(
    sweeps: Sequence[NDArray[np.float16]], most: float, rng: np.random.Generator
) -> list[NDArray[np.float16]]:
    """Take a random share, up to ``most``, of each sweep's points ``[N, 4]`` away."""
    shares = rng.uniform(0.0, most, len(sweeps))
    return [
        sweep[rng.random(len(sweep), dtype=np.float32) >= share]
        for sweep, share in zip(sweeps, shares, strict=True)
    ]


def warps(config: AugmentConfig) -> bool:
    """Whether the zoom view is changed in its geometry at all."""
    return max(config.zoom, config.shift, config.mirror) > 0.0


def draw_scales(
    views: Sequence[BorderedView], num_frames: int, amount: float, rng: np.random.Generator
) -> Mapping[str, NDArray[np.float64]]:
    """How much the pictures of each view that is resized are, ``[B]`` by the view's name."""
    return {
        view.view.name: rng.uniform(1.0 - amount, 1.0 + amount, num_frames)
        for view in views
        if view.is_resized
    }


def _cut(picture: NDArray[np.uint8], at: Rectangle) -> NDArray[np.uint8]:
    return picture[at.top : at.top + at.height, at.left : at.left + at.width]
