# SPDX-License-Identifier: Apache-2.0
"""The kernels of `guard`: boxes swept along lanes, with numba.

They stand in one file because numba's cache notices changes of that file only.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from flad_sim.traffic.paths import IntArray
from flad_sim.types import FloatArray

TIME_STEP_S = 0.2  # of predicted tracks; `prediction.TIME_STEP_S`, compared in a test
_FAR_M = 60.0  # beyond it nothing is swept
_LATERAL_ACCELERATION = 2.6  # m/s^2 in bends, brisk but comfortable
_BEND_BRAKING = 2.0  # m/s^2 before bends
_YIELD_BRAKING = 3.0  # m/s^2 for what crosses
_START_ACCELERATION = 2.0  # m/s^2 with which a standing vehicle would move off
_SIDE_MARGIN_M = 0.3
_END_MARGIN_M = 0.6
_STOP_GAP_M = 1.5  # kept to what crosses
_LEVEL_M = 2.5  # things on another level of a bridge are higher or lower than this
_SAME_WAY_S = 2.0  # how far ahead boxes going (nearly) along or against us count


@njit(cache=True, error_model="numpy")
def _walk(
    path: IntArray,
    start: float,
    distance: float,
    starts: IntArray,
    points: FloatArray,
    run: FloatArray,
    hint: IntArray,
    out: FloatArray,
) -> bool:
    """Point (x, y, heading) at ``start + distance`` along a path; False beyond its end.

    ``hint`` [3] remembers (path position, point) for the next, larger distance; hint[2] is set
    once it is valid. ``out[3]`` is the length of the lanes already passed.
    """
    if hint[2] == 0:
        hint[0] = 0
        hint[1] = starts[path[0]]
        hint[2] = 1
        out[3] = 0.0
    at = start + distance - out[3]
    while True:
        lane = path[hint[0]]
        last = starts[lane + 1] - 1
        if at <= run[last]:
            break
        following = hint[0] + 1
        if following >= len(path) or path[following] < 0:
            # go straight on for a little: the box's nose may reach over the end
            if at > run[last] + 3.0:
                return False
            break
        at -= run[last]
        out[3] += run[last]
        hint[0] = following
        hint[1] = starts[path[following]]
    lane = path[hint[0]]
    last = starts[lane + 1] - 1
    i = hint[1]
    while i < last - 1 and run[i + 1] < at:
        i += 1
    while i > starts[lane] and run[i] > at:
        i -= 1
    hint[1] = i
    dx = points[i + 1, 0] - points[i, 0]
    dy = points[i + 1, 1] - points[i, 1]
    length = math.sqrt(dx * dx + dy * dy)
    if length < 1e-9:
        out[0] = points[i, 0]
        out[1] = points[i, 1]
        return True
    over = at - run[i]
    out[0] = points[i, 0] + dx / length * over
    out[1] = points[i, 1] + dy / length * over
    out[2] = math.atan2(dy, dx)
    return True


@njit(cache=True, error_model="numpy")
def bend_limits(
    paths: IntArray,
    position: FloatArray,
    starts: IntArray,
    points: FloatArray,
    run: FloatArray,
) -> FloatArray:
    """Highest speeds ``[V]`` from which the bends of the next 40 m can be driven."""
    step = 2.0
    count = 24
    limits = np.full(len(paths), 1e9)
    out = np.zeros(4)
    hint = np.zeros(3, dtype=np.int64)
    xs = np.zeros(count)
    ys = np.zeros(count)
    for v in range(len(paths)):
        if paths[v, 0] < 0:
            continue
        hint[2] = 0
        found = 0
        base = max(0.0, position[v] - 2.0 * step)
        for k in range(count):
            if not _walk(paths[v], base, k * step, starts, points, run, hint, out):
                break
            xs[k] = out[0]
            ys[k] = out[1]
            found += 1
        # heading change over two chords of 4 m: the polyline's own corners are smoothed
        for k in range(2, found - 2):
            ax, ay = xs[k] - xs[k - 2], ys[k] - ys[k - 2]
            bx, by = xs[k + 2] - xs[k], ys[k + 2] - ys[k]
            turn = abs(math.atan2(ax * by - ay * bx, ax * bx + ay * by))
            curvature = turn / (2.0 * step)
            if curvature < 1e-3:
                continue
            ahead = max(0.0, base + k * step - position[v])
            limit = math.sqrt(_LATERAL_ACCELERATION / curvature + 2.0 * _BEND_BRAKING * ahead)
            limits[v] = min(limits[v], limit)
    return limits


@njit(cache=True, error_model="numpy")
def _overlap(
    ax: float,
    ay: float,
    ac: float,
    asn: float,
    al: float,
    aw: float,
    bx: float,
    by: float,
    yaw: float,
    bl: float,
    bw: float,
) -> bool:
    """Whether two boxes meet (separating axes); a is given by its yaw's cosine and sine."""
    bc, bs = math.cos(yaw), math.sin(yaw)
    dx, dy = bx - ax, by - ay
    c = abs(ac * bc + asn * bs)
    s = abs(ac * bs - asn * bc)
    if abs(dx * ac + dy * asn) > al + bl * c + bw * s:
        return False
    if abs(dy * ac - dx * asn) > aw + bl * s + bw * c:
        return False
    if abs(dx * bc + dy * bs) > bl + al * c + aw * s:
        return False
    return not abs(dy * bc - dx * bs) > bw + al * s + aw * c


@njit(cache=True, error_model="numpy")
def yield_limits(
    paths: IntArray,
    position: FloatArray,
    speed: FloatArray,
    half: FloatArray,
    xyz: FloatArray,
    yaw: FloatArray,
    impatient: NDArray[np.bool_],
    track: FloatArray,
    obstacle_z: FloatArray,
    obstacle_half: FloatArray,
    obstacle_speed: FloatArray,
    horizon_s: FloatArray,
    starts: IntArray,
    points: FloatArray,
    run: FloatArray,
) -> FloatArray:
    """Highest speeds ``[V]`` that let each vehicle stop before it meets a predicted box."""
    num_times = track.shape[1]
    limits = np.full(len(paths), 1e9)
    out = np.zeros(4)
    hint = np.zeros(3, dtype=np.int64)
    spacing = 0.5
    ride = np.zeros((120, 3))
    for v in range(len(paths)):
        if paths[v, 0] < 0:
            continue
        built = False
        num_points = 0
        for o in range(len(obstacle_z)):
            if abs(obstacle_z[o] - xyz[v, 2]) > _LEVEL_M:
                continue
            reach = half[v, 0] + obstacle_half[o, 0]
            if math.hypot(track[o, 0, 0] - xyz[v, 0], track[o, 0, 1] - xyz[v, 1]) > _FAR_M + reach:
                continue
            if not built:
                # centres of the own box at every half metre of the way ahead
                built = True
                hint[2] = 0
                for k in range(len(ride)):
                    if not _walk(
                        paths[v], position[v], k * spacing, starts, points, run, hint, out
                    ):
                        break
                    ride[k, 0] = out[0] - half[v, 0] * math.cos(out[2])
                    ride[k, 1] = out[1] - half[v, 0] * math.sin(out[2])
                    ride[k, 2] = out[2]
                    num_points += 1
                if num_points > 0:
                    ride[0, 0], ride[0, 1], ride[0, 2] = xyz[v, 0], xyz[v, 1], yaw[v]
            if num_points < 2:
                break
            side = 0.05 if impatient[v] else _SIDE_MARGIN_M
            end = 0.2 if impatient[v] else _END_MARGIN_M
            horizon = min(horizon_s[o], 1.0 if impatient[v] else horizon_s[o])
            for k in range(num_times):
                time = k * TIME_STEP_S
                if time > horizon + 1e-9:
                    break
                # constant speed, but never slower than moving off from here
                gone = max(
                    speed[v] * time, min(_START_ACCELERATION * 0.5 * time * time, 6.0 * time)
                )
                j = int(gone / spacing)
                if j >= num_points:
                    break
                c, s = math.cos(ride[j, 2]), math.sin(ride[j, 2])
                ox, oy, oyaw = track[o, k, 0], track[o, k, 1], track[o, k, 2]
                if not _overlap(
                    ride[j, 0],
                    ride[j, 1],
                    c,
                    s,
                    half[v, 0] + end,
                    half[v, 1] + side,
                    ox,
                    oy,
                    oyaw,
                    obstacle_half[o, 0],
                    obstacle_half[o, 1],
                ):
                    continue
                along = (ox - ride[j, 0]) * c + (oy - ride[j, 1]) * s
                if along < 0.0:
                    break  # it meets our rear half: braking would not help
                facing = math.cos(oyaw - ride[j, 2])
                if abs(facing) > 0.7 and time > _SAME_WAY_S:
                    break
                # the nearest place on the way where the box would be met around that time
                first = j
                for q in range(0, j + 1):
                    cq, sq = math.cos(ride[q, 2]), math.sin(ride[q, 2])
                    met = False
                    for m in range(max(0, k - 2), min(num_times, k + 6)):
                        if _overlap(
                            ride[q, 0],
                            ride[q, 1],
                            cq,
                            sq,
                            half[v, 0] + end,
                            half[v, 1] + side,
                            track[o, m, 0],
                            track[o, m, 1],
                            track[o, m, 2],
                            obstacle_half[o, 0],
                            obstacle_half[o, 1],
                        ):
                            met = True
                            break
                    if met:
                        first = q
                        break
                gap = first * spacing - (0.3 if impatient[v] else _STOP_GAP_M)
                going = 0.0
                if facing > 0.7:
                    going = obstacle_speed[o]  # it drives ahead of us
                limit = math.sqrt(max(0.0, going * going + 2.0 * _YIELD_BRAKING * max(0.0, gap)))
                if gap <= 0.0 and going == 0.0:
                    limit = 0.0
                limits[v] = min(limits[v], limit)
                break
    return limits


@njit(cache=True, error_model="numpy")
def crossing_distances(
    paths: IntArray,
    position: FloatArray,
    half: FloatArray,
    xyz: FloatArray,
    yaw: FloatArray,
    a: FloatArray,
    b: FloatArray,
    half_width: float,
    starts: IntArray,
    points: FloatArray,
    run: FloatArray,
) -> FloatArray:
    """Metres ``[V]`` until each vehicle touches the strip about ``a``-``b``; see `guard`."""
    found = np.full(len(paths), np.inf)
    out = np.zeros(4)
    hint = np.zeros(3, dtype=np.int64)
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = math.sqrt(dx * dx + dy * dy)
    strip_yaw = math.atan2(dy, dx)
    mx, my = (a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0
    for v in range(len(paths)):
        if math.hypot(mx - xyz[v, 0], my - xyz[v, 1]) > 75.0:
            continue
        c, s = math.cos(yaw[v]), math.sin(yaw[v])
        if _overlap(
            xyz[v, 0],
            xyz[v, 1],
            c,
            s,
            half[v, 0],
            half[v, 1],
            mx,
            my,
            strip_yaw,
            length / 2.0,
            half_width,
        ):
            found[v] = 0.0
            continue
        if paths[v, 0] < 0:
            continue
        hint[2] = 0
        for k in range(1, 61):
            if not _walk(paths[v], position[v], k * 1.0, starts, points, run, hint, out):
                break
            rx, ry = out[0] - a[0], out[1] - a[1]
            share = (rx * dx + ry * dy) / (length * length)
            side = abs(rx * dy - ry * dx) / length
            if 0.0 <= share <= 1.0 and side < half_width + 0.5:
                found[v] = max(0.1, k * 1.0 - 1.0)
                break
    return found
