# SPDX-License-Identifier: Apache-2.0
"""Every knob of training an AD-LLM; ``config/training/adllm_*.yaml`` hold the ones that ship."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flad_common.config import from_yaml, knob, section
from flad_edge.training.lessons import GROUPS, LessonConfig
from flad_edge.training.objective import ObjectiveConfig


@dataclass(frozen=True, kw_only=True)
class SharesConfig:
    """How much of an epoch each group of instructions is; the shares need not sum to 1."""

    left: float = knob(0.2, unit="1", doc="Turns to the left.")
    right: float = knob(0.2, unit="1", doc="Turns to the right.")
    straight: float = knob(0.2, unit="1", doc="Straight over a junction.")
    change: float = knob(0.05, unit="1", doc="Lane changes.")
    follow: float = knob(0.25, unit="1", doc="Roads between junctions.")
    start: float = knob(0.05, unit="1", doc="Beginnings of a drive.")
    speed: float = knob(0.05, unit="1", doc="Slowing and stopping when told to.")
    max_repeat: float = knob(6.0, unit="1", doc="No clip is shown more often per epoch.")

    def __post_init__(self) -> None:
        shares = [getattr(self, group) for group in GROUPS]
        if min(shares) < 0.0 or sum(shares) <= 0.0 or self.max_repeat < 1.0:
            raise ValueError(
                "shares must not be negative, one must be positive, and max_repeat at least 1, got "
                f"{shares} and {self.max_repeat}"
            )


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """Which frames of a clip are read together."""

    restart: float = knob(
        0.5, unit="1", doc="Share of whole windows that begin at any frame, as after a drop."
    )
    short: float = knob(
        0.6, unit="1", doc="Share of short windows: neighbours teach much the same thing."
    )
    short_frames: int = knob(12, unit="frames", doc="Of a short window, at most.")
    focus: float = knob(
        0.5, unit="1", doc="Share of short windows that hold a frame on which something changes."
    )

    def __post_init__(self) -> None:
        for name in ("restart", "short", "focus"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.short_frames < 1:
            raise ValueError(f"short_frames must be at least 1, got {self.short_frames}")


@dataclass(frozen=True, kw_only=True)
class AdLlmTrainConfig:
    """How an AD-LLM or an ADM is trained."""

    epochs: int = knob(0, unit="1", doc="Passes over the clips; 0: until minutes are over.")
    minutes: float = knob(
        0.0, unit="min", doc="Wall-clock budget that the schedule is stretched to; 0: none."
    )
    batch_frames: int = knob(480, unit="frames", doc="Of one step of the optimizer, about.")
    lr: float = knob(unit="1", doc="Highest learning rate.")
    head_rate: float = knob(
        5.0, unit="1", doc="Of the waypoint head's last layer, times lr: metres are large numbers."
    )
    weight_decay: float = knob(0.02, unit="1", doc="Of AdamW, on matrices.")
    beta2: float = knob(0.99, unit="1", doc="Of AdamW; beta1 is 0.9.")
    warmup: float = knob(0.05, unit="1", doc="Share of the run in which the rate rises.")
    lr_floor: float = knob(0.01, unit="1", doc="The rate starts and ends at this share of lr.")
    clip_norm: float = knob(5.0, unit="1", doc="Longest gradient that a step may follow.")
    ema_decay: float = knob(
        0.995,
        unit="1",
        doc="Of the running mean of weights that is evaluated and shipped; 0: none.",
    )
    llm: Literal["full", "lora", "frozen"] = knob(
        "full", unit="", doc="What of the Llama trains; all else always does."
    )
    token_noise: float = knob(
        0.1, unit="1", doc="Deviation of noise on tokens (they have about 1)."
    )
    reading: float = knob(
        0.0, unit="1", doc="Weight of what the encoder's heads say, read out of the Q-Former."
    )
    notices: float = knob(0.3, unit="1", doc="Share of windows that are told their notices.")
    phases: int = knob(
        1, unit="1", doc="1: every other frame of a recording; 2: the frames between as well."
    )
    lessons: LessonConfig = section(LessonConfig, doc="How drives become clips.")
    windows: WindowConfig = section(WindowConfig, doc="Which frames are read together.")
    shares: SharesConfig = section(SharesConfig, doc="What an epoch shows.")
    objective: ObjectiveConfig = section(ObjectiveConfig, doc="What counts how much.")
    teacher_weight: float = knob(
        1.0, unit="1", doc="Of the distance to the teacher's waypoints, where there is one."
    )
    holdout_towns: tuple[str, ...] = knob(
        ("OldTown",), unit="1", doc="Never trained on, looked at once at the end."
    )
    holdout_weathers: tuple[int, ...] = knob(
        (12, 13, 20), unit="1", doc="Never trained on; validation is on these, LMDrive's choice."
    )
    validations: int = knob(4, unit="1", doc="Looks at the held-out weathers during a run.")
    validation_frames: int = knob(1500, unit="frames", doc="Of one such look, at most.")
    test_frames: int = knob(6000, unit="frames", doc="Of each look at the end, at most.")
    checkpoint_minutes: float = knob(2.0, unit="min", doc="Between checkpoints.")
    max_bad_batches: int = knob(
        5, unit="1", doc="So many losses in a row that are not finite end the run."
    )
    threads: int = knob(2, unit="1", doc="Of PyTorch.")
    seed: int = knob(1, unit="1", doc="Of weights, tellings, order, words and noise.")

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.minutes < 0.0:
            raise ValueError(
                f"epochs and minutes must not be negative, got {self.epochs} and {self.minutes}"
            )
        for name in (
            "batch_frames",
            "validations",
            "validation_frames",
            "test_frames",
            "max_bad_batches",
            "threads",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "head_rate", "clip_norm", "checkpoint_minutes"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("warmup", "ema_decay", "beta2"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name in ("notices", "lr_floor"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("weight_decay", "token_noise", "teacher_weight", "reading"):
            if getattr(self, name) < 0.0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.phases not in (1, 2):
            raise ValueError(f"phases must be 1 or 2, got {self.phases}")


def load_train_config(name: str | Path) -> AdLlmTrainConfig:
    """Read a configuration by its file, or ``adllm_NAME.yaml`` in ``config/training``.

    Raises:
        ValueError: if there is none, or it does not hold together.
    """
    if Path(name).is_file():
        return from_yaml(AdLlmTrainConfig, Path(name))
    here = Path(__file__).resolve()
    folders = [
        here.parents[4] / "config/training",  # a checkout: src/flad_edge/flad_edge/training
        here.parents[5] / "share/flad_edge/config/training",  # installed
    ]
    for folder in folders:
        if (folder / f"adllm_{name}.yaml").is_file():
            return from_yaml(AdLlmTrainConfig, folder / f"adllm_{name}.yaml")
    known = sorted(
        p.stem.removeprefix("adllm_") for folder in folders for p in folder.glob("adllm_*.yaml")
    )
    raise ValueError(
        f"config/training has no adllm_{name}.yaml; it has {', '.join(known) or 'nothing'}"
    )
