# SPDX-License-Identifier: Apache-2.0
"""A made-up clock, model and vehicles for tests of the edge's service."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from flad_edge.service.core import EdgeService, EdgeServiceConfig
from flad_edge.service.driving_model import ServedModel
from flad_edge.service.releases import Release
from flad_edge.service.requests import DriveRequest, RequestHead
from flad_perception.wire import WireDtype, encode_tokens

ENCODER = "e" * 16


class Clock:
    """Seconds that a test moves."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@dataclass
class Memory:
    instruction: str
    frames: list[float] = field(default_factory=list)
    notices: list[str | None] = field(default_factory=list)


@dataclass
class Said:
    waypoints_m: torch.Tensor
    completed: torch.Tensor


class CountingModel:
    """Says how many frames it remembers (x) and their sum (y): mixed-up histories show."""

    def __init__(self, clock, step_s=0.01, per_vehicle_s=0.0):
        self.clock, self.step_s, self.per_vehicle_s = clock, step_s, per_vehicle_s
        self.batches: list[list[str]] = []
        self.ahead: list[tuple[int, int]] = []
        self.completed = 0.0
        self.fail: Exception | None = None
        self.broken_frame: float | None = None

    def start(self, instructions):
        return [Memory(instruction) for instruction in instructions]

    def step(self, histories, tokens, notices):
        assert len({id(h) for h in histories}) == len(histories) == len(tokens) == len(notices)
        self.batches.append([h.instruction for h in histories])
        self.clock.now_s += self.step_s + self.per_vehicle_s * len(histories)
        if self.fail:
            raise self.fail
        waypoints = torch.zeros(len(histories), 5, 2)
        for i, (history, frame, notice) in enumerate(zip(histories, tokens, notices, strict=True)):
            history.frames.append(float(frame[0, 0]))
            history.notices.append(notice)
            waypoints[i, :, 0] = len(history.frames)
            waypoints[i, :, 1] = sum(history.frames)
            if history.frames[-1] == self.broken_frame:
                waypoints[i] = torch.nan
        return Said(waypoints, torch.full((len(histories),), self.completed))

    def read_ahead(self, histories, max_frames):
        if self.fail:
            raise self.fail
        self.ahead.append((len(histories), max_frames))
        return 1 if len(self.ahead) < 3 else 0


def release(name="first", **changes):
    values = {
        "contract_version": 3,
        "num_tokens": 2,
        "token_dim": 4,
        "encoder_hash": ENCODER,
        "adllm_hash": "a" * 16,
        "error_m": 0.5,
    }
    return Release(name=name, **{**values, **changes})


def request(
    vehicle="vehicle_0",
    stamp_s=1.0,
    frame=1.0,
    *,
    session="s1",
    arrived_s=100.0,
    tokens=None,
    **changes,
):
    head = RequestHead(
        vehicle=vehicle, session=session, stamp_ns=round(stamp_s * 1e9), arrived_s=arrived_s
    )
    if tokens is None:
        tokens = encode_tokens(np.full((2, 4), frame, np.float32), WireDtype.FP32)
    values = {
        "contract_version": 3,
        "encoder_hash": ENCODER,
        "instruction": "Turn left at the crossing.",
    }
    return DriveRequest(head=head, tokens=tokens, **{**values, **changes})


class Bench:
    """A service with a made-up model, and one clock for both."""

    def __init__(self, config=None, complaint=None, **model):
        self.clock = Clock()
        self.model = CountingModel(self.clock, **model)
        extra = {"complaint": complaint} if complaint else {}
        served = ServedModel(release=release(), model=self.model, **extra)
        self.failures: list[Exception] = []
        self.service = EdgeService(
            served, self.clock, config or EdgeServiceConfig(), self.failures.append
        )

    def ask(self, *args, **kwargs):
        return self.service.submit(request(*args, arrived_s=self.clock.now_s, **kwargs))

    def run(self):
        return self.service.run_batch(self.clock.now_s)

    def ask_and_run(self, *args, **kwargs):
        """The one answer to a request that meets no other."""
        answers = [*self.ask(*args, **kwargs), *self.run()]
        assert len(answers) == 1
        return answers[0]
