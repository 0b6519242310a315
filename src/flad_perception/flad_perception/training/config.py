# SPDX-License-Identifier: Apache-2.0
"""Every knob of training; ``config/training/*.yaml`` hold the ones that ship."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flad_common.config import from_yaml, knob, section
from flad_perception.data.augment import AugmentConfig
from flad_perception.losses import LossConfig
from flad_perception.training.road import RoadConfig
from flad_perception.training.sampling import SamplingConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the encoder is trained."""

    epochs: int = knob(unit="1", doc="Passes over the sampled frames; 0: until minutes are over.")
    minutes: float = knob(
        0.0, unit="min", doc="Wall-clock budget that the schedule is stretched to; 0: none."
    )
    batch_size: int = knob(unit="frames", doc="Of one step of the optimizer.")
    micro_batch: int = knob(
        0, unit="frames", doc="Gradients are summed over slices of this size; 0: not sliced."
    )
    lr: float = knob(unit="1", doc="Highest learning rate, for a batch of lr_batch_size.")
    backbone_lr: float = knob(unit="1", doc="The same for the image backbone.")
    lr_batch_size: int = knob(unit="frames", doc="Rates grow linearly with the batch from here.")
    weight_decay: float = knob(0.05, unit="1", doc="Of AdamW.")
    decay_everything: bool = knob(
        False, unit="1", doc="Decay norms, biases and embeddings too, as LMDrive does."
    )
    beta2: float = knob(0.999, unit="1", doc="Of AdamW; beta1 is 0.9.")
    eps: float = knob(1e-8, unit="1", doc="Of AdamW.")
    warmup: float = knob(0.05, unit="1", doc="Share of the run in which the rate rises.")
    lr_floor: float = knob(0.01, unit="1", doc="The rate starts and ends at this share of lr.")
    clip_norm: float = knob(5.0, unit="1", doc="Longest gradient that a step may follow.")
    precision: Literal["fp32", "bf16", "fp16"] = knob(
        "fp32", unit="1", doc="Of the forward pass; fp16 scales the loss and needs a GPU."
    )
    ema_decay: float = knob(
        0.0, unit="1", doc="Of the running mean of weights that is evaluated and shipped; 0: none."
    )
    augment: AugmentConfig = section(AugmentConfig, doc="How pictures and points are varied.")
    loss: LossConfig = section(LossConfig, doc="What each task counts.")
    sampling: SamplingConfig = section(SamplingConfig, doc="Which frames an epoch shows.")
    road: RoadConfig = section(RoadConfig, doc="The road reader's own training, before all.")
    holdout_towns: tuple[str, ...] = knob(
        ("OldTown",), unit="1", doc="Never trained on, looked at once at the end."
    )
    holdout_weathers: tuple[int, ...] = knob(
        (12, 13, 20), unit="1", doc="Never trained on; validation is on these, LMDrive's choice."
    )
    validate_every: int = knob(1, unit="epochs", doc="Between validations.")
    validation_frames: int = knob(
        600, unit="frames", doc="At most so many, evenly over the held-out weathers' frames."
    )
    checkpoint_minutes: float = knob(5.0, unit="min", doc="Between checkpoints within an epoch.")
    max_bad_batches: int = knob(
        5, unit="1", doc="So many losses in a row that are not finite end the run."
    )
    prefetch: int = knob(3, unit="batches", doc="Prepared ahead of the step.")
    threads: int = knob(0, unit="1", doc="Of PyTorch; 0: its own choice.")
    seed: int = knob(1, unit="1", doc="Of weights, order, augmentation and dropout.")

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.minutes < 0.0 or (self.epochs == 0 and self.minutes == 0.0):
            raise ValueError(
                "epochs and minutes must not be negative and one must be given, got "
                f"{self.epochs} and {self.minutes}"
            )
        for name in (
            "batch_size",
            "lr_batch_size",
            "validate_every",
            "validation_frames",
            "max_bad_batches",
            "prefetch",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "backbone_lr", "eps", "clip_norm", "checkpoint_minutes"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("warmup", "ema_decay", "beta2"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if not 0.0 <= self.lr_floor <= 1.0:
            raise ValueError(f"lr_floor must be in [0, 1], got {self.lr_floor}")
        if self.weight_decay < 0.0 or self.micro_batch < 0 or self.threads < 0:
            raise ValueError(
                f"weight_decay {self.weight_decay}, micro_batch {self.micro_batch} and threads "
                f"{self.threads} must not be negative"
            )


def load_train_config(name: str | Path) -> TrainConfig:
    """Read a configuration by its file, or ``encoder_NAME.yaml`` in ``config/training``.

    Raises:
        ValueError: if there is none, or it does not hold together.
    """
    if Path(name).is_file():
        return from_yaml(TrainConfig, Path(name))
    here = Path(__file__).resolve()
    folders = [
        here.parents[4] / "config/training",  # a checkout: src/flad_perception/flad_perception/...
        here.parents[5] / "share/flad_perception/config/training",  # installed
    ]
    for folder in folders:
        if (folder / f"encoder_{name}.yaml").is_file():
            return from_yaml(TrainConfig, folder / f"encoder_{name}.yaml")
    known = sorted(p.stem for folder in folders for p in folder.glob("encoder_*.yaml"))
    raise ValueError(
        f"config/training has no encoder_{name}.yaml; it has {', '.join(known) or 'nothing'}"
    )
