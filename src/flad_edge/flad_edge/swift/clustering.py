# SPDX-License-Identifier: Apache-2.0
"""Eq. 6: clusters that hold the model, last long enough, stay together, and stay small."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flad_common.config import knob
from flad_edge.swift.availability import TaskNeeds
from flad_edge.swift.cluster import Floats


@dataclass(frozen=True, kw_only=True)
class ClusteringConfig:
    """What a cluster must have beyond the task's needs, and how large it may be."""

    redundancy: float = knob(1.2, unit="1", doc="alpha': spare computation, at least 1.")
    memory_redundancy: float = knob(1.3, unit="1", doc="Memory over M_cap; stages keep snapshots.")
    most: int = knob(8, unit="1", doc="Vehicles of a cluster.")
    size_penalty: float = knob(
        0.5, unit="1", doc="Stability that a cluster of the largest size must have more."
    )

    def __post_init__(self) -> None:
        for name in ("redundancy", "memory_redundancy"):
            if not getattr(self, name) >= 1.0:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.most < 2:
            raise ValueError(f"most must be at least 2, got {self.most}")
        if not self.size_penalty >= 0.0:
            raise ValueError(f"size_penalty must not be negative, got {self.size_penalty}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Neighbourhood:
    """Vehicles that cannot train alone; ``n`` of them.

    Raises:
        ValueError: if shapes differ, or a number is negative or not finite.
    """

    memory_bytes: Floats
    """``[n]``."""
    work_flops: Floats
    """``[n]``: dwl cmp, the FLOPs that a vehicle can do while it stays."""
    stability: Floats
    """``[n, n]``: Eq. 5 of every pair by the time looked at, 0 (apart) to 1 (together)."""
    reachable: NDArray[np.bool_]
    """``[n, n]``: who is a neighbour of whom."""

    def __post_init__(self) -> None:
        n = len(self.memory_bytes)
        if self.work_flops.shape != (n,) or self.stability.shape != (n, n):
            raise ValueError(
                f"work_flops must have shape [{n}] and stability [{n}, {n}], got "
                f"{list(self.work_flops.shape)} and {list(self.stability.shape)}"
            )
        if self.reachable.shape != (n, n):
            raise ValueError(
                f"reachable must have shape [{n}, {n}], got {list(self.reachable.shape)}"
            )
        for name in ("memory_bytes", "work_flops", "stability"):
            values = getattr(self, name)
            if not np.all(np.isfinite(values) & (values >= 0.0)):
                raise ValueError(f"{name} must be finite and not negative everywhere")

    def __len__(self) -> int:
        return len(self.memory_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Clustering:
    """Disjoint clusters, and who is left over."""

    clusters: tuple[tuple[int, ...], ...]
    left_over: tuple[int, ...]


def is_enough(
    members: Sequence[int], there: Neighbourhood, needs: TaskNeeds, config: ClusteringConfig
) -> bool:
    """Constraints c1 and c2 of Eq. 6 (c2's com is read as computation)."""
    chosen = list(members)
    memory = float(there.memory_bytes[chosen].sum())
    work = float(there.work_flops[chosen].sum())
    return (
        memory > config.memory_redundancy * needs.capacity_bytes
        and work > config.redundancy * needs.flops
    )


def value(members: Sequence[int], there: Neighbourhood, config: ClusteringConfig) -> float:
    """The objective of Eq. 6: mean stability of the pairs, less a price for the size.

    The paper sums, and says that large clusters are penalised; a sum alone would reward size.
    """
    chosen = list(members)
    size = len(chosen)
    if size < 2:
        return -math.inf
    both = there.stability[np.ix_(chosen, chosen)]
    mean = float(both.sum() - np.trace(both)) / (size * (size - 1))
    return mean - config.size_penalty * size / config.most


def cluster_vehicles(
    there: Neighbourhood, needs: TaskNeeds, config: ClusteringConfig | None = None
) -> Clustering:
    """Grow clusters around the vehicles that are hardest to place; members that are spare go.

    Whoever has the fewest free neighbours starts, and takes the neighbour that is most stable with
    all members, until the cluster has enough; then the least stable spare members are let go.
    """
    config = config or ClusteringConfig()
    free = np.ones(len(there), dtype=np.bool_)
    tried = np.zeros(len(there), dtype=np.bool_)
    clusters = []
    while np.any(free & ~tried):
        neighbours = (there.reachable & free[None, :]).sum(axis=1)
        seed = int(np.argmin(np.where(free & ~tried, neighbours, np.iinfo(np.int64).max)))
        tried[seed] = True
        members = _grown(seed, free, there, needs, config)
        if members is not None:
            members = _pruned(members, there, needs, config)
            free[members] = False
            clusters.append(tuple(sorted(members)))
    return Clustering(
        clusters=tuple(clusters), left_over=tuple(int(i) for i in np.nonzero(free)[0])
    )


def best_cluster(
    seed: int, there: Neighbourhood, needs: TaskNeeds, config: ClusteringConfig | None = None
) -> tuple[int, ...] | None:
    """The optimum of Eq. 6 around one vehicle, by trying every set; for small neighbourhoods."""
    config = config or ClusteringConfig()
    others = [int(i) for i in np.nonzero(there.reachable[seed])[0] if i != seed]
    best, best_value = None, -math.inf
    for size in range(1, config.most):
        for chosen in itertools.combinations(others, size):
            members = (seed, *chosen)
            if not np.all(there.reachable[np.ix_(members, members)] | np.eye(size + 1, dtype=bool)):
                continue
            if is_enough(members, there, needs, config):
                worth = value(members, there, config)
                if worth > best_value:
                    best, best_value = tuple(sorted(members)), worth
    return best


def _grown(
    seed: int,
    free: NDArray[np.bool_],
    there: Neighbourhood,
    needs: TaskNeeds,
    config: ClusteringConfig,
) -> list[int] | None:
    members = [seed]
    near = free & there.reachable[seed]
    near[seed] = False
    closeness = there.stability[seed].copy()
    while not is_enough(members, there, needs, config):
        if len(members) == config.most or not near.any():
            return None
        chosen = int(np.argmax(np.where(near, closeness, -np.inf)))
        members.append(chosen)
        closeness += there.stability[chosen]
        near &= there.reachable[chosen]
        near[chosen] = False
    return members if len(members) > 1 else None


def _pruned(
    members: list[int], there: Neighbourhood, needs: TaskNeeds, config: ClusteringConfig
) -> list[int]:
    """Without members that are not needed, as long as that makes the cluster better."""
    while len(members) > 2:
        smaller = [[m for m in members if m != out] for out in members[1:]]
        enough = [s for s in smaller if is_enough(s, there, needs, config)]
        best = max(enough, key=lambda s: value(s, there, config), default=None)
        if best is None or value(best, there, config) <= value(members, there, config):
            break
        members = best
    return members
