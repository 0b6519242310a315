# SPDX-License-Identifier: Apache-2.0
"""Where a token of a map is, as sines (DETR's two-dimensional encoding)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TEMPERATURE = 10000.0
_EPS = 1e-6


def sine_positions(rows: int, columns: int, embed_dim: int) -> Tensor:
    r"""Positions of a map, row by row, ``[rows * columns, embed_dim]``.

    Half of the channels tell the row, half the column: sines and cosines, in turn, of
    :math:`2 \pi (i + 1) / n \cdot 10000^{-2 \lfloor k / 2 \rfloor / (D / 2)}` for the
    :math:`i`-th of :math:`n` places (Carion et al., 2020, arXiv:2005.12872, Sec. A.4, normalised).
    """
    half = embed_dim // 2
    channel = torch.arange(half, dtype=torch.float32)
    wavelength = _TEMPERATURE ** (2.0 * torch.div(channel, 2, rounding_mode="floor") / half)

    def along(count: int) -> Tensor:
        place = torch.arange(1, count + 1, dtype=torch.float32) / (count + _EPS) * 2.0 * math.pi
        angle = place[:, None] / wavelength
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)

    row = along(rows)[:, None].expand(rows, columns, half)
    column = along(columns)[None].expand(rows, columns, half)
    return torch.cat((row, column), dim=2).reshape(rows * columns, embed_dim)
