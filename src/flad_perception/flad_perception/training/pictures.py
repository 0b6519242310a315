# SPDX-License-Identifier: Apache-2.0
"""A picture of what the encoder saw and what it said, for TensorBoard.

Left the views with the predicted light, right the bird's-eye view: LiDAR points grey, true
boxes and positions green, predicted ones orange. Ahead is up.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from flad_perception.batch import LIGHT_RED, Batch
from flad_perception.config import EncoderConfig, GridConfig
from flad_perception.detections import decode_detections
from flad_perception.model.encoder import EncoderOutput

_SIDE_PX = 320
_TEXT_PX = 52
_SHOWN_SCORE = 0.3
_TRUE, _SAID, _POINT, _BACK = (60, 200, 90), (255, 140, 0), (110, 110, 110), (12, 12, 16)

Draw = Any  # ImageDraw.ImageDraw


def example_picture(
    config: EncoderConfig, batch: Batch, output: EncoderOutput, index: int
) -> NDArray[np.uint8]:
    """Frame ``index`` of a batch with its predictions: uint8 ``[H, W, 3]``."""
    left = _camera(config, batch, output, index)
    right = _birds_eye(config, batch, output, index)
    whole = Image.new("RGB", (left.width + right.width, _SIDE_PX), _BACK)
    whole.paste(left, (0, 0))
    whole.paste(right, (left.width, 0))
    return np.asarray(whole, dtype=np.uint8)


def _camera(config: EncoderConfig, batch: Batch, output: EncoderOutput, index: int) -> Image.Image:
    first, *others = (_view(batch, view.name, index) for view in config.views)
    whole = Image.new("RGB", (_SIDE_PX, _SIDE_PX), _BACK)
    high = min(_SIDE_PX - _TEXT_PX, round(first.height * _SIDE_PX / first.width))
    whole.paste(first.resize((_SIDE_PX, high)), (0, 0))
    left = 0
    for picture in others:
        wide = _SIDE_PX // len(others)
        room = max(1, min(_SIDE_PX - high - _TEXT_PX, wide * picture.height // picture.width))
        whole.paste(picture.resize((wide, room)), (left, _SIDE_PX - room))
        left += wide
    red = float(torch.softmax(output.light_logits[index].float(), dim=-1)[LIGHT_RED])
    truly_red = int(batch.targets.light[index]) == LIGHT_RED
    info = batch.info
    distance_m = float(info.light_distance_m[index])
    lines = [
        f"red light: {red:.2f} (truth: {'red' if truly_red else 'free'})",
        f"{f'line in {distance_m:.0f} m' if distance_m == distance_m else 'no light near'}, "
        f"{float(batch.input.speed_mps[index]):.1f} m/s",
        f"{info.run[index]} frame {int(info.frame[index])}",
    ]
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        wrong = number == 0 and (red > 0.5) != truly_red
        draw.text((6, high + 6 + 14 * number), line, fill=(255, 80, 80) if wrong else "white")
    return whole


def _view(batch: Batch, name: str, index: int) -> Image.Image:
    pixels = batch.input.images[name][index].cpu().permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(pixels))


def _birds_eye(
    config: EncoderConfig, batch: Batch, output: EncoderOutput, index: int
) -> Image.Image:
    grid = config.grid
    picture = Image.new("RGB", (_SIDE_PX, _SIDE_PX), _BACK)
    draw = ImageDraw.Draw(picture)
    points = batch.input.points[index, : int(batch.input.num_points[index])].cpu().numpy()
    draw.point([_pixel(grid, x, y) for x, y in points[:, :2].tolist()], fill=_POINT)
    for box in batch.info.boxes[index, : int(batch.info.num_boxes[index])].tolist():
        _box(draw, grid, box[:5], _TRUE)
    for d in decode_detections(_array(output.detection[index]), config, threshold=_SHOWN_SCORE):
        _box(draw, grid, [d.x_m, d.y_m, d.yaw_rad, d.half_length_m, d.half_width_m], _SAID)
    _way(draw, grid, batch.targets.waypoints_m[index].tolist(), _TRUE)
    _way(draw, grid, output.waypoints_m[index].detach().cpu().tolist(), _SAID)
    _box(draw, grid, [0.0, 0.0, 0.0, 2.4, 1.0], (200, 200, 255))
    return picture


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array


def _pixel(grid: GridConfig, x_m: float, y_m: float) -> tuple[float, float]:
    """Column and row of a place."""
    scale = _SIDE_PX / max(grid.x_max_m - grid.x_min_m, grid.y_max_m - grid.y_min_m)
    return ((grid.y_max_m - y_m) * scale, (grid.x_max_m - x_m) * scale)


def _box(draw: Draw, grid: GridConfig, box: list[float], colour: tuple[int, int, int]) -> None:
    x, y, yaw, half_length, half_width = box
    c, s = math.cos(yaw), math.sin(yaw)
    corners = [
        _pixel(grid, x + c * a - s * b, y + s * a + c * b)
        for a, b in (
            (half_length, half_width),
            (half_length, -half_width),
            (-half_length, -half_width),
            (-half_length, half_width),
        )
    ]
    draw.polygon(corners, outline=colour)
    draw.line([_pixel(grid, x, y), _pixel(grid, x + c * half_length, y + s * half_length)], colour)


def _way(
    draw: Draw, grid: GridConfig, waypoints_m: list[list[float]], colour: tuple[int, int, int]
) -> None:
    for x_m, y_m in waypoints_m:
        u, v = _pixel(grid, x_m, y_m)
        draw.ellipse([u - 2.5, v - 2.5, u + 2.5, v + 2.5], outline=colour, fill=colour)
