# SPDX-License-Identifier: Apache-2.0
"""The vision encoder: pictures and points of one tick to tokens, and what the tokens say.

Shapes: B frames, V views, T image tokens, Q queries, D channels, R rows and C columns of cells,
W waypoints, K tokens that leave the vehicle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from flad_perception.batch import EncoderInput
from flad_perception.config import CONTRACT_VERSION, EncoderConfig
from flad_perception.model.backbone import ImageBackbone
from flad_perception.model.heads import (
    SPEED_SCALE_MPS,
    TARGET_SCALE_M,
    DetectionHead,
    PathHead,
    WaypointHead,
)
from flad_perception.model.lidar import LidarBackbone
from flad_perception.model.position import sine_positions
from flad_perception.model.transformer import DecoderLayer, EncoderLayer

# ImageNet's, of pixels in 0..1: torchvision's weights expect them.
_PIXEL_MEAN = (0.485, 0.456, 0.406)
_PIXEL_STD = (0.229, 0.224, 0.225)


class EncoderOutput(NamedTuple):
    """Tokens, and the heads' answers."""

    tokens: Tensor
    """``[B, K, D]``: pooled bird's-eye view row by row, light and stop sign, waypoints."""
    detection: Tensor
    """``[B, R, C, 8]``, channels as in :mod:`flad_perception.detections`."""
    waypoints_m: Tensor
    """``[B, W, 2]``."""
    light_logits: Tensor
    """``[B, 2]``: LIGHT_RED, LIGHT_FREE."""
    stop_logits: Tensor
    """``[B, 2]``: no stop, stop."""
    paths_m: Tensor
    """``[B, 3, P, 2]``: the road ahead if told to turn left, go on, turn right; ``[B, 1, 0, 2]``
    without a path head."""


class VisionEncoder(nn.Module):
    """LMDrive's encoder in the sizes of a configuration; :func:`build_encoder` makes one.

    Raises:
        ValueError: if the configuration is of another contract than this code.
    """

    bev_positions: Tensor
    every: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        if config.contract_version != CONTRACT_VERSION:
            raise ValueError(
                f"encoder {config.name!r} follows token contract {config.contract_version}, "
                f"this version of FLAD has {CONTRACT_VERSION}"
            )
        self.config = config
        dim = config.embed_dim
        self.view_tokens = ViewTokens(config)
        self.lidar = LidarBackbone(config)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_decoder_layers))
        # Tokens that were normalised on the way in are not on the way out.
        self.memory_norm = nn.LayerNorm(dim) if config.pre_norm else nn.Identity()
        self.decoder_norm = nn.LayerNorm(dim)
        num_learned = 1 + config.num_waypoints
        self.queries = nn.Parameter(torch.rand(num_learned, dim))
        self.query_positions = nn.Parameter(torch.rand(num_learned, dim))
        self.speed = nn.Linear(1, dim)
        told = torch.ones(num_learned, 1)
        told[0] = float(config.light_sees_speed)
        self.register_buffer("told_speed", told, persistent=False)
        positions = sine_positions(*config.grid.query_shape, dim)
        self.register_buffer("bev_positions", positions, persistent=False)
        self.register_buffer("every", torch.ones(1, 1, 1, 1, dtype=torch.bool), persistent=False)
        self.detection = DetectionHead(config)
        self.waypoints = WaypointHead(config)
        if config.light_peaks:
            self.peaks = nn.Linear(len(config.views) * dim, dim)
        if config.path_at_m:
            self.paths = PathHead(config)
        if config.road_widths:
            self.road = RoadReader(config)
        self.light = nn.Linear(dim, 2)
        self.stop = nn.Linear(dim, 2)
        for layer in (*self.encoder, *self.decoder):
            for parameter in layer.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)

    def forward(
        self,
        images: Mapping[str, Tensor],
        view_valid: Tensor,
        points: Tensor,
        num_points: Tensor,
        speed_mps: Tensor,
        target_point_m: Tensor,
    ) -> EncoderOutput:
        """Everything of a batch.

        Args:
            images: normalised, ``[B, 3, H, W]`` by name of the view.
            view_valid: bool ``[B, V]``.
            points: ``[B, P, 4]``.
            num_points: ``[B]``.
            speed_mps: ``[B]``.
            target_point_m: ``[B, 2]``; only the waypoints depend on it.
        """
        memory, usable, peaks = self.view_tokens(images, view_valid)
        for layer in self.encoder:
            memory = layer(memory, usable)
        memory = self.memory_norm(memory)

        bev = self.lidar(points, num_points).flatten(2).transpose(1, 2)
        speed = speed_mps[:, None] / SPEED_SCALE_MPS
        learned = self.queries + self.told_speed * self.speed(speed)[:, None]
        queries = torch.cat((bev, learned), dim=1)
        positions = torch.cat((self.bev_positions, self.query_positions), dim=0)
        for layer in self.decoder:
            queries = layer(queries, positions, memory, usable, self.every)
        queries = self.decoder_norm(queries)

        rows, columns = self.config.grid.query_shape
        bev, signs = queries[:, : rows * columns], queries[:, rows * columns]
        if self.config.light_peaks:
            signs = signs + self.peaks(peaks)
        ahead = queries[:, rows * columns + 1 :]
        if self.config.road_widths:
            ahead = ahead + self.road(images[self.config.views[0].name], view_valid)
        grid = bev.transpose(1, 2).unflatten(2, (rows, columns))
        pooled = functional.adaptive_avg_pool2d(grid, self.config.pooled_bev)
        tokens = torch.cat((pooled.flatten(2).transpose(1, 2), signs[:, None], ahead), dim=1)
        waypoints_m = self.waypoints(ahead, target_point_m / TARGET_SCALE_M, speed)
        return EncoderOutput(
            tokens=tokens,
            detection=self.detection(bev, speed),
            waypoints_m=waypoints_m,
            light_logits=self.light(signs),
            stop_logits=self.stop(signs),
            paths_m=self.paths(ahead) if self.config.path_at_m else waypoints_m[:, None, :0],
        )

    def road_alone(self, picture: Tensor) -> Tensor:
        """Paths ``[B, 3, P, 2]`` by the road reader alone, from the first view, normalised."""
        valid = torch.ones(len(picture), 1, dtype=torch.bool, device=picture.device)
        paths: Tensor = self.paths(self.road(picture, valid))
        return paths


class ViewTokens(nn.Module):
    """Pictures to image tokens: each view's features and their mean, in the views' order."""

    positions: Tensor
    view_of: Tensor
    is_global: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        dim, num_views = config.embed_dim, len(config.views)
        self.names = [view.name for view in config.views]
        self.finds_peaks = config.light_peaks
        if config.light_peaks:
            self.peak_features = nn.Conv2d(config.backbone.finer_channels, dim, 1)
            self.peak_places = nn.Linear(dim, dim, bias=False)
            nn.init.zeros_(self.peak_places.weight)  # else places drown what is seen there
            for i, (rows, columns) in enumerate(config.finer_view_shapes):
                places = sine_positions(rows, columns, dim).unflatten(0, (rows, columns))
                self.register_buffer(f"finer_positions_{i}", places, persistent=False)
        # Pictures of one size go through the network together.
        sizes = list(dict.fromkeys(view.crop_px for view in config.views))
        self.groups = [[v.name for v in config.views if v.crop_px == size] for size in sizes]
        self.backbone = ImageBackbone(config.backbone)
        self.project = nn.Conv2d(config.backbone.channels, dim, 1)
        self.view_embedding = nn.Parameter(torch.rand(num_views, dim))
        self.global_embedding = nn.Parameter(torch.rand(num_views, dim))
        positions = [sine_positions(*shape, dim) for shape in config.view_shapes]
        view_of = [i for i, p in enumerate(positions) for _ in range(len(p) + 1)]
        is_global = torch.cat([torch.arange(len(p) + 1) == len(p) for p in positions])
        padded = torch.cat([torch.cat((p, torch.zeros(1, dim))) for p in positions])
        self.register_buffer("positions", padded, persistent=False)
        self.register_buffer("view_of", torch.tensor(view_of), persistent=False)
        self.register_buffer("is_global", is_global.float()[:, None], persistent=False)

    def forward(
        self, images: Mapping[str, Tensor], view_valid: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens ``[B, T, D]``, which may be looked at, bool ``[B, 1, 1, T]``, and peaks.

        The peaks ``[B, V * D]`` are each view's strongest features at stride 8, 0 for a view that
        failed; just the tokens where the configuration wants none.
        """
        tokens_of, peaks_of = {}, {}
        for names in self.groups:
            pictures = []
            for name in names:
                valid = view_valid[:, self.names.index(name), None, None, None]
                # What a failed camera shows must not even reach a batch statistic.
                pictures.append(images[name].masked_fill(~valid, 0.0))
            coarse, finer = self.backbone(torch.cat(pictures))
            features = self.project(coarse)
            parts = features.chunk(len(names))
            for i, name in enumerate(names):  # a trace cannot iterate over the parts
                flat = parts[i].flatten(2).transpose(1, 2)
                tokens_of[name] = torch.cat((flat, flat.mean(dim=1, keepdim=True)), dim=1)
            if self.finds_peaks:
                what = self.peak_features(finer).chunk(len(names))
                for i, name in enumerate(names):
                    view = self.names.index(name)
                    where = self.peak_places(getattr(self, f"finer_positions_{view}"))
                    spots = functional.relu(what[i] + where.permute(2, 0, 1))
                    peaks_of[name] = spots.amax(dim=(2, 3)).masked_fill(
                        ~view_valid[:, view, None], 0.0
                    )
        tokens = torch.cat([tokens_of[name] for name in self.names], dim=1)
        where = self.positions + self.view_embedding[self.view_of]
        where = where + self.is_global * self.global_embedding[self.view_of]
        # Without any camera all may be looked at: black pictures, but no attention to nothing.
        valid = view_valid | ~view_valid.any(dim=1, keepdim=True)
        peaks = tokens
        if self.finds_peaks:
            peaks = torch.cat([peaks_of[name] for name in self.names], dim=1)
        return tokens + where, valid[:, self.view_of][:, None, None], peaks


class RoadReader(nn.Module):
    """The first view ``[B, 3, H, W]`` to what the waypoint tokens add to theirs ``[B, N, D]``."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        columns, rows = config.views[0].crop_px
        before, kernel = 3, 5
        for width in config.road_widths:
            layers += [nn.Conv2d(before, width, kernel, stride=2, padding=kernel // 2), nn.ReLU()]
            rows, columns = -(-rows // 2), -(-columns // 2)
            before, kernel = width, 3
        self.convs = nn.Sequential(*layers)
        self.hidden = nn.Linear(before * rows * columns, config.road_hidden)
        self.out = nn.Linear(config.road_hidden, config.num_waypoints * config.embed_dim)
        self.num_waypoints = config.num_waypoints

    def forward(self, picture: Tensor, view_valid: Tensor) -> Tensor:
        """What is added; 0 where the view failed."""
        seen = functional.relu(self.hidden(self.convs(picture).flatten(1)))
        added: Tensor = self.out(seen).masked_fill(~view_valid[:, :1], 0.0)
        tokens: Tensor = added.unflatten(1, (self.num_waypoints, -1))
        return tokens


def build_encoder(config: EncoderConfig, seed: int = 0) -> VisionEncoder:
    """A new encoder; the seed decides its weights, and nobody else's random numbers change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VisionEncoder(config)


def encode(
    model: VisionEncoder, batch: EncoderInput, run: Callable[..., Any] | None = None
) -> EncoderOutput:
    """Run the encoder on pictures as cameras give them.

    Args:
        model: the encoder.
        batch: sensors.
        run: called in its place with its arguments, such as its stages on several computers.

    Raises:
        ValueError: if a view is missing or of another size than the model's configuration says.
    """
    device = model.queries.device
    images = {}
    for view in model.config.views:
        expected = (len(batch), 3, *reversed(view.crop_px))
        picture = batch.images.get(view.name)
        if picture is None or tuple(picture.shape) != expected:
            got = f"got {list(batch.images)}" if picture is None else f"got {list(picture.shape)}"
            raise ValueError(
                f"encoder {model.config.name!r} needs view {view.name!r} as {list(expected)}, {got}"
            )
        images[view.name] = normalise(picture.to(device, non_blocking=True))
    output: EncoderOutput = (run or model)(
        images,
        batch.view_valid.to(device),
        batch.points.to(device),
        batch.num_points.to(device),
        batch.speed_mps.to(device),
        batch.target_point_m.to(device),
    )
    return output


def normalise(images: Tensor) -> Tensor:
    """uint8 ``[B, 3, H, W]`` to float with ImageNet's mean and deviation, channels last."""
    mean = images.new_tensor(_PIXEL_MEAN, dtype=torch.float32) * 255.0
    scale = 1.0 / (images.new_tensor(_PIXEL_STD, dtype=torch.float32) * 255.0)
    pixels = images.contiguous(memory_format=torch.channels_last).float()
    return (pixels - mean[:, None, None]) * scale[:, None, None]
