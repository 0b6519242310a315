# SPDX-License-Identifier: Apache-2.0
"""Training the dwell-time regressor, its measure, and its file."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import torch
import yaml
from safetensors.torch import save_file

from flad_common.config import from_mapping, knob, to_yaml
from flad_edge.mobility.dwell_data import DwellData
from flad_edge.mobility.dwell_network import DwellNetwork, DwellNetworkConfig, as_tensors
from flad_edge.swift.cluster import Floats
from flad_edge.swift.problem import Ints

SHIPPED = Path(__file__).parents[1] / "weights_data/dwell/dwell.safetensors"
_CONFIG = "flad_dwell_network"


@dataclass(frozen=True, kw_only=True)
class DwellTrainConfig:
    """How the regressor is trained."""

    epochs: int = knob(60, unit="1", doc="Passes over the visits.")
    batch: int = knob(64, unit="1", doc="Visits of a step.")
    lr: float = knob(3e-3, unit="1", doc="Highest learning rate; it falls as a cosine.")
    decay: float = knob(0.02, unit="1", doc="Omega(R): decay of all weights by AdamW.")
    wide_l1: float = knob(1e-4, unit="1", doc="Omega(R): of the wide part's weights, L1.")
    least_s: float = knob(10.0, unit="s", doc="Shorter visits, which only touch the coverage.")
    warm_up_s: float = knob(400.0, unit="s", doc="Of the traces, until lights are known.")
    test_share: float = knob(0.2, unit="1", doc="Of the ways, which training never sees.")
    seed: int = knob(1, unit="1", doc="Of everything random.")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0.0 < self.test_share < 1.0:
            raise ValueError(f"test_share must be in (0, 1), got {self.test_share}")


def mape(predicted_s: Floats, actual_s: Floats) -> float:
    """The objective of Sec. 4.1.1 without Omega: mean of |a - R(b)| / a."""
    return float(np.mean(np.abs(actual_s - predicted_s) / actual_s))


def split_by_way(data: DwellData, share: float, seed: int) -> tuple[Ints, Ints]:
    """Rows to train on and rows to test on; no way (sequence of links) is in both."""
    ways = data.ways()
    distinct = sorted(set(ways))
    chosen = np.random.default_rng(seed).permutation(len(distinct))
    kept = {distinct[i] for i in chosen[: max(1, round(share * len(distinct)))]}
    is_test = np.array([way in kept for way in ways])
    return np.nonzero(~is_test)[0], np.nonzero(is_test)[0]


def train_dwell(
    data: DwellData,
    network_config: DwellNetworkConfig,
    config: DwellTrainConfig,
    on_epoch: Callable[[int, float], None] | None = None,
) -> DwellNetwork:
    """Minimise MAPE with regularisation; a tenth of the ways chooses the best epoch.

    Args:
        data: visits to train on.
        network_config: of the network.
        config: everything else.
        on_epoch: told the MAPE on that tenth.
    """
    torch.manual_seed(config.seed)
    learned, checked = split_by_way(data, 0.1, config.seed + 1)
    tensors = as_tensors(data)
    actual = torch.from_numpy(data.dwell_s).float()
    network = DwellNetwork(network_config)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    best, best_state = np.inf, copy.deepcopy(network.state_dict())
    for epoch in range(config.epochs):
        network.train()
        for rows in torch.from_numpy(learned)[torch.randperm(len(learned))].split(config.batch):
            said = network(*(t[rows] for t in tensors))
            loss = ((said - actual[rows]).abs() / actual[rows]).mean()
            loss = loss + config.wide_l1 * network.wide.weight.abs().sum() / len(rows)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        schedule.step()
        reached = mape(predict_s(network, data.rows(checked)), data.dwell_s[checked])
        if reached < best:
            best, best_state = reached, copy.deepcopy(network.state_dict())
        if on_epoch is not None:
            on_epoch(epoch, reached)
    network.load_state_dict(best_state)
    return network


def predict_s(network: DwellNetwork, data: DwellData) -> Floats:
    """``[N]``: how long each will stay."""
    network.eval()
    with torch.inference_mode():
        return np.asarray(network(*as_tensors(data)).numpy(), dtype=np.float64)


def save_dwell(path: Path, network: DwellNetwork, extra: Mapping[str, str] | None = None) -> None:
    """Write a network; what was at ``path`` stays until the new file is whole."""
    header = {**(extra or {}), _CONFIG: to_yaml(network.config)}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, partial, header)
    os.replace(partial, path)


def load_dwell(path: Path | None = None) -> DwellNetwork:
    """The network of a file, or the one that ships.

    Raises:
        ValueError: if there is no such file, it is damaged, or of another network.
    """
    path = SHIPPED if path is None else path
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if _CONFIG not in header:
            raise ValueError(f"its header has no {_CONFIG}; it predicts no dwell times")
        network = DwellNetwork(from_mapping(DwellNetworkConfig, yaml.safe_load(header[_CONFIG])))
        network.load_state_dict(state)
    except (OSError, RuntimeError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} cannot be used for dwell times: {error}") from error
    return network.eval()
