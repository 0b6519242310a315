# SPDX-License-Identifier: Apache-2.0
"""PointPillars: a cloud of points to one feature vector per bird's-eye query."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from flad_perception.config import EncoderConfig
from flad_perception.model.norm import norm2d
from flad_perception.model.pillars import NUM_POINT_FEATURES, area_of, decorate, scatter_max

# A trace patches the names that a module calls, so they are declared here and not where they stand.
fx.wrap("decorate")
fx.wrap("scatter_max")

_BATCH_NORM = {"eps": 1e-3, "momentum": 0.01}  # LMDrive's, in its LiDAR branch only


class LidarBackbone(nn.Module):
    """Points ``[B, P, 4]`` to queries ``[B, embed_dim, rows, columns]`` of the grid.

    Stages of convolutions, each at stride 2; all of them are brought to the resolution of one,
    joined, and reduced to one vector per query. The margin around the grid is cut off.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        lidar, self.area = config.lidar, area_of(config.lidar)
        self.points = PointNet(config)
        before = lidar.point_widths[-1]
        self.stages, self.joins = nn.ModuleList(), nn.ModuleList()
        for i, (width, num_convs) in enumerate(
            zip(lidar.stage_widths, lidar.stage_convs, strict=True)
        ):
            convs = [nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False)]
            convs += [
                nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(num_convs - 1)
            ]
            self.stages.append(nn.Sequential(*(_block(config, c, width) for c in convs)))
            resize = _resize(width, lidar.neck_width, i - lidar.neck_stage)
            self.joins.append(_block(config, resize, lidar.neck_width))
            before = width
        joined = lidar.neck_width * len(self.stages)
        kernel = lidar.neck_kernel
        neck = nn.Conv2d(joined, joined, kernel, padding=kernel // 2, bias=False)
        self.neck = _block(config, neck, joined)
        neck_m = lidar.pillar_m * 2 ** (lidar.neck_stage + 1)
        step = round(config.grid.query_m / neck_m)
        self.reduce = nn.Conv2d(joined, config.embed_dim, step, stride=step)
        self.top = round((lidar.x_max_m - config.grid.x_max_m) / config.grid.query_m)
        self.left = round((lidar.y_max_m - config.grid.y_max_m) / config.grid.query_m)
        self.rows, self.columns = config.grid.query_shape

    def forward(self, points: Tensor, num_points: Tensor) -> Tensor:
        """Queries of a batch of sweeps."""
        features = self.points(points, num_points)
        joined = []
        for stage, join in zip(self.stages, self.joins, strict=True):
            features = stage(features)
            joined.append(join(features))
        queries: Tensor = self.reduce(self.neck(torch.cat(joined, dim=1)))
        return queries[:, :, self.top : self.top + self.rows, self.left : self.left + self.columns]


class PointNet(nn.Module):
    """Points ``[B, P, 4]`` to a canvas of pillars ``[B, width, R, C]``."""

    scale: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.area = area_of(config.lidar)
        layers: list[nn.Module] = []
        before = NUM_POINT_FEATURES
        for width in config.lidar.point_widths:
            layers.append(nn.Linear(before, width))
            # A point alone has nothing to be normalised over but its batch.
            if config.backbone.norm == "batch":
                layers.append(nn.BatchNorm1d(width))
            layers.append(nn.ReLU())
            before = width
        self.net = nn.Sequential(*layers)
        scale = torch.ones(NUM_POINT_FEATURES)
        if config.backbone.norm != "batch":  # metres to about 1, in its stead
            extent_m = max(abs(config.lidar.x_max_m), abs(config.lidar.y_max_m))
            scale[:2] = 1.0 / extent_m
            scale[2] = 0.5
            scale[4:] = 1.0 / config.lidar.pillar_m
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, points: Tensor, num_points: Tensor) -> Tensor:
        """The canvas of a batch of sweeps."""
        pillars = decorate(points, num_points, self.area)
        features = self.net(pillars.features * self.scale)
        return scatter_max(features, pillars.slots, pillars.counts, num_points, self.area)


def _block(config: EncoderConfig, conv: nn.Module, width: int) -> nn.Sequential:
    """LMDrive's order: ReLU before the normalisation."""
    return nn.Sequential(conv, nn.ReLU(), norm2d(config.backbone, width, **_BATCH_NORM))


def _resize(before: int, width: int, doublings: int) -> nn.Module:
    """Bring a map to the join's resolution; ``doublings`` may be negative."""
    if doublings == 1:
        return nn.ConvTranspose2d(before, width, 4, stride=2, padding=1, bias=False)
    step: int = 2 ** abs(doublings)
    if doublings > 0:
        return nn.ConvTranspose2d(before, width, step, stride=step, bias=False)
    return nn.Conv2d(before, width, step, stride=step, bias=False)
