# SPDX-License-Identifier: Apache-2.0
"""Vehicles that ask an edge's service at a rate, on a clock that only its work moves.

The service works for as long as it really takes; the time in which nobody asks is skipped. So a
light load is measured as fast as a heavy one, and what else the machine does adds nothing while the
service would wait.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from flad_edge.adllm.model import AdLlm
from flad_edge.service.core import EdgeService, EdgeServiceConfig
from flad_edge.service.driving_model import ServedModel
from flad_edge.service.releases import Release
from flad_edge.service.requests import Answer, DriveRequest, RequestHead
from flad_perception.config import CONTRACT_VERSION
from flad_perception.wire import EncodedTokens, WireDtype, encode_tokens
from flad_planner.language.bank import Split, draw_arguments, load_bank
from flad_planner.language.kinds import Kind

_ENCODER = "0" * 16
COMPLETED = 1.0 - 1e-9
"""What a service takes for the end of an instruction: histories shall be long."""


class WorkClock:
    """Seconds that pass while somebody works, and are skipped otherwise.

    Args:
        timer: what counts them; with one thread on a machine that does other things, too, the
            processor's time is what an idle machine would take.
    """

    def __init__(self, timer: Callable[[], float] = time.perf_counter) -> None:
        self.timer = timer
        self._now_s = 0.0
        self._since_s: float | None = None

    def __call__(self) -> float:
        """The time now."""
        return self._now_s + (0.0 if self._since_s is None else self.timer() - self._since_s)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Time passes."""
        self._since_s = self.timer()
        try:
            yield
        finally:
            self._now_s, self._since_s = self(), None

    def skip_to(self, time_s: float) -> None:
        """Nobody works until then."""
        self._now_s = max(self._now_s, time_s)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """What vehicles see and are told; the same for everybody who is measured."""

    tokens: Sequence[Sequence[EncodedTokens]]
    """Per vehicle, in a circle."""
    instructions: Sequence[str]
    notices: Sequence[str]
    notice_every: int
    """Frames between two notices of a vehicle."""
    encoder_hash: str
    frame_s: float
    """Of a vehicle's own time between two frames."""

    def request(self, vehicle: int, frame: int, arrived_s: float) -> DriveRequest:
        """What a vehicle asks at one of its frames."""
        head = RequestHead(
            vehicle=f"vehicle_{vehicle}",
            session="bench",
            stamp_ns=round((frame + 1) * self.frame_s * 1e9),
            arrived_s=arrived_s,
        )
        return DriveRequest(
            head=head,
            contract_version=CONTRACT_VERSION,
            encoder_hash=self.encoder_hash,
            tokens=self.tokens[vehicle][frame % len(self.tokens[vehicle])],
            instruction=self.instructions[vehicle % len(self.instructions)],
            notice=self.notice(vehicle, frame),
        )

    def notice(self, vehicle: int, frame: int) -> str | None:
        """What follows a frame."""
        if (frame + vehicle) % self.notice_every:
            return None
        return self.notices[(frame + vehicle) // self.notice_every % len(self.notices)]


def make_fleet(
    num_vehicles: int,
    *,
    num_tokens: int,
    token_dim: int,
    instructions: Sequence[str],
    notices: Sequence[str],
    encoder_hash: str,
    frame_s: float,
    seed: int,
) -> Fleet:
    """Vehicles that see random tokens and are told different things."""
    generator = torch.Generator().manual_seed(seed)
    shape = (num_vehicles, 50, num_tokens, token_dim)
    values = torch.randn(shape, generator=generator).numpy()
    rng = random.Random(seed)
    return Fleet(
        tokens=[[encode_tokens(frame, WireDtype.FP16) for frame in one] for one in values],
        instructions=rng.sample(list(instructions), min(num_vehicles, len(instructions))),
        notices=notices,
        notice_every=13,
        encoder_hash=encoder_hash,
        frame_s=frame_s,
    )


def spoken_fleet(model: AdLlm, num_vehicles: int, seed: int) -> Fleet:
    """Vehicles for a model; they are told, and warned of, what the instruction bank has."""
    bank, rng = load_bank(), random.Random(seed)
    kinds = list(Kind)
    texts = [bank.render(draw_arguments(k, rng), rng, Split.TRAINING) for k in kinds]
    notices = [t for k, t in zip(kinds, texts, strict=True) if k.name.startswith("NOTICE")]
    return make_fleet(
        num_vehicles,
        num_tokens=model.config.num_tokens,
        token_dim=model.config.token_dim,
        instructions=[t for t in texts if t not in notices],
        notices=notices,
        encoder_hash=_ENCODER,
        frame_s=model.config.history.frame_interval_s,
        seed=seed,
    )


def node_service(model: AdLlm, clock: WorkClock, num_vehicles: int, max_batch: int) -> EdgeService:
    """As the node runs it; but what the model says of completion ends hardly any history."""
    config = EdgeServiceConfig(max_batch=max_batch, completed_threshold=COMPLETED)
    admission = replace(config.admission, max_vehicles=max(num_vehicles, 1), forget_after_s=1e9)
    release = Release(
        name="bench",
        contract_version=CONTRACT_VERSION,
        num_tokens=model.config.num_tokens,
        token_dim=model.config.token_dim,
        encoder_hash=_ENCODER,
        adllm_hash=_ENCODER,
        waypoint_step_s=model.config.waypoint_step_s,
    )
    served = ServedModel(
        release=release, model=model, complaint=lambda text, _: model.complaint(text)
    )
    return EdgeService(served, clock, replace(config, admission=admission))


def drive_at_rate(
    service: EdgeService,
    clock: WorkClock,
    fleet: Fleet,
    first_frames: Sequence[int],
    *,
    rate_hz: float,
    num_frames: int,
    seed: int,
    ahead: bool = True,
) -> list[Answer]:
    """Every vehicle asks ``num_frames`` times at a rate, each in a phase of its own.

    Returns:
        How every request ended, in the order in which they did.
    """
    rng = random.Random(seed)
    began_s = clock()
    arrivals = deque(
        sorted(
            (began_s + (k + phase) / rate_hz, vehicle, first + k)
            for vehicle, first in enumerate(first_frames)
            for phase in [rng.random()]
            for k in range(num_frames)
        )
    )
    answers: list[Answer] = []
    while arrivals or service.num_waiting:
        if arrivals and arrivals[0][0] <= clock():
            arrived_s, vehicle, frame = arrivals.popleft()
            request = fleet.request(vehicle, frame, arrived_s)
            with clock.working():
                answers += service.submit(request)
        elif service.num_waiting:
            with clock.working():
                answers += service.run_batch(clock())
        else:
            with clock.working():
                worked = ahead and service.read_ahead()
            if not worked:
                clock.skip_to(arrivals[0][0])
    return answers
