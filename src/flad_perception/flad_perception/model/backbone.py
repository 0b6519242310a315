# SPDX-License-Identifier: Apache-2.0
"""The residual network that all views share: pictures to feature maps."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

import flad_perception.torchvision_ops  # noqa: F401  before torchvision, always
from flad_perception.config import BackboneConfig
from flad_perception.model.norm import norm2d

from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet  # isort: skip


FINER_STAGE = "layer2"


class ImageBackbone(nn.Module):
    """``[B, 3, H, W]`` to ``[B, config.channels, H / config.stride, W / config.stride]``.

    ``resnet50`` is torchvision's, without its pooling and classifier, and takes its weights by
    the same names. ``narrow`` is a stem of one convolution and stages of torchvision's basic
    blocks, every one at stride 2 and none of them pooling: lamps are 2 to 4 pixels wide.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.trunk = _resnet50(config) if config.kind == "resnet50" else _narrow(config)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features of normalised pictures, and finer ones: of stage ``layer2``, at stride 8."""
        features = finer = images
        for name, module in self.trunk.named_children():
            features = module(features)
            if name == FINER_STAGE:
                finer = features
        return features, finer


def _resnet50(config: BackboneConfig) -> nn.Sequential:
    net = ResNet(Bottleneck, [3, 4, 6, 3], norm_layer=partial(norm2d, config))
    trunk = nn.Sequential()
    for name, module in net.named_children():
        if name not in ("avgpool", "fc"):
            trunk.add_module(name, module)
    return trunk


def _narrow(config: BackboneConfig) -> nn.Sequential:
    norm = partial(norm2d, config)
    stem, *widths = config.widths
    trunk = nn.Sequential()
    trunk.add_module("conv1", nn.Conv2d(3, stem, 3, stride=2, padding=1, bias=False))
    trunk.add_module("bn1", norm(stem))
    trunk.add_module("relu", nn.ReLU())
    before = stem
    for i, (width, num_blocks) in enumerate(zip(widths, config.blocks, strict=True), 1):
        shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride=2, bias=False), norm(width))
        blocks = [BasicBlock(before, width, 2, shortcut, norm_layer=norm)]
        blocks += [BasicBlock(width, width, norm_layer=norm) for _ in range(num_blocks - 1)]
        trunk.add_module(f"layer{i}", nn.Sequential(*blocks))
        before = width
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return trunk
