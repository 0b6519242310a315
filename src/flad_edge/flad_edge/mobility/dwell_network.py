# SPDX-License-Identifier: Apache-2.0
"""The dwell-time regressor R(b) of Sec. 4.1.1: wide crosses, deep embeddings, an LSTM over links.

After Wang et al., "Learning to Estimate the Travel Time" (KDD 2018). The three parts correct the
logarithm of a guess (driving freely, waiting at lights), so an untrained network gives the guess.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flad_common.config import knob
from flad_edge.mobility.dwell_data import DENSE_FEATURES, LINK_FEATURES, DwellData


@dataclass(frozen=True, kw_only=True)
class DwellNetworkConfig:
    """Sizes, and the place that the network knows."""

    town: str = knob(unit="", doc="Whose links it was trained on.")
    links: int = knob(unit="1", doc="Links of the town.")
    x_m: float = knob(unit="m", doc="Of the coverage's centre.")
    y_m: float = knob(unit="m", doc="Of the coverage's centre.")
    radius_m: float = knob(unit="m", doc="Of the coverage.")
    embedding: int = knob(8, unit="1", doc="Numbers by which a link is known.")
    hidden: int = knob(48, unit="1", doc="Of the LSTM and the deep layers.")

    def __post_init__(self) -> None:
        for name in ("links", "embedding", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class DwellNetwork(nn.Module):
    """Predicts seconds; see the module."""

    def __init__(self, config: DwellNetworkConfig) -> None:
        super().__init__()
        self.config = config
        size, hidden = config.links + 1, config.hidden
        # wide: a weight for every (first link, last link), first row and column for "none"
        self.wide = nn.Embedding(size * size, 1)
        self.embedding = nn.Embedding(size, config.embedding, padding_idx=0)
        self.deep = nn.Sequential(
            nn.Linear(2 * config.embedding + DENSE_FEATURES, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        self.recurrent = nn.LSTM(config.embedding + LINK_FEATURES, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        nn.init.zeros_(self.wide.weight)
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, links: Tensor, by_link: Tensor, dense: Tensor, guess_s: Tensor) -> Tensor:
        """``[N, S]``, ``[N, S, LINK_FEATURES]``, ``[N, DENSE_FEATURES]``, ``[N]`` -> ``[N]`` s."""
        numbers = links + 1
        count = (numbers > 0).sum(dim=1).clamp_min(1)
        first, last = numbers[:, 0], numbers.gather(1, (count - 1)[:, None])[:, 0]
        wide = self.wide(first * (self.config.links + 1) + last)[:, 0]
        ends = torch.cat([self.embedding(first), self.embedding(last), dense], dim=1)
        states, _ = self.recurrent(torch.cat([self.embedding(numbers), by_link], dim=2))
        rows = torch.arange(len(states))
        both = torch.cat([self.deep(ends), states[rows, count - 1]], dim=1)
        correction = wide + self.head(both)[:, 0]
        return guess_s * torch.exp(correction.clamp(-3.0, 3.0))


def as_tensors(data: DwellData) -> tuple[Tensor, ...]:
    """What :meth:`DwellNetwork.forward` takes."""
    return (
        torch.from_numpy(data.links),
        torch.from_numpy(data.by_link).float(),
        torch.from_numpy(data.dense).float(),
        torch.from_numpy(data.guess_s).float(),
    )
