# SPDX-License-Identifier: Apache-2.0
"""What the DQN sees: half-built pipelines of one problem, and every legal next stage of each.

An action is the paper's: the next vehicle and how many units it takes. Letters: ``M`` half-built
pipelines, ``P`` pairs of one of them and a next vehicle, ``C`` candidates (pairs with an end).
The figures have no scale: times are shares of the problem's own typical path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flad_edge.swift.cluster import Floats
from flad_edge.swift.dqn_fills import FILLS, Ahead, look_ahead, pours_s
from flad_edge.swift.problem import Bools, Ints, Problem

NUM_FEATURES = 44 + FILLS
_FAR = 9.0
"""Stands for "none" among features."""
_NO_PREVIOUS = -1


@dataclass(frozen=True, slots=True)
class States:
    """Half-built pipelines."""

    at: Ints
    """``[M]``: the next unit."""
    left: Bools
    """``[M, n]``: vehicles without a stage yet."""
    previous: Ints
    """``[M]``: the last stage's vehicle; -1 before the first."""
    first: Ints
    """``[M]``: who must be first."""

    def __len__(self) -> int:
        return len(self.at)

    @classmethod
    def begin(cls, problem: Problem, firsts: Sequence[int]) -> States:
        """Nothing placed yet, one for each first vehicle."""
        m = len(firsts)
        return cls(
            at=np.zeros(m, dtype=np.int64),
            left=np.ones((m, problem.num_vehicles), dtype=np.bool_),
            previous=np.full(m, _NO_PREVIOUS, dtype=np.int64),
            first=np.asarray(firsts, dtype=np.int64),
        )

    def rows(self, rows: Ints | Bools) -> States:
        """Some of them."""
        return States(
            at=self.at[rows],
            left=self.left[rows],
            previous=self.previous[rows],
            first=self.first[rows],
        )

    def after(self, vehicle: Ints, end: Ints) -> States:
        """Each one with its next stage placed."""
        left = self.left.copy()
        left[np.arange(len(self)), vehicle] = False
        return States(at=end, left=left, previous=vehicle, first=self.first)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Legal actions of some states, in the order of states; memory and order are masked."""

    state: Ints
    """``[C]``, rising."""
    vehicle: Ints
    end: Ints
    cost: Floats
    """``[C]``: seconds of the stage and of the hop into it."""
    after: Floats
    """``[C]``: an estimate of the seconds that follow, the best of ``FILLS`` passes."""
    known: Bools
    """``[C]``: whether a fixed order reaches the last unit, so that there is a way."""
    features: NDArray[np.float32]
    """``[C, NUM_FEATURES]``."""


class Scene:
    """What all states of one problem share."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        per_flop = problem.seconds_per_flop
        begin = np.zeros(1, dtype=np.int64)
        self.scale_s = float(pours_s(problem, np.argsort(per_flop)[None, :], begin, begin)[0])
        """A typical path: the work on the fastest vehicles, as far as memory goes."""
        self.crossing = _crossing(problem)
        """``[L + 1]``: bytes across each cut by their mean."""
        inner = np.minimum(np.arange(problem.num_units + 1), max(problem.num_units - 1, 0))
        self.least_crossing = np.minimum.accumulate(self.crossing[inner][::-1])[::-1]
        """``[L + 1]``: the least of the cuts from here on."""
        cuts = problem.model.cuts
        mean_bytes = np.mean([c.forward_bytes + c.backward_bytes for c in cuts] or [0.0])
        self.least_crossing_bytes = self.least_crossing * mean_bytes


def candidates(scene: Scene, states: States) -> Candidates:
    """Every legal next stage of every state, with what the network sees of it.

    The states must be equally far: as many vehicles left in each.
    """
    problem = scene.problem
    n, last = problem.num_vehicles, problem.num_units
    following = int(states.left[0].sum()) - 1
    assert np.all(states.left.sum(axis=1) == following + 1), "states must be equally far"
    allowed = states.left.copy()
    fresh = states.previous == _NO_PREVIOUS
    allowed[fresh] = False
    allowed[fresh, states.first[fresh]] = True
    reach = problem.reach[following, np.arange(n)[None, :], states.at[:, None]]
    far = np.minimum(reach, last - following)
    ends = np.arange(last + 1)
    legal = (
        allowed[:, :, None]
        & (ends > states.at[:, None, None])
        & (ends <= far[:, :, None])
        & (~fresh[:, None, None] | (ends >= problem.model.min_first_units))
        & ((following > 0) | (ends == last))
    )
    pair_state, pair_vehicle = np.nonzero(legal.any(axis=2))
    rests = states.left[pair_state].copy()
    rests[np.arange(len(pair_state)), pair_vehicle] = False
    pair_of = np.full((len(states), n), -1, dtype=np.int64)
    pair_of[pair_state, pair_vehicle] = np.arange(len(pair_state))
    state, vehicle, end = np.nonzero(legal)
    pair = pair_of[state, vehicle]
    at, previous = states.at[state], states.previous[state]
    stage_s = (problem.work[end] - problem.work[at]) * problem.seconds_per_flop[vehicle]
    hop_s = np.where(previous >= 0, problem.hop_s[previous, vehicle, at], 0.0)
    ahead = look_ahead(problem, pair_vehicle, rests, states.at[pair_state], pair, end)
    filled: Bools = np.asarray(ahead.reached.any(axis=0))
    best_fill = np.where(ahead.reached, ahead.fill_s, np.inf).min(axis=0)
    guess = 1.3 * ahead.least_s + 0.5 * scale_of(scene)
    after = np.where(filled, best_fill, guess)
    least_hops = _least_hops_s(scene, pair_vehicle, rests)[pair, end]
    parts = _Parts(scene, states, state, vehicle, end, at, following, rests[pair])
    features = parts.features(stage_s, hop_s, ahead, least_hops, after)
    return Candidates(state, vehicle, end, stage_s + hop_s, after, ahead.known, features)


def scale_of(scene: Scene) -> float:
    """Seconds that count as 1 in the features."""
    return float(scene.scale_s)


def _least_hops_s(scene: Scene, vehicle: Ints, rests: Bools) -> Floats:
    """``[P, L + 1]``: each vehicle that stays, entered on its best link at the cheapest cut."""
    problem, n = scene.problem, scene.problem.num_vehicles
    senders = rests.copy()
    senders[np.arange(len(vehicle)), vehicle] = True
    usable = senders[:, :, None] & ~np.eye(n, dtype=np.bool_)
    cluster = problem.cluster
    per_byte = np.where(usable, cluster.seconds_per_byte, np.inf).min(axis=1)
    delay_s = np.where(usable, cluster.delay_s, np.inf).min(axis=1)
    per_byte = np.where(rests, per_byte, 0.0).sum(axis=1)
    delay_s = np.where(rests, delay_s, 0.0).sum(axis=1)
    cheapest = scene.least_crossing_bytes
    return np.asarray(per_byte[:, None] * cheapest + 2.0 * delay_s[:, None])


def _crossing(problem: Problem) -> Floats:
    crossing = np.zeros(problem.num_units + 1)
    crossing[1:-1] = [cut.forward_bytes + cut.backward_bytes for cut in problem.model.cuts]
    return crossing / max(float(crossing[1:-1].mean()) if len(crossing) > 2 else 1.0, 1e-9)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The candidates' places, from which features are computed."""

    scene: Scene
    states: States
    state: Ints
    vehicle: Ints
    end: Ints
    at: Ints
    following: int
    rests: Bools

    def features(
        self,
        stage_s: Floats,
        hop_s: Floats,
        ahead: Ahead,
        least_hops: Floats,
        after: Floats,
    ) -> NDArray[np.float32]:
        scale, least, reached = scale_of(self.scene), ahead.least_s, ahead.reached
        total = (stage_s + hop_s + after) / scale
        bound = (stage_s + hop_s + least) / scale
        with_hops = bound + least_hops / scale
        columns = [
            stage_s / scale,
            hop_s / scale,
            least / scale,
            after / scale,
            *np.where(reached, np.minimum((ahead.fill_s - after) / scale, _FAR), _FAR),
            reached.mean(axis=0),
            total - self._least(total),
            bound - self._least(bound),
            least_hops / scale,
            with_hops - self._least(with_hops),
            *self._of_model(),
            *self._of_memory(),
            *self._of_vehicles(),
            *self._of_links(scale),
        ]
        stacked = np.stack([np.clip(c, -_FAR, _FAR) for c in columns], axis=1)
        assert stacked.shape[1] == NUM_FEATURES, stacked.shape
        return stacked.astype(np.float32)

    def _least(self, values: Floats) -> Floats:
        """The least over the candidates of the same state."""
        least = np.full(len(self.states), np.inf)
        np.minimum.at(least, self.state, values)
        return np.asarray(least[self.state])

    def _of_model(self) -> list[Floats]:
        p, end, at = self.scene.problem, self.end, self.at
        last, work = p.num_units, p.work
        inside = np.clip(end, 0, last - 1)
        unit_work = np.diff(work) * last / work[-1]
        unit_held = np.diff(p.held) * last / max(p.held[-1], 1.0)
        unit_saved = np.diff(p.saved) * last / max(p.saved[-1], 1.0)
        crossing = self.scene.crossing
        return [
            (end - at) / last,
            (last - end) / last,
            (work[end] - work[at]) / work[-1],
            (work[-1] - work[end]) / work[-1],
            (end - at == 1).astype(np.float64),
            np.asarray(12.0 / last + 0.0 * end),
            unit_work[end - 1],
            unit_work[inside],
            unit_held[end - 1],
            unit_held[inside],
            unit_saved[inside],
            crossing[end],
            crossing[end] - crossing[np.maximum(end - 1, 1)],
            crossing[end] - crossing[np.minimum(end + 1, last)],
            self.scene.least_crossing[np.minimum(end, last - 1)],
        ]

    def _of_memory(self) -> list[Floats]:
        p, end, at, k = self.scene.problem, self.end, self.at, self.following
        kept = np.minimum(k + 1, p.micro_batches)
        used = p.held[end] - p.held[at] + kept * (p.saved[end] - p.saved[at])
        room = (self.rests * p.memory).sum(axis=1)
        behind = np.minimum((k + 1) / 2.0, p.micro_batches)
        need = p.held[-1] - p.held[end] + behind * (p.saved[-1] - p.saved[end])
        farthest = np.minimum(p.reach[k, self.vehicle, at], p.num_units - k)
        return [
            used / p.memory[self.vehicle],
            need / np.maximum(room, 1.0),
            (farthest - end) / p.num_units,
            (end == farthest).astype(np.float64),
            p.memory[self.vehicle] / (room + p.memory[self.vehicle]),
        ]

    def _of_vehicles(self) -> list[Floats]:
        p, k = self.scene.problem, self.following
        mine = p.seconds_per_flop[self.vehicle]
        others = np.where(self.rests, p.seconds_per_flop, np.nan)
        if k == 0:
            others[:] = mine[:, None]
        fastest, slowest = np.nanmin(others, axis=1), np.nanmax(others, axis=1)
        faster = (self.rests & (p.seconds_per_flop < mine[:, None])).sum(axis=1)
        return [
            np.log(mine / fastest),
            np.log(mine / slowest),
            faster / max(k, 1),
            *(np.full(len(mine), x) for x in (k / p.num_vehicles, k / 16.0, 1.0 / (k + 1.0))),
            np.full(len(mine), float(k == 0)),
            np.log(fastest / p.seconds_per_flop.min()),
        ]

    def _of_links(self, scale: float) -> list[Floats]:
        p, k = self.scene.problem, self.following
        out = np.where(self.rests, p.hop_s[self.vehicle, :, self.end], np.nan)
        # the mean link among those that stay, at the cheapest cut that is still to come
        near = np.where(self.rests, p.cluster.seconds_per_byte[self.vehicle], np.nan)
        if k == 0:
            out[:], near[:] = 0.0, 0.0
        rest = self.scene.least_crossing[np.minimum(self.end, p.num_units - 1)]
        mean_bytes = np.mean([c.forward_bytes + c.backward_bytes for c in p.model.cuts] or [0.0])
        hops_s = np.nanmean(near, axis=1) * rest * mean_bytes * max(k - 1, 0)
        speed = p.seconds_per_flop
        quick = np.argmin(np.where(self.rests, speed, np.inf), axis=1)
        to_quick = p.hop_s[self.vehicle, quick, self.end]
        return [
            np.nanmin(out, axis=1) / scale,
            np.nanmean(out, axis=1) / scale,
            (to_quick if k else 0.0 * to_quick) / scale,
            hops_s / scale,
            (self.states.previous[self.state] == _NO_PREVIOUS).astype(np.float64),
            np.full(len(out), np.log(1.0 + p.num_vehicles) - 2.0),
            (self.rests.sum(axis=1) * 1.0) / np.maximum(p.num_units - self.end, 1),
        ]
