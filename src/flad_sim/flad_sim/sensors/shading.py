# SPDX-License-Identifier: Apache-2.0
"""What a hit looks like: materials, sun and lamps, sky, fog, wet ground. Compiled, no Python.

One file, because numba inlines these small functions into each other. All colours are linear.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flad_sim.scenery import materials as m
from flad_sim.scenery.materials import FACADE_COLUMNS
from flad_sim.scenery.paint import LEVEL_OFFSETS, LEVEL_SIZES, NUM_LEVELS, TILE_BYTES, TILE_M
from flad_sim.sensors import frame as f
from flad_sim.sensors.frame import Surfaces, Surroundings
from flad_sim.sensors.jit import kernel

_OFFSETS = np.array(LEVEL_OFFSETS, dtype=np.int64)
_SIZES = np.array(LEVEL_SIZES, dtype=np.int64)
_FINEST_M = np.float32(TILE_M / LEVEL_SIZES[0])
_PER_TILE = np.float32(1.0 / TILE_M)
_CELL_SLOTS = f.CELL_SLOTS
_SKY_SIZE = np.float32(f.SKY_SIZE)
_TILE_BYTES = TILE_BYTES
_PER_CELL = np.float32(1.0 / f.LIGHT_CELL_M)
Rgb = tuple[float, float, float]


@kernel
def lattice(x: int, y: int) -> Any:
    """A fixed pseudo-random number in [0, 1) for a pair of integers."""
    h = np.uint32(x) * np.uint32(0x27D4EB2D) + np.uint32(y) * np.uint32(0x85EBCA6B)
    h = np.uint32(h ^ (h >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    h = np.uint32(h ^ (h >> np.uint32(12))) * np.uint32(0x297A2D39)
    return np.float32(np.uint32(h ^ (h >> np.uint32(15)))) * np.float32(2.3283064e-10)


@kernel
def whole(x: Any) -> int:
    """The integer at or below ``x``: floor without the call."""
    i = int(x)
    return i - int(x < np.float32(i))


@kernel
def value_noise(x: float, y: float) -> Any:
    """Smooth noise in [0, 1) with features of size 1."""
    i, j = whole(x), whole(y)
    u, v = x - np.float32(i), y - np.float32(j)
    u, v = u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v)
    low = lattice(i, j) * (1.0 - u) + lattice(i + 1, j) * u
    high = lattice(i, j + 1) * (1.0 - u) + lattice(i + 1, j + 1) * u
    return low * (1.0 - v) + high * v


@kernel
def clamp01(x: Any) -> Any:
    """``x`` in [0, 1]."""
    return min(max(x, 0.0), 1.0)


@kernel
def sky(light: Any, dx: Any, dy: Any, dz: Any, clouded: bool) -> Rgb:
    """Radiance from direction ``d`` (unit), with clouds or without; no disc of the sun."""
    up = max(dz, 0.0)
    k = (1.0 - up) * (1.0 - up)
    k = k * k * (0.6 + 0.4 * k)
    r = light[f.ZENITH_RGB] * (1.0 - k) + light[f.HORIZON_RGB] * k
    g = light[f.ZENITH_RGB + 1] * (1.0 - k) + light[f.HORIZON_RGB + 1] * k
    b = light[f.ZENITH_RGB + 2] * (1.0 - k) + light[f.HORIZON_RGB + 2] * k
    toward = dx * light[f.SUN_DIR] + dy * light[f.SUN_DIR + 1] + dz * light[f.SUN_DIR + 2]
    sr, sg, sb = light[f.SUN_RGB], light[f.SUN_RGB + 1], light[f.SUN_RGB + 2]
    clouds = light[f.CLOUDS]
    if toward > 0.0:
        t2 = toward * toward
        t8 = t2 * t2 * t2 * t2
        t64 = t8 * t8
        t64 *= t64
        t64 *= t64
        halo = 0.02 * t8 + 0.25 * t64 * t64
        r += sr * halo
        g += sg * halo
        b += sb * halo
    if not clouded:
        return r, g, b
    if dz > 0.02 and clouds > 0.01:
        s = 1.6 / (dz + 0.08)
        px, py = dx * s + 7.3, dy * s - 2.1
        n = 0.55 * value_noise(px, py) + 0.3 * value_noise(px * 2.3, py * 2.3)
        n += 0.15 * value_noise(px * 5.1 + 3.0, py * 5.1)
        cover = clamp01((n - 0.78 + 0.62 * clouds) * 4.0) * min(1.0, dz * 8.0)
        dark = 1.0 - 0.45 * clamp01((n - 0.45) * 2.0) * clouds
        white = 0.35 + 0.65 * (1.0 - clouds)
        cr = (light[f.UP_RGB] * 0.9 + sr * 0.22 * white) * dark
        cg = (light[f.UP_RGB + 1] * 0.9 + sg * 0.22 * white) * dark
        cb = (light[f.UP_RGB + 2] * 0.9 + sb * 0.22 * white) * dark
        r += (cr - r) * cover
        g += (cg - g) * cover
        b += (cb - b) * cover
    return r, g, b


@kernel
def draw_sky(light: np.ndarray, picture: np.ndarray) -> None:
    """Fill ``picture`` ``[SKY_SIZE, SKY_SIZE, 3]``: direction d is at d.xy / (1 + d.z) in it."""
    n = picture.shape[0]
    for i in range(n):
        for j in range(n):
            u = (np.float32(i) + 0.5) * 2.0 / np.float32(n) - 1.0
            v = (np.float32(j) + 0.5) * 2.0 / np.float32(n) - 1.0
            s = 2.0 / (1.0 + u * u + v * v)
            r, g, b = sky(light, u * s, v * s, s - 1.0, True)
            picture[i, j, 0], picture[i, j, 1], picture[i, j, 2] = r, g, b


@kernel
def seen_sky(around: Surroundings, dx: float, dy: float, dz: float) -> Rgb:
    """Radiance from direction ``d``: the drawn sky, the sun's disc, stars."""
    light, picture = around.light, around.sky
    half = 0.5 * _SKY_SIZE
    scale = half / (1.0 + max(dz, 0.0))
    u, v = dx * scale + (half - 0.5), dy * scale + (half - 0.5)
    i, j = min(max(whole(u), 0), f.SKY_SIZE - 2), min(max(whole(v), 0), f.SKY_SIZE - 2)
    wu, wv = u - np.float32(i), v - np.float32(j)
    a = 3 * (i * f.SKY_SIZE + j)
    c = a + 3 * f.SKY_SIZE
    wa, wb = (1.0 - wu) * (1.0 - wv), (1.0 - wu) * wv
    wc, wd = wu * (1.0 - wv), wu * wv
    r = picture[a] * wa + picture[a + 3] * wb + picture[c] * wc + picture[c + 3] * wd
    g = picture[a + 1] * wa + picture[a + 4] * wb + picture[c + 1] * wc + picture[c + 4] * wd
    b = picture[a + 2] * wa + picture[a + 5] * wb + picture[c + 2] * wc + picture[c + 5] * wd
    clouds = light[f.CLOUDS]
    toward = dx * light[f.SUN_DIR] + dy * light[f.SUN_DIR + 1] + dz * light[f.SUN_DIR + 2]
    if toward > light[f.DISC_COS]:
        shine = 12.0 * (1.0 - 0.9 * clouds)
        r += light[f.SUN_RGB] * shine
        g += light[f.SUN_RGB + 1] * shine
        b += light[f.SUN_RGB + 2] * shine
    if light[f.NIGHT] > 0.5 and dz > 0.05 and clouds < 0.6:
        s = 180.0 / (1.0 + dz)
        n = lattice(whole(dx * s), whole(dy * s) + 977)
        if n > 0.9965:
            star = 0.06 * (n - 0.9965) / 0.0035
            r, g, b = r + star, g + star, b + star
    return r, g, b


@kernel
def _high(texel: int) -> Any:
    return np.float32(texel >> 4) * 0.06666667


@kernel
def _low(texel: int) -> Any:
    return np.float32(texel & 15) * 0.06666667


@kernel
def paint_at(surfaces: Surfaces, x: float, y: float, footprint_m: float) -> tuple[float, float]:
    """Coverage of (white, yellow) road paint around a point, filtered to ``footprint_m``."""
    tx = (x - surfaces.paint_x0) * _PER_TILE
    ty = (y - surfaces.paint_y0) * _PER_TILE
    i, j = whole(tx), whole(ty)
    if i < 0 or j < 0 or i >= surfaces.paint_nx or j >= surfaces.paint_ny:
        return 0.0, 0.0
    row = int(surfaces.paint_index[i * surfaces.paint_ny + j])
    if row < 0:
        return 0.0, 0.0
    level, texel = 0, _FINEST_M
    while level < NUM_LEVELS - 1 and footprint_m > 1.4 * texel:
        level += 1
        texel *= 2.0
    n = _SIZES[level]
    side = np.float32(n)
    u, v = (tx - np.float32(i)) * side - 0.5, (ty - np.float32(j)) * side - 0.5
    iu, iv = whole(u), whole(v)
    wu, wv = u - np.float32(iu), v - np.float32(iv)
    u0, v0 = max(iu, 0), max(iv, 0)
    u1, v1 = min(iu + 1, n - 1), min(iv + 1, n - 1)
    tiles = surfaces.paint_tiles
    base = row * _TILE_BYTES + _OFFSETS[level]
    a, b = int(tiles[base + u0 * n + v0]), int(tiles[base + u1 * n + v0])
    c, d = int(tiles[base + u0 * n + v1]), int(tiles[base + u1 * n + v1])
    if a | b | c | d == 0:
        return 0.0, 0.0
    wa, wb = (1.0 - wu) * (1.0 - wv), wu * (1.0 - wv)
    wc, wd = (1.0 - wu) * wv, wu * wv
    white = _high(a) * wa + _high(b) * wb + _high(c) * wc + _high(d) * wd
    yellow = _low(a) * wa + _low(b) * wb + _low(c) * wc + _low(d) * wd
    return white, yellow


@kernel
def lamps_at(
    around: Surroundings, x: float, y: float, z: float, nx: float, ny: float, nz: float
) -> Rgb:
    """Light that street lamps and head lights throw on a surface with normal ``n``."""
    r, g, b = 0.0, 0.0, 0.0
    i = whole((x - around.x0) * _PER_CELL)
    j = whole((y - around.y0) * _PER_CELL)
    if i < 0 or j < 0 or i >= around.nx or j >= around.ny:
        return r, g, b
    cell = (i * around.ny + j) * _CELL_SLOTS
    for k in range(_CELL_SLOTS):
        row = int(around.lamp_grid[cell + k])
        if row < 0:
            break
        lamps, at = around.lamps, row * f.LAMP_COLUMNS
        lx, ly, lz = lamps[at] - x, lamps[at + 1] - y, lamps[at + 2] - z
        d2 = lx * lx + ly * ly + lz * lz + 0.05
        inverse = 1.0 / math.sqrt(d2)
        facing = (lx * nx + ly * ny + lz * nz) * inverse
        if facing <= 0.0:
            continue
        along = -(lx * lamps[at + 3] + ly * lamps[at + 4] + lz * lamps[at + 5]) * inverse
        spot = clamp01((along - lamps[at + 9]) / (1.0 - lamps[at + 9]) * 2.0)
        power = facing * spot * spot / d2
        r += lamps[at + 6] * power
        g += lamps[at + 7] * power
        b += lamps[at + 8] * power
    return r, g, b


@kernel
def under_movers(around: Surroundings, foot: Any, x: float, y: float, z: float) -> float:
    """How open the sky is for the ground at a point, between and beneath the movers."""
    i = whole((x - around.x0) * _PER_CELL)
    j = whole((y - around.y0) * _PER_CELL)
    if i < 0 or j < 0 or i >= around.nx or j >= around.ny:
        return 1.0
    open_sky = 1.0
    cell = (i * around.ny + j) * _CELL_SLOTS
    for k in range(_CELL_SLOTS):
        slot = int(around.mover_grid[cell + k])
        if slot < 0:
            break
        at = slot * f.FOOT_COLUMNS
        if abs(z - foot[at + 2]) > 1.0:
            continue
        dx, dy = x - foot[at], y - foot[at + 1]
        u = abs(dx * foot[at + 3] + dy * foot[at + 4]) - foot[at + 5]
        v = abs(dy * foot[at + 3] - dx * foot[at + 4]) - foot[at + 6]
        gap = max(u, v)
        if u > 0.0 and v > 0.0:
            gap = math.sqrt(u * u + v * v)
        open_sky *= 1.0 - 0.75 * clamp01(0.5 - gap * 0.9)
    return open_sky


@kernel
def facade(
    surfaces: Surfaces, row: int, x: float, y: float, z: float, footprint_m: float, night: float
) -> tuple[float, float, float, float]:
    """Of a wall: share of glass, share of frame, light from inside, darkness of the glass."""
    walls, at = surfaces.facades, row * FACADE_COLUMNS
    u = ((x - walls[at]) * walls[at + 2] + (y - walls[at + 1]) * walls[at + 3]) / walls[at + 6]
    v = (z - walls[at + 4]) / walls[at + 5]
    if u < 0.0 or u >= walls[at + 11] or v < 0.0 or v >= walls[at + 10]:
        return 0.0, 0.0, 0.0, 0.0
    iu, iv = int(u), int(v)
    fu, fv = abs(u - np.float32(iu) - 0.5), v - np.float32(iv) - 0.52
    half_w, half_h = walls[at + 7], walls[at + 8]
    if iv == 0:
        style = lattice(int(walls[at + 9]), 3)
        if style < 0.45:  # shop windows
            half_w, half_h, fv = 0.43, 0.40, fv + 0.06
        elif lattice(int(walls[at + 9]) + iu, 11) < 0.3:  # a door
            half_w, half_h, fv = 0.5 * half_w + 0.08, 0.42, fv + 0.1
    fv = abs(fv)
    soft = 1.0 / max(footprint_m, 0.01)
    inside_u, inside_v = (half_w - fu) * walls[at + 6], (half_h - fv) * walls[at + 5]
    outer = clamp01((inside_u + 0.09) * soft + 0.5) * clamp01((inside_v + 0.09) * soft + 0.5)
    glass = clamp01(inside_u * soft + 0.5) * clamp01(inside_v * soft + 0.5)
    if footprint_m < 0.12:  # a mullion
        glass *= clamp01((fu * walls[at + 6] - 0.03) * soft + 0.5)
    lit = 0.0
    chance = lattice(int(walls[at + 9]) * 31 + iu, iv * 7 + 1)
    if chance < 0.38 * night:
        lit = 0.35 + chance
    return glass, outer - glass, lit, 0.5 + 0.5 * lattice(int(walls[at + 9]) + iu * 3, iv)


@kernel
def fogged(around: Surroundings, distance_m: float, z0: float, z1: float) -> float:
    """How much of the fog's colour stands before something at ``distance_m``."""
    light = around.light
    thick = light[f.FOG_DENSITY] * max(distance_m - light[f.FOG_START], 0.0)
    height = 0.5 * (max(z0, 0.0) + min(max(z1, 0.0), 60.0))
    thick *= fading(light[f.FOG_FALLOFF] * height * 0.1)
    return 1.0 - fading(thick + distance_m * 0.00025)


@kernel
def fading(x: float) -> float:
    """Close to exp(-x) for x >= 0, without the call: (1 - x/32)^32."""
    y = max(1.0 - x * 0.03125, 0.0)
    y *= y
    y *= y
    y *= y
    y *= y
    return y * y


@kernel
def display(around: Surroundings, channel: float) -> int:
    """The 8-bit value of linear light: exposure, a filmic curve, gamma."""
    c = max(channel * around.light[f.EXPOSURE], 0.0)
    y = c * (2.51 * c + 0.03) / (c * (2.43 * c + 0.59) + 0.14)
    return int(around.tone[int(min(y, 1.0) * 4095.0)])


@kernel
def surface(
    surfaces: Surfaces,
    around: Surroundings,
    foot: Any,
    triangle: int,
    own: Any,
    own_at: int,
    lights: int,
    x: float,
    y: float,
    z: float,
    nx: float,
    ny: float,
    nz: float,
    dx: float,
    dy: float,
    dz: float,
    distance_m: float,
    footprint_m: float,
    sun: float,
) -> Rgb:
    """Radiance of a hit at ``(x, y, z)`` seen along ``d``; ``sun`` is its share of direct light."""
    light = around.light
    kind = surfaces.material[triangle]
    ar = surfaces.albedo[3 * triangle]
    ag = surfaces.albedo[3 * triangle + 1]
    ab = surfaces.albedo[3 * triangle + 2]
    shine = 0.0  # share of mirrored sky at normal incidence
    ground = False
    er, eg, eb = 0.0, 0.0, 0.0
    night = light[f.NIGHT]
    view_cos = max(-(dx * nx + dy * ny + dz * nz), 0.001)

    if kind == m.ASPHALT or kind == m.PAVEMENT or kind == m.GRASS:
        ground = True
        near = clamp01(1.5 - distance_m * 0.02)
        patch = value_noise(x * 0.31, y * 0.31) - 0.5
        if kind == m.GRASS:
            patch = patch * 0.6 + 0.5 * (value_noise(x * 0.07 + 9.0, y * 0.07) - 0.5)
            grain = (value_noise(x * 5.0, y * 5.0) - 0.5) * near
            k = 1.0 + 0.5 * patch + 0.7 * grain
            ar, ag, ab = ar * (k + 0.25 * patch), ag * k, ab * k
        else:
            grain = 0.0
            if near > 0.0:
                grain = (lattice(whole(x * 24.0), whole(y * 24.0)) - 0.5) * near
            k = 1.0 + 0.22 * patch + 0.22 * grain * clamp01(0.3 / (footprint_m * 10.0))
            if kind == m.PAVEMENT:
                if near > 0.0:
                    sx, sy = x * 1.25, y * 1.25
                    joint = min(
                        abs(sx - np.float32(whole(sx)) - 0.5), abs(sy - np.float32(whole(sy)) - 0.5)
                    )
                    soft = max(footprint_m, 0.02)
                    k *= 1.0 - 0.35 * near * clamp01((0.02 - joint * 0.8) / soft + 0.5) * min(
                        1.0, 0.03 / soft
                    )
            else:
                white, yellow = paint_at(surfaces, x, y, footprint_m)
                paint = white + yellow
                if paint > 0.0:
                    worn = 0.92 - 0.25 * value_noise(x * 3.0, y * 3.0)
                    bare = 1.0 - min(paint, 1.0) * worn
                    ar = ar * k * bare + (0.78 * white + 0.75 * yellow) * worn
                    ag = ag * k * bare + (0.78 * white + 0.50 * yellow) * worn
                    ab = ab * k * bare + (0.76 * white + 0.05 * yellow) * worn
                    k = 1.0
            ar, ag, ab = ar * k, ag * k, ab * k
    elif kind == m.FACADE:
        glass, rim, lit, dark = facade(
            surfaces, int(surfaces.aux[triangle]), x, y, z, footprint_m, night
        )
        k = 0.94 + 0.12 * value_noise(x * 0.9 + y * 0.7, z * 0.9)
        low = clamp01(
            1.0 - (z - surfaces.facades[surfaces.aux[triangle] * FACADE_COLUMNS + 4]) * 0.8
        )
        k *= 1.0 - 0.2 * low
        wall = max(1.0 - glass - rim, 0.0)
        ar = ar * k * wall + 0.62 * rim + 0.03 * dark * glass
        ag = ag * k * wall + 0.60 * rim + 0.035 * dark * glass
        ab = ab * k * wall + 0.56 * rim + 0.045 * dark * glass
        shine = 0.16 * glass
        er, eg, eb = 0.9 * lit * glass, 0.62 * lit * glass, 0.30 * lit * glass
    elif kind == m.FOLIAGE:
        near = clamp01(1.3 - distance_m * 0.012)
        leaf = value_noise(x * 2.3 + z * 1.1, y * 2.3 - z * 1.7) - 0.5
        fine = value_noise((x + z) * 7.0, (y - z) * 7.0) - 0.5
        k = 1.0 + 0.7 * leaf + 0.9 * fine * near
        ar, ag, ab = ar * (k + 0.1), ag * k, ab * (k - 0.1)
        sun = 0.25 * sun + 0.75 * sun * clamp01(0.6 + 0.8 * leaf)
    elif kind == m.GLASS:
        shine = 0.10
    elif kind == m.BODY:
        ar, ag, ab = own[own_at], own[own_at + 1], own[own_at + 2]
        shine = 0.045
    elif kind == m.CLOTH:
        ar, ag, ab = own[own_at], own[own_at + 1], own[own_at + 2]
    elif kind == m.METAL:
        shine = 0.12
    elif kind == m.ROOF:
        k = 0.85 + 0.3 * value_noise(x * 1.3, y * 1.3)
        ar, ag, ab = ar * k, ag * k, ab * k
    elif kind == m.SIGNAL_LAMP:
        if around.lamp_on[surfaces.aux[triangle]] != 0:
            er, eg, eb = 5.0 * ar + 0.02, 5.0 * ag + 0.02, 5.0 * ab + 0.02
        else:
            er, eg, eb = 0.0, 0.0, 0.0
            ar, ag, ab = 0.05 * ar, 0.05 * ag, 0.05 * ab
        if night > 0.0:
            er, eg, eb = (
                er * (1.0 - 0.6 * night),
                eg * (1.0 - 0.6 * night),
                eb * (1.0 - 0.6 * night),
            )
    elif kind == m.HEAD_LAMP:
        shine = 0.1
        if lights & 7:
            er, eg, eb = 3.0, 2.9, 2.6
    elif kind == m.BRAKE_LAMP:
        if lights & 8:
            er, eg, eb = 3.2, 0.10, 0.06
        elif lights & 3:
            er, eg, eb = 0.7, 0.02, 0.015
    elif kind == m.BLINKER_LEFT or kind == m.BLINKER_RIGHT:
        wanted = 32 if kind == m.BLINKER_LEFT else 16
        if lights & wanted and light[f.TIME_S] - np.float32(whole(light[f.TIME_S])) < 0.5:
            er, eg, eb = 3.0, 1.1, 0.05
    elif kind == m.REVERSE_LAMP:
        if lights & 64:
            er, eg, eb = 2.0, 2.0, 1.9
    elif kind == m.STREET_LAMP:
        er, eg, eb = 4.0 * night, 3.2 * night, 1.9 * night
    elif kind == m.SIGN:
        er, eg, eb = 0.10 * ar * night, 0.10 * ag * night, 0.10 * ab * night

    wet = light[f.WETNESS]
    if wet > 0.0 and nz > 0.7 and kind != m.FOLIAGE:
        soak = 1.0 - 0.5 * wet
        ar, ag, ab = ar * soak, ag * soak, ab * soak
        shine = max(shine, 0.02 * wet)
        if ground and kind != m.GRASS and light[f.PUDDLES] > 0.0:
            level = value_noise(x * 0.4 + 5.0, y * 0.4) * 0.7 + 0.3 * value_noise(x * 1.7, y * 1.7)
            pool = clamp01((level - 0.98 + 0.52 * light[f.PUDDLES]) * 7.0)
            shine = max(shine, 0.03 + 0.22 * pool)
            ar, ag, ab = ar * (1.0 - 0.6 * pool), ag * (1.0 - 0.6 * pool), ab * (1.0 - 0.6 * pool)

    up = 0.5 + 0.5 * nz
    open_sky = 1.0
    if ground and distance_m < 80.0:
        open_sky = under_movers(around, foot, x, y, z)
    ir = (light[f.UP_RGB] * up + light[f.DOWN_RGB] * (1.0 - up)) * open_sky
    ig = (light[f.UP_RGB + 1] * up + light[f.DOWN_RGB + 1] * (1.0 - up)) * open_sky
    ib = (light[f.UP_RGB + 2] * up + light[f.DOWN_RGB + 2] * (1.0 - up)) * open_sky
    ir += light[f.SUN_RGB] * sun
    ig += light[f.SUN_RGB + 1] * sun
    ib += light[f.SUN_RGB + 2] * sun
    if night > 0.0:
        lr, lg, lb = lamps_at(around, x, y, z, nx, ny, nz)
        ir, ig, ib = (
            ir + lr * night * open_sky,
            ig + lg * night * open_sky,
            ib + lb * night * open_sky,
        )
    r, g, b = ar * ir + er, ag * ig + eg, ab * ib + eb

    if shine > 0.0:
        rim = 1.0 - view_cos
        rim = rim * rim * rim * rim * rim
        amount = shine + (1.0 - shine) * rim * min(1.0, 6.0 * shine)
        bend = 2.0 * view_cos
        mx, my, mz = dx + bend * nx, dy + bend * ny, dz + bend * nz
        sr, sg, sb = sky(light, mx, my, abs(mz), False)
        if mz < 0.25:  # the street and the houses opposite, not the sky
            k = clamp01(0.7 - mz * 2.0)
            sr += (0.35 * light[f.UP_RGB] - sr) * k
            sg += (0.35 * light[f.UP_RGB + 1] - sg) * k
            sb += (0.35 * light[f.UP_RGB + 2] - sb) * k
        sr, sg, sb = sr * open_sky, sg * open_sky, sb * open_sky
        r, g, b = r + (sr - r) * amount, g + (sg - g) * amount, b + (sb - b) * amount
    return r, g, b
