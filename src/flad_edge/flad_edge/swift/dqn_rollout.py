# SPDX-License-Identifier: Apache-2.0
"""Builds pipelines stage by stage, one of every first vehicle side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from flad_edge.swift.cluster import Floats
from flad_edge.swift.dqn_states import Candidates, Scene, States, candidates
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.problem import Ints

Scores = Callable[[Candidates], Floats]
"""A score of every candidate; the lowest of each state is taken."""


def roll_out(scene: Scene, firsts: Sequence[int], scores: Scores) -> Mapping[int, Pipeline | None]:
    """One pipeline for each first vehicle; None where no legal stage was left on the way.

    Every choice is final: nothing is tried, taken back or repaired.
    """
    states = States.begin(scene.problem, firsts)
    alive = np.arange(len(firsts))
    orders: list[list[int]] = [[] for _ in firsts]
    ends: list[list[int]] = [[] for _ in firsts]
    for _ in range(scene.problem.num_vehicles):
        found = candidates(scene, states)
        rows, chosen = lowest(found, scores(found))
        if not len(rows):
            return dict.fromkeys(firsts)
        vehicle, end = found.vehicle[chosen], found.end[chosen]
        alive = alive[rows]
        for place, v, e in zip(alive, vehicle, end, strict=True):
            orders[place].append(int(v))
            ends[place].append(int(e))
        states = states.rows(rows).after(vehicle, end)
    done: dict[int, Pipeline | None] = dict.fromkeys(firsts)
    done.update({firsts[int(i)]: Pipeline.of(orders[i], ends[i]) for i in alive})
    return done


def lowest(found: Candidates, scores: Floats) -> tuple[Ints, Ints]:
    """States that have a candidate, and the index of each one's lowest score."""
    order = np.lexsort((scores, found.state))
    rows, at = np.unique(found.state[order], return_index=True)
    return rows, order[at]


def masked(found: Candidates, scores: Floats) -> Floats:
    """Scores with a mask: whoever has a way known to reach the last unit goes before the others.

    The way is one of the fixed orders behind the features; where a state has none, the score alone
    decides.
    """
    has_way = np.zeros(int(found.state.max(initial=-1)) + 1, dtype=np.bool_)
    has_way[found.state[found.known]] = True
    return np.where(found.known | ~has_way[found.state], scores, np.inf)
