# SPDX-License-Identifier: Apache-2.0
"""Normalisation of feature maps, by the configuration."""

from __future__ import annotations

import math

from torch import nn

from flad_perception.config import BackboneConfig


def norm2d(
    config: BackboneConfig, channels: int, *, eps: float = 1e-5, momentum: float = 0.1
) -> nn.Module:
    """Batch or group normalisation of ``[B, channels, H, W]``.

    Args:
        config: which of both, and how many channels a group has.
        channels: of the map; a group has at most ``config.group_channels``, a divisor of it.
        eps: added to the variance.
        momentum: of running statistics, where there are any.
    """
    if config.norm == "batch":
        return nn.BatchNorm2d(channels, eps=eps, momentum=momentum)
    return nn.GroupNorm(channels // math.gcd(channels, config.group_channels), channels, eps=eps)
