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
from flad_edge.swift.problem import Ints, Problem

Bools = NDArray[np.bool_]

NUM_FEATURES = 52
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
    """``[C]``: an estimate of the seconds that follow, the best of :data:`FILLS` passes."""
    known: Bools
    """``[C]``: whether one of those fills reaches the last unit, so that there is a way."""
    features: NDArray[np.float32]
    """``[C, NUM_FEATURES]``."""


class Scene:
    """What all states of one problem share."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        per_flop, memory = problem.seconds_per_flop, problem.memory
        self.scale_s = _filled_s(
            problem,
            np.zeros((1, 1), dtype=np.int64),
            np.argsort(per_flop)[None, :],
            np.array([problem.num_vehicles]),
        )[0, 0]
        """A typical path: the work on the fastest vehicles, as far as memory goes."""
        self.orders = np.stack([np.argsort(np.argsort(key)) for key in (per_flop, -memory, memory)])
        """``[3, n]``: every vehicle's place in fixed orders: fast, roomy, small first."""
        self.crossing = _crossing(problem)
        """``[L + 1]``: bytes across each cut by their mean."""
        inner = np.minimum(np.arange(problem.num_units + 1), max(problem.num_units - 1, 0))
        self.least_crossing = np.minimum.accumulate(self.crossing[inner][::-1])[::-1]
        """``[L + 1]``: the least of the cuts from here on."""
        cuts = problem.model.cuts
        mean_bytes = np.mean([c.forward_bytes + c.backward_bytes for c in cuts] or [0.0])
        self.least_crossing_bytes = self.least_crossing * mean_bytes


FILLS = 8
"""Fixed orders that are filled behind every candidate, one pass each: four with the largest stages
in front, four with the largest at the end."""


def candidates(scene: Scene, states: States) -> Candidates:
    """Every legal next stage of every state, with what the network sees of it."""
    problem = scene.problem
    n, last = problem.num_vehicles, problem.num_units
    following = states.left.sum(axis=1) - 1
    allowed = states.left.copy()
    fresh = states.previous == _NO_PREVIOUS
    allowed[fresh] = False
    allowed[fresh, states.first[fresh]] = True
    reach = problem.reach[following[:, None], np.arange(n)[None, :], states.at[:, None]]
    far = np.minimum(reach, (last - following)[:, None])
    ends = np.arange(last + 1)
    legal = (
        allowed[:, :, None]
        & (ends > states.at[:, None, None])
        & (ends <= far[:, :, None])
        & (~fresh[:, None, None] | (ends >= problem.model.min_first_units))
        & ((following > 0)[:, None, None] | (ends == last))
    )
    pair_state, pair_vehicle = np.nonzero(legal.any(axis=2))
    rests = states.left[pair_state].copy()
    rests[np.arange(len(pair_state)), pair_vehicle] = False
    look = _look_ahead(scene, pair_vehicle, rests)
    pair_of = np.full((len(states), n), -1, dtype=np.int64)
    pair_of[pair_state, pair_vehicle] = np.arange(len(pair_state))
    state, vehicle, end = np.nonzero(legal)
    pair = pair_of[state, vehicle]
    at, previous = states.at[state], states.previous[state]
    stage_s = (problem.work[end] - problem.work[at]) * problem.seconds_per_flop[vehicle]
    hop_s = np.where(previous >= 0, problem.hop_s[previous, vehicle, at], 0.0)
    fills, reached = look.fill_s[:, pair, end], look.reached[:, pair, end]
    known: Bools = np.asarray(reached.any(axis=0))
    best_fill = np.where(reached, fills, np.inf).min(axis=0)
    least = look.least_s[pair, end]
    after = np.where(known, best_fill, 1.3 * least + 0.5 * scale_of(scene))
    least_hops = _least_hops_s(scene, pair_vehicle, rests)[pair, end]
    parts = _Parts(scene, states, state, vehicle, end, at, following[state], rests[pair])
    features = parts.features(stage_s, hop_s, fills, reached, least, least_hops, after)
    return Candidates(state, vehicle, end, stage_s + hop_s, after, known, features)


def scale_of(scene: Scene) -> float:
    """Seconds that count as 1 in the features."""
    return float(scene.scale_s)


@dataclass(frozen=True, slots=True)
class _Ahead:
    fill_s: Floats
    """``[FILLS, P, L + 1]``: seconds if the rest is filled in a fixed order, by the stage's end."""
    reached: Bools
    least_s: Floats
    """``[P, L + 1]``: the rest's work on its fastest vehicles, units divisible, no hops."""


def _look_ahead(scene: Scene, vehicle: Ints, rests: Bools) -> _Ahead:
    problem, n = scene.problem, scene.problem.num_vehicles
    count = rests.sum(axis=1)
    ends = np.broadcast_to(np.arange(problem.num_units + 1), (len(vehicle), problem.num_units + 1))
    fast, roomy, small = np.argsort(np.where(rests[None], scene.orders[:, None, :], n), axis=2)
    per_byte = problem.cluster.seconds_per_byte
    # along the best links: from the candidate's vehicle on, to the fastest, and back from it
    near = _chain(per_byte, vehicle, rests)
    fastest = fast[:, 0]
    to_fastest = _reversed(_chain(per_byte, vehicle, rests, last=fastest), count)
    from_fastest = _from(per_byte, fastest, rests)
    fills = [_fill(problem, vehicle, order, count, ends) for order in (fast, roomy, small, near)]
    fills += [
        _fill_back(problem, vehicle, order, count, ends)
        for order in (fast, roomy, to_fastest, from_fastest)
    ]
    return _Ahead(
        np.stack([seconds for seconds, _ in fills]),
        np.stack([reached for _, reached in fills]),
        _filled_s(problem, ends, fast, count),
    )


def _chain(per_byte: Floats, start: Ints, rests: Bools, last: Ints | None = None) -> Ints:
    """``[P, n]``: always the vehicle with the best link from here; ``last`` at the end."""
    pairs, n = rests.shape
    rows, left, here = np.arange(pairs), rests.copy(), start
    order = np.zeros((pairs, n), dtype=np.int64)
    for step in range(int(rests.sum(axis=1).max(initial=0))):
        price = np.where(left, per_byte[here], np.inf)
        if last is not None:
            price[rows, last] = np.where(left[rows, last], 1e9, np.inf)
        here = np.argmin(price, axis=1)
        order[:, step] = here
        left[rows, here] = False
    return order


def _from(per_byte: Floats, start: Ints, rests: Bools) -> Ints:
    """``[P, n]``: ``start``, which is one of ``rests``, then along the best links into it."""
    left = rests.copy()
    left[np.arange(len(start)), start] = False
    behind = _chain(per_byte.T, start, left)
    return np.concatenate([start[:, None], behind[:, :-1]], axis=1)


def _reversed(order: Ints, count: Ints) -> Ints:
    """The first ``count`` of each row, from the end."""
    places = count[:, None] - 1 - np.arange(order.shape[1])[None, :]
    return np.take_along_axis(order, np.maximum(places, 0), axis=1)


def _fill(
    problem: Problem, vehicle: Ints, order: Ints, count: Ints, ends: Ints
) -> tuple[Floats, Bools]:
    """Behind ``vehicle``, whose stage ends at ``ends``: the largest stage of each in ``order``."""
    last = problem.num_units
    seconds, at = np.zeros(ends.shape), ends.copy()
    ok, before = np.ones(ends.shape, dtype=np.bool_), vehicle.copy()
    for step in range(int(count.max(initial=0))):
        there = np.nonzero(step < count)[0]
        following = (count[there] - 1 - step)[:, None]
        who, here = order[there, step], at[there]
        to = np.minimum(problem.reach[following, who[:, None], here], last - following)
        ok[there] &= to > here
        to = np.maximum(to, here)
        hop_s = problem.hop_s[before[there][:, None], who[:, None], here]
        work = problem.work[to] - problem.work[here]
        seconds[there] += work * problem.seconds_per_flop[who][:, None] + hop_s
        at[there], before[there] = to, who
    return seconds, ok & (at == last)


def _fill_back(
    problem: Problem, vehicle: Ints, order: Ints, count: Ints, ends: Ints
) -> tuple[Floats, Bools]:
    """The same from the last unit: ``order``'s first is the last stage, and takes what it can."""
    seconds, at = np.zeros(ends.shape), np.full(ends.shape, problem.num_units)
    ok = np.ones(ends.shape, dtype=np.bool_)
    for step in range(int(count.max(initial=0))):
        there = np.nonzero(step < count)[0]
        in_front = count[there] - 1 - step
        who, to = order[there, step], at[there]
        begin = problem.reach_back[step, who[:, None], to]
        least = ends[there] + in_front[:, None]
        begin = np.where(in_front[:, None] > 0, np.maximum(begin, least), begin)
        is_first = (in_front == 0)[:, None]
        ok[there] &= (begin < to) & (~is_first | (begin <= least))
        begin = np.minimum(np.where(is_first, least, begin), to)
        ahead = np.where(in_front > 0, order[there, np.minimum(step + 1, order.shape[1] - 1)], 0)
        ahead = np.where(in_front > 0, ahead, vehicle[there])
        hop_s = problem.hop_s[ahead[:, None], who[:, None], begin]
        work = problem.work[to] - problem.work[begin]
        seconds[there] += work * problem.seconds_per_flop[who][:, None] + hop_s
        at[there] = begin
    return seconds, ok & ((at == ends) | (count == 0)[:, None] & (ends == problem.num_units))


def _filled_s(problem: Problem, ends: Ints, order: Ints, count: Ints) -> Floats:
    """``[P, E]``: the work from each end on, given to ``order``'s first as far as memory goes."""
    work = problem.work[-1] - problem.work[ends]
    kept = np.minimum((count + 1) / 2.0, problem.micro_batches)[:, None]
    need = problem.held[-1] - problem.held[ends] + kept * (problem.saved[-1] - problem.saved[ends])
    unplaced, seconds = np.ones_like(work), np.zeros_like(work)
    for step in range(order.shape[1]):
        who = order[:, step]
        share = problem.memory[who][:, None] / np.maximum(need, 1.0)
        taken = np.where((step < count)[:, None], np.minimum(share, unplaced), 0.0)
        seconds += taken * work * problem.seconds_per_flop[who][:, None]
        unplaced -= taken
    slowest = float(problem.seconds_per_flop.max())
    return np.asarray(seconds + unplaced * work * slowest)


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
    following: Ints
    rests: Bools

    def features(
        self,
        stage_s: Floats,
        hop_s: Floats,
        fills: Floats,
        reached: Bools,
        least: Floats,
        least_hops: Floats,
        after: Floats,
    ) -> NDArray[np.float32]:
        scale = scale_of(self.scene)
        total = (stage_s + hop_s + after) / scale
        bound = (stage_s + hop_s + least) / scale
        with_hops = bound + least_hops / scale
        columns = [
            stage_s / scale,
            hop_s / scale,
            least / scale,
            after / scale,
            *np.where(reached, np.minimum((fills - after) / scale, _FAR), _FAR),
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
        none = k == 0
        others[none] = mine[none, None]
        fastest, slowest = np.nanmin(others, axis=1), np.nanmax(others, axis=1)
        faster = (self.rests & (p.seconds_per_flop < mine[:, None])).sum(axis=1)
        return [
            np.log(mine / fastest),
            np.log(mine / slowest),
            faster / np.maximum(k, 1),
            k / p.num_vehicles,
            k / 16.0,
            1.0 / (k + 1.0),
            none.astype(np.float64),
            np.log(fastest / p.seconds_per_flop.min()),
        ]

    def _of_links(self, scale: float) -> list[Floats]:
        p, k, none = self.scene.problem, self.following, self.following == 0
        out = np.where(self.rests, p.hop_s[self.vehicle, :, self.end], np.nan)
        out[none] = 0.0
        # the mean link among those that stay, at the cheapest cut that is still to come
        near = np.where(self.rests, p.cluster.seconds_per_byte[self.vehicle], np.nan)
        near[none] = 0.0
        rest = self.scene.least_crossing[np.minimum(self.end, p.num_units - 1)]
        mean_bytes = np.mean([c.forward_bytes + c.backward_bytes for c in p.model.cuts] or [0.0])
        hops_s = np.nanmean(near, axis=1) * rest * mean_bytes * np.maximum(k - 1, 0)
        speed = p.seconds_per_flop
        quick = np.argmin(np.where(self.rests, speed, np.inf), axis=1)
        to_quick = p.hop_s[self.vehicle, quick, self.end]
        return [
            np.nanmin(out, axis=1) / scale,
            np.nanmean(out, axis=1) / scale,
            np.where(none, 0.0, to_quick) / scale,
            hops_s / scale,
            (self.states.previous[self.state] == _NO_PREVIOUS).astype(np.float64),
            np.full(len(k), np.log(1.0 + p.num_vehicles) - 2.0),
            (self.rests.sum(axis=1) * 1.0) / np.maximum(p.num_units - self.end, 1),
        ]
