# SPDX-License-Identifier: Apache-2.0
"""The route as a curve: distances along it, curvature, and places beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from flad_carla.expert.scene import FloatArray
from flad_carla.route_planner import LaneKey, RoadOption, RoutePoint

_CURVATURE_M = 3.0  # heading change is measured over twice this length
_SEARCH_BACK_M, _SEARCH_AHEAD_M = 8.0, 25.0
_RUN_OUT_M = 40.0  # the curve goes on straight beyond the route's end


class RoutePath:
    """A polyline with about one point per metre; ``s`` runs along it, ``d`` is to the right."""

    def __init__(self, route: Sequence[RoutePoint]) -> None:
        self.length = route[-1].distance
        last = route[-1]
        c, s = math.cos(math.radians(last.yaw)), math.sin(math.radians(last.yaw))
        tail = np.arange(1.0, _RUN_OUT_M + 0.5)
        self.x = np.concatenate([[p.x for p in route], last.x + c * tail])
        self.y = np.concatenate([[p.y for p in route], last.y + s * tail])
        steps = np.hypot(np.diff(self.x), np.diff(self.y))
        self.s = np.concatenate([[0.0], np.cumsum(steps)])
        self.yaw = np.unwrap(np.arctan2(*np.gradient(np.stack([self.y, self.x]), axis=1)))
        self.curvature = self._curvature()
        self.width = np.concatenate([[p.lane_width for p in route], np.full(len(tail), 3.5)])
        self._route = route

    def _curvature(self) -> FloatArray:
        before = np.interp(self.s - _CURVATURE_M, self.s, self.yaw)
        after = np.interp(self.s + _CURVATURE_M, self.s, self.yaw)
        return np.asarray((after - before) / (2.0 * _CURVATURE_M))

    def project(self, x: float, y: float, near_s: float | None = None) -> tuple[float, float]:
        """``(s, d)`` of a point; looked for about ``near_s`` where that is given."""
        lo, hi = 0, len(self.s) - 1
        if near_s is not None:
            lo = max(0, int(np.searchsorted(self.s, near_s - _SEARCH_BACK_M)) - 1)
            hi = min(hi, int(np.searchsorted(self.s, near_s + _SEARCH_AHEAD_M)) + 1)
        ax, ay = self.x[lo:hi], self.y[lo:hi]
        bx, by = self.x[lo + 1 : hi + 1], self.y[lo + 1 : hi + 1]
        dx, dy = bx - ax, by - ay
        length = np.maximum(np.hypot(dx, dy), 1e-6)
        t = np.clip(((x - ax) * dx + (y - ay) * dy) / length**2, 0.0, 1.0)
        px, py = ax + t * dx - x, ay + t * dy - y
        i = int(np.argmin(px * px + py * py))
        side = (dx[i] * (y - ay[i]) - dy[i] * (x - ax[i])) / length[i]
        return float(self.s[lo + i] + t[i] * length[i]), float(side)

    def at(
        self, s: FloatArray, d: FloatArray | float = 0.0
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """``(x, y, yaw)`` of the places at ``s``, ``d`` to the right; arrays alike."""
        yaw = np.interp(s, self.s, self.yaw)
        x = np.interp(s, self.s, self.x) - d * np.sin(yaw)
        y = np.interp(s, self.s, self.y) + d * np.cos(yaw)
        return x, y, yaw

    def point(self, s: float) -> RoutePoint:
        """The route point nearest behind ``s``."""
        return self._route[self.index(s)]

    def index(self, s: float) -> int:
        """Index of the route point nearest behind ``s``."""
        i = int(np.searchsorted(self.s, s, side="right")) - 1
        return min(max(i, 0), len(self._route) - 1)

    def lane(self, s: float) -> LaneKey:
        """Lane of the route at ``s``."""
        return self.point(s).lane

    def option(self, s: float) -> RoadOption:
        """What the route does at ``s``."""
        return self.point(s).option

    def is_junction(self, s: float) -> bool:
        """Whether the route is inside a junction at ``s``."""
        return self.point(s).junction >= 0

    def crossings(self, x: float, y: float, yaw: float, within_m: float) -> list[float]:
        """Every ``s`` at which the route passes ``(x, y)`` within ``within_m``, along ``yaw``."""
        distance = np.hypot(self.x - x, self.y - y)
        near = (distance < within_m) & (np.cos(self.yaw - yaw) > 0.7)
        found: list[float] = []
        for i in np.flatnonzero(near):
            if i > 0 and near[i - 1] and distance[i] >= distance[i - 1]:
                continue
            if i + 1 < len(near) and near[i + 1] and distance[i + 1] < distance[i]:
                continue
            along = (x - self.x[i]) * math.cos(self.yaw[i]) + (y - self.y[i]) * math.sin(
                self.yaw[i]
            )
            found.append(float(self.s[i] + along))
        return found


def speed_envelope(
    curvature: FloatArray, step_m: float, lateral_mps2: float, braking_mps2: float, least_mps: float
) -> FloatArray:
    """Fastest speed at each point so that every later bend is met at its own speed."""
    bend = np.sqrt(lateral_mps2 / np.maximum(np.abs(curvature), 1e-4))
    speed: FloatArray = np.maximum(bend, least_mps)
    for i in range(len(speed) - 2, -1, -1):
        speed[i] = min(speed[i], math.sqrt(speed[i + 1] ** 2 + 2.0 * braking_mps2 * step_m))
    return speed
