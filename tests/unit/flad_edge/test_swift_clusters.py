# SPDX-License-Identifier: Apache-2.0
"""Who can take part (Eqs. 1, 2), and clusters that have enough and stay small (Eq. 6)."""

import dataclasses

import numpy as np
import pytest

from flad_edge.swift.availability import TaskNeeds, availability
from flad_edge.swift.clustering import (
    ClusteringConfig,
    Neighbourhood,
    best_cluster,
    cluster_vehicles,
    is_enough,
    value,
)

NEEDS = TaskNeeds(flops_per_epoch=2e12, epochs=5.0, capacity_bytes=8e9, least_share=0.2)


@pytest.mark.parametrize(
    "dwell_s, flops_per_s, available_bytes, kind",
    [
        (40.0, 0.25e12, 9e9, "sufficient"),  # 10 TFLOP, just all of it
        (40.0, 0.25e12, 7e9, "limited"),  # too little memory
        (39.0, 0.25e12, 9e9, "limited"),  # too little time
        (8.0, 0.25e12, 9e9, "limited"),  # a fifth of it
        (7.9, 0.25e12, 64e9, "unavailable"),
        (0.0, 1e12, 64e9, "unavailable"),
    ],
)
def test_vehicles_are_of_three_kinds(dwell_s, flops_per_s, available_bytes, kind):
    assert availability(dwell_s, flops_per_s, available_bytes, NEEDS) == kind


@pytest.mark.parametrize("dwell_s, flops_per_s", [(float("nan"), 1.0), (1.0, -1.0)])
def test_dwell_and_speed_must_make_sense(dwell_s, flops_per_s):
    with pytest.raises(ValueError, match="finite and not negative"):
        availability(dwell_s, flops_per_s, 1.0, NEEDS)


def _street(seed: int, n: int, radius_m: float = 120.0) -> Neighbourhood:
    """Vehicles along a street; those of one direction stay together."""
    rng = np.random.default_rng(seed)
    place_m, ahead = rng.uniform(0.0, 30.0 * n, n), rng.integers(0, 2, n)
    apart_m = np.abs(place_m[:, None] - place_m[None, :])
    together = np.where(ahead[:, None] == ahead[None, :], 1.0, 0.3)
    return Neighbourhood(
        memory_bytes=rng.uniform(2e9, 6e9, n),
        work_flops=rng.uniform(2e12, 9e12, n),
        stability=np.clip(1.0 - apart_m / radius_m, 0.0, 1.0) * together,
        reachable=apart_m < radius_m,
    )


@pytest.mark.parametrize("seed", range(6))
def test_clusters_have_enough_and_share_nobody(seed):
    there = _street(seed, 60)
    config = ClusteringConfig()

    found = cluster_vehicles(there, NEEDS, config)

    placed = [m for cluster in found.clusters for m in cluster]
    assert len(found.clusters) >= 5
    assert sorted([*placed, *found.left_over]) == list(range(60))
    for cluster in found.clusters:
        assert 2 <= len(cluster) <= config.most
        assert is_enough(cluster, there, NEEDS, config)
        assert there.reachable[np.ix_(cluster, cluster)].all()
        # nobody can go whose leaving would make it better
        for out in cluster:
            smaller = [m for m in cluster if m != out]
            if len(smaller) > 1 and is_enough(smaller, there, NEEDS, config):
                assert value(smaller, there, config) <= value(cluster, there, config) or (
                    out == _seed_of(cluster, found, there)
                )


def _seed_of(cluster, found, there) -> int:
    """Whoever had the fewest free neighbours when the cluster was made."""
    before = found.clusters[: found.clusters.index(cluster)]
    taken = {m for other in before for m in other}
    free = np.array([i not in taken for i in range(len(there))])
    return min(cluster, key=lambda m: (int((there.reachable[m] & free).sum()), m))


def test_one_cluster_comes_near_the_exact_optimum():
    config, shares = ClusteringConfig(most=6), []
    for seed in range(12):
        there = _street(seed, 8, radius_m=400.0)
        grown = cluster_vehicles(there, NEEDS, config).clusters
        if not grown:
            continue
        best = max(
            (b for s in grown[0] if (b := best_cluster(s, there, NEEDS, config)) is not None),
            key=lambda b: value(b, there, config),
        )
        ours, optimum = value(grown[0], there, config), value(best, there, config)
        assert ours <= optimum + 1e-12
        shares.append(optimum - ours)
    assert len(shares) >= 8
    assert np.median(shares) < 0.1  # of stability, which goes from 0 to 1


def test_no_cluster_where_nothing_is_enough():
    there = _street(1, 10)
    poor = dataclasses.replace(there, memory_bytes=there.memory_bytes * 0.0)
    found = cluster_vehicles(poor, NEEDS)
    assert found.clusters == () and found.left_over == tuple(range(10))
    assert best_cluster(0, poor, NEEDS) is None


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"memory_bytes": np.full(10, np.nan)}, "memory_bytes must be finite"),
        ({"work_flops": np.zeros(3)}, r"work_flops must have shape \[10\]"),
        ({"reachable": np.zeros((2, 2), dtype=bool)}, r"reachable must have shape \[10, 10\]"),
    ],
)
def test_bad_neighbourhoods_are_named(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        dataclasses.replace(_street(1, 10), **change)
