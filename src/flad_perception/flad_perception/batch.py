# SPDX-License-Identifier: Apache-2.0
"""What goes into the encoder, what it should answer, and what metrics need to know: as tensors.

Shapes: B frames, V views, P points (padded), R rows and C columns of the grid, W waypoints, P
also points of the path, M actors (padded). Everything is in the vehicle frame of its own frame;
see :mod:`.config`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")

LIGHT_RED, LIGHT_FREE = 0, 1
"""Classes of the traffic light head: a red light makes the expert stop, or none does."""
COMMAND_LEFT, COMMAND_ON, COMMAND_RIGHT = 0, 1, 2
"""What the route does next: turn left, follow the road or cross straight, turn right."""
BOX_FIELDS = ("x", "y", "yaw", "half_length", "half_width", "speed", "kind", "lidar_points")
"""Columns of :attr:`FrameInfo.boxes`: metres, radians, m/s; kind 0 is a vehicle, 1 a walker."""


@dataclass(frozen=True, kw_only=True)
class EncoderInput:
    """The sensors of B frames, resized and cropped but not normalised."""

    images: Mapping[str, Tensor]
    """uint8 ``[B, 3, H, W]`` (RGB) by name of the view."""
    view_valid: Tensor
    """bool ``[B, V]``; where it is False the camera failed and its pixels mean nothing."""
    points: Tensor
    """float32 ``[B, P, 4]``: x, y, z, intensity; rows from ``num_points`` on are padding."""
    num_points: Tensor
    """int64 ``[B]``."""
    speed_mps: Tensor
    """float32 ``[B]``."""
    target_point_m: Tensor
    """float32 ``[B, 2]``: the next far node of the route."""

    def __len__(self) -> int:
        return int(self.speed_mps.shape[0])

    def to(self, device: torch.device | str) -> EncoderInput:
        """The same on another device."""
        return _moved(self, device)

    def slice(self, rows: slice) -> EncoderInput:
        """Some of the frames, such as a micro-batch."""
        return _sliced(self, rows)


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What the heads should answer."""

    detection: Tensor
    """float32 ``[B, R, C, 8]``; channels as in :mod:`flad_perception.detections`."""
    waypoints_m: Tensor
    """float32 ``[B, W, 2]``: where the vehicle will be."""
    path_m: Tensor
    """float32 ``[B, P, 2]``: the route at ``path_at_m`` along it; NaN where it is not known."""
    command: Tensor
    """int64 ``[B]``: COMMAND_LEFT, COMMAND_ON or COMMAND_RIGHT, within the reach of the path."""
    light: Tensor
    """int64 ``[B]``: LIGHT_RED or LIGHT_FREE."""
    stop: Tensor
    """int64 ``[B]``: 1 where a stop sign asks for a stop."""

    def __len__(self) -> int:
        return int(self.light.shape[0])

    def to(self, device: torch.device | str) -> Targets:
        """The same on another device."""
        return _moved(self, device)

    def slice(self, rows: slice) -> Targets:
        """Some of the frames."""
        return _sliced(self, rows)


@dataclass(frozen=True, kw_only=True)
class FrameInfo:
    """Where frames come from and what is true in them: for metrics, never for losses."""

    town: list[str]
    run: list[str]
    weather_id: Tensor
    """int64 ``[B]``, LMDrive's numbers."""
    frame: Tensor
    """int64 ``[B]``, within the run."""
    light_distance_m: Tensor
    """float32 ``[B]`` to the stop line of the light that affects the vehicle; NaN without one."""
    light_state: Tensor
    """int64 ``[B]``: 0 red, 1 yellow, 2 green, -1 none."""
    boxes: Tensor
    """float32 ``[B, M, 8]``, columns BOX_FIELDS; rows from ``num_boxes`` on are padding."""
    num_boxes: Tensor
    """int64 ``[B]``."""

    def __len__(self) -> int:
        return len(self.town)

    def to(self, device: torch.device | str) -> FrameInfo:
        """The same on another device."""
        return _moved(self, device)

    def slice(self, rows: slice) -> FrameInfo:
        """Some of the frames."""
        return _sliced(self, rows)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B frames."""

    input: EncoderInput
    targets: Targets
    info: FrameInfo

    def __len__(self) -> int:
        return len(self.input)

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        return _moved(self, device)

    def slice(self, rows: slice) -> Batch:
        """Some of the frames."""
        return _sliced(self, rows)


def pad_points(sweeps: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Sweeps ``[N_i, 4]`` as ``points [B, max(N_i, 1), 4]`` and ``num_points [B]``.

    There is at least one row, so that a batch of empty sweeps has no empty tensor.
    """
    rows = list(sweeps)
    longest = max((len(sweep) for sweep in rows), default=0)
    points = torch.zeros(len(rows), max(1, longest), 4)
    for i, sweep in enumerate(rows):
        points[i, : len(sweep)] = sweep
    return points, torch.tensor([len(sweep) for sweep in rows], dtype=torch.int64)


def _each(value: Any, change: Any) -> Any:
    """``change`` of every tensor and list in ``value``."""
    if isinstance(value, (Tensor, list)):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each(item, change) for key, item in value.items()}
    return type(value)(**{f.name: _each(getattr(value, f.name), change) for f in fields(value)})


def _moved(value: _T, device: torch.device | str) -> _T:
    moved: _T = _each(value, lambda x: x.to(device) if isinstance(x, Tensor) else x)
    return moved


def _sliced(value: _T, rows: slice) -> _T:
    sliced: _T = _each(value, lambda x: x[rows])
    return sliced
