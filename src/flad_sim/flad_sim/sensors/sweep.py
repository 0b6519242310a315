# SPDX-License-Identifier: Apache-2.0
"""LiDAR returns from rays: sixteen neighbours of one channel are a packet. Compiled, no Python."""

from __future__ import annotations

import math

import numpy as np

from flad_sim.scenery import materials as m
from flad_sim.sensors import embree as e
from flad_sim.sensors.embree import Packet, intersect16, packet_pointers
from flad_sim.sensors.frame import Movers, Surfaces, movers_pointers, surfaces_pointers
from flad_sim.sensors.jit import kernel, pointer
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
    packet: Packet,
) -> None:
    """Fill rows ``[channel0, channel1)`` of ``[C, P]`` outputs; a miss is at distance inf."""
    surfaces, movers = surfaces_pointers(surfaces), movers_pointers(movers)
    packet = packet_pointers(packet)
    rays, ids, valid = packet.rays, packet.ids, packet.valid
    distances, cosines = pointer(distance_m), pointer(cos_incidence)
    tags, actors = pointer(tag), pointer(actor)
    num_points = len(azimuth_rad)
    for c in range(channel0, channel1):
        cos_e, sin_e = math.cos(elevation_rad[c]), math.sin(elevation_rad[c])
        for p0 in range(0, num_points, 16):
            for k in range(16):
                a = azimuth_rad[min(p0 + k, num_points - 1)]
                x, y, z = cos_e * math.cos(a), cos_e * math.sin(a), sin_e
                rays[e.DIR_X + k] = axes[0, 0] * x + axes[1, 0] * y + axes[2, 0] * z
                rays[e.DIR_Y + k] = axes[0, 1] * x + axes[1, 1] * y + axes[2, 1] * z
                rays[e.DIR_Z + k] = axes[0, 2] * x + axes[1, 2] * y + axes[2, 2] * z
                rays[e.ORG_X + k] = origin[0]
                rays[e.ORG_Y + k] = origin[1]
                rays[e.ORG_Z + k] = origin[2]
                rays[e.T_NEAR + k] = 0.0
                rays[e.TIME + k] = 0.0
                rays[e.T_FAR + k] = range_m
                ids[e.MASK + k] = -1
                ids[e.FLAGS + k] = 0
                ids[e.GEOM_ID + k] = e.INVALID
                ids[e.INST_ID + k] = e.INVALID
                valid[k] = -1
            intersect16(packet.valid_at, scene, packet.rays_at, packet.arguments_at)
            for k in range(min(16, num_points - p0)):
                p = c * num_points + p0 + k
                if ids[e.GEOM_ID + k] == e.INVALID:
                    distances[p] = np.inf
                    continue
                nx, ny, nz = rays[e.NG_X + k], rays[e.NG_Y + k], rays[e.NG_Z + k]
                slot = int(ids[e.INST_ID + k])
                if slot != 0:
                    r, at = movers.rotation, 9 * slot
                    nx, ny, nz = (
                        r[at] * nx + r[at + 1] * ny + r[at + 2] * nz,
                        r[at + 3] * nx + r[at + 4] * ny + r[at + 5] * nz,
                        r[at + 6] * nx + r[at + 7] * ny + r[at + 8] * nz,
                    )
                dx, dy, dz = rays[e.DIR_X + k], rays[e.DIR_Y + k], rays[e.DIR_Z + k]
                length = math.sqrt(nx * nx + ny * ny + nz * nz)
                triangle = int(movers.base[slot]) + int(ids[e.PRIM_ID + k])
                label = surfaces.tag[triangle]
                t = rays[e.T_FAR + k]
                if surfaces.material[triangle] == m.ASPHALT:
                    hx, hy = origin[0] + t * dx, origin[1] + t * dy
                    white, yellow = paint_at(surfaces, hx, hy, 0.0)
                    if white + yellow > 0.5:
                        label = _ROAD_LINES
                distances[p] = t
                cosines[p] = min(abs(nx * dx + ny * dy + nz * dz) / length, 1.0)
                tags[p] = label
                actors[p] = movers.actor[slot]
