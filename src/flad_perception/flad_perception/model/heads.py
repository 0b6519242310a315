# SPDX-License-Identifier: Apache-2.0
"""What the tokens say: objects, waypoints, the road; light and stop sign are plain linear layers.

Shapes: B frames, W waypoints, D channels; speeds and target points are brought to about 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from flad_perception.config import NUM_DETECTION_CHANNELS, EncoderConfig

SPEED_SCALE_MPS = 8.0
TARGET_SCALE_M = 10.0
NUM_COMMANDS = 3


class DetectionHead(nn.Module):
    """Bird's-eye tokens ``[B, rows * columns, D]`` to cells ``[B, R, C, 8]``."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.rows, self.columns = config.grid.query_shape
        self.cells = config.grid.cells_per_query
        self.speed_channels = config.speed_channels
        self.hidden = nn.Linear(config.embed_dim + config.speed_channels, config.detection_hidden)
        self.relu = nn.ReLU()
        self.out = nn.Linear(config.detection_hidden, self.cells**2 * NUM_DETECTION_CHANNELS)
        # Objects are rare: say so from the start, or the first steps go into learning it.
        prior = math.log(config.detection_prior / (1.0 - config.detection_prior))
        with torch.no_grad():
            self.out.bias[::NUM_DETECTION_CHANNELS] = prior

    def forward(self, tokens: Tensor, speed: Tensor) -> Tensor:
        """Cells of the grid; ``speed [B, 1]`` is scaled."""
        beside = speed[:, None].expand(-1, self.rows * self.columns, self.speed_channels)
        cells: Tensor = self.out(self.relu(self.hidden(torch.cat((tokens, beside), dim=2))))
        # Each query's answer is a small square of cells.
        cells = cells.unflatten(2, (self.cells, self.cells, NUM_DETECTION_CHANNELS))
        cells = cells.unflatten(1, (self.rows, self.columns)).transpose(2, 3)
        return cells.flatten(3, 4).flatten(1, 2)


class PathHead(nn.Module):
    """Waypoint tokens ``[B, W, D]`` to the road ahead by command, ``[B, 3, P, 2]``, metres.

    One answer for each of COMMAND_LEFT, COMMAND_ON and COMMAND_RIGHT; an untrained head says
    straight ahead.
    """

    ahead: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        tokens = config.num_waypoints * config.embed_dim
        self.hidden = nn.Linear(tokens, config.path_hidden)
        self.relu = nn.ReLU()
        self.out = nn.Linear(config.path_hidden, NUM_COMMANDS * len(config.path_at_m) * 2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        ahead = torch.tensor([[distance, 0.0] for distance in config.path_at_m])
        self.register_buffer("ahead", ahead, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Places in metres."""
        beside: Tensor = self.out(self.relu(self.hidden(tokens.flatten(1))))
        places: Tensor = self.ahead + TARGET_SCALE_M * beside.unflatten(1, (NUM_COMMANDS, -1, 2))
        return places


class WaypointHead(nn.Module):
    """Waypoint tokens ``[B, W, D]`` and the target point ``[B, 2]`` to places ``[B, W, 2]``.

    A recurrent unit reads the tokens one by one, beginning from the target point, and says how
    far the vehicle goes in each step: in all, or (``waypoints_from_speed``) more than it would
    at its present speed straight ahead, which is what an untrained head then says.
    """

    ahead: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.target = nn.Linear(2, config.waypoint_hidden)
        self.unit = nn.GRU(config.embed_dim, config.waypoint_hidden, batch_first=True)
        self.out = nn.Linear(config.waypoint_hidden, 2)
        step_m = config.waypoint_step_s * SPEED_SCALE_MPS
        ahead = torch.tensor([step_m if config.waypoints_from_speed else 0.0, 0.0])
        self.register_buffer("ahead", ahead, persistent=False)
        if config.waypoints_from_speed:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor, target_point: Tensor, speed: Tensor) -> Tensor:
        """Places in metres; ``target_point [B, 2]`` and ``speed [B, 1]`` are scaled."""
        read = self.unit(tokens, self.target(target_point)[None])
        steps = self.out(read[0]) + (speed * self.ahead)[:, None]
        return torch.cumsum(steps, dim=1)
