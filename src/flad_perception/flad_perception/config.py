# SPDX-License-Identifier: Apache-2.0
"""Every size of the encoder; ``config/encoder/*.yaml`` hold the configurations that ship.

Inside this package everything is in the ROS vehicle frame: x forward, y left, z up, metres and
radians, origin at the vehicle's origin (on the ground), at the tick of the sensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from flad_common.config import from_yaml, knob

CONTRACT_VERSION = 1
"""Of the tokens: their order, normalisation and meaning. Another version is refused."""

NUM_DETECTION_CHANNELS = 8
"""Their meaning stands in :mod:`flad_perception.detections`."""


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """One picture that the encoder looks at: a camera, resized, then cropped."""

    name: str = knob(unit="1", doc="Of the view; the order of views is the order of tokens.")
    camera: str = knob(unit="1", doc="The sensor's id in the rig and in data sets.")
    resize_px: tuple[int, int] = knob(unit="px", doc="Width and height of the resized picture.")
    crop_px: tuple[int, int] = knob(unit="px", doc="Width and height of what is cut out of it.")
    crop_down: float = knob(
        0.5, unit="1", doc="Share of the rows left over that is cut off above; 0.5 is the centre."
    )
    fallback_camera: str = knob(
        "", unit="1", doc="Where a data set lacks the camera, its view is the centre of this one."
    )
    fallback_fraction: float = knob(
        0.16, unit="1", doc="Side of that centre, as a share of the picture's width."
    )

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"a view's name is letters, digits and _, got {self.name!r}")
        if min(self.crop_px) < 1 or any(
            c > r for c, r in zip(self.crop_px, self.resize_px, strict=True)
        ):
            raise ValueError(
                f"view {self.name}: crop_px {self.crop_px} must be positive and fit into "
                f"resize_px {self.resize_px}"
            )
        if not 0.0 <= self.crop_down <= 1.0:
            raise ValueError(f"view {self.name}: crop_down must be in 0..1, got {self.crop_down}")
        if not 0.0 < self.fallback_fraction <= 1.0:
            raise ValueError(
                f"view {self.name}: fallback_fraction must be in (0, 1], "
                f"got {self.fallback_fraction}"
            )


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """The residual network that all views share."""

    kind: Literal["resnet50", "narrow"] = knob(
        unit="1", doc="torchvision's ResNet-50, or its basic blocks in the widths given here."
    )
    norm: Literal["batch", "group"] = knob(
        unit="1", doc="Of the whole encoder: batch statistics, or groups that need no batch."
    )
    widths: tuple[int, ...] = knob(
        (), unit="1", doc="Channels of the stem and of each stage (narrow only)."
    )
    blocks: tuple[int, ...] = knob(
        (), unit="1", doc="Blocks of each stage, which halves the picture (narrow only)."
    )
    group_channels: int = knob(8, unit="1", doc="Channels of one group of a GroupNorm.")

    def __post_init__(self) -> None:
        if self.kind == "resnet50" and (self.widths or self.blocks):
            raise ValueError("resnet50 has its own widths and blocks; leave both out")
        if self.kind == "narrow" and (
            not self.blocks
            or len(self.widths) != len(self.blocks) + 1
            or min(*self.widths, *self.blocks) < 1
        ):
            raise ValueError(
                "narrow needs blocks for every stage and widths for the stem and every stage, "
                f"got widths {self.widths} and blocks {self.blocks}"
            )
        if self.group_channels < 1:
            raise ValueError(f"group_channels must be positive, got {self.group_channels}")

    @property
    def stride(self) -> int:
        """Pixels per feature."""
        return 32 if self.kind == "resnet50" else 2 ** (1 + len(self.blocks))

    @property
    def channels(self) -> int:
        """Channels of the features."""
        return 2048 if self.kind == "resnet50" else self.widths[-1]

    @property
    def finer_channels(self) -> int:
        """Channels of the features at stride 8, of the second stage."""
        return 512 if self.kind == "resnet50" else self.widths[2]


@dataclass(frozen=True, kw_only=True)
class LidarConfig:
    """PointPillars: what it covers and how wide it is."""

    x_min_m: float = knob(unit="m", doc="Behind, of the area that becomes pillars.")
    x_max_m: float = knob(unit="m", doc="Ahead.")
    y_min_m: float = knob(unit="m", doc="To the right.")
    y_max_m: float = knob(unit="m", doc="To the left.")
    pillar_m: float = knob(unit="m", doc="Side of a pillar.")
    max_points: int = knob(unit="1", doc="Points of a sweep; more are thinned evenly.")
    own_half_length_m: float = knob(
        2.5, unit="m", doc="Points nearer than this to the origin along x, and"
    )
    own_half_width_m: float = knob(
        1.2, unit="m", doc="than this along y, are on the own vehicle and left out."
    )
    point_widths: tuple[int, ...] = knob(unit="1", doc="Channels of the net on single points.")
    stage_widths: tuple[int, ...] = knob(
        unit="1", doc="Channels of the convolution stages, each of which halves the canvas."
    )
    stage_convs: tuple[int, ...] = knob(unit="1", doc="Convolutions of each stage.")
    neck_stage: int = knob(unit="1", doc="The stage at whose resolution all stages are joined.")
    neck_width: int = knob(unit="1", doc="Channels that each stage brings to the join.")
    neck_kernel: int = knob(3, unit="1", doc="Side of the convolution after the join.")

    def __post_init__(self) -> None:
        if not (self.x_min_m < self.x_max_m and self.y_min_m < self.y_max_m):
            raise ValueError(
                f"the LiDAR's area is empty: x {self.x_min_m}..{self.x_max_m}, "
                f"y {self.y_min_m}..{self.y_max_m}"
            )
        if not self.pillar_m > 0.0:
            raise ValueError(f"pillar_m must be positive, got {self.pillar_m}")
        if self.max_points < 1:
            raise ValueError(f"max_points must be at least 1, got {self.max_points}")
        if len(self.stage_widths) != len(self.stage_convs) or not self.stage_widths:
            raise ValueError(
                f"stage_widths {self.stage_widths} and stage_convs {self.stage_convs} "
                "must name the same stages, at least one"
            )
        if not self.point_widths or not 0 <= self.neck_stage < len(self.stage_widths):
            raise ValueError(
                f"point_widths {self.point_widths} must not be empty and neck_stage "
                f"{self.neck_stage} must be one of the {len(self.stage_widths)} stages"
            )
        coarsest_m = self.pillar_m * 2 ** len(self.stage_widths)
        for low_m, high_m in ((self.x_min_m, self.x_max_m), (self.y_min_m, self.y_max_m)):
            _whole(high_m - low_m, coarsest_m, "the LiDAR's area is not whole cells of its stages")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (ahead to behind) and columns (left to right) of the canvas of pillars."""
        return (
            round((self.x_max_m - self.x_min_m) / self.pillar_m),
            round((self.y_max_m - self.y_min_m) / self.pillar_m),
        )


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """Cells that detection answers for: row 0 is the farthest ahead, column 0 the leftmost."""

    x_min_m: float = knob(-20.0, unit="m", doc="Behind.")
    x_max_m: float = knob(30.0, unit="m", doc="Ahead.")
    y_min_m: float = knob(-25.0, unit="m", doc="To the right.")
    y_max_m: float = knob(25.0, unit="m", doc="To the left.")
    cell_m: float = knob(unit="m", doc="Side of a cell.")
    cells_per_query: int = knob(
        1, unit="1", doc="A bird's-eye query answers for so many cells along each axis."
    )

    def __post_init__(self) -> None:
        if not (self.cell_m > 0.0 and self.cells_per_query >= 1):
            raise ValueError(
                f"cell_m and cells_per_query must be positive, got {self.cell_m} and "
                f"{self.cells_per_query}"
            )
        for low_m, high_m in ((self.x_min_m, self.x_max_m), (self.y_min_m, self.y_max_m)):
            _whole(high_m - low_m, self.query_m, "the grid is not whole queries")

    @property
    def query_m(self) -> float:
        """Side of the square that one query answers for."""
        return self.cell_m * self.cells_per_query

    @property
    def query_shape(self) -> tuple[int, int]:
        """Rows and columns of bird's-eye queries."""
        return (
            round((self.x_max_m - self.x_min_m) / self.query_m),
            round((self.y_max_m - self.y_min_m) / self.query_m),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        rows, columns = self.query_shape
        return rows * self.cells_per_query, columns * self.cells_per_query

    def center_m(self, row: float, column: float) -> tuple[float, float]:
        """``(x, y)`` of a cell's centre."""
        return (
            self.x_max_m - (row + 0.5) * self.cell_m,
            self.y_max_m - (column + 0.5) * self.cell_m,
        )


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """One encoder, whole."""

    name: str = knob(unit="1", doc="Of the configuration.")
    contract_version: int = knob(unit="1", doc="Of what the tokens mean; see CONTRACT_VERSION.")
    views: tuple[ViewConfig, ...] = knob(unit="1", doc="In the order of their tokens.")
    backbone: BackboneConfig = knob(unit="", doc="Pictures to features.")
    lidar: LidarConfig = knob(unit="", doc="Points to bird's-eye features.")
    grid: GridConfig = knob(unit="", doc="Cells of detection.")
    embed_dim: int = knob(unit="1", doc="Channels of a token.")
    num_heads: int = knob(unit="1", doc="Of every attention.")
    ffn_dim: int = knob(unit="1", doc="Hidden channels after every attention.")
    dropout: float = knob(unit="1", doc="In the transformer, while training.")
    num_encoder_layers: int = knob(unit="1", doc="Over the image tokens.")
    num_decoder_layers: int = knob(unit="1", doc="Queries that look at image tokens.")
    pre_norm: bool = knob(
        False, unit="1", doc="Normalise before each part of a layer instead of after it."
    )
    pooled_bev: tuple[int, int] = knob(unit="1", doc="Rows and columns of bird's-eye tokens out.")
    num_waypoints: int = knob(5, unit="1", doc="Positions ahead in time.")
    waypoint_step_s: float = knob(0.5, unit="s", doc="Time between them.")
    waypoint_hidden: int = knob(64, unit="1", doc="Of the recurrent waypoint head.")
    waypoints_from_speed: bool = knob(
        False,
        unit="1",
        doc="The waypoint head adds to constant velocity instead of standing still.",
    )
    light_sees_speed: bool = knob(
        True,
        unit="1",
        doc="The light and stop query is told the speed, as LMDrive's is: standing then looks red.",
    )
    light_peaks: bool = knob(
        False,
        unit="1",
        doc="Each view's strongest features at stride 8, told where in the view they are, go "
        "straight to the light and stop query: a lamp of three pixels is one peak, which a few "
        "attention layers seldom find, and whose lamp it is depends on the place.",
    )
    path_at_m: tuple[float, ...] = knob(
        (),
        unit="m",
        doc="Along the road, where the path head says where it lies, if told to turn left, to go "
        "on, to turn right: teaches the waypoint tokens the lane; () for no such head.",
    )
    road_widths: tuple[int, ...] = knob(
        (),
        unit="1",
        doc="Channels of convolutions at stride 2 that read the first view alone and, every place "
        "with weights of its own, add to the waypoint tokens: where a lane lies is a shift of less "
        "than a feature, which attention averages away; () for not.",
    )
    road_hidden: int = knob(64, unit="1", doc="Behind them.")
    path_hidden: int = knob(128, unit="1", doc="Of the path head.")
    detection_hidden: int = knob(64, unit="1", doc="Of the detection head.")
    speed_channels: int = knob(
        32, unit="1", doc="Copies of the speed that the detection head reads beside a query."
    )
    detection_prior: float = knob(
        0.5, unit="1", doc="Probability of an object that an untrained detection head gives a cell."
    )

    def __post_init__(self) -> None:
        self._check_views()
        self._check_lidar()
        if self.num_heads < 1 or self.embed_dim % 4 or self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim ({self.embed_dim}) must be a multiple of 4 (sine positions on two "
                f"axes) and of num_heads ({self.num_heads})"
            )
        if self.light_peaks and self.backbone.kind == "narrow" and len(self.backbone.blocks) < 2:
            raise ValueError("light_peaks needs a backbone of at least two stages")
        if any(b <= a for a, b in pairwise((0.0, *self.path_at_m))):
            raise ValueError(f"path_at_m must be positive and rise, got {self.path_at_m}")
        sizes = (
            "ffn_dim",
            "num_waypoints",
            "waypoint_hidden",
            "detection_hidden",
            "path_hidden",
            "road_hidden",
        )
        for name in sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.road_widths and (min(self.road_widths) < 1 or not self.path_at_m):
            raise ValueError(
                f"road_widths must be positive and need path_at_m, which teaches them, got "
                f"{self.road_widths} and {self.path_at_m}"
            )
        for name in ("num_encoder_layers", "num_decoder_layers", "speed_channels"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not self.waypoint_step_s > 0.0:
            raise ValueError(f"waypoint_step_s must be positive, got {self.waypoint_step_s}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if not 0.0 < self.detection_prior < 1.0:
            raise ValueError(f"detection_prior must be in (0, 1), got {self.detection_prior}")
        if any(
            not 1 <= p <= q for p, q in zip(self.pooled_bev, self.grid.query_shape, strict=True)
        ):
            raise ValueError(
                f"pooled_bev {self.pooled_bev} must lie within the {self.grid.query_shape} queries"
            )

    def _check_views(self) -> None:
        if not self.views:
            raise ValueError("views must not be empty")
        for names in ([v.name for v in self.views], [v.camera for v in self.views]):
            if len(set(names)) != len(names):
                raise ValueError(f"two views share a name or a camera: {names}")

    def _check_lidar(self) -> None:
        lidar, grid = self.lidar, self.grid
        neck_m = lidar.pillar_m * 2 ** (lidar.neck_stage + 1)
        _whole(grid.query_m, neck_m, "a query is not whole cells of the LiDAR's neck")
        for what, margin_m in {
            "ahead": lidar.x_max_m - grid.x_max_m,
            "behind": grid.x_min_m - lidar.x_min_m,
            "left": lidar.y_max_m - grid.y_max_m,
            "right": grid.y_min_m - lidar.y_min_m,
        }.items():
            if margin_m < 0.0:
                raise ValueError(f"the LiDAR's area ends {-margin_m} m short of the grid {what}")
            _whole(margin_m, grid.query_m, f"the LiDAR's margin {what} is not whole queries")

    @property
    def view_shapes(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of features of each view; every stage rounds up."""
        s = self.backbone.stride
        return tuple((-(-v.crop_px[1] // s), -(-v.crop_px[0] // s)) for v in self.views)

    @property
    def finer_view_shapes(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of each view's features at stride 8."""
        return tuple((-(-v.crop_px[1] // 8), -(-v.crop_px[0] // 8)) for v in self.views)

    @property
    def num_image_tokens(self) -> int:
        """Of the transformer encoder: each view's features and their mean."""
        return sum(rows * columns + 1 for rows, columns in self.view_shapes)

    @property
    def num_queries(self) -> int:
        """Of the transformer decoder: bird's-eye view, light and stop sign, waypoints."""
        rows, columns = self.grid.query_shape
        return rows * columns + 1 + self.num_waypoints

    @property
    def num_tokens(self) -> int:
        """Of what leaves the vehicle: pooled bird's-eye view, light and stop sign, waypoints."""
        return self.pooled_bev[0] * self.pooled_bev[1] + 1 + self.num_waypoints


def load_encoder_config(name: str | Path) -> EncoderConfig:
    """Read a configuration by its file, or by its name in ``config/encoder``.

    Raises:
        ValueError: if there is none, or it does not hold together.
    """
    if Path(name).is_file():
        return from_yaml(EncoderConfig, Path(name))
    here = Path(__file__).resolve()
    folders = [
        here.parents[3] / "config/encoder",  # a checkout: src/flad_perception/flad_perception
        here.parents[4] / "share/flad_perception/config/encoder",  # installed beside lib/python3.X
    ]
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return from_yaml(EncoderConfig, folder / f"{name}.yaml")
    known = sorted({p.stem for folder in folders for p in folder.glob("*.yaml")})
    raise ValueError(
        f"there is no encoder {str(name)!r}; known are {', '.join(known) or 'none'}, or a file"
    )


def _whole(length_m: float, unit_m: float, complaint: str) -> None:
    ratio = length_m / unit_m
    if abs(ratio - round(ratio)) > 1e-6:
        raise ValueError(f"{complaint}: {length_m} m / {unit_m} m = {ratio:g}")
