# SPDX-License-Identifier: Apache-2.0
"""What the encoder's own heads read out of the tokens: the Q-Former must pass it on.

A plan hardly teaches where the lane is: most frames are in the middle of it, and going on as before
is right on nearly all of them. So a linear layer on the Q-Former's outputs learns besides what the
path head and the light head say of the same tokens, on every frame. It is not shipped.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from flad_perception.batch import LIGHT_RED
from flad_perception.model.encoder import VisionEncoder


class HeadsTeacher(nn.Module):
    """Tokens ``[N, K, D]`` to what the heads say ``[N, T]``, of about 1; nothing is trained.

    Raises:
        ValueError: if the encoder has no path head.
    """

    at_m: Tensor

    def __init__(self, encoder: VisionEncoder) -> None:
        super().__init__()
        config = encoder.config
        if not config.path_at_m:
            raise ValueError(
                f"encoder {config.name!r} has no path head to learn from: train with "
                "reading: 0, or another encoder"
            )
        self.paths, self.light = encoder.paths, encoder.light
        self.num_waypoints = config.num_waypoints
        at_m = torch.tensor(config.path_at_m)
        self.register_buffer("at_m", at_m, persistent=False)
        self.num_values = 3 * 2 * len(at_m) + 1

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Paths in shares of their distance, on the road straight ahead 0, and redness."""
        ahead, signs = tokens[:, -self.num_waypoints :], tokens[:, -self.num_waypoints - 1]
        paths_m = self.paths(ahead)
        paths_m[..., 0] -= self.at_m
        shares = (paths_m / self.at_m[:, None]).flatten(1)
        red = self.light(signs).softmax(dim=1)[:, LIGHT_RED, None]
        return torch.cat((shares, red), dim=1)


class Reading(nn.Module):
    """The linear layer, and its error."""

    def __init__(self, teacher: HeadsTeacher, num_queries: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_queries * hidden, teacher.num_values)

    def forward(self, read: Tensor, said: Tensor) -> Tensor:
        """Mean absolute error of ``[N, Q, H]`` read against ``[N, T]`` said."""
        error: Tensor = functional.l1_loss(self.linear(read.float().flatten(1)), said)
        return error
