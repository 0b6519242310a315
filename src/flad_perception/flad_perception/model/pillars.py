# SPDX-License-Identifier: Apache-2.0
"""Points to pillars and back to a canvas: the only part with data-dependent sizes.

Both functions are leaves of a ``torch.fx`` trace where they are called, and no pipeline cuts
between them. The order of points does not matter: a maximum has none, and means are summed in
double precision. Points are sorted by pillar and reduced by segment: no atomic additions, so runs
repeat on any device.

Shapes: B frames, P points (padded), N points in use, R rows and C columns of pillars, S pillars
that hold a point, F features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from flad_perception.config import LidarConfig

NUM_POINT_FEATURES = 9
"""x, y, z, intensity; x, y, z less the pillar's mean; x, y less the pillar's centre."""

Area = tuple[float, float, float, int, int]
"""Largest x, largest y, side of a pillar in metres; rows, columns."""


def area_of(lidar: LidarConfig) -> Area:
    """The area as plain numbers, which is what a trace can hold."""
    return (lidar.x_max_m, lidar.y_max_m, lidar.pillar_m, *lidar.shape)


class Pillars(NamedTuple):
    """Points sorted by pillar, and the pillars that hold any."""

    features: Tensor
    """``[N, 9]``."""
    slots: Tensor
    """``[S]``, ``(frame * R + row) * C + column`` of each pillar, ascending; slot ``B * R * C`` is
    nobody's."""
    counts: Tensor
    """``[S]``: so many consecutive rows of ``features`` are in the pillar."""


def decorate(points: Tensor, num_points: Tensor, area: Area) -> Pillars:
    """What the point net reads of every point, and in which pillar the point is.

    Points outside of the area and points that are not finite are left out. There are always at
    least two rows (zeros, in nobody's slot), so that batch statistics exist.

    Args:
        points: ``[B, P, 4]``, rows from ``num_points`` on are padding.
        num_points: ``[B]``.
        area: of the pillars.
    """
    with torch.no_grad():
        x_max_m, y_max_m, pillar_m, rows, columns = area
        nobody = points.shape[0] * rows * columns
        used, slot = _assign(points, num_points, area)
        slot, order = slot.sort(stable=True)
        used = used[order]
        missing = max(0, 2 - len(used))
        used = functional.pad(used, (0, 0, 0, missing))
        slot = functional.pad(slot, (0, missing), value=nobody)
        slots, pillar, counts = torch.unique_consecutive(
            slot, return_inverse=True, return_counts=True
        )
        xyz = used[:, :3].double()
        means = torch.segment_reduce(xyz, "mean", lengths=counts, axis=0, unsafe=True)
        row, column = slots // columns % rows, slots % columns
        centers = torch.stack(
            (x_max_m - (row + 0.5) * pillar_m, y_max_m - (column + 0.5) * pillar_m), dim=1
        )
        origins = torch.cat((means, centers.double()), dim=1)[pillar]
        offsets = torch.cat((xyz, xyz[:, :2]), dim=1) - origins
        features = torch.cat((used, offsets.to(used.dtype)), dim=1)
        if missing:
            features[-missing:] = 0.0
        return Pillars(features, slots, counts)


def scatter_max(
    features: Tensor, slots: Tensor, counts: Tensor, num_points: Tensor, area: Area
) -> Tensor:
    """The largest feature of each pillar on a canvas; empty pillars are 0.

    Args:
        features: ``[N, F]``, not negative (they come out of a ReLU), sorted by pillar.
        slots: ``[S]``, as :func:`decorate` gives them.
        counts: ``[S]``, the same.
        num_points: ``[B]``, for its length.
        area: of the pillars.

    Returns:
        ``[B, F, R, C]``, channels last in memory.
    """
    rows, columns = area[3:]
    num_frames, width = len(num_points), features.shape[1]
    largest = torch.segment_reduce(features, "max", lengths=counts, axis=0, unsafe=True)
    canvas = features.new_zeros(num_frames * rows * columns + 1, width)
    canvas = canvas.index_copy(0, slots, largest)
    return canvas[:-1].view(num_frames, rows, columns, width).permute(0, 3, 1, 2)


def _assign(points: Tensor, num_points: Tensor, area: Area) -> tuple[Tensor, Tensor]:
    """Points in use ``[N, 4]`` and the slots of their pillars ``[N]``."""
    x_max_m, y_max_m, pillar_m, rows, columns = area
    flat = points.detach().reshape(-1, points.shape[-1])
    place = torch.arange(points.shape[1], device=points.device)
    is_used = (place[None] < num_points[:, None]).reshape(-1)
    # A sum of four is finite where all four are: sensors do not reach 1e38.
    is_used &= torch.isfinite(flat.sum(dim=1))
    # What is not finite does not convert to an index.
    row = torch.floor((x_max_m - flat[:, 0]) / pillar_m).nan_to_num(-1.0, -1.0, -1.0)
    column = torch.floor((y_max_m - flat[:, 1]) / pillar_m).nan_to_num(-1.0, -1.0, -1.0)
    is_used &= (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    kept = torch.nonzero(is_used)[:, 0]
    frame = kept // points.shape[1]
    return flat[kept], (frame * rows + row[kept].long()) * columns + column[kept].long()
