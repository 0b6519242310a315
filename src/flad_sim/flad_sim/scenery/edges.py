# SPDX-License-Identifier: Apache-2.0
"""Where something begins beside the lanes: the outer edges of carriageways and of pavements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flad_sim.types import FloatArray, LaneStrip

_PROBE_M = 0.8  # an edge is an outer one where a point this far beyond it is free


@dataclass(frozen=True, slots=True)
class Edge:
    """A line with something on one side: points ``[N, 3]`` and unit normals away from the lanes."""

    points: FloatArray
    outward: FloatArray  # [N, 2]
    run: NDArray[np.float64]  # [N] metres along
    lane: LaneStrip

    @property
    def length(self) -> float:
        """Metres from end to end."""
        return float(self.run[-1])

    def at(self, s: float, out_m: float) -> tuple[float, float, float]:
        """The point ``s`` metres along and ``out_m`` beyond the edge."""
        p = [float(np.interp(s, self.run, self.points[:, k])) for k in range(3)]
        n = [float(np.interp(s, self.run, self.outward[:, k])) for k in range(2)]
        scale = out_m / max(math.hypot(*n), 1e-6)
        return (p[0] + scale * n[0], p[1] + scale * n[1], p[2])

    def yaw_out_deg(self, s: float) -> float:
        """Direction away from the lanes."""
        n = [float(np.interp(s, self.run, self.outward[:, k])) for k in range(2)]
        return math.degrees(math.atan2(n[1], n[0]))


def outer_edges(
    lanes: Sequence[LaneStrip],
    belongs: Callable[[LaneStrip], bool],
    gap: Callable[[FloatArray], NDArray[np.float64]],
) -> list[Edge]:
    """Edges of the lanes that ``belongs`` picks, outside junctions, beyond which ``gap`` is open.

    ``gap`` tells the metres from points ``[N, 2]`` to whatever the edge must be the border of.
    """
    edges = []
    for strip in lanes:
        if strip.junction_id >= 0 or not belongs(strip):
            continue
        for points, other in ((strip.left, strip.right), (strip.right, strip.left)):
            out = points[:, :2] - other[:, :2]
            width = np.linalg.norm(out, axis=1, keepdims=True)
            if width.min() < 1e-3:
                continue
            out /= width
            free = gap(points[:, :2] + _PROBE_M * out) > 0.5 * _PROBE_M - 0.2
            run = np.concatenate(
                [[0.0], np.cumsum(np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1))]
            )
            if free.mean() > 0.7 and run[-1] > 1.0:
                edges.append(Edge(points, out, run, strip))
    return edges
