# SPDX-License-Identifier: Apache-2.0
"""The Q-network, one for all sizes: it scores each legal next stage from that stage's features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from flad_common.config import knob
from flad_edge.swift.cluster import Floats
from flad_edge.swift.dqn_states import NUM_FEATURES, Candidates, Scene, scale_of
from flad_edge.swift.reward import RewardConfig


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes of the Q-network."""

    features: int = knob(NUM_FEATURES, unit="1", doc="Of a candidate; fixed by the code.")
    hidden: int = knob(96, unit="1", doc="Channels of its two hidden layers.")

    def __post_init__(self) -> None:
        if self.features != NUM_FEATURES:
            raise ValueError(
                f"this network reads {self.features} features, the code makes {NUM_FEATURES}; "
                "train it again (docs/swift.md)"
            )
        if self.hidden < 1:
            raise ValueError(f"hidden must be at least 1, got {self.hidden}")


class QNetwork(nn.Module):
    """Corrects an estimate of what follows a candidate, in units of the typical path."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.Sequential(
            nn.Linear(config.features, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, 1),
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)  # at first the estimate alone decides
        nn.init.zeros_(last.bias)

    def forward(self, features: Tensor) -> Tensor:
        """``[C, F]`` -> ``[C]``."""
        corrected: Tensor = self.layers(features)
        return corrected.squeeze(-1)


def rest_shares(found: Candidates, scene: Scene) -> Floats:
    """``[C]``: the uncorrected cost of the candidate and all that follows, by the typical path."""
    return (found.cost + found.after) / scale_of(scene)


def q_values(
    correction: Tensor, shares: Floats, spent_s: Floats, left: Floats, scale_s: float
) -> Tensor:
    """``[C]``: the return of Eq. 12 still to come.

    Legal stages earn every indicator, so a pipeline's return is fixed but for its times: each
    stage's own, weighted by w1, and the whole path at the end.

    Args:
        correction: ``[C]``, the network's output.
        shares: ``[C]``, of :func:`rest_shares`.
        spent_s: ``[C]``, seconds of the stages placed before.
        left: ``[C]``, stages still to place.
        scale_s: of the typical path.
    """
    reward = RewardConfig()
    rest = torch.from_numpy(np.asarray(shares, dtype=np.float32)) + correction
    fixed = reward.indicators * left - spent_s / scale_s
    fixed_part = torch.from_numpy(np.asarray(fixed, dtype=np.float32))
    return fixed_part - (1.0 + reward.w_time) * rest
