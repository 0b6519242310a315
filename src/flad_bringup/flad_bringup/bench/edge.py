# SPDX-License-Identifier: Apache-2.0
"""How fast the edge answers: batches and cached histories, beside one plain forward per request.

Vehicles in the middle of their histories ask the same of both in turns: the service, as the node
runs it, and the library's own modules with everything read anew (also: with what the Q-Former made
of older frames kept). Both must say the same. Then every vehicle asks at its own rate, in a phase
of its own, and latencies are taken. Speed does not depend on weights: without ``--adllm`` untrained
ones are measured. On a GPU: ``--device cuda --config 3b`` (or ``7b``) and ``--rate-hz 10``.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from flad_bringup.bench.edge_load import (
    COMPLETED,
    Fleet,
    WorkClock,
    drive_at_rate,
    node_service,
    spoken_fleet,
)
from flad_bringup.bench.edge_plain import KeptFrames, PlainHistory, plain_waypoints_m
from flad_bringup.bench.rows import Row
from flad_edge.adllm.config import load_adllm_config
from flad_edge.adllm.model import AdLlm, build_adllm
from flad_edge.adllm.tokenizer import train_tokenizer
from flad_edge.adllm.weights import load_adllm
from flad_edge.service.core import EdgeService, EdgeServiceConfig
from flad_edge.service.requests import Answer, Outcome
from flad_perception.wire import decode_tokens
from flad_planner.language.bank import load_bank

SUMMARY = "the edge's service beside one plain forward per request: rate, latency, same answers"
MINUTES = 2.0

LEAST_OVER_PLAIN = 5.0
PROMISED_AT = 16
MOST_DIFFERENCE_M = 1e-4
PROMPT_S = 0.1

_PLAIN_PER_ROUND = 8  # of more vehicles, so many are asked the plain way, too
_WARM_ROUNDS = 2
_LOUDER = 4.0  # untrained weights are so small that no input would show in the answers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument(
        "--vehicles", type=int, nargs="+", default=[1, 4, 16, 64], help="(default: %(default)s)"
    )
    parser.add_argument("--config", default="tiny", help="of an untrained model (%(default)s)")
    parser.add_argument("--adllm", type=Path, metavar="FILE", help="trained weights instead")
    parser.add_argument("--device", default="cpu", help="of torch (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: its own choice")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count the processor's time, not the clock's: for a busy machine, with --threads 1",
    )
    parser.add_argument("--max-batch", type=int, default=EdgeServiceConfig().max_batch)
    parser.add_argument(
        "--rate-hz", type=float, default=5.0, help="at which a vehicle asks (default: %(default)s)"
    )
    parser.add_argument(
        "--frames", type=int, default=40, help="per vehicle at that rate (default: %(default)s)"
    )


def measure(args: argparse.Namespace) -> list[Row]:
    """Ask the same of both, then at a rate."""
    if args.threads:
        torch.set_num_threads(args.threads)
    model = _model(args).to(torch.device(args.device)).eval()
    runs = [_run(model, num_vehicles, args) for num_vehicles in args.vehicles]
    return rows(runs, exact=model.config.llm.dtype == "float32", device=args.device)


@dataclass(kw_only=True)
class EdgeRun:
    """What one number of vehicles showed."""

    num_vehicles: int
    requests_per_s: float = 0.0
    plain_s: list[float] = field(default_factory=list)
    """Of each plain forward."""
    kept_s: list[float] = field(default_factory=list)
    """Of each with older frames kept."""
    differences_m: list[float] = field(default_factory=list)
    spread_m: float = 0.0
    """Standard deviation of the waypoints' coordinates: what a difference is to be seen beside."""
    answers: list[Answer] = field(default_factory=list)
    """Of the vehicles that asked at their rate."""
    not_ahead: list[Answer] = field(default_factory=list)
    """The same, and nothing was read ahead while nobody asked."""
    history_bytes: int = 0

    def latency_s(self, percentile: float) -> float:
        """Of the answered ones."""
        return _latency_s(self.answers, percentile)

    @property
    def num_unanswered(self) -> int:
        """Late or shed."""
        return sum(a.outcome is not Outcome.ANSWERED for a in self.answers)

    @property
    def is_prompt(self) -> bool:
        """Everybody was answered, 99 of 100 in time."""
        return not self.num_unanswered and self.latency_s(99.0) < PROMPT_S


def rows(runs: Sequence[EdgeRun], *, exact: bool, device: str) -> list[Row]:
    """The figures of all runs.

    Args:
        runs: by rising number of vehicles.
        exact: whether the model computes in single precision, where answers must be the same.
        device: of torch.
    """
    found: list[Row] = []
    for run in runs:
        name = f"edge_{run.num_vehicles}"
        plain_s, kept_s = float(np.mean(run.plain_s)), float(np.mean(run.kept_s))
        bar = LEAST_OVER_PLAIN if run.num_vehicles == PROMISED_AT else None
        alone = "one plain forward, nobody waiting"
        found += [
            Row(
                name=f"{name}_requests_per_s",
                value=run.requests_per_s,
                unit="1/s",
                baseline="one plain forward per request",
                baseline_value=1.0 / plain_s,
            ),
            Row(name=f"{name}_over_plain", value=run.requests_per_s * plain_s, unit="x", bar=bar),
            Row(name=f"{name}_over_kept_frames", value=run.requests_per_s * kept_s, unit="x"),
            Row(
                name=f"{name}_latency_p50",
                value=run.latency_s(50.0),
                unit="s",
                baseline=alone,
                baseline_value=float(np.percentile(run.plain_s, 50.0)),
                better="lower",
            ),
            Row(
                name=f"{name}_latency_p99",
                value=run.latency_s(99.0),
                unit="s",
                baseline="the same, nothing read ahead",
                baseline_value=_latency_s(run.not_ahead, 99.0),
                better="lower",
            ),
            Row(
                name=f"{name}_unanswered",
                value=float(run.num_unanswered),
                unit=f"of {len(run.answers)} requests",
                better="lower",
            ),
        ]
    found += [
        Row(
            name="edge_waypoint_difference",
            value=max(d for run in runs for d in run.differences_m),
            unit="m",
            bar=MOST_DIFFERENCE_M if exact else None,
            better="lower",
        ),
        Row(name="edge_waypoint_spread", value=max(run.spread_m for run in runs), unit="m"),
        Row(
            name="edge_vehicles_within_100ms",
            value=float(max((run.num_vehicles for run in runs if run.is_prompt), default=0)),
            unit="vehicles",
        ),
        Row(
            name="edge_history_mib",
            value=max(run.history_bytes for run in runs) / 2**20,
            unit="MiB/vehicle",
            better="lower",
        ),
    ]
    if device.startswith("cuda"):
        peak = torch.cuda.max_memory_allocated(torch.device(device))
        found.append(Row(name="edge_peak_memory", value=peak / 2**30, unit="GiB", better="lower"))
    return found


def _latency_s(answers: Sequence[Answer], percentile: float) -> float:
    return float(np.percentile([a.latency_s for a in answers if not a.error] or [0.0], percentile))


def _model(args: argparse.Namespace) -> AdLlm:
    if args.adllm is not None:
        return load_adllm(args.adllm).model
    config = load_adllm_config(args.config)
    texts = load_bank().corpus(random.Random(args.seed))
    model = build_adllm(config, train_tokenizer(texts, config.text), seed=args.seed)
    if config.llm.dtype == "float32":
        with torch.no_grad():
            for parameter in (*model.llm.parameters(), *model.waypoint_head.parameters()):
                if parameter.dim() > 1:
                    parameter.mul_(_LOUDER)
    return model


def _run(model: AdLlm, num_vehicles: int, args: argparse.Namespace) -> EdgeRun:
    fleet = spoken_fleet(model, num_vehicles, args.seed)
    clock = WorkClock(time.process_time if args.cpu_time else time.perf_counter)
    service = node_service(model, clock, num_vehicles, args.max_batch)
    turns = _Turns(model, service, clock, fleet, num_vehicles)
    rule = model.config.history
    period = rule.dropped_frames
    spread = [i * period // num_vehicles for i in range(num_vehicles)]
    for frame in range(period + max(spread)):
        turns.serve([i for i in range(num_vehicles) if frame < period + spread[i]])
    run = EdgeRun(num_vehicles=num_vehicles)
    served_s = 0.0
    stride = max(1, num_vehicles // _PLAIN_PER_ROUND)
    for number in range(period + _WARM_ROUNDS):  # every vehicle drops frames once
        seconds, served = turns.serve(range(num_vehicles))
        plain = turns.plainly(range(number % stride, num_vehicles, stride), served)
        if number >= _WARM_ROUNDS:
            served_s += seconds
            run.plain_s += plain.plain_s
            run.kept_s += plain.kept_s
            run.differences_m += plain.differences_m
    run.requests_per_s = num_vehicles * period / served_s
    for ahead in (False, True):
        answers = drive_at_rate(
            service,
            clock,
            fleet,
            turns.frames,
            rate_hz=args.rate_hz,
            num_frames=args.frames,
            seed=args.seed,
            ahead=ahead,
        )
        turns.frames = [frame + args.frames for frame in turns.frames]
        if ahead:
            run.answers = answers
        else:
            run.not_ahead = answers
    said = [m for a in run.answers for point in a.waypoints_m for m in point]
    run.spread_m = float(np.std(said)) if said else 0.0
    run.history_bytes = _history_bytes(model, fleet)
    return run


@dataclass(kw_only=True)
class _Plain:
    plain_s: list[float] = field(default_factory=list)
    kept_s: list[float] = field(default_factory=list)
    differences_m: list[float] = field(default_factory=list)


class _Turns:
    """Vehicles that ask the service all at once, and then the plain way."""

    def __init__(
        self,
        model: AdLlm,
        service: EdgeService,
        clock: WorkClock,
        fleet: Fleet,
        num_vehicles: int,
    ) -> None:
        self._model, self._service, self._clock, self._fleet = model, service, clock, fleet
        self.frames = [0] * num_vehicles
        self._histories: list[PlainHistory | None] = [None] * num_vehicles
        self._kept = [KeptFrames(model) for _ in range(num_vehicles)]
        self._completed = [False] * num_vehicles

    def serve(self, vehicles: Sequence[int]) -> tuple[float, dict[str, Answer]]:
        """One frame of each; the seconds that the service worked, and its answers."""
        requests = [self._fleet.request(i, self.frames[i], self._clock()) for i in vehicles]
        answers: list[Answer] = []
        began_s = self._clock()
        with self._clock.working():
            for request in requests:
                answers += self._service.submit(request)
            while self._service.num_waiting:
                answers += self._service.run_batch(self._clock())
        seconds = self._clock() - began_s
        if bad := [a for a in answers if a.error]:
            raise ValueError(f"the service did not answer: {bad[0].text}")
        by_vehicle = {a.head.vehicle: a for a in answers}
        for i, request in zip(vehicles, requests, strict=True):
            self._note(i, decode_tokens(request.tokens), request.notice)
            self.frames[i] += 1
            self._completed[i] = by_vehicle[f"vehicle_{i}"].completed > COMPLETED
        return seconds, by_vehicle

    def plainly(self, vehicles: Sequence[int], answers: dict[str, Answer]) -> _Plain:
        """Ask about the newest frame of each without the service."""
        found = _Plain()
        for i in vehicles:
            history = self._histories[i]
            assert history is not None
            self._kept[i].prepare(history)
            began_s = self._clock.timer()
            plain = plain_waypoints_m(self._model, history).cpu()
            middle_s = self._clock.timer()
            kept = self._kept[i].waypoints_m(history).cpu()
            found.kept_s.append(self._clock.timer() - middle_s)
            found.plain_s.append(middle_s - began_s)
            ours = torch.tensor(answers[f"vehicle_{i}"].waypoints_m)
            found.differences_m += [float((ours - p).abs().max()) for p in (plain, kept)]
        return found

    def _note(self, vehicle: int, tokens: np.ndarray, notice: str | None) -> None:
        history = self._histories[vehicle]
        if history is None or self._completed[vehicle]:
            text = self._fleet.instructions[vehicle % len(self._fleet.instructions)]
            history = PlainHistory(ids=self._model.tokenizer.instruction(text))
            self._histories[vehicle] = history
            self._kept[vehicle] = KeptFrames(self._model)
        if notice is not None:
            history.notices[len(history.frames)] = self._model.tokenizer.notice(notice)
        history.frames.append(torch.from_numpy(tokens))


def _history_bytes(model: AdLlm, fleet: Fleet) -> int:
    """The most that one vehicle's history holds."""
    (history,) = model.start([fleet.instructions[0]])
    sizes = []
    for frame in range(model.config.history.max_frames + 1):
        tokens = torch.from_numpy(decode_tokens(fleet.request(0, frame, 0.0).tokens))
        model.step([history], tokens[None], [fleet.notice(0, frame)])
        while model.read_ahead([history], model.config.history.max_frames):
            pass
        sizes.append(history.num_bytes)
    return max(sizes)
