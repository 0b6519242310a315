# SPDX-License-Identifier: Apache-2.0
"""The smallest net with everything that aggregation must tell apart; Flower was asked about it."""

from __future__ import annotations

from torch import nn


def flower_net() -> nn.Sequential:
    """A linear layer, a BatchNorm with its three buffers, and a second layer without bias."""
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1, bias=False))
