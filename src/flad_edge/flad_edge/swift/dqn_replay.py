# SPDX-License-Identifier: Apache-2.0
"""Episodes of planning as tensors: what was seen, done, earned, and what would have been best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flad_edge.swift.cluster import Floats
from flad_edge.swift.dqn_network import rest_shares
from flad_edge.swift.dqn_rollout import Scores, lowest
from flad_edge.swift.dqn_states import Candidates, Scene, States, candidates, scale_of
from flad_edge.swift.exact_table import ExactTable
from flad_edge.swift.problem import Bools, Ints
from flad_edge.swift.reward import RewardConfig

KEPT = 24
"""Candidates of a state that are kept, the most promising ones by estimate; and a few others."""
_OTHERS = 8


@dataclass(frozen=True, slots=True)
class Episode:
    """All steps of one problem's pipelines. ``C`` candidates of ``M`` states."""

    features: Tensor
    """``[C, F]``."""
    shares: Tensor
    """``[C]``: the uncorrected estimate of the candidate's cost and all that follows."""
    state: Tensor
    """``[C]``: rising."""
    best: Tensor
    """``[C]``: the true cost by the exact table, by the typical path; inf for a dead end."""
    taken: Tensor
    """``[M]``: the candidate that was taken."""
    reward: Tensor
    """``[M]``: Eq. 12."""
    next_state: Tensor
    """``[M]``: the state after; -1 at the end, -2 where no legal stage was left."""
    left: Tensor
    """``[M]``: stages still to place, this one counted."""
    spent: Tensor
    """``[M]``: seconds before, by the typical path."""

    @property
    def num_states(self) -> int:
        """``M``."""
        return len(self.taken)


def play(
    scene: Scene,
    table: ExactTable,
    policy: Scores,
    rng: np.random.Generator,
    *,
    explore: float,
    shown: float,
) -> Episode | None:
    """Build pipelines from every first vehicle that has one; None if none has.

    Args:
        scene: of the problem.
        table: its exact table, for demonstrations; planning itself never sees it.
        policy: the network's scores.
        rng: of exploring.
        explore: share of steps that take any of the candidates.
        shown: share of steps that take the optimal one.
    """
    problem = scene.problem
    everybody = (1 << problem.num_vehicles) - 1
    firsts = [v for v in range(problem.num_vehicles) if np.isfinite(table.cost(everybody, v))]
    if not firsts:
        return None
    states, spent = States.begin(problem, firsts), np.zeros(len(firsts))
    steps: list[_Step] = []
    for _ in range(problem.num_vehicles):
        found = candidates(scene, states)
        best = _true_costs(problem.num_vehicles, table, states, found)
        kept = _kept(found, best, rng)
        found, best = _only(found, kept), best[kept]
        scores = policy(found)
        whim = rng.uniform(size=len(states))[found.state]
        scores = np.where(whim < explore, rng.uniform(size=len(scores)), scores)
        scores = np.where(whim > 1.0 - shown, best, scores)
        rows, taken = lowest(found, scores)
        steps.append(_Step(found, best, rows, taken, spent, states.left.sum(axis=1)))
        if not len(rows):
            break
        spent = spent[rows] + found.cost[taken]
        states = states.rows(rows).after(found.vehicle[taken], found.end[taken])
    return _episode(scene, steps)


@dataclass(frozen=True, slots=True)
class _Step:
    found: Candidates
    best: Floats
    rows: Ints
    taken: Ints
    spent: Floats
    left: Ints


def _true_costs(n: int, table: ExactTable, states: States, found: Candidates) -> Floats:
    """``[C]``: cost of each candidate and the optimum behind it, from the exact table."""
    bits = 1 << np.arange(n)
    rest = (states.left * bits).sum(axis=1)[found.state] & ~(1 << found.vehicle)
    true = found.cost.copy()
    for members, vehicle in {(int(r), int(v)) for r, v in zip(rest, found.vehicle, strict=True)}:
        if members:
            rows = (rest == members) & (found.vehicle == vehicle)
            true[rows] += table.onward(members, vehicle)[found.end[rows]]
    return true


def _kept(found: Candidates, best: Floats, rng: np.random.Generator) -> Bools:
    """The promising candidates of every state, the optimum, and some at random."""
    kept = np.zeros(len(found.state), dtype=np.bool_)
    for scores, count in (
        (found.cost + found.after, KEPT),
        (rng.uniform(size=len(kept)), _OTHERS),
        (best, 2),
    ):
        order = np.lexsort((scores, found.state))
        _, begins, counts = np.unique(found.state[order], return_index=True, return_counts=True)
        rank = np.arange(len(order)) - np.repeat(begins, counts)
        kept[order[rank < count]] = True
    return kept


def _only(found: Candidates, kept: Bools) -> Candidates:
    return Candidates(
        state=found.state[kept],
        vehicle=found.vehicle[kept],
        end=found.end[kept],
        cost=found.cost[kept],
        after=found.after[kept],
        known=found.known[kept],
        features=found.features[kept],
    )


def _episode(scene: Scene, steps: list[_Step]) -> Episode:
    reward_of, scale_s = RewardConfig(), scale_of(scene)
    parts: dict[str, list[NDArray[np.generic]]] = {
        name: [] for name in Episode.__dataclass_fields__
    }
    state_base = candidate_base = 0
    for number, step in enumerate(steps):
        found, m = step.found, len(step.spent)
        taken, reward = np.zeros(m, dtype=np.int64), np.zeros(m)
        following = np.full(m, -2, dtype=np.int64)
        taken[step.rows] = step.taken + candidate_base
        cost = found.cost[step.taken]
        reward[step.rows] = reward_of.indicators - reward_of.w_time * cost / scale_s
        if number == scene.problem.num_vehicles - 1:
            reward[step.rows] -= (step.spent[step.rows] + cost) / scale_s
            following[step.rows] = -1
        else:
            following[step.rows] = state_base + m + np.arange(len(step.rows))
        has_none = np.setdiff1d(np.arange(m), step.rows)
        parts["features"].append(found.features)
        parts["shares"].append(rest_shares(found, scene).astype(np.float32))
        parts["state"].append(found.state + state_base)
        parts["best"].append((step.best / scale_s).astype(np.float32))
        parts["taken"].append(np.where(np.isin(np.arange(m), has_none), -1, taken))
        parts["reward"].append(reward.astype(np.float32))
        parts["next_state"].append(following)
        parts["left"].append(step.left.astype(np.float32))
        parts["spent"].append((step.spent / scale_s).astype(np.float32))
        state_base += m
        candidate_base += len(found.state)
    return Episode(**{name: torch.from_numpy(np.concatenate(p)) for name, p in parts.items()})
