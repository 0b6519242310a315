# SPDX-License-Identifier: Apache-2.0
"""One computer of ``./flad bench stages``: the first measures, the others serve until it has."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flad_edge.encoder_stages import encoder_arguments, encoder_partition
from flad_edge.ros.stage_links import stage_transport
from flad_edge.swift.devices import load_devices
from flad_perception.live_sensors import LiveSensors
from flad_perception.profiling.encoder import FORMULAS
from flad_perception.scene_encoder import model_file
from flad_perception.weights import load_encoder
from flad_pipeline.graph.costs import unit_costs
from flad_pipeline.graph.units import unit_graph
from flad_pipeline.stages.staged_model import StagedModel, StagedModelConfig, StageServer
from flad_pipeline.testbed.pace import Pace, StagePace
from flad_pipeline.testbed.testbed import EmulatedVehicle, LinkProfile, Testbed

_MEET_S = 300.0
_END_S = 30.0
_LOOK_S = 0.1
_NUM_WARM = 3
_NUM_ALONE = 8
"""Frames of what takes as long for each: one computer, and one frame at a time."""


def main() -> None:
    """Measure or serve, write one's figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--computers", nargs="+", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--work-scale", type=float, required=True)
    parser.add_argument("--dilation", type=float, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        figures = _Computer(args).run()
    written = args.folder / f"{args.name}.new"
    written.write_text(json.dumps(figures), encoding="utf-8")
    written.rename(args.folder / f"{args.name}.json")
    os._exit(0)  # DDS ends its threads in its own time


class _Computer:
    """The model, its cuts, and what this computer's share of it costs."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args, self._names = args, tuple(args.computers)
        self._model, _, identity = load_encoder(model_file(args.model))
        self._model.eval()
        self._hash = identity.hash
        num = _NUM_WARM + max(args.frames, _NUM_ALONE)
        self._frames = [encoder_arguments(self._model, _sensors(i)) for i in range(num)]
        self._graph = unit_graph(self._model, self._frames[0], verify=False)
        self._partition = encoder_partition(self._graph, self._frames[0], self._names)
        flat = self._graph.traced.flatten(self._frames[0])
        costs = unit_costs(self._graph, flat, formulas=FORMULAS)
        self._flops = [float(unit.flops_forward) for unit in costs.units]
        self._pace = _pace(args)
        for frame in self._frames[:_NUM_WARM]:  # libraries load and kernels are made
            self._model(*frame)
        self._transport = partial(stage_transport, args.name, self._names)

    def run(self) -> dict[str, Any]:
        """Figures."""
        measures = self._args.name == self._names[0]
        figures = self._measured() if measures else self._served()
        worst = self._pace.report().worst_overrun if self._pace else 0.0
        return {**figures, "worst_overrun": worst}

    def _served(self) -> dict[str, Any]:
        server = StageServer(
            self._graph,
            self._hash,
            self._partition,
            self._args.name,
            self._transport,
            pace=self._stage_pace(),
        )
        server.start()
        ended = self._args.folder / f"{self._names[0]}.json"
        while not ended.exists():
            time.sleep(_LOOK_S)
        server.stop(_END_S)
        return {}

    def _measured(self) -> dict[str, Any]:
        frames = self._frames[_NUM_WARM:]
        expected = [self._model(*frame) for frame in frames]
        alone_s = _time_of(lambda: self._alone(frames[:_NUM_ALONE]))
        staged = StagedModel(
            self._graph,
            self._hash,
            self._partition,
            self._transport,
            StagedModelConfig(first_meeting_s=_MEET_S),
            self._stage_pace(),
        )
        for frame in self._frames[:_NUM_WARM]:
            staged(*frame)
        found: list[Any] = []
        single_s = _time_of(lambda: found.extend(staged(*f) for f in frames[:_NUM_ALONE]))
        in_flight_s = _time_of(
            lambda: found.extend(_in_flight(staged, frames, len(self._names) + 1))
        )
        staged.close()
        wanted = [*expected[:_NUM_ALONE], *expected]
        return {
            "tokens_error": max(_difference(a, b) for a, b in zip(found, wanted, strict=True)),
            "frames_per_s": len(frames) / in_flight_s,
            "alone_frames_per_s": _NUM_ALONE / alone_s,
            "latency_s": single_s / _NUM_ALONE,
            "slowest_share": max(map(self._share, self._names)),
        }

    def _alone(self, frames: Sequence[Sequence[Any]]) -> None:
        for frame in frames:
            computing: AbstractContextManager[None] = nullcontext()
            if self._pace is not None:
                computing = self._pace.work(sum(self._flops))
            with computing:
                self._model(*frame)

    def _stage_pace(self) -> StagePace | None:
        if self._pace is None:
            return None
        span = next(s for s in self._partition.stages if s.vehicle == self._args.name)
        return StagePace(
            pace=self._pace,
            forward_flops=self._flops_of(span.units),
            backward_flops=0.0,
            heads_flops=self._flops_of(self._partition.heads),
        )

    def _share(self, name: str) -> float:
        """Of all work; the first computer's with its heads."""
        return self._flops_of(self._partition.units_of(name)) / sum(self._flops)

    def _flops_of(self, units: Sequence[int]) -> float:
        return sum(self._flops[i] for i in units)


def _pace(args: argparse.Namespace) -> Pace | None:
    if not args.device:
        return None
    device = load_devices()[args.device]
    computer = EmulatedVehicle(
        seconds_per_flop=device.seconds_per_flop, available_bytes=device.available_bytes
    )
    testbed = Testbed(
        vehicles={args.name: computer}, link=LinkProfile(bits_per_s=1e9), dilation=args.dilation
    )
    return Pace(testbed, args.name, work_scale=args.work_scale)


def _in_flight(staged: StagedModel, frames: Sequence[Sequence[Any]], count: int) -> list[Any]:
    """All frames, ``count`` of them at a time."""
    found: list[Any] = []
    for submitted, frame in enumerate(frames):
        if submitted - len(found) == count:
            found.append(staged.result())
        staged.submit(*frame)
    return found + [staged.result() for _ in range(len(frames) - len(found))]


def _time_of(work: Callable[[], Any]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def _difference(a: Any, b: Any) -> float:
    return max(
        float((x - y).abs().max())
        for x, y in zip(a, b, strict=True)
        if isinstance(x, torch.Tensor) and x.numel()
    )


def _sensors(seed: int) -> LiveSensors:
    points = np.random.default_rng(seed).normal(0.0, 8.0, (4000, 4)).astype(np.float32)
    return LiveSensors(pictures={}, sweep=points, speed_mps=float(seed % 10))


if __name__ == "__main__":
    main()
