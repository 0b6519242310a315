# SPDX-License-Identifier: Apache-2.0
"""LoRA on what vehicles uploaded (CELLAdapt, paper section 5.2): adapters learn, the rest stays.

Every batch holds uploaded clips and, where there are any, as many of the clips that the model was
trained on, so that it does not forget other towns. Labels are where vehicles went afterwards.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from flad_common.config import knob, section
from flad_edge.adapt.scoring import clip_batch
from flad_edge.adllm.lora import AdapterConfig, add_adapters, merge_adapters
from flad_edge.adllm.losses import COMPLETED_WEIGHT, completed_cross_entropy
from flad_edge.adllm.model import AdLlm
from flad_edge.training.clip_file import UNKNOWN, FeatureClip


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """How long and how hard."""

    adapters: AdapterConfig = section(AdapterConfig, doc="Their size.")
    steps: int = knob(200, unit="1", doc="Batches.")
    batch_clips: int = knob(8, unit="1", doc="Windows of uploaded clips in a batch.")
    replay_clips: int = knob(8, unit="1", doc="Windows of older clips beside them.")
    window_frames: int = knob(40, unit="1", doc="Longest piece of a clip in a batch.")
    lr: float = knob(3e-4, unit="1", doc="Of AdamW, falling to 0 along a line.")
    max_grad_norm: float = knob(1.0, unit="1", doc="Longer gradients are cut to it.")
    minutes: float = knob(10.0, unit="min", doc="After which it ends, whatever the step.")
    seed: int = knob(0, unit="1", doc="Of the order, the windows and the adapters.")

    def __post_init__(self) -> None:
        for name in ("steps", "batch_clips", "window_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.replay_clips < 0:
            raise ValueError(f"replay_clips must not be negative, got {self.replay_clips}")
        for name in ("lr", "max_grad_norm", "minutes"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """How a tuning went."""

    steps: int
    losses_m: tuple[float, ...]
    """Waypoint L1 of the uploaded clips, a step each."""


def tune(
    model: AdLlm,
    uploads: Sequence[FeatureClip],
    replay: Sequence[FeatureClip],
    config: TuneConfig,
    *,
    clock: Callable[[], float] = time.monotonic,
    say: Callable[[str], None] = lambda text: None,
) -> Tuned:
    """Tune a model in place; adapters are merged and it is in evaluation mode afterwards.

    Args:
        model: without adapters; of the same encoder as all clips.
        uploads: what vehicles uploaded.
        replay: what it was trained on; none: nothing keeps it from forgetting.
        config: how long and how hard.
        clock: seconds, for ``config.minutes``.
        say: told of progress.

    Raises:
        ValueError: if no frame of the uploads has known waypoints.
        FloatingPointError: if the loss is not finite; the model is of no use then.
    """
    uploads = [clip for clip in uploads if clip.labelled.any()]
    replay = [clip for clip in replay if clip.labelled.any()]
    if not uploads:
        raise ValueError("no uploaded clip has a frame whose waypoints are known")
    rng = random.Random(config.seed)
    torch.manual_seed(config.seed)
    add_adapters(model, config.adapters)
    # Dropout of the adapters only: the frozen rest answers as it does when it drives.
    model.eval()
    model.llm.train()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.lr, weight_decay=0.0)
    losses_m: list[float] = []
    end_s = clock() + 60.0 * config.minutes
    for step in range(config.steps):
        if clock() > end_s:
            say(f"{config.minutes:g} minutes are over after {step} of {config.steps} steps")
            break
        new = [_window(rng.choice(uploads), config, rng) for _ in range(config.batch_clips)]
        old = [_window(rng.choice(replay), config, rng) for _ in range(_num_old(replay, config))]
        for group in optimizer.param_groups:
            group["lr"] = config.lr * (1.0 - step / config.steps)
        loss, uploaded_m = _loss(model, new, old)
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(f"the loss is {float(loss)} at step {step}")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, config.max_grad_norm)
        optimizer.step()
        losses_m.append(uploaded_m)
        if (step + 1) % 20 == 0:
            say(f"step {step + 1} of {config.steps}: L1 {np.mean(losses_m[-20:]):.4f} m")
    merge_adapters(model)
    model.eval()
    return Tuned(steps=len(losses_m), losses_m=tuple(losses_m))


def _num_old(replay: Sequence[FeatureClip], config: TuneConfig) -> int:
    return config.replay_clips if replay else 0


def _loss(
    model: AdLlm, new: Sequence[FeatureClip], old: Sequence[FeatureClip]
) -> tuple[torch.Tensor, float]:
    """L1 over known frames plus 0.2 CE over frames whose completion is known; L1 of ``new``."""
    clips = [*new, *old]
    said = model(clip_batch(clips))
    errors, logits, done, of_new = [], [], [], []
    for row, clip in enumerate(clips):
        known = torch.from_numpy(clip.labelled)
        frames = said.waypoints_m[row, : clip.num_frames].float()
        target = torch.from_numpy(clip.waypoints_m)[known].to(frames.device)
        errors.append((frames[known] - target).abs().mean(dim=(1, 2)))
        of_new.append(torch.full((len(target),), row < len(new)))
        completed = torch.from_numpy(clip.completed)
        judged = completed != UNKNOWN
        logits.append(said.completed_logits[row, : clip.num_frames][judged])
        done.append(completed[judged])
    error, is_new = torch.cat(errors), torch.cat(of_new)
    loss = error.mean()
    if len(known_logits := torch.cat(logits)):
        loss = loss + COMPLETED_WEIGHT * completed_cross_entropy(known_logits, torch.cat(done))
    return loss, float(error.detach()[is_new].mean())


def _window(clip: FeatureClip, config: TuneConfig, rng: random.Random) -> FeatureClip:
    """A piece of a clip that begins anywhere and has a frame to learn from."""
    if clip.num_frames <= config.window_frames:
        return clip
    aim = rng.choice(np.flatnonzero(clip.labelled).tolist())
    last = clip.num_frames - config.window_frames
    start = rng.randint(max(0, aim - config.window_frames + 1), min(aim, last))
    part = slice(start, start + config.window_frames)
    return replace(
        clip,
        tokens=clip.tokens[part],
        waypoints_m=clip.waypoints_m[part],
        completed=clip.completed[part],
        speed_mps=clip.speed_mps[part],
        notices={
            f - start: text for f, text in clip.notices.items() if part.start <= f < part.stop
        },
    )
