# SPDX-License-Identifier: Apache-2.0
"""What filling the rest of the model along fixed orders would cost: the look-ahead of the DQN.

Each order is laid out once, front to back, and every choice in it is final. Letters: ``P`` pairs of
a half-built pipeline and its next vehicle, ``C`` candidates (pairs with an end), ``k`` vehicles
that follow, ``L`` units; see :mod:`flad_edge.swift.dqn_states`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flad_edge.swift.cluster import Floats
from flad_edge.swift.dqn_orders import (
    FILLS,
    best_fits,
    fastest_first,
    fixed_orders,
    smallest_fits,
)
from flad_edge.swift.problem import Bools, Ints, Problem

__all__ = ["FILLS", "Ahead", "look_ahead", "pours_s"]

_Number = TypeVar("_Number", np.int64, np.float64)
_WINDOW = 4
"""Cuts that a stage looks at, from the longest or the shortest that it may be."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """What lies behind every candidate."""

    fill_s: Floats
    """``[FILLS, C]``: seconds of the rest along an order."""
    reached: Bools
    """``[FILLS, C]``: whether that order reaches the last unit."""
    known: Bools
    """``[C]``: whether one of them does, or an order chosen for what fits alone."""
    least_s: Floats
    """``[C]``: the rest's work on its fastest vehicles, units divisible, no hops."""


def look_ahead(
    problem: Problem, vehicle: Ints, rests: Bools, at: Ints, pair: Ints, end: Ints
) -> Ahead:
    """Fill the rest behind each candidate.

    Args:
        problem: what is planned.
        vehicle: ``[P]``, the next vehicle.
        rests: ``[P, n]``, who follows it; equally many everywhere.
        at: ``[P]``, where its stage begins.
        pair: ``[C]``, of each candidate.
        end: ``[C]``, where its stage ends.
    """
    orders = fixed_orders(problem, vehicle, rests, at)
    filled = [_fill(problem, vehicle[pair], order, pair, end) for order in orders]
    reached = np.stack([ok for _, ok in filled])
    known = _fits(problem, rests, pair, end, np.asarray(reached.any(axis=0)))
    fast = fastest_first(problem, rests)
    least_s = pours_s(problem, fast, pair, end)
    return Ahead(np.stack([seconds for seconds, _ in filled]), reached, known, least_s)


def _fits(problem: Problem, rests: Bools, pair: Ints, end: Ints, known: Bools) -> Bools:
    """``[C]``: ``known``, or whether an order chosen for what fits reaches the last unit."""
    if known.all() or not rests[:1].any():
        return known
    known = known.copy()
    for order in best_fits(problem, rests):
        latest = _latest(problem, order)
        rows = np.nonzero(~known & (end >= latest[pair, 0]))[0]
        known[rows] = _reaches(problem, order[pair[rows]], latest[pair[rows]], end[rows])
    rows = np.nonzero(~known)[0]
    if len(rows):
        order = smallest_fits(problem, rests[pair[rows]], end[rows])
        known[rows] = _reaches(problem, order, _latest(problem, order), end[rows])
    return known


def _reaches(problem: Problem, order: Ints, latest: Ints, end: Ints) -> Bools:
    """``[C]``: laid out with the shortest stages that leave enough room behind."""
    at, ok = end, np.ones(len(end), dtype=np.bool_)
    last, count = problem.num_units, order.shape[1]
    for step in range(count):
        following = count - 1 - step
        near = np.maximum(at + 1, latest[:, step + 1])
        ok &= near <= np.minimum(problem.reach[following, order[:, step], at], last - following)
        at = np.minimum(near, last)
    return np.asarray(ok & (at == last))


def pours_s(problem: Problem, fast: Ints, pair: Ints, end: Ints) -> Floats:
    """``[C]``: the work from each end on, poured into ``fast`` (``[P, k]``) as far as memory goes.

    Units count as divisible, and hops as nothing: less than any pipeline takes, or nearly.
    """
    count = fast.shape[1]
    work = problem.work[-1] - problem.work[end]
    kept = min((count + 1) / 2.0, problem.micro_batches)
    need = problem.held[-1] - problem.held[end] + kept * (problem.saved[-1] - problem.saved[end])
    unplaced, seconds = np.ones(len(end)), np.zeros(len(end))
    for step in range(count):
        who = fast[pair, step]
        taken = np.minimum(problem.memory[who] / np.maximum(need, 1.0), unplaced)
        seconds += taken * work * problem.seconds_per_flop[who]
        unplaced -= taken
    return np.asarray(seconds + unplaced * work * float(problem.seconds_per_flop.max()))


def _fill(
    problem: Problem, before: Ints, order: Ints, pair: Ints, end: Ints
) -> tuple[Floats, Bools]:
    """``[C]`` twice: seconds along ``order`` (``[P, k]``), and whether it reaches the last unit.

    The quickest take all that fits, as many as are needed; one takes what is left over; the others
    take one unit. Each looks at a few cuts around that and takes the cheapest by work and hop.
    Nobody takes less than those behind could not hold, so an order reaches the end if it can.
    """
    last, count = problem.num_units, order.shape[1]
    latest, at = _latest(problem, order), end
    seconds, ok = np.zeros(len(end)), np.ones(len(end), dtype=np.bool_)
    if not count:
        return seconds, at == last
    role = _roles(problem, order, pair, end)
    order = np.ascontiguousarray(order[pair].T)  # [k, C]
    wanted = _wanted(problem, order, role)
    links = problem.hop_s.reshape(-1, last + 1)
    for step in range(count):
        following = count - 1 - step
        who, ahead = order[step], order[min(step + 1, count - 1)]
        far = np.minimum(_of(problem.reach[following], who, at), last - following)
        near = np.maximum(at + 1, latest[:, step + 1][pair])
        ok &= near <= far
        near = np.minimum(near, last)
        far = np.maximum(far, near)
        full, split = role.quick[:, step], role.split == step
        near = np.where(split, np.clip(wanted[step + 1], near, far), near)
        speed = problem.seconds_per_flop[who]
        to = np.where(full, far, near)
        if following:
            to = _cheapest_cut(problem, who, ahead, near, far, full, speed - role.price)
        hop_s = _of(links, before * problem.num_vehicles + who, at)
        seconds += (problem.work[to] - problem.work[at]) * speed + hop_s
        at, before = to, who
    return seconds, ok & (at == last)


def _cheapest_cut(
    problem: Problem, who: Ints, ahead: Ints, near: Ints, far: Ints, full: Bools, gain: Floats
) -> Ints:
    """``[C]``: where a stage ends, of a few cuts from the longest or the shortest."""
    shifts = np.arange(_WINDOW)[:, None]
    to = np.where(full, np.maximum(far - shifts, near), np.minimum(near + shifts, far))
    links = problem.hop_s.reshape(-1, problem.num_units + 1)
    cost = problem.work[to] * gain + _of(links, who * problem.num_vehicles + ahead, to)
    end, least = to[0], cost[0]
    for other, price in zip(to[1:], cost[1:], strict=True):
        end = np.where(price < least, other, end)
        least = np.minimum(least, price)
    return np.asarray(end)


def _of(table: NDArray[_Number], row: Ints, column: Ints) -> NDArray[_Number]:
    """``table[row, column]``; quicker than that for many of them."""
    return np.asarray(table.ravel().take(row * table.shape[1] + column))


def _latest(problem: Problem, order: Ints) -> Ints:
    """``[P, k + 1]``: the first unit from which the vehicles from each place on reach the end."""
    count = order.shape[1]
    latest = np.full((len(order), count + 1), problem.num_units, dtype=np.int64)
    for step in reversed(range(count)):
        latest[:, step] = problem.reach_back[count - 1 - step, order[:, step], latest[:, step + 1]]
    return latest


@dataclass(frozen=True, slots=True)
class _Roles:
    quick: Bools
    """``[C, k]``: who takes all that fits."""
    split: Ints
    """``[C]``: the place of the one that takes what is left over."""
    price: Floats
    """``[C]``: its seconds for a FLOP: what moving work costs or saves."""


def _roles(problem: Problem, order: Ints, pair: Ints, end: Ints) -> _Roles:
    """Who must take how much, by memory and speed, as if units were alike."""
    count, units = order.shape[1], np.maximum(problem.num_units - end, 1)
    speed = problem.seconds_per_flop[order]
    by_speed = np.argsort(speed, axis=1)
    kept = np.minimum(count - by_speed, problem.micro_batches)[pair]
    memory = problem.memory[np.take_along_axis(order, by_speed, axis=1)][pair]
    held, saved = problem.held[-1] - problem.held[end], problem.saved[-1] - problem.saved[end]
    need = np.maximum(held[:, None] + kept * saved[:, None], 1.0)
    more = np.maximum(memory / need - 1.0 / units[:, None], 0.0)
    placed = np.cumsum(more, axis=1) + (count / units)[:, None]
    num_quick = np.minimum((placed < 1.0).sum(axis=1), count - 1)
    rank = np.argsort(by_speed, axis=1)[pair]
    split = by_speed[pair, num_quick]
    return _Roles(rank < num_quick[:, None], split, speed[pair, split])


def _wanted(problem: Problem, order: Ints, role: _Roles) -> Ints:
    """``[k + 1, C]``: where each place begins if the quick behind take all and the others one."""
    count = len(order)
    wanted = np.full((count + 1, order.shape[1]), problem.num_units, dtype=np.int64)
    for step in reversed(range(count)):
        to = wanted[step + 1]
        full = _of(problem.reach_back[count - 1 - step], order[step], to)
        wanted[step] = np.where(role.quick[:, step], full, np.maximum(to - 1, 0))
    return wanted
