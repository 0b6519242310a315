# SPDX-License-Identifier: Apache-2.0
"""LiDAR returns from rays: sixteen neighbours of one channel are a packet. Compiled, no Python."""

from __future__ import annotations

import math

import numpy as np

from flad_sim.scenery import materials as m
from flad_sim.sensors import embree as e
from flad_sim.sensors.embree import intersect16
from flad_sim.sensors.frame import Movers, Surfaces, borrowed_movers, borrowed_surfaces
from flad_sim.sensors.jit import borrowed, kernel
from flad_sim.sensors.shading import paint_at

_ROAD_LINES = 24  # Tag.ROAD_LINES


@kernel
def sweep_channels(
    scene: int,
    origin: np.ndarray,
    axes: np.ndarray,
    elevation_rad: np.ndarray,
    azimuth_rad: np.ndarray,
    range_m: float,
    surfaces: Surfaces,
    movers: Movers,
    channel0: int,
    channel1: int,
    distance_m: np.ndarray,
    cos_incidence: np.ndarray,
    tag: np.ndarray,
    actor: np.ndarray,
    rays: np.ndarray,
    ids: np.ndarray,
    valid: np.ndarray,
    arguments: np.ndarray,
) -> None:
    """Fill rows ``[channel0, channel1)`` of ``[C, P]`` outputs; a miss is at distance inf."""
    surfaces, movers = borrowed_surfaces(surfaces), borrowed_movers(movers)
    rays, ids, valid, arguments = borrowed(rays), borrowed(ids), borrowed(valid), borrowed(arguments)
    num_points = len(azimuth_rad)
    for c in range(channel0, channel1):
        cos_e, sin_e = math.cos(elevation_rad[c]), math.sin(elevation_rad[c])
        for p0 in range(0, num_points, 16):
            for k in range(16):
                a = azimuth_rad[min(p0 + k, num_points - 1)]
                x, y, z = cos_e * math.cos(a), cos_e * math.sin(a), sin_e
                rays[e.DIR_X, k] = axes[0, 0] * x + axes[1, 0] * y + axes[2, 0] * z
                rays[e.DIR_Y, k] = axes[0, 1] * x + axes[1, 1] * y + axes[2, 1] * z
                rays[e.DIR_Z, k] = axes[0, 2] * x + axes[1, 2] * y + axes[2, 2] * z
                rays[e.ORG_X, k] = origin[0]
                rays[e.ORG_Y, k] = origin[1]
                rays[e.ORG_Z, k] = origin[2]
                rays[e.T_NEAR, k] = 0.0
                rays[e.TIME, k] = 0.0
                rays[e.T_FAR, k] = range_m
                ids[e.MASK, k] = -1
                ids[e.FLAGS, k] = 0
                ids[e.GEOM_ID, k] = e.INVALID
                ids[e.INST_ID, k] = e.INVALID
                valid[0, k] = -1
            intersect16(valid.ctypes.data, scene, rays.ctypes.data, arguments.ctypes.data)
            for k in range(min(16, num_points - p0)):
                p = p0 + k
                if ids[e.GEOM_ID, k] == e.INVALID:
                    distance_m[c, p] = np.inf
                    continue
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
                length = math.sqrt(nx * nx + ny * ny + nz * nz)
                triangle = movers.base[slot] + ids[e.PRIM_ID, k]
                label = surfaces.tag[triangle]
                t = rays[e.T_FAR, k]
                if surfaces.material[triangle] == m.ASPHALT:
                    hx, hy = origin[0] + t * dx, origin[1] + t * dy
                    white, yellow = paint_at(surfaces, hx, hy, 0.0)
                    if white + yellow > 0.5:
                        label = _ROAD_LINES
                distance_m[c, p] = t
                cos_incidence[c, p] = min(abs(nx * dx + ny * dy + nz * dz) / length, 1.0)
                tag[c, p] = label
                actor[c, p] = movers.actor[slot]
