# SPDX-License-Identifier: Apache-2.0
"""Pixels from rays: tiles of 4x4 pixels are one packet, traced, shadowed and shaded in place."""

from __future__ import annotations

import math

import numpy as np

from flad_sim.scenery import materials as m
from flad_sim.sensors import embree as e
from flad_sim.sensors import frame as f
from flad_sim.sensors.embree import intersect16, occluded16
from flad_sim.sensors.frame import (
    Movers,
    Surfaces,
    Surroundings,
    View,
    borrowed_movers,
    borrowed_surfaces,
    borrowed_surroundings,
    borrowed_view,
)
from flad_sim.sensors.jit import borrowed, kernel
from flad_sim.sensors.shading import display, fogged, paint_at, sky, surface

_FAR_M = np.float32(3000.0)
_ROAD_LINES = 24  # Tag.ROAD_LINES
_SKY = 11  # Tag.SKY


@kernel
def shoot_tile(
    scene: int,
    view: View,
    x0: int,
    y0: int,
    rays: np.ndarray,
    ids: np.ndarray,
    valid: np.ndarray,
    arguments: np.ndarray,
) -> None:
    """Trace the packet of the tile at ``(x0, y0)``: t is the depth, as forward has length 1."""
    ahead, right, up = view.axes[0], view.axes[1], view.axes[2]
    scale = np.float32(1.0 / view.focal_px)
    for k in range(16):
        u = (np.float32(x0 + (k & 3)) + np.float32(0.5 - 0.5 * view.width)) * scale
        v = (np.float32(y0 + (k >> 2)) + np.float32(0.5 - 0.5 * view.height)) * scale
        rays[e.DIR_X, k] = ahead[0] + u * right[0] - v * up[0]
        rays[e.DIR_Y, k] = ahead[1] + u * right[1] - v * up[1]
        rays[e.DIR_Z, k] = ahead[2] + u * right[2] - v * up[2]
    for k in range(16):
        rays[e.ORG_X, k] = view.origin[0]
        rays[e.ORG_Y, k] = view.origin[1]
        rays[e.ORG_Z, k] = view.origin[2]
        rays[e.T_NEAR, k] = 0.0
        rays[e.TIME, k] = 0.0
        rays[e.T_FAR, k] = _FAR_M
        ids[e.MASK, k] = -1
        ids[e.FLAGS, k] = 0
        ids[e.GEOM_ID, k] = e.INVALID
        ids[e.INST_ID, k] = e.INVALID
        valid[0, k] = -1
    intersect16(valid.ctypes.data, scene, rays.ctypes.data, arguments.ctypes.data)


@kernel
def face_viewer(rays: np.ndarray, ids: np.ndarray, movers: Movers, k: int) -> float:
    """Turn lane ``k``'s normal into the world, toward the viewer; returns 1/|d|."""
    nx, ny, nz = rays[e.NG_X, k], rays[e.NG_Y, k], rays[e.NG_Z, k]
    slot = ids[e.INST_ID, k]
    if slot != 0:
        r = movers.rotation[slot]
        nx, ny, nz = (
            r[0, 0] * nx + r[0, 1] * ny + r[0, 2] * nz,
            r[1, 0] * nx + r[1, 1] * ny + r[1, 2] * nz,
            r[2, 0] * nx + r[2, 1] * ny + r[2, 2] * nz,
        )
    dx, dy, dz = rays[e.DIR_X, k], rays[e.DIR_Y, k], rays[e.DIR_Z, k]
    scale = np.float32(1.0) / math.sqrt(nx * nx + ny * ny + nz * nz)
    if nx * dx + ny * dy + nz * dz > 0.0:
        scale = -scale
    rays[e.NG_X, k], rays[e.NG_Y, k], rays[e.NG_Z, k] = nx * scale, ny * scale, nz * scale
    return np.float32(1.0) / math.sqrt(dx * dx + dy * dy + dz * dz)


@kernel
def render_rows(
    scene: int,
    view: View,
    surfaces: Surfaces,
    movers: Movers,
    around: Surroundings,
    row0: int,
    row1: int,
    image: np.ndarray,
    rays: np.ndarray,
    ids: np.ndarray,
    shadow: np.ndarray,
    shadow_ids: np.ndarray,
    valid: np.ndarray,
    arguments: np.ndarray,
) -> None:
    """Colour the pixels of rows ``[row0, row1)`` of ``image`` ``[H, W, 4]`` (BGRA)."""
    view, surfaces, movers = borrowed_view(view), borrowed_surfaces(surfaces), borrowed_movers(movers)
    around, image = borrowed_surroundings(around), borrowed(image)
    rays, ids, valid = borrowed(rays), borrowed(ids), borrowed(valid)
    shadow, shadow_ids, arguments = borrowed(shadow), borrowed(shadow_ids), borrowed(arguments)
    light = around.light
    sx, sy, sz = light[f.SUN_DIR], light[f.SUN_DIR + 1], light[f.SUN_DIR + 2]
    sunny = light[f.SUN_RGB + 1] > 0.004
    inverse_length = borrowed(shadow[e.NG_X])  # spare rows of the packet's memory
    direct = borrowed(shadow[e.NG_Y])
    for y0 in range(row0, row1, 4):
        for x0 in range(0, view.width, 4):
            shoot_tile(scene, view, x0, y0, rays, ids, valid, arguments)
            num_lit = 0
            for k in range(16):
                valid[1, k] = 0
                direct[k] = 0.0
                if ids[e.GEOM_ID, k] == e.INVALID:
                    dx, dy, dz = rays[e.DIR_X, k], rays[e.DIR_Y, k], rays[e.DIR_Z, k]
                    inverse_length[k] = 1.0 / math.sqrt(dx * dx + dy * dy + dz * dz)
                    continue
                inverse_length[k] = face_viewer(rays, ids, movers, k)
                if not sunny:
                    continue
                nx, ny, nz = rays[e.NG_X, k], rays[e.NG_Y, k], rays[e.NG_Z, k]
                facing = nx * sx + ny * sy + nz * sz
                if facing <= 0.0:
                    continue
                direct[k] = facing
                t = rays[e.T_FAR, k]
                lift = np.float32(0.005) + t * np.float32(2e-4)
                shadow[e.ORG_X, k] = rays[e.ORG_X, k] + t * rays[e.DIR_X, k] + lift * nx
                shadow[e.ORG_Y, k] = rays[e.ORG_Y, k] + t * rays[e.DIR_Y, k] + lift * ny
                shadow[e.ORG_Z, k] = rays[e.ORG_Z, k] + t * rays[e.DIR_Z, k] + lift * nz
                shadow[e.T_NEAR, k] = 0.0
                shadow[e.DIR_X, k], shadow[e.DIR_Y, k], shadow[e.DIR_Z, k] = sx, sy, sz
                shadow[e.TIME, k] = 0.0
                shadow[e.T_FAR, k] = 300.0
                shadow_ids[e.MASK, k] = -1
                shadow_ids[e.FLAGS, k] = 0
                valid[1, k] = -1
                num_lit += 1
            if num_lit > 0:
                occluded16(valid[1].ctypes.data, scene, shadow.ctypes.data, arguments.ctypes.data)
            for k in range(16):
                x, y = x0 + (k & 3), y0 + (k >> 2)
                if x >= view.width or y >= view.height:
                    continue
                short = inverse_length[k]
                dx, dy, dz = rays[e.DIR_X, k], rays[e.DIR_Y, k], rays[e.DIR_Z, k]
                ux, uy, uz = dx * short, dy * short, dz * short
                if ids[e.GEOM_ID, k] == e.INVALID:
                    r, g, b = sky(light, ux, uy, uz, True)
                    haze = fogged(around, 900.0, view.origin[2], 900.0 * max(uz, 0.0))
                else:
                    t = rays[e.T_FAR, k]
                    slot = ids[e.INST_ID, k]
                    hx = view.origin[0] + t * dx
                    hy = view.origin[1] + t * dy
                    hz = view.origin[2] + t * dz
                    nx, ny, nz = rays[e.NG_X, k], rays[e.NG_Y, k], rays[e.NG_Z, k]
                    if valid[1, k] != 0 and shadow[e.T_FAR, k] < 0.0:
                        direct[k] = 0.0
                    distance = t / short
                    slant = max(-(ux * nx + uy * ny + uz * nz), 0.05)
                    footprint = t / view.focal_px / math.sqrt(slant)
                    r, g, b = surface(
                        surfaces,
                        around,
                        movers.foot,
                        movers.base[slot] + ids[e.PRIM_ID, k],
                        movers.rgb[slot],
                        movers.lights[slot],
                        hx,
                        hy,
                        hz,
                        nx,
                        ny,
                        nz,
                        ux,
                        uy,
                        uz,
                        distance,
                        footprint,
                        direct[k],
                    )
                    haze = fogged(around, distance, view.origin[2], hz)
                r += (light[f.FOG_RGB] - r) * haze
                g += (light[f.FOG_RGB + 1] - g) * haze
                b += (light[f.FOG_RGB + 2] - b) * haze
                image[y, x, 0] = display(around, b)
                image[y, x, 1] = display(around, g)
                image[y, x, 2] = display(around, r)
                image[y, x, 3] = 255


@kernel
def measure_rows(
    scene: int,
    view: View,
    surfaces: Surfaces,
    movers: Movers,
    row0: int,
    row1: int,
    depth_m: np.ndarray,
    tag: np.ndarray,
    actor: np.ndarray,
    rays: np.ndarray,
    ids: np.ndarray,
    valid: np.ndarray,
    arguments: np.ndarray,
) -> None:
    """Depth, semantic tag and actor id ``[H, W]`` of rows ``[row0, row1)``; sky is infinite."""
    view, surfaces, movers = borrowed_view(view), borrowed_surfaces(surfaces), borrowed_movers(movers)
    rays, ids, valid, arguments = borrowed(rays), borrowed(ids), borrowed(valid), borrowed(arguments)
    depth_m, tag, actor = borrowed(depth_m), borrowed(tag), borrowed(actor)
    for y0 in range(row0, row1, 4):
        for x0 in range(0, view.width, 4):
            shoot_tile(scene, view, x0, y0, rays, ids, valid, arguments)
            for k in range(16):
                x, y = x0 + (k & 3), y0 + (k >> 2)
                if x >= view.width or y >= view.height:
                    continue
                if ids[e.GEOM_ID, k] == e.INVALID:
                    depth_m[y, x], tag[y, x], actor[y, x] = np.inf, _SKY, 0
                    continue
                t = rays[e.T_FAR, k]
                slot = ids[e.INST_ID, k]
                triangle = movers.base[slot] + ids[e.PRIM_ID, k]
                label = surfaces.tag[triangle]
                if surfaces.material[triangle] == m.ASPHALT:
                    hx = view.origin[0] + t * rays[e.DIR_X, k]
                    hy = view.origin[1] + t * rays[e.DIR_Y, k]
                    white, yellow = paint_at(surfaces, hx, hy, t / view.focal_px)
                    if white + yellow > 0.4:
                        label = _ROAD_LINES
                depth_m[y, x], tag[y, x], actor[y, x] = t, label, movers.actor[slot]
