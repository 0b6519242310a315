# SPDX-License-Identifier: Apache-2.0
"""A data set of two short runs and an encoder that is trained on it within a second."""

import dataclasses
from pathlib import Path

import lmdrive_files

from flad_perception.config import BackboneConfig, EncoderConfig, ViewConfig, load_encoder_config
from flad_perception.data.augment import AugmentConfig
from flad_perception.data.pack import pack
from flad_perception.losses import LossConfig
from flad_perception.training.config import TrainConfig
from flad_perception.training.sampling import SamplingConfig

_SMALL = load_encoder_config("small")

# Two views, few channels; dropout, so that a lost random state shows.
TINY: EncoderConfig = dataclasses.replace(
    _SMALL,
    name="tiny",
    views=tuple(
        ViewConfig(name=name, camera=f"rgb_{name}", resize_px=(32, 24), crop_px=(32, 24))
        for name in ("front", "rear")
    ),
    backbone=BackboneConfig(kind="narrow", norm="group", widths=(8, 8, 8), blocks=(1, 1)),
    lidar=dataclasses.replace(
        _SMALL.lidar,
        max_points=200,
        point_widths=(8,),
        stage_widths=tuple(8 for _ in _SMALL.lidar.stage_widths),
        neck_width=8,
    ),
    embed_dim=16,
    num_heads=2,
    ffn_dim=16,
    num_decoder_layers=1,
    dropout=0.1,
)

# Nothing is held out but the second run's weather.
TRAIN = TrainConfig(
    epochs=2,
    batch_size=3,
    lr=0.003,
    backbone_lr=0.001,
    lr_batch_size=3,
    ema_decay=0.9,
    holdout_towns=("Town02",),
    holdout_weathers=(12,),
    augment=AugmentConfig(view_dropout=0.2, point_dropout=0.2),
    loss=LossConfig(light=0.5),
    sampling=SamplingConfig(consecutive=1, balance=False),
    prefetch=1,
    threads=1,
)


def make_packed(folder: Path) -> Path:
    """Run of Town05 in weather 8 and in weather 12, and of Town02, packed for :data:`TINY`."""
    root = folder / "recorded"
    root.mkdir()
    for name in ("town05_short_w8", "town05_short_w12", "town02_short_w8"):
        lmdrive_files.write_run(root, f"routes_{name}_11_22_15_30_54", num_frames=34)
    pack([root], folder / "packed", TINY, jobs=1)
    return folder / "packed"
