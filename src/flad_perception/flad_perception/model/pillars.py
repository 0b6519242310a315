# SPDX-License-Identifier: Apache-2.0
"""Points to pillars and back to a canvas: the only part with data-dependent sizes.

Both functions are leaves of a ``torch.fx`` trace, and no pipeline cuts between them. The order of
points does not matter: a maximum has none, and means are summed in double precision.

Shapes: B frames, P points (padded), N points in use, R rows and C columns of pillars.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from flad_perception.config import LidarConfig

NUM_POINT_FEATURES = 9
"""x, y, z, intensity; x, y, z less the pillar's mean; x, y less the pillar's centre."""

Area = tuple[float, float, float, int, int]
"""Largest x, largest y, side of a pillar in metres; rows, columns."""


def area_of(lidar: LidarConfig) -> Area:
    """The area as plain numbers, which is what a trace can hold."""
    return (lidar.x_max_m, lidar.y_max_m, lidar.pillar_m, *lidar.shape)


@dataclass(frozen=True)
class _Pillared:
    points: Tensor
    slot: Tensor
    row: Tensor
    column: Tensor


def decorate(points: Tensor, num_points: Tensor, area: Area) -> tuple[Tensor, Tensor]:
    """What the point net reads of every point, and the slot of the point's pillar.

    Points outside of the area and points that are not finite are left out. There are always at
    least two rows (zeros, in a slot of their own), so that batch statistics exist.

    Args:
        points: ``[B, P, 4]``, rows from ``num_points`` on are padding.
        num_points: ``[B]``.
        area: of the pillars.

    Returns:
        ``features [N, 9]`` and ``slot [N]``, ``(frame * R + row) * C + column``; slot
        ``B * R * C`` is nobody's.
    """
    with torch.no_grad():
        used = _assign(points, num_points, area)
        x_max_m, y_max_m, pillar_m, rows, columns = area
        xyz = used.points[:, :3].double()
        num_slots = points.shape[0] * rows * columns + 1
        count = xyz.new_zeros(num_slots).index_add_(0, used.slot, torch.ones_like(xyz[:, 0]))
        total = xyz.new_zeros(num_slots, 3).index_add_(0, used.slot, xyz)
        mean = (total / count.clamp_min(1.0)[:, None])[used.slot]
        center = torch.stack(
            (x_max_m - (used.row + 0.5) * pillar_m, y_max_m - (used.column + 0.5) * pillar_m), 1
        )
        features = torch.cat((used.points.double(), xyz - mean, xyz[:, :2] - center), dim=1)
        missing = max(0, 2 - len(features))
        features = torch.nn.functional.pad(features.to(points.dtype), (0, 0, 0, missing))
        slot = torch.nn.functional.pad(used.slot, (0, missing), value=num_slots - 1)
        return features, slot


def scatter_max(features: Tensor, slot: Tensor, num_points: Tensor, area: Area) -> Tensor:
    """The largest feature of each pillar on a canvas; empty pillars are 0.

    Args:
        features: ``[N, F]``, not negative (they come out of a ReLU).
        slot: ``[N]``, as :func:`decorate` gives them.
        num_points: ``[B]``, for its length.
        area: of the pillars.

    Returns:
        ``[B, F, R, C]``, channels last in memory.
    """
    rows, columns = area[3:]
    num_frames, width = len(num_points), features.shape[1]
    canvas = features.new_zeros(num_frames * rows * columns + 1, width)
    canvas = canvas.scatter_reduce(0, slot[:, None].expand_as(features), features, "amax")
    return canvas[:-1].view(num_frames, rows, columns, width).permute(0, 3, 1, 2)


# By name, for every module that a trace may start from.
fx.wrap("decorate")
fx.wrap("scatter_max")


def _assign(points: Tensor, num_points: Tensor, area: Area) -> _Pillared:
    x_max_m, y_max_m, pillar_m, rows, columns = area
    flat = points.detach().reshape(-1, points.shape[-1])
    place = torch.arange(points.shape[1], device=points.device)
    is_used = (place[None] < num_points[:, None]).reshape(-1)
    is_used &= torch.isfinite(flat).all(dim=1)
    # Not finite would not convert to an index.
    xy = torch.where(is_used[:, None], flat[:, :2], torch.zeros_like(flat[:, :2]))
    row = torch.floor((x_max_m - xy[:, 0]) / pillar_m).long()
    column = torch.floor((y_max_m - xy[:, 1]) / pillar_m).long()
    is_used &= (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    kept = torch.nonzero(is_used)[:, 0]
    frame = kept // points.shape[1]
    slot = (frame * rows + row[kept]) * columns + column[kept]
    return _Pillared(flat[kept], slot, row[kept], column[kept])
