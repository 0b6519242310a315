# SPDX-License-Identifier: Apache-2.0
"""Which upright boxes meet within a step, compiled: swept separating axes over a uniform grid.

A box is a row ``[x, y, z, half_x, half_y, half_z, yaw_rad, vx, vy]``: where it stands at the end of
the step, and its velocity during it. Sweeping the relative motion backwards finds a contact that a
test of end positions alone would miss (a pole passed at 40 m/s), and its true normal.
"""

from __future__ import annotations

import math

import numpy as np

from flad_sim.physics.jit import kernel
from flad_sim.types import FloatArray

ROW = 9  # columns of a box
# Columns of a hit: indices of body and other, what the other is, normal from other to body,
# point, overlap along the normal, 1 where they already overlapped when the step began.
HIT = 9
OTHER_BODY, OTHER_MOVER, OTHER_STATIC = 0.0, 1.0, 2.0

# Bodies that share less height than this do not stop each other: a kerb, debris, a wheel's climb.
_MIN_HEIGHT_M = 0.15


@kernel
def find_hits(
    bodies: FloatArray,
    movers: FloatArray,
    statics: FloatArray,
    cell_start: FloatArray,
    cell_items: FloatArray,
    grid: FloatArray,
    dt_s: float,
) -> FloatArray:
    """All hits ``[K, HIT]`` of bodies ``[B, ROW]`` with each other, movers and static boxes.

    ``grid`` is ``[x0, y0, cell_m, nx, ny]``; cell i holds ``cell_items[cell_start[i]:
    cell_start[i + 1]]``. Ordered by body, then kind, then index: the order is part of the result.
    """
    room = 64
    hits = np.empty((room, HIT))
    count = 0
    seen = np.full(statics.shape[0], -1, np.int64)
    for i in range(bodies.shape[0]):
        a = bodies[i]
        for kind in range(3):
            if kind == 0:
                first, last, others = i + 1, bodies.shape[0], bodies
            elif kind == 1:
                first, last, others = 0, movers.shape[0], movers
            else:
                first, last, others = 0, 0, statics
            for j in range(first, last):
                if count == room:
                    hits, room = _grown(hits)
                count += _test(a, others[j], i, j, float(kind), dt_s, hits[count])
        if statics.shape[0] == 0:
            continue
        reach = math.hypot(a[3], a[4]) + math.hypot(a[7], a[8]) * dt_s
        ix0, ix1 = _cells(a[0] - reach, a[0] + reach, grid[0], grid[2], grid[3])
        iy0, iy1 = _cells(a[1] - reach, a[1] + reach, grid[1], grid[2], grid[4])
        for iy in range(iy0, iy1):
            for ix in range(ix0, ix1):
                cell = iy * int(grid[3]) + ix
                for at in range(int(cell_start[cell]), int(cell_start[cell + 1])):
                    j = int(cell_items[at])
                    if seen[j] == i:
                        continue
                    seen[j] = i
                    if count == room:
                        hits, room = _grown(hits)
                    count += _test(a, statics[j], i, j, OTHER_STATIC, dt_s, hits[count])
    return hits[:count]


@kernel
def _grown(hits: FloatArray) -> tuple[FloatArray, int]:
    larger = np.empty((2 * hits.shape[0], hits.shape[1]))
    larger[: hits.shape[0]] = hits
    return larger, larger.shape[0]


@kernel
def _cells(low: float, high: float, origin: float, cell_m: float, count: float) -> tuple[int, int]:
    first = max(0.0, math.floor((low - origin) / cell_m))
    last = min(count, math.floor((high - origin) / cell_m) + 1.0)
    return int(first), int(last)


@kernel
def _test(
    a: FloatArray, b: FloatArray, i: int, j: int, kind: float, dt_s: float, hit: FloatArray
) -> int:
    """Fill ``hit`` and return 1 if the boxes meet during the step, else 0."""
    dx, dy = (a[7] - b[7]) * dt_s, (a[8] - b[8]) * dt_s  # a's motion as seen from b
    px, py = a[0] - b[0], a[1] - b[1]
    reach = math.hypot(a[3], a[4]) + math.hypot(b[3], b[4]) + math.hypot(dx, dy)
    if px * px + py * py > reach * reach:
        return 0
    if min(a[2] + a[5], b[2] + b[5]) - max(a[2] - a[5], b[2] - b[5]) < _MIN_HEIGHT_M:
        return 0
    ca, sa, cb, sb = math.cos(a[6]), math.sin(a[6]), math.cos(b[6]), math.sin(b[6])
    enter, leave = -math.inf, math.inf
    nx = ny = 0.0  # axis of the latest entry
    least, mx, my = math.inf, 0.0, 0.0  # axis of the least overlap at the end
    overlap = 0.0
    for axis in range(4):
        if axis == 0:
            ux, uy = ca, sa
        elif axis == 1:
            ux, uy = -sa, ca
        elif axis == 2:
            ux, uy = cb, sb
        else:
            ux, uy = -sb, cb
        radius = (
            a[3] * abs(ca * ux + sa * uy)
            + a[4] * abs(-sa * ux + ca * uy)
            + b[3] * abs(cb * ux + sb * uy)
            + b[4] * abs(-sb * ux + cb * uy)
        )
        end = px * ux + py * uy
        move = dx * ux + dy * uy
        start = end - move
        if radius - abs(end) < least:
            least = radius - abs(end)
            sign = 1.0 if end >= 0.0 else -1.0
            mx, my = sign * ux, sign * uy
        if abs(move) < 1e-12:
            if abs(end) >= radius:
                return 0
            continue
        t0, t1 = (-radius - start) / move, (radius - start) / move
        if t0 > t1:
            t0, t1 = t1, t0
        if t0 > enter:
            enter = t0
            sign = 1.0 if start >= 0.0 else -1.0
            nx, ny = sign * ux, sign * uy
            overlap = radius - sign * end
        leave = min(leave, t1)
        if enter > leave or enter > 1.0 or leave < 0.0:
            return 0
    already = enter <= 0.0
    if already:
        if least <= 0.0:
            return 0
        nx, ny, overlap = mx, my, least
    hit[0], hit[1], hit[2], hit[3], hit[4] = i, j, kind, nx, ny
    hit[5], hit[6] = _touch(a, b, nx, ny, overlap)
    hit[7], hit[8] = overlap, 1.0 if already else 0.0
    return 1


@kernel
def _touch(
    a: FloatArray, b: FloatArray, nx: float, ny: float, overlap: float
) -> tuple[float, float]:
    """The middle of what touches: the common part of both boxes' sides facing each other."""
    # a is moved back out of b, so that the sides meet.
    ax, ay = a[0] + nx * overlap, a[1] + ny * overlap
    low_a, high_a, _ = _side(ax, ay, a, -nx, -ny)
    low_b, high_b, face = _side(b[0], b[1], b, nx, ny)
    along = 0.5 * (max(low_a, low_b) + min(high_a, high_b))
    tx, ty = _tangent(nx, ny)
    return nx * face + tx * along, ny * face + ty * along


@kernel
def _tangent(nx: float, ny: float) -> tuple[float, float]:
    """The direction across n, the same for n and -n."""
    tx, ty = -ny, nx
    if tx < 0.0 or (tx == 0.0 and ty < 0.0):
        return -tx, -ty
    return tx, ty


@kernel
def _side(x: float, y: float, box: FloatArray, nx: float, ny: float) -> tuple[float, float, float]:
    """Extent along the tangent of the box's outermost corners towards n, and their distance."""
    c, s = math.cos(box[6]), math.sin(box[6])
    tx, ty = _tangent(nx, ny)
    far = -math.inf
    for k in range(4):
        lx = box[3] if k < 2 else -box[3]
        ly = box[4] if k % 2 == 0 else -box[4]
        far = max(far, (x + c * lx - s * ly) * nx + (y + s * lx + c * ly) * ny)
    low, high = math.inf, -math.inf
    for k in range(4):
        lx = box[3] if k < 2 else -box[3]
        ly = box[4] if k % 2 == 0 else -box[4]
        wx, wy = x + c * lx - s * ly, y + s * lx + c * ly
        if wx * nx + wy * ny > far - 0.02:  # sides within a degree or so of parallel touch flat
            low, high = min(low, wx * tx + wy * ty), max(high, wx * tx + wy * ty)
    return low, high, far
