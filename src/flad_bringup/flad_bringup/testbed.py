# SPDX-License-Identifier: Apache-2.0
"""A cluster file of the planner as an emulated testbed: both read the same numbers."""

from __future__ import annotations

import itertools

from flad_edge.swift.cluster import Cluster
from flad_pipeline.testbed.testbed import EmulatedVehicle, LinkProfile, Testbed


def emulated(cluster: Cluster, *, dilation: float = 1.0, loss: float = 0.0) -> Testbed:
    """The vehicles and links of a cluster.

    Args:
        cluster: of :func:`flad_edge.swift.cluster.read_cluster`.
        dilation: seconds here for one emulated second.
        loss: share of packets that no link delivers.
    """
    names = [vehicle.name for vehicle in cluster.vehicles]
    between = {
        frozenset((names[a], names[b])): LinkProfile(
            bits_per_s=8.0 / float(cluster.seconds_per_byte[a, b]),
            delay_s=float(cluster.delay_s[a, b]),
            loss=loss,
        )
        for a, b in itertools.combinations(range(len(names)), 2)
    }
    return Testbed(
        vehicles={
            v.name: EmulatedVehicle(
                seconds_per_flop=v.seconds_per_flop, available_bytes=v.available_bytes
            )
            for v in cluster.vehicles
        },
        link=min(between.values(), key=lambda link: link.bits_per_s),
        between=between,
        shared_channel=cluster.shared_channel,
        dilation=dilation,
    )
