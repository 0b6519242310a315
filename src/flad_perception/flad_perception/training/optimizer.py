# SPDX-License-Identifier: Apache-2.0
"""AdamW with a rate of its own for the image backbone, and no decay where it does harm."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW

from flad_perception.training.config import TrainConfig

BASE_RATE = "base_lr"
"""Key of a parameter group: its rate before the schedule's factor."""


def make_optimizer(model: nn.Module, config: TrainConfig) -> AdamW:
    """AdamW over ``model``'s parameters, in up to four groups.

    The image backbone are the parameters with ``backbone`` and without ``lidar`` in their name, as
    in LMDrive. Only matrices and kernels are decayed, not norms, biases, embeddings and queries,
    unless ``decay_everything`` says so, as LMDrive does. Rates grow with the batch, linearly from
    ``lr_batch_size``.
    """
    scale = config.batch_size / config.lr_batch_size
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (_is_backbone(name), config.decay_everything or _is_decayed(name, parameter))
            groups.setdefault(key, []).append(parameter)
    return AdamW(
        [
            {
                "params": parameters,
                "weight_decay": config.weight_decay if decayed else 0.0,
                BASE_RATE: scale * (config.backbone_lr if backbone else config.lr),
            }
            for (backbone, decayed), parameters in sorted(groups.items())
        ],
        lr=config.lr * scale,
        betas=(0.9, config.beta2),
        eps=config.eps,
    )


def set_rates(optimizer: AdamW, factor: float) -> float:
    """Set every group's rate; returns the largest."""
    for group in optimizer.param_groups:
        group["lr"] = group[BASE_RATE] * factor
    return max(float(group["lr"]) for group in optimizer.param_groups)


def _is_backbone(name: str) -> bool:
    return "backbone" in name and "lidar" not in name


def _is_decayed(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and name.endswith("weight")
