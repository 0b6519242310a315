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

    Next in front is whoever leaves least of its memory unused, takes most units, or fewest.
    """
    rows, every = np.arange(len(rests)), np.arange(problem.num_vehicles)[None, :]
    for rule in ("unused", "most", "fewest"):
        left, to = rests.copy(), np.full(len(rests), problem.num_units)
        order = []
        for following in range(int(rests[:1].sum())):
            begin = problem.reach_back[following][every, to[:, None]]
            kept = min(following + 1, problem.micro_batches)
            used = problem.held[to][:, None] - problem.held[begin]
            used = used + kept * (problem.saved[to][:, None] - problem.saved[begin])
            units = (to[:, None] - begin) * (-1.0 if rule == "most" else 1.0)
            roomy = 1e-3 * problem.memory / problem.memory.max()
            score = 1.0 - used / problem.memory if rule == "unused" else units + roomy
            who = np.where(left, score, np.inf).argmin(axis=1)
            order.append(who)
            left[rows, who] = False
            to = begin[rows, who]
        if order:
            yield np.stack(order[::-1], axis=1)


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
        problem, rows = self._problem, np.arange(len(quick))
        per_byte, delay_s = problem.cluster.seconds_per_byte, 2.0 * problem.cluster.delay_s
        left = self._rests.copy()
        left[rows[:, None], quick] = False
        path = np.concatenate([self._start[:, None], quick], axis=1)
        where = {0: [1], 1: [0, 2], 2: [0, 1, 2]}[quick.shape[1]]
        region = np.broadcast_to(where, path.shape)
        for _ in range(int(left[0].sum())):
            weight = np.take_along_axis(self._bytes, region, axis=1)[:, :, None]
            more = per_byte[path] * weight + delay_s[path]
            a, b = path[:, :-1], path[:, 1:]
            now = per_byte[a, b][:, :, None] * weight[:, :-1] + delay_s[a, b][:, :, None]
            more[:, :-1] += per_byte.T[b] * weight[:, :-1] + delay_s.T[b] - now
            flops = np.take_along_axis(self._flops, region, axis=1)[:, :, None]
            more += flops * problem.seconds_per_flop
            place = more.argmin(axis=1)
            cost = np.take_along_axis(more, place[:, None, :], axis=1)[:, 0]
            who = np.where(left, -cost if farthest else cost, np.inf).argmin(axis=1)
            at = place[rows, who] + 1
            path, region = _put_in(path, at, who), _put_in(region, at, region[rows, at - 1])
            left[rows, who] = False
        return path[:, 1:]


def _put_in(path: Ints, at: Ints, what: Ints) -> Ints:
    """``[P, j]`` -> ``[P, j + 1]``: ``what`` at place ``at`` of each row, the others around it."""
    places = np.arange(path.shape[1] + 1)[None, :]
    old = np.where(places < at[:, None], places, places - 1)
    longer = np.take_along_axis(path, np.minimum(old, path.shape[1] - 1), axis=1)
    longer[np.arange(len(path)), at] = what
    return longer
