# SPDX-License-Identifier: Apache-2.0
"""From positions to pipelines for all vehicles of one edge: clusters by Eq. 6, then every plan."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import numpy as np

from flad_bringup.bench.rows import Row
from flad_edge.swift.availability import TaskNeeds
from flad_edge.swift.cluster import Cluster
from flad_edge.swift.clustering import Neighbourhood, cluster_vehicles
from flad_edge.swift.devices import DeviceProfile
from flad_edge.swift.planner import plan_cluster
from flad_edge.swift.problem import Problem
from flad_edge.swift.random_problems import random_model, random_vehicles

_FLEETS = (10, 30, 100, 300, 1000)
_LONGEST_S = 10.0
_AREA_M, _RADIUS_M = 2000.0, 300.0
_MODEL_BYTES, _FLOPS, _UNITS, _BYTES_PER_S = 12e9, 1e12, 30, 12.5e6
_DWELL_S = (120.0, 900.0)


def scale_rows(seed: int, devices: Mapping[str, DeviceProfile]) -> Iterator[Row]:
    """Seconds to cluster a fleet and to plan all pipelines of all clusters."""
    for count in _FLEETS:
        rng = np.random.default_rng([seed, count])
        model = random_model(rng, num_units=_UNITS, least_bytes=_MODEL_BYTES, flops=_FLOPS)
        vehicles = random_vehicles(rng, devices, count, (0.5, 1.0))
        place_m = rng.uniform(0.0, _AREA_M, (count, 2))
        dwell_s = rng.uniform(*_DWELL_S, count)
        needs = TaskNeeds(flops_per_epoch=_FLOPS, epochs=20.0, capacity_bytes=_MODEL_BYTES)
        began = time.process_time()
        apart_m = np.linalg.norm(place_m[:, None] - place_m[None, :], axis=2)
        memory = np.array([v.available_bytes for v in vehicles])
        there = Neighbourhood(
            memory_bytes=memory,
            work_flops=dwell_s / np.array([v.seconds_per_flop for v in vehicles]),
            stability=np.maximum(0.0, 1.0 - apart_m / _RADIUS_M),
            reachable=apart_m < _RADIUS_M,
        )
        found = cluster_vehicles(there, needs)
        planned = 0
        for members in found.clusters:
            n = len(members)
            cluster = Cluster(
                vehicles=tuple(vehicles[m] for m in members),
                seconds_per_byte=np.full((n, n), 1.0 / _BYTES_PER_S),
                delay_s=np.full((n, n), 0.003),
            )
            problem = Problem(cluster, model, 8)
            if problem.shortage() is None:
                plan = plan_cluster(problem)
                planned += sum(p.pipeline is not None for p in plan.pipelines)
        seconds = time.process_time() - began
        yield Row(
            name=f"swift_fleet_{count}_s",
            value=seconds,
            unit="s",
            bar=_LONGEST_S if count == max(_FLEETS) else None,
            better="lower",
        )
        placed = sum(len(members) for members in found.clusters)
        yield Row(
            name=f"swift_fleet_{count}_with_a_pipeline", value=planned / count, unit="of vehicles"
        )
        yield Row(name=f"swift_fleet_{count}_in_clusters", value=placed / count, unit="of vehicles")
