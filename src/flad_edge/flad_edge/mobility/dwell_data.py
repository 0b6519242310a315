# SPDX-License-Identifier: Apache-2.0
"""What is known when a vehicle arrives: its way through the coverage, and the traffic on it.

A vehicle says its route; the edge knows the links, the traffic lights and what other vehicles have
taken lately. Nothing that happens after the arrival is looked at. Letters: ``N`` visits, ``S``
links of a way (padded), ``E`` links.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flad_edge.mobility.traces import Coverage, Traces, Visit
from flad_edge.swift.cluster import Floats
from flad_edge.swift.problem import Ints

MOST_LINKS = 16
LINK_FEATURES = 9
DENSE_FEATURES = 5
_LOOK_BACK_S = 120
_START_UP_S = 2.5
"""Until a queue's head moves after the light turned green, and gets up to speed."""
_SAMPLES = 20


@dataclass(frozen=True, slots=True)
class DwellData:
    """Visits as arrays."""

    links: Ints
    """``[N, S]``: link numbers, -1 after the last."""
    by_link: Floats
    """``[N, S, LINK_FEATURES]``."""
    dense: Floats
    """``[N, DENSE_FEATURES]``."""
    guess_s: Floats
    """``[N]``: driving freely, waiting at lights as they would then be."""
    dwell_s: Floats
    """``[N]``: what happened; 0 where it is to be predicted."""

    def __len__(self) -> int:
        return len(self.guess_s)

    def rows(self, rows: Ints) -> DwellData:
        """Some of them."""
        return DwellData(
            *(getattr(self, name)[rows] for name in self.__dataclass_fields__)  # in their order
        )

    def ways(self) -> list[tuple[int, ...]]:
        """Each visit's links: its route through the coverage."""
        return [tuple(int(i) for i in row if i >= 0) for row in self.links]


class LightClock:
    """When lights are green, from what was seen until now; they run in fixed cycles."""

    def __init__(self, traces: Traces) -> None:
        self._green = traces.green
        self._turns = traces.turns

    def wait_s(self, turn: tuple[int, int], now_s: int, eta_s: float) -> float:
        """Seconds of red that one who comes in ``eta_s`` would see, by the last whole cycle."""
        if turn not in self._turns:
            return 0.0
        seen = self._green[: now_s + 1, self._turns[turn]]
        starts = np.nonzero(np.diff(seen[-400:]) == 1)[0]
        if len(starts) < 2:
            return 0.0
        period = int(starts[-1] - starts[-2])
        cycle = seen[-400:][starts[-2] + 1 : starts[-1] + 1]
        since = len(seen[-400:]) - 1 - (starts[-1] + 1)
        phase = int(since + eta_s) % period
        ahead = np.nonzero(np.concatenate([cycle, cycle])[phase:])[0]
        return float(ahead[0]) if len(ahead) else 0.0


def dwell_data(traces: Traces, coverage: Coverage, visits: Sequence[Visit]) -> DwellData:
    """Features of visits."""
    inside_m = _inside_m(traces, coverage)
    state = _TrafficState(traces)
    lights = LightClock(traces)
    rows = [_row(traces, state, lights, coverage, inside_m, visit) for visit in visits]
    return DwellData(
        links=np.stack([r.links for r in rows]),
        by_link=np.stack([r.by_link for r in rows]),
        dense=np.stack([r.dense for r in rows]),
        guess_s=np.array([r.guess_s for r in rows]),
        dwell_s=np.array([visit.dwell_s for visit in visits]),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    links: Ints
    by_link: Floats
    dense: Floats
    guess_s: float


class _TrafficState:
    """What vehicles did lately: their number on each link, and how quick they were."""

    def __init__(self, traces: Traces) -> None:
        seconds, links = traces.end_s + 2, len(traces.link_names)
        there = traces.link >= 0
        at = (traces.second[there], traces.link[there])
        self.count = np.zeros((seconds, links))
        np.add.at(self.count, at, 1.0)
        still, speed = np.zeros_like(self.count), np.zeros_like(self.count)
        np.add.at(still, at, (traces.speed_mps[there] < 0.5).astype(np.float64))
        np.add.at(speed, at, traces.speed_mps[there])
        self.still = still
        self._counts, self._speeds = np.cumsum(self.count, axis=0), np.cumsum(speed, axis=0)

    def quickness(self, now_s: int, limit_mps: Floats) -> Floats:
        """``[E]``: mean speed of the last minutes by the limit; 0.7 where nobody drove."""
        begin = max(now_s - _LOOK_BACK_S, 0)
        count = self._counts[now_s] - self._counts[begin]
        speed = self._speeds[now_s] - self._speeds[begin]
        return np.asarray((speed + 0.7 * limit_mps) / (count + 1.0) / limit_mps)


def _row(
    traces: Traces,
    state: _TrafficState,
    lights: LightClock,
    coverage: Coverage,
    inside_m: Floats,
    visit: Visit,
) -> _Row:
    now_s = visit.arrival_s
    way = _way(traces, coverage, inside_m, visit)
    quickness = state.quickness(now_s, traces.link_speed_mps)
    links = np.full(MOST_LINKS, -1, dtype=np.int64)
    by_link = np.zeros((MOST_LINKS, LINK_FEATURES))
    eta_s, waited_s = 0.0, 0.0
    for place, (link, metres, following) in enumerate(way[:MOST_LINKS]):
        free_s = metres / (0.95 * traces.link_speed_mps[link])
        eta_s += free_s
        turn = (link, following)
        wait_s = 0.0 if following < 0 else lights.wait_s(turn, now_s, eta_s)
        bends = _bend(traces, link, following)
        links[place] = link
        by_link[place] = [
            free_s / 20.0,
            eta_s / 60.0,
            wait_s / 30.0,
            float(turn in traces.turns),
            bends,
            abs(bends),
            quickness[link],
            state.count[now_s, link] / 10.0,
            state.still[now_s, link] / 5.0,
        ]
        eta_s += wait_s + (_START_UP_S if wait_s else 0.0) + 1.5 * abs(bends)
        waited_s += wait_s
    row = visit.first_row
    dense = np.array(
        [
            traces.speed_mps[row] / 10.0,
            state.count[now_s].sum() / 50.0,
            eta_s / 60.0,
            waited_s / 60.0,
            len(way) / 10.0,
        ]
    )
    return _Row(links, by_link, dense, max(eta_s, 1.0))


def _way(
    traces: Traces, coverage: Coverage, inside_m: Floats, visit: Visit
) -> list[tuple[int, float, int]]:
    """(link, metres of it inside, next link or -1) until the route leaves the coverage."""
    row, end = visit.first_row, traces.rows_of[visit.vehicle + 1]
    route = traces.route(visit.vehicle)
    here = next((int(i) for i in traces.link[row:end] if i >= 0), route[-1])
    # a quickest way takes no link twice
    place = route.index(here) if here in route else 0
    x_m, y_m = float(traces.x_m[row]), float(traces.y_m[row])
    way = []
    for i in range(place, len(route)):
        link = route[i]
        metres, ends = float(inside_m[link]), traces.link_ends_m[link]
        if i == place:
            rest = np.linspace([x_m, y_m], ends[2:], _SAMPLES)
            share = coverage.holds(rest[:, 0], rest[:, 1]).mean()
            metres = float(share) * float(np.hypot(ends[2] - x_m, ends[3] - y_m))
        stays = bool(coverage.holds(ends[2], ends[3]))
        following = route[i + 1] if stays and i + 1 < len(route) else -1
        way.append((link, metres, following))
        if not stays:
            break
    return way


def _inside_m(traces: Traces, coverage: Coverage) -> Floats:
    """``[E]``: how much of each link is inside, as if it were straight."""
    ends = traces.link_ends_m
    share = np.linspace(0.0, 1.0, _SAMPLES)[None, :]
    x_m = ends[:, [0]] + share * (ends[:, [2]] - ends[:, [0]])
    y_m = ends[:, [1]] + share * (ends[:, [3]] - ends[:, [1]])
    return np.asarray(coverage.holds(x_m, y_m).mean(axis=1) * traces.link_length_m)


def _bend(traces: Traces, link: int, following: int) -> float:
    """How far the way turns into the next link: quarter turns, right positive."""
    if following < 0:
        return 0.0
    a, b = traces.link_ends_m[link], traces.link_ends_m[following]
    yaw = [float(np.arctan2(e[3] - e[1], e[2] - e[0])) for e in (a, b)]
    turn = (yaw[1] - yaw[0] + np.pi) % (2.0 * np.pi) - np.pi
    return float(turn / (np.pi / 2.0))
