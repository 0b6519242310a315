# SPDX-License-Identifier: Apache-2.0
"""Fixed orders of the vehicles that follow, along which the DQN's look-ahead fills the rest.

Each is laid out by one rule, once: by speed, by memory, along the best links, or by insertion where
a vehicle costs least. Letters as in :mod:`flad_edge.swift.dqn_fills`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flad_edge.swift.cluster import Floats
from flad_edge.swift.problem import Bools, Ints, Problem

FILLS = 11
"""Orders of :func:`fixed_orders`."""
_LAST_RESORT = 1e6
_NOBODY = -1


def fixed_orders(problem: Problem, vehicle: Ints, rests: Bools, at: Ints) -> list[Ints]:
    """``[P, k]`` each: the vehicles of ``rests``.

    Args:
        problem: what is planned.
        vehicle: ``[P]``, before them.
        rests: ``[P, n]``, who follows; equally many everywhere.
        at: ``[P]``, where the stage of ``vehicle`` begins.
    """
    fast = fastest_first(problem, rests)
    if fast.shape[1] < 2:
        return [fast] * FILLS
    roomy = _sorted(-problem.memory, rests)
    per_byte = problem.cluster.seconds_per_byte
    fastest = fast[:, 0]
    others = rests.copy()
    others[np.arange(len(fast)), fastest] = False
    insertion = _Insertion(problem, vehicle, rests, at)
    none, one, two = fast[:, :0], fast[:, :1], fast[:, :2]
    return [
        roomy,
        roomy[:, ::-1],
        fast[:, ::-1],
        _chain(per_byte, vehicle, rests),
        np.concatenate([_chain(per_byte, vehicle, others), fastest[:, None]], axis=1),
        np.concatenate([_chain(per_byte.T, fastest, others)[:, ::-1], fastest[:, None]], axis=1),
        insertion.order(none),
        insertion.order(none, farthest=True),
        insertion.order(one, farthest=True),
        insertion.order(two),
        insertion.order(two[:, ::-1]),
    ]


def best_fits(problem: Problem, rests: Bools) -> Iterator[Ints]:
    """``[P, k]`` each, chosen from the last stage on by memory alone: orders that may reach far.

    Next in front is whoever leaves the least share of its memory unused, the same with a bonus for
    large ones, or who takes most units; one that cannot hold a unit there only if none can.
    """
    rows, every = np.arange(len(rests)), np.arange(problem.num_vehicles)[None, :]
    large = problem.memory / problem.memory.max()
    for rule in ("unused", "large", "most"):
        left, to = rests.copy(), np.full(len(rests), problem.num_units)
        order = []
        for following in range(int(rests[:1].sum())):
            begin = problem.reach_back[following][every, to[:, None]]
            kept = min(following + 1, problem.micro_batches)
            used = problem.held[to][:, None] - problem.held[begin]
            used = used + kept * (problem.saved[to][:, None] - problem.saved[begin])
            units = to[:, None] - begin
            unused = 1.0 - used / problem.memory
            score = {
                "unused": unused,
                "large": unused - 0.3 * large,
                "most": 1e-3 * large - units,
            }[rule]
            score = np.where(units > 0, score, score + _LAST_RESORT)
            who = np.where(left, score, np.inf).argmin(axis=1)
            order.append(who)
            left[rows, who] = False
            to = begin[rows, who]
        if order:
            yield np.stack(order[::-1], axis=1)


def smallest_fits(problem: Problem, rests: Bools, end: Ints) -> Ints:
    """``[C, k]``, chosen from the next stage on: always whoever can hold fewest units there.

    Args:
        problem: what is planned.
        rests: ``[C, n]``, who follows; equally many everywhere.
        end: ``[C]``, where the next stage begins.
    """
    rows, every = np.arange(len(rests)), np.arange(problem.num_vehicles)[None, :]
    count, last = int(rests[:1].sum()), problem.num_units
    small = 1e-3 * problem.memory / problem.memory.max()
    left, at = rests.copy(), end
    order = []
    for following in reversed(range(count)):
        units = problem.reach[following][every, at[:, None]] - at[:, None]
        score = np.where(units > 0, units + small, _LAST_RESORT)
        who = np.where(left, score, np.inf).argmin(axis=1)
        order.append(who)
        left[rows, who] = False
        at = np.minimum(at + np.maximum(units[rows, who], 1), last)
    return np.stack(order, axis=1)


def fastest_first(problem: Problem, rests: Bools) -> Ints:
    """``[P, k]``."""
    return _sorted(problem.seconds_per_flop, rests)


def _sorted(key: Floats, rests: Bools) -> Ints:
    place = np.argsort(np.argsort(key))
    count = int(rests[:1].sum())
    return np.argsort(np.where(rests, place, len(key)), axis=1)[:, :count]


def _chain(per_byte: Floats, start: Ints, rests: Bools) -> Ints:
    """``[P, k]``: always the vehicle with the best link from here."""
    rows, left, here = np.arange(len(rests)), rests.copy(), start
    order = []
    for _ in range(int(rests[0].sum())):
        here = np.where(left, per_byte[here], np.inf).argmin(axis=1)
        order.append(here)
        left[rows, here] = False
    return np.stack(order, axis=1)


class _Insertion:
    """A few quick vehicles in a row, each of the others put where it costs least around them.

    A hop costs what its link takes for the bytes that cross near where it would lie: before,
    between or behind the quick vehicles, which hold most of the rest.
    """

    def __init__(self, problem: Problem, vehicle: Ints, rests: Bools, at: Ints) -> None:
        self._problem, self._start, self._rests = problem, vehicle, rests
        last, span = problem.num_units, max(2, int(rests[0].sum()) - 1)
        behind = np.full_like(at, last - span)
        places = np.stack([at + 1, (at + last) // 2 - span // 2, behind], axis=1)
        begins = np.clip(places, 1, last - 1)
        ends = np.clip(places + span, begins + 1, last)
        crossing = np.zeros(last + 1)
        crossing[1:-1] = [c.forward_bytes + c.backward_bytes for c in problem.model.cuts]
        sums = np.concatenate([[0.0], np.cumsum(crossing)])
        self._bytes = (sums[ends] - sums[begins]) / (ends - begins)
        """``[P, 3]``: that cross a cut before, between and behind the quick vehicles."""
        self._flops = (problem.work[ends] - problem.work[begins]) / (ends - begins)
        """``[P, 3]``: of a unit there."""

    def order(self, quick: Ints, *, farthest: bool = False) -> Ints:
        """``[P, k]``.

        Args:
            quick: ``[P, up to 2]``, who is placed before all others, in this order.
            farthest: whether the vehicle that costs most is put in next, or that which costs least.
        """
        rows, (pairs, n) = np.arange(len(quick)), self._rests.shape
        left = self._rests.copy()
        left[rows[:, None], quick] = False
        missing = int(left[0].sum())
        path = np.concatenate([self._start[:, None], quick], axis=1)
        slots = path.shape[1]
        # a slot lies between two vehicles that follow on each other, or behind the last one
        before = np.zeros((slots + missing, pairs), dtype=np.int64)
        behind, region = np.full_like(before, _NOBODY), np.zeros_like(before)
        more = np.zeros((slots + missing, pairs, n))
        before[:slots], behind[: slots - 1] = path.T, path.T[1:]
        region[:slots] = np.array({1: [1], 2: [0, 2], 3: [0, 1, 2]}[slots])[:, None]
        for slot in range(slots):
            more[slot] = self._cost(before[slot], behind[slot], region[slot])
        for new in range(slots, slots + missing):
            cost = more[:new].min(axis=0)
            who = np.where(left, -cost if farthest else cost, np.inf).argmin(axis=1)
            slot = more[:new, rows, who].argmin(axis=0)
            old, next_one, where = before[slot, rows], behind[slot, rows], region[slot, rows]
            behind[slot, rows], before[new], behind[new], region[new] = who, who, next_one, where
            more[slot, rows] = self._cost(old, who, where)
            more[new] = self._cost(who, next_one, where)
            left[rows, who] = False
        after = np.zeros((pairs, n), dtype=np.int64)
        after[rows, before] = behind
        order = [after[rows, self._start]]
        for _ in range(slots + missing - 2):
            order.append(after[rows, order[-1]])
        return np.stack(order, axis=1)

    def _cost(self, before: Ints, behind: Ints, region: Ints) -> Floats:
        """``[P, n]``: of each vehicle, put between two others (each ``[P]``)."""
        problem, rows = self._problem, np.arange(len(before))
        per_byte, delay_s = problem.cluster.seconds_per_byte, 2.0 * problem.cluster.delay_s
        weight = self._bytes[rows, region][:, None]
        cost = per_byte[before] * weight + delay_s[before]
        onward = per_byte.T[behind] * weight + delay_s.T[behind]
        now = per_byte[before, behind] * weight[:, 0] + delay_s[before, behind]
        cost += np.where((behind == _NOBODY)[:, None], 0.0, onward - now[:, None])
        return np.asarray(cost + self._flops[rows, region][:, None] * problem.seconds_per_flop)
