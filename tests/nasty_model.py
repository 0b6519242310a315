# SPDX-License-Identifier: Apache-2.0
"""A model with everything that makes tracing and cutting hard, small enough for tests."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from flad_pipeline.graph.host_control import host_control


@host_control
def scaled_by_sign(x: Tensor) -> Tensor:
    """A branch on data."""
    return x * 2.0 if float(x.detach().sum()) > 0.0 else x * 0.5


@host_control
def scaled_by_batch(x: Tensor) -> Tensor:
    """A branch on the shape of the batch."""
    if x.shape[0] > 2:
        return x + 1.0
    return x - 1.0


@host_control
def positive_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows with a positive first value, and which they are: a shape that depends on values."""
    which = torch.nonzero(x[:, 0] > 0.0)[:, 0]
    return x[which], which


def on_canvas(rows: Tensor, which: Tensor, like: Tensor) -> Tensor:
    """The rows back at their places."""
    return torch.zeros_like(like).index_copy(0, which, rows)


class NastyModel(nn.Module):
    """Dictionaries in, a tuple with a dictionary out.

    On the way: a layer used twice, a skip over most of it, a sparse part whose sizes depend on
    values, writing in place, BatchNorm, dropout, an optional argument and a constant buffer that
    two layers read.
    """

    shift: Tensor

    def __init__(self, width: int = 8, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        # Weights decide how many rows are positive; where there is none, the graph is another.
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first = nn.Linear(4, width)
            self.sparse = nn.Linear(width, width)
            self.twice = nn.Linear(width, width)
            self.norm = nn.BatchNorm1d(width)
            self.relu = nn.ReLU(inplace=True)
            self.dropout = nn.Dropout(dropout)
            self.middle = nn.Linear(width, width)
            self.late = nn.Linear(width, width)
            self.scale = nn.Parameter(torch.ones(width))
            self.register_buffer("shift", torch.linspace(-0.1, 0.1, width), persistent=False)
            self.light = nn.Linear(width, 2)
            self.places = nn.Linear(width, 3)

    def forward(
        self, sensors: Mapping[str, Tensor], speed: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """``sensors`` are ``front [B, 4]`` and ``rear [B, 4]``, ``speed`` is ``[B]``."""
        front = self.first(sensors["front"])
        rear = functional.relu(self.first(sensors["rear"]))
        rows, which = positive_rows(front)
        sparse = on_canvas(self.sparse(rows), which, front)
        x = self.twice(torch.cat((front, rear)))  # both in one
        a, b = x.chunk(2)
        skip = a + speed[:, None]
        x = self.relu(self.norm(b + sparse))
        x = self.dropout(self.twice(x))
        x = scaled_by_sign(self.middle(x) + self.shift)
        if mask is not None:
            x = x * mask
        x = scaled_by_batch(x) * self.scale
        x = self.late(x) + self.shift
        x += skip
        x = x.view(x.shape[0], -1)
        return self.light(x), {"places": self.places(x), "inner": x}


def nasty_batch(batch_size: int, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """Arguments of :class:`NastyModel`."""
    generator = torch.Generator().manual_seed(seed)
    sensors = {name: torch.randn(batch_size, 4, generator=generator) for name in ("front", "rear")}
    return sensors, torch.rand(batch_size, generator=generator)
