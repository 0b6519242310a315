# SPDX-License-Identifier: Apache-2.0
"""Pixels from rays: tiles of 4x4 pixels are one packet, traced, shadowed and shaded in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flad_sim.scenery import materials as m
from flad_sim.sensors import embree as e
from flad_sim.sensors import frame as f
from flad_sim.sensors.embree import Packet, intersect16, occluded16, packet_pointers
from flad_sim.sensors.frame import (
    Movers,
    Surfaces,
    Surroundings,
    View,
    movers_pointers,
    surfaces_pointers,
    surroundings_pointers,
    view_pointers,
)
from flad_sim.sensors.jit import kernel, pointer
from flad_sim.sensors.shading import display, fogged, paint_at, seen_sky, surface

_FAR_M = np.float32(3000.0)
_ROAD_LINES = 24  # Tag.ROAD_LINES
_SKY = 11  # Tag.SKY


@kernel
def shoot_tile(
    scene: int,
    view: View,
    x0: int,
    y0: int,
    packet: Packet,
) -> None:
    """Trace the packet of the tile at ``(x0, y0)``: t is the depth, as forward has length 1."""
    rays, ids, valid, axes = packet.rays, packet.ids, packet.valid, view.axes
    scale = 1.0 / view.focal_px
    left, top = 0.5 - 0.5 * np.float32(view.width), 0.5 - 0.5 * np.float32(view.height)
    for k in range(16):
        u = (np.float32(x0 + (k & 3)) + left) * scale
        v = (np.float32(y0 + (k >> 2)) + top) * scale
        rays[e.DIR_X + k] = axes[0] + u * axes[3] - v * axes[6]
        rays[e.DIR_Y + k] = axes[1] + u * axes[4] - v * axes[7]
        rays[e.DIR_Z + k] = axes[2] + u * axes[5] - v * axes[8]
    for k in range(16):
        rays[e.ORG_X + k] = view.origin[0]
        rays[e.ORG_Y + k] = view.origin[1]
        rays[e.ORG_Z + k] = view.origin[2]
        rays[e.T_NEAR + k] = 0.0
        rays[e.TIME + k] = 0.0
        rays[e.T_FAR + k] = _FAR_M
        ids[e.MASK + k] = -1
        ids[e.FLAGS + k] = 0
        ids[e.GEOM_ID + k] = e.INVALID
        ids[e.INST_ID + k] = e.INVALID
        valid[k] = -1
    intersect16(packet.valid_at, scene, packet.rays_at, packet.arguments_at)


@kernel
def face_viewer(rays: Any, ids: Any, movers: Movers, k: int) -> Any:
    """Turn lane ``k``'s normal into the world, toward the viewer; returns 1/|d|."""
    nx, ny, nz = rays[e.NG_X + k], rays[e.NG_Y + k], rays[e.NG_Z + k]
    slot = int(ids[e.INST_ID + k])
    if slot != 0:
        r, at = movers.rotation, 9 * int(slot)
        nx, ny, nz = (
            r[at] * nx + r[at + 1] * ny + r[at + 2] * nz,
            r[at + 3] * nx + r[at + 4] * ny + r[at + 5] * nz,
            r[at + 6] * nx + r[at + 7] * ny + r[at + 8] * nz,
        )
    dx, dy, dz = rays[e.DIR_X + k], rays[e.DIR_Y + k], rays[e.DIR_Z + k]
    scale = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz)
    if nx * dx + ny * dy + nz * dz > 0.0:
        scale = -scale
    rays[e.NG_X + k], rays[e.NG_Y + k], rays[e.NG_Z + k] = nx * scale, ny * scale, nz * scale
    return 1.0 / math.sqrt(dx * dx + dy * dy + dz * dz)


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
    packet: Packet,
) -> None:
    """Colour the pixels of rows ``[row0, row1)`` of ``image`` ``[H, W, 4]`` (BGRA)."""
    view, surfaces, movers = (
        view_pointers(view),
        surfaces_pointers(surfaces),
        movers_pointers(movers),
    )
    around, packet, pixels = surroundings_pointers(around), packet_pointers(packet), pointer(image)
    rays, ids, valid = packet.rays, packet.ids, packet.valid
    shadow, shadow_ids = packet.shadow, packet.shadow_ids
    inverse_length = packet.scratch  # the first 16 lanes; then the share of direct sun
    light = around.light
    sx, sy, sz = light[f.SUN_DIR], light[f.SUN_DIR + 1], light[f.SUN_DIR + 2]
    sunny = light[f.SUN_RGB + 1] > 0.004
    for y0 in range(row0, row1, 4):
        for x0 in range(0, view.width, 4):
            shoot_tile(scene, view, x0, y0, packet)
            num_lit = 0
            for k in range(16):
                valid[16 + k] = 0
                packet.scratch[16 + k] = 0.0
                if ids[e.GEOM_ID + k] == e.INVALID:
                    dx, dy, dz = rays[e.DIR_X + k], rays[e.DIR_Y + k], rays[e.DIR_Z + k]
                    inverse_length[k] = 1.0 / math.sqrt(dx * dx + dy * dy + dz * dz)
                    continue
                inverse_length[k] = face_viewer(rays, ids, movers, k)
                if not sunny:
                    continue
                nx, ny, nz = rays[e.NG_X + k], rays[e.NG_Y + k], rays[e.NG_Z + k]
                facing = nx * sx + ny * sy + nz * sz
                if facing <= 0.0:
                    continue
                packet.scratch[16 + k] = facing
                t = rays[e.T_FAR + k]
                lift = 0.005 + t * 2e-4
                shadow[e.ORG_X + k] = rays[e.ORG_X + k] + t * rays[e.DIR_X + k] + lift * nx
                shadow[e.ORG_Y + k] = rays[e.ORG_Y + k] + t * rays[e.DIR_Y + k] + lift * ny
                shadow[e.ORG_Z + k] = rays[e.ORG_Z + k] + t * rays[e.DIR_Z + k] + lift * nz
                shadow[e.T_NEAR + k] = 0.0
                shadow[e.DIR_X + k], shadow[e.DIR_Y + k], shadow[e.DIR_Z + k] = sx, sy, sz
                shadow[e.TIME + k] = 0.0
                shadow[e.T_FAR + k] = 300.0
                shadow_ids[e.MASK + k] = -1
                shadow_ids[e.FLAGS + k] = 0
                valid[16 + k] = -1
                num_lit += 1
            if num_lit > 0:
                occluded16(packet.valid_at + 64, scene, packet.shadow_at, packet.arguments_at)
            for k in range(16):
                x, y = x0 + (k & 3), y0 + (k >> 2)
                if x >= view.width or y >= view.height:
                    continue
                short = inverse_length[k]
                dx, dy, dz = rays[e.DIR_X + k], rays[e.DIR_Y + k], rays[e.DIR_Z + k]
                ux, uy, uz = dx * short, dy * short, dz * short
                if ids[e.GEOM_ID + k] == e.INVALID:
                    r, g, b = seen_sky(around, ux, uy, uz)
                    haze = fogged(around, 900.0, view.origin[2], 900.0 * max(uz, 0.0))
                else:
                    t = rays[e.T_FAR + k]
                    slot = int(ids[e.INST_ID + k])
                    hx = view.origin[0] + t * dx
                    hy = view.origin[1] + t * dy
                    hz = view.origin[2] + t * dz
                    nx, ny, nz = rays[e.NG_X + k], rays[e.NG_Y + k], rays[e.NG_Z + k]
                    if valid[16 + k] != 0 and shadow[e.T_FAR + k] < 0.0:
                        packet.scratch[16 + k] = 0.0
                    distance = t / short
                    slant = max(-(ux * nx + uy * ny + uz * nz), 0.05)
                    footprint = t / view.focal_px / math.sqrt(slant)
                    r, g, b = surface(
                        surfaces,
                        around,
                        movers.foot,
                        int(movers.base[slot]) + int(ids[e.PRIM_ID + k]),
                        movers.rgb,
                        3 * slot,
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
                        packet.scratch[16 + k],
                    )
                    haze = fogged(around, distance, view.origin[2], hz)
                r += (light[f.FOG_RGB] - r) * haze
                g += (light[f.FOG_RGB + 1] - g) * haze
                b += (light[f.FOG_RGB + 2] - b) * haze
                at = 4 * (y * view.width + x)
                pixels[at] = display(around, b)
                pixels[at + 1] = display(around, g)
                pixels[at + 2] = display(around, r)
                pixels[at + 3] = 255


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
    packet: Packet,
) -> None:
    """Depth, semantic tag and actor id ``[H, W]`` of rows ``[row0, row1)``; sky is infinite."""
    view, surfaces, movers = (
        view_pointers(view),
        surfaces_pointers(surfaces),
        movers_pointers(movers),
    )
    packet = packet_pointers(packet)
    rays, ids = packet.rays, packet.ids
    depths, tags, actors = pointer(depth_m), pointer(tag), pointer(actor)
    for y0 in range(row0, row1, 4):
        for x0 in range(0, view.width, 4):
            shoot_tile(scene, view, x0, y0, packet)
            for k in range(16):
                x, y = x0 + (k & 3), y0 + (k >> 2)
                if x >= view.width or y >= view.height:
                    continue
                at = y * view.width + x
                if ids[e.GEOM_ID + k] == e.INVALID:
                    depths[at], tags[at], actors[at] = np.inf, _SKY, 0
                    continue
                t = rays[e.T_FAR + k]
                slot = int(ids[e.INST_ID + k])
                triangle = int(movers.base[slot]) + int(ids[e.PRIM_ID + k])
                label = surfaces.tag[triangle]
                if surfaces.material[triangle] == m.ASPHALT:
                    hx = view.origin[0] + t * rays[e.DIR_X + k]
                    hy = view.origin[1] + t * rays[e.DIR_Y + k]
                    white, yellow = paint_at(surfaces, hx, hy, t / view.focal_px)
                    if white + yellow > 0.4:
                        label = _ROAD_LINES
                depths[at], tags[at], actors[at] = t, label, movers.actor[slot]
