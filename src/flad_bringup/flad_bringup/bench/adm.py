# SPDX-License-Identifier: Apache-2.0
"""What a request costs the ADM, beside the AD-LLM that it was distilled from.

One vehicle in the middle of its history asks both the same, in turns: each has the edge's service
around it, as the node runs it, with its history cached. Rounds are whole periods of the history's
bound, so that reading again what was kept counts with its share; nothing is read ahead.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch

from flad_bringup.bench.edge_load import Fleet, WorkClock, node_service, spoken_fleet
from flad_bringup.bench.rows import Row
from flad_edge.adllm.model import AdLlm
from flad_edge.adllm.weights import adllm_file, load_adllm

SUMMARY = "a request's time of the ADM beside the AD-LLM's"
MINUTES = 1.0

MOST_OF_ADLLM = 0.4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--adllm", default="tiny", help="shipped or FILE (default: %(default)s)")
    parser.add_argument("--adm", default="adm", help="shipped or FILE (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count the processor's time, not the clock's: for a busy machine",
    )
    parser.add_argument("--rounds", type=int, default=10, help="(default: %(default)s)")


def measure(args: argparse.Namespace) -> list[Row]:
    """Ask both in turns.

    Raises:
        ValueError: if the models do not read the same tokens by the same rule of history.
    """
    torch.set_num_threads(args.threads)
    models = [load_adllm(adllm_file(name)).model.eval() for name in (args.adllm, args.adm)]
    large, small = (m.config for m in models)
    if (large.num_tokens, large.token_dim, large.history) != (
        small.num_tokens,
        small.token_dim,
        small.history,
    ):
        raise ValueError(f"{args.adllm} and {args.adm} read other tokens, or keep other histories")
    fleet = spoken_fleet(models[0], 1, args.seed)
    timer = time.process_time if args.cpu_time else time.perf_counter
    asked = [_Asked(model, fleet, WorkClock(timer)) for model in models]
    period = large.history.dropped_frames
    first = large.history.max_frames  # from then on every round drops frames once
    for one in asked:
        one.ask(range(first))
    seconds: list[list[float]] = [[], []]
    for number in range(args.rounds):
        for of, one in zip(seconds, asked, strict=True):
            of += one.ask(range(first + number * period, first + (number + 1) * period))
    return rows(*seconds)


def rows(adllm_s: Sequence[float], adm_s: Sequence[float]) -> list[Row]:
    """The figures of each model's requests, in seconds."""
    figures = {
        "mean": (float(np.mean(adm_s)), float(np.mean(adllm_s))),
        "p50": (float(np.median(adm_s)), float(np.median(adllm_s))),
        "p99": (float(np.percentile(adm_s, 99.0)), float(np.percentile(adllm_s, 99.0))),
    }
    mean = figures["mean"]
    return [
        Row(
            name="adm_request_of_adllm",
            value=mean[0] / mean[1],
            unit="of the AD-LLM's time",
            bar=MOST_OF_ADLLM,
            better="lower",
        ),
        *(
            Row(
                name=f"adm_request_{name}",
                value=1e3 * ours_s,
                unit="ms",
                baseline="the AD-LLM",
                baseline_value=1e3 * theirs_s,
                better="lower",
            )
            for name, (ours_s, theirs_s) in figures.items()
        ),
    ]


class _Asked:
    """A model as the edge serves it, and one vehicle that asks."""

    def __init__(self, model: AdLlm, fleet: Fleet, clock: WorkClock) -> None:
        self._fleet, self._clock = fleet, clock
        self._service = node_service(model, clock, 1, 1)

    def ask(self, frames: Sequence[int]) -> list[float]:
        """The seconds of each request."""
        found = []
        for frame in frames:
            request = self._fleet.request(0, frame, self._clock())
            began_s = self._clock()
            with self._clock.working():
                answers = self._service.submit(request)
                while self._service.num_waiting:
                    answers += self._service.run_batch(self._clock())
            found.append(self._clock() - began_s)
            if bad := [a for a in answers if a.error]:
                raise ValueError(f"the service did not answer: {bad[0].text}")
        return found
