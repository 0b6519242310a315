# SPDX-License-Identifier: Apache-2.0
"""Every number that a planner needs, as arrays: times of Eqs. 8 and 9, and how far memory reaches.

Letters: ``n`` vehicles, ``L`` units, ``k`` stages that follow in the pipeline. A stage is a vehicle
with the units ``[i, j)``.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from flad_edge.swift.cluster import Cluster, Floats
from flad_edge.swift.cost import kept_micro_batches, path_time_s, step_time_s
from flad_edge.swift.pipeline import Pipeline, Stage
from flad_edge.swift.units import ModelUnits

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_ROUNDING = 1.0 + 1e-12
"""Bytes are sums of floats: what fits exactly must not fail in the last digit."""


class Problem:
    """One cluster, one model, one way to run a step; planners read it and nothing else.

    A stage fits a vehicle if its units' weights, gradients, optimizer and buffers, a snapshot of
    them for recovery if ``snapshot``, and the activations of all micro-batches that 1F1B keeps at
    that position are within the vehicle's memory, less the largest scratch memory of any unit.

    Args:
        cluster: who trains.
        model: what is trained, in micro-batches of the size that is run.
        micro_batches: of a step.
        snapshot: whether every stage keeps a copy of its state (DESIGN: a consistent cut).
    """

    def __init__(
        self, cluster: Cluster, model: ModelUnits, micro_batches: int, *, snapshot: bool = True
    ) -> None:
        if micro_batches < 1:
            raise ValueError(f"micro_batches must be at least 1, got {micro_batches}")
        self.cluster, self.model, self.micro_batches = cluster, model, micro_batches
        self.snapshot = snapshot
        units = model.units
        self.work = _prefix([unit.flops_forward + unit.flops_backward for unit in units])
        """``[L + 1]``: FLOPs of the units before."""
        copies = [unit.state_bytes if snapshot else 0.0 for unit in units]
        self.held = _prefix([u.static_bytes + c for u, c in zip(units, copies, strict=True)])
        """``[L + 1]``: bytes that do not depend on the position."""
        self.saved = _prefix([unit.saved_bytes for unit in units])
        """``[L + 1]``: bytes for each micro-batch in flight."""
        self.scratch_bytes = max(unit.scratch_bytes for unit in units)
        self.seconds_per_flop = np.array([v.seconds_per_flop for v in cluster.vehicles])
        self.memory = np.array([v.available_bytes for v in cluster.vehicles]) - self.scratch_bytes
        """``[n]``: for what units hold and save."""
        self.stability = np.array([v.stability for v in cluster.vehicles])
        crossing = np.zeros(len(units) + 1)
        crossing[1:-1] = [cut.forward_bytes + cut.backward_bytes for cut in model.cuts]
        inside = np.zeros(len(units) + 1)
        inside[1:-1] = 1.0
        self.air_s = cluster.seconds_per_byte[:, :, None] * crossing
        """``[n, n, L + 1]``: how long a hop at a cut takes the channel, both directions (Eq. 9)."""
        self.hop_s = self.air_s + 2.0 * cluster.delay_s[:, :, None] * inside
        """``[n, n, L + 1]``: the same with delays."""

    @property
    def num_vehicles(self) -> int:
        """``n``."""
        return len(self.seconds_per_flop)

    @property
    def num_units(self) -> int:
        """``L``."""
        return len(self.work) - 1

    @functools.cached_property
    def reach(self) -> Ints:
        """``[n (k), n, L + 1]``: the farthest end of a stage of a vehicle that begins at a unit."""
        n, begins = self.num_vehicles, self.num_units + 1
        reach = np.empty((n, n, begins), dtype=np.int64)
        for k in range(n):
            used = self.held + kept_micro_batches(k, self.micro_batches) * self.saved
            for v in range(n):
                most = used + max(0.0, self.memory[v]) * _ROUNDING
                reach[k, v] = np.searchsorted(used, most, side="right") - 1
        return np.maximum(reach, np.arange(begins))

    @functools.cached_property
    def reach_back(self) -> Ints:
        """``[n (k), n, L + 1]``: the earliest begin of a stage of a vehicle, by its end."""
        n, ends = self.num_vehicles, self.num_units + 1
        reach = np.empty((n, n, ends), dtype=np.int64)
        for k in range(n):
            used = self.held + kept_micro_batches(k, self.micro_batches) * self.saved
            for v in range(n):
                least = used - max(0.0, self.memory[v]) * _ROUNDING
                reach[k, v] = np.searchsorted(used, least, side="left")
        return np.minimum(reach, np.arange(ends))

    def stage_s(self, stage: Stage) -> float:
        """Eqs. 7 and 8: forward and backward of one micro-batch."""
        work = self.work[stage.end] - self.work[stage.begin]
        return float(work * self.seconds_per_flop[stage.vehicle])

    def stage_bytes(self, stage: Stage, num_following: int) -> float:
        """Memory of a stage, scratch included."""
        kept = kept_micro_batches(num_following, self.micro_batches)
        held = self.held[stage.end] - self.held[stage.begin]
        saved = self.saved[stage.end] - self.saved[stage.begin]
        return float(held + kept * saved + self.scratch_bytes)

    def stage_times_s(self, pipeline: Pipeline) -> list[float]:
        """Of every stage."""
        return [self.stage_s(stage) for stage in pipeline]

    def hop_times_s(self, pipeline: Pipeline) -> list[float]:
        """Of every hop, delays included."""
        return [float(self.hop_s[h]) for h in _hops(pipeline)]

    def air_times_s(self, pipeline: Pipeline) -> list[float]:
        """Of every hop: how long the channel is taken."""
        return [float(self.air_s[h]) for h in _hops(pipeline)]

    def path_s(self, pipeline: Pipeline) -> float:
        """Eq. 10."""
        return path_time_s(self.stage_times_s(pipeline), self.hop_times_s(pipeline))

    def step_s(self, pipeline: Pipeline) -> float:
        """A step of all micro-batches; see :func:`flad_edge.swift.cost.step_time_s`."""
        return step_time_s(
            self.stage_times_s(pipeline),
            self.hop_times_s(pipeline),
            self.air_times_s(pipeline),
            self.micro_batches,
            shared_channel=self.cluster.shared_channel,
        )

    def objections(self, pipeline: Pipeline) -> list[str]:
        """Why a pipeline cannot run, with the arithmetic; empty if it can."""
        complaints = []
        least = self.model.min_first_units
        if pipeline.stages[0].end < least:
            complaints.append(
                f"its first stage has {pipeline.stages[0].end} units, the model asks for {least}: "
                "raw inputs never leave their owner"
            )
        if (end := pipeline.stages[-1].end) != self.num_units:
            complaints.append(f"its units end at {end}, the model has {self.num_units}")
        for place, stage in enumerate(pipeline):
            following = len(pipeline) - 1 - place
            if stage.end > self.reach[following, stage.vehicle, stage.begin]:
                vehicle = self.cluster.vehicles[stage.vehicle]
                complaints.append(
                    f"{vehicle.name} needs {self.stage_bytes(stage, following) / 1e9:.2f} GB for "
                    f"units {stage.begin} to {stage.end - 1} with {following} stages behind it, "
                    f"and has {vehicle.available_bytes / 1e9:.2f} GB"
                )
        return complaints

    def shortage(self) -> str | None:
        """Why no pipeline of all vehicles can exist, if sums already show it; else None."""
        names = [vehicle.name for vehicle in self.cluster.vehicles]
        first = self.model.min_first_units
        if self.num_vehicles - 1 > self.num_units - first:
            return (
                f"{self.num_vehicles} vehicles cannot share {self.num_units} units, of which the "
                f"first needs {first}"
            )
        if not np.all(self.memory > 0.0):
            short = [n for n, m in zip(names, self.memory, strict=True) if not m > 0.0]
            return f"{short} have less than the {self.scratch_bytes / 1e9:.2f} GB of scratch memory"
        need, have = float(self.held[-1] + self.saved[-1]), float(self.memory.sum())
        if need > have * _ROUNDING:
            return (
                f"the model needs at least {need / 1e9:.2f} GB ({self.held[-1] / 1e9:.2f} held, "
                f"{self.saved[-1] / 1e9:.2f} saved for one micro-batch); the {self.num_vehicles} "
                f"vehicles together have {have / 1e9:.2f} GB"
            )
        return None


def _prefix(values: list[float]) -> Floats:
    return np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=np.float64))])


def _hops(pipeline: Pipeline) -> list[tuple[int, int, int]]:
    return [
        (a.vehicle, b.vehicle, a.end)
        for a, b in zip(pipeline.stages, pipeline.stages[1:], strict=False)
    ]
