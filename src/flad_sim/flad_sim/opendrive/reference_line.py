# SPDX-License-Identifier: Apache-2.0
"""A road's reference line: where it is and where it heads at a distance s along it.

In OpenDRIVE's frame (right-handed); `sections` mirrors into CARLA's.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from flad_sim.opendrive.parse import Geometry
from flad_sim.types import FloatArray

_TABLE_STEP_M = 0.05  # arc-length table of polynomial curves; keeps positions within 0.1 mm
_GAUSS_X, _GAUSS_W = np.polynomial.legendre.leggauss(24)


@dataclass(frozen=True, slots=True)
class LinePoints:
    """Points of a reference line: ``xy`` ``[N, 2]``, ``heading_rad`` ``[N]``."""

    xy: FloatArray
    heading_rad: FloatArray


class ReferenceLine:
    """The geometries of one road, evaluated at any s."""

    def __init__(self, geometries: tuple[Geometry, ...]) -> None:
        self.geometries = tuple(sorted(geometries, key=lambda g: g.s))
        self._starts = np.array([g.s for g in self.geometries])

    def at(self, s: FloatArray) -> LinePoints:
        """Points at ``s`` ``[N]`` (metres); beyond the ends the last curve is clamped."""
        s = np.asarray(s, dtype=np.float64)
        xy = np.empty((len(s), 2))
        heading = np.empty(len(s))
        index = np.clip(np.searchsorted(self._starts, s + 1e-9, side="right") - 1, 0, None)
        for i in np.unique(index):
            chosen = index == i
            geometry = self.geometries[i]
            d = np.clip(s[chosen] - geometry.s, 0.0, geometry.length)
            u, v, turn = _local(geometry, d)
            c, sn = np.cos(geometry.hdg), np.sin(geometry.hdg)
            xy[chosen, 0] = geometry.x + c * u - sn * v
            xy[chosen, 1] = geometry.y + sn * u + c * v
            heading[chosen] = geometry.hdg + turn
        return LinePoints(xy, heading)


def max_curvature(geometry: Geometry) -> float:
    """Largest absolute curvature of a geometry, 1/m."""
    if geometry.kind == "line" or geometry.length <= 0.0:
        return 0.0
    if geometry.kind in ("arc", "spiral"):
        return max(abs(k) for k in geometry.numbers)
    d = np.linspace(0.0, geometry.length, 33)
    _, _, turn = _local(geometry, d)
    return float(np.max(np.abs(np.diff(np.unwrap(turn)))) / (d[1] - d[0]))


def _local(g: Geometry, d: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """``u``, ``v`` and heading change at arc lengths ``d`` from the start of ``g``."""
    if g.kind == "line":
        return d, np.zeros_like(d), np.zeros_like(d)
    if g.kind == "arc":
        k = g.numbers[0]
        if abs(k) < 1e-12:
            return d, np.zeros_like(d), np.zeros_like(d)
        return np.sin(k * d) / k, (1.0 - np.cos(k * d)) / k, k * d
    if g.kind == "spiral":
        return _spiral(g, d)
    if g.kind == "poly3":
        a, b, c, e = g.numbers
        return _polynomial((0.0, 1.0, 0.0, 0.0), (a, b, c, e), 1.2 * g.length, d, g.length)
    p_max = 1.0 if g.normalized else g.length
    return _polynomial(g.numbers[:4], g.numbers[4:], p_max, d, g.length)


def _spiral(g: Geometry, d: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    k0, k1 = g.numbers
    rate = (k1 - k0) / g.length if g.length > 0.0 else 0.0
    half = d[:, None] / 2.0
    at = half * (1.0 + _GAUSS_X[None, :])
    angle = k0 * at + 0.5 * rate * at * at
    u = np.sum(np.cos(angle) * _GAUSS_W, axis=1) * half[:, 0]
    v = np.sum(np.sin(angle) * _GAUSS_W, axis=1) * half[:, 0]
    return u, v, k0 * d + 0.5 * rate * d * d


def _polynomial(
    cu: tuple[float, ...], cv: tuple[float, ...], p_max: float, d: FloatArray, length: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A parametric cubic walked by arc length, as the CARLA client does."""
    p = np.interp(d, *_arc_table(cu, cv, p_max, length))
    return _value(cu, p), _value(cv, p), np.arctan2(_slope(cv, p), _slope(cu, p))


@functools.lru_cache(maxsize=8192)
def _arc_table(
    cu: tuple[float, ...], cv: tuple[float, ...], p_max: float, length: float
) -> tuple[FloatArray, FloatArray]:
    """Arc lengths and the parameters at which they are reached."""
    table = np.linspace(0.0, p_max, max(16, int(length / _TABLE_STEP_M)) + 1)
    speed = np.hypot(_slope(cu, table), _slope(cv, table))
    arc = np.concatenate(([0.0], np.cumsum((speed[1:] + speed[:-1]) / 2.0 * np.diff(table))))
    return arc, table


def _value(c: tuple[float, ...], p: FloatArray) -> FloatArray:
    return c[0] + p * (c[1] + p * (c[2] + p * c[3]))


def _slope(c: tuple[float, ...], p: FloatArray) -> FloatArray:
    return c[1] + p * (2.0 * c[2] + p * 3.0 * c[3])
