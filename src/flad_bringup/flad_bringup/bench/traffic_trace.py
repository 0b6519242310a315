# SPDX-License-Identifier: Apache-2.0
"""Half an hour of SUMO's traffic as arrivals and departures of a few processes.

A process is a place in the fleet: when the vehicle that it stands for has driven out of the edge's
coverage, it becomes the next one that arrives. What vehicles say of their stay is the shipped
regressor's (:mod:`flad_edge.mobility.dwell`), known when they arrive.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from flad_edge.mobility.dwell import load_dwell, predict_s
from flad_edge.mobility.dwell_data import dwell_data
from flad_edge.mobility.traces import Coverage, Traces, Visit, read_traces
from flad_edge.swift.cluster import Floats
from flad_edge.swift.fleet import Member
from flad_sim.floating_cars import TraceConfig, record_traces

Way = Literal["swift", "static", "random"]
"""How clusters are made: by place and stay, by place alone, by neither."""

BEGIN_S = 600
"""Until roads are full and lights known."""
_TAIL_S = 240
_LEAST_S = 10.0
_UNKNOWN_S = 1e5
_TRACE_SEED = 7000


@dataclass(frozen=True, kw_only=True, slots=True)
class Stay:
    """One vehicle's visit, and the process that stands for it."""

    process: int
    visit: Visit
    said_s: float
    """How long it said, when it arrived, that it would stay."""

    @property
    def arrives_s(self) -> float:
        """From the begin of the half hour."""
        return float(self.visit.arrival_s - BEGIN_S)

    @property
    def departs_s(self) -> float:
        """Likewise, when it really did."""
        return float(self.visit.departure_s - BEGIN_S)

    @property
    def foreseen(self) -> bool:
        """Whether it had said that it would be gone by then."""
        return self.said_s <= self.visit.dwell_s


class TrafficTrace:
    """Who is in the coverage when, and where.

    Args:
        traces: floating-car data.
        stays: by arrival.
    """

    def __init__(self, traces: Traces, stays: Sequence[Stay]) -> None:
        self._traces, self.stays = traces, tuple(stays)

    def present(self, now_s: float) -> Iterator[Stay]:
        """Those who are there."""
        return (s for s in self.stays if s.arrives_s <= now_s < s.departs_s)

    def word(self, stay: Stay, now_s: float, way: Way, device: str) -> Member:
        """What a vehicle says of itself at a moment of its stay.

        Without SWIFT nobody knows how long it stays; at random, not even where it is.
        """
        visit, t = stay.visit, self._traces
        row = visit.first_row + min(int(now_s - stay.arrives_s), int(visit.dwell_s) - 1)
        before = max(row - 1, visit.first_row)
        dx, dy = t.x_m[row] - t.x_m[before], t.y_m[row] - t.y_m[before]
        member = Member(
            name=f"vehicle_{stay.process}",
            device=device,
            available_bytes=0.0,
            x_m=float(t.x_m[row]),
            y_m=float(t.y_m[row]),
            speed_mps=float(t.speed_mps[row]),
            heading_rad=math.atan2(float(dy), float(dx)),
            dwell_s=max(0.0, stay.said_s - (now_s - stay.arrives_s)),
        )
        if way != "swift":
            member = replace(member, dwell_s=_UNKNOWN_S)
        if way == "random":
            member = replace(member, x_m=0.0, y_m=0.0, speed_mps=0.0)
        return member


def make_trace(seed: int, num_processes: int, minutes: float, gap_s: float) -> TrafficTrace:
    """Drive the traffic and give every process its visits.

    Args:
        seed: of the traffic.
        num_processes: vehicles that train; all others are traffic.
        minutes: of the trace.
        gap_s: a process is away for at least so long between two visits.
    """
    with tempfile.TemporaryDirectory(prefix="flad_bench_") as folder:
        file = Path(folder) / "traces.npz"
        length_min = minutes + (BEGIN_S + _TAIL_S) / 60.0
        record_traces(TraceConfig(minutes=length_min, seed=_TRACE_SEED + seed), file)
        traces = read_traces(file)
    network = load_dwell()
    place = network.config
    coverage = Coverage(x_m=place.x_m, y_m=place.y_m, radius_m=place.radius_m)
    visits = traces.visits(coverage)
    said_s = predict_s(network, dwell_data(traces, coverage, visits))
    return TrafficTrace(traces, _dealt(visits, said_s, num_processes, 60.0 * minutes, gap_s))


def _dealt(
    visits: Sequence[Visit], said_s: Floats, count: int, length_s: float, gap_s: float
) -> list[Stay]:
    """Every visit goes to the process that has been free for longest, if one is."""
    free_s = np.zeros(count)
    stays = []
    for visit, said in zip(visits, said_s, strict=True):
        stay = Stay(process=int(np.argmin(free_s)), visit=visit, said_s=float(said))
        if visit.dwell_s < _LEAST_S or not 0.0 <= stay.arrives_s < length_s:
            continue
        if free_s[stay.process] <= stay.arrives_s:
            stays.append(stay)
            free_s[stay.process] = stay.departs_s + gap_s
    return stays
