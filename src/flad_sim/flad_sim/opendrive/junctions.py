# SPDX-License-Identifier: Apache-2.0
"""The asphalt of a junction as one polygon: the lanes that cross it, and what lies between."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import shapely
from shapely.geometry import Polygon

from flad_sim.opendrive.surface import Surface
from flad_sim.types import FloatArray, LaneStrip

_CLOSING_M = 2.5  # gaps narrower than twice this between crossing lanes are asphalt too
_ISLAND_M2 = 150.0  # a hole larger than this is an island (a roundabout's middle), not asphalt
_NOT_ASPHALT = frozenset({"sidewalk", "none"})


def junction_areas(strips: tuple[LaneStrip, ...], surface: Surface) -> list[FloatArray]:
    """Outlines ``[N, 3]`` (not closed), one or more per junction, ordered by junction id.

    An island larger than 150 m^2 is cut out by a seam, so that outlines stay simple rings.
    """
    by_junction: dict[int, list[LaneStrip]] = defaultdict(list)
    for strip in strips:
        if strip.junction_id >= 0 and strip.lane_type not in _NOT_ASPHALT:
            by_junction[strip.junction_id].append(strip)
    areas = []
    for _, members in sorted(by_junction.items()):
        quads = np.concatenate([_quads(strip) for strip in members])
        lanes = shapely.union_all(shapely.buffer(shapely.polygons(quads), 0.02))
        closed = lanes.buffer(_CLOSING_M).buffer(-_CLOSING_M).union(lanes).simplify(0.01)
        z_near = float(np.mean([strip.left[:, 2].mean() for strip in members]))
        for polygon in shapely.get_parts(closed):
            for ring in _simple_rings(polygon):
                areas.append(_with_height(ring, surface, z_near))
    return areas


def _quads(strip: LaneStrip) -> FloatArray:
    left, right = strip.left[:, :2], strip.right[:, :2]
    return np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1)


def _simple_rings(polygon: Polygon) -> list[FloatArray]:
    islands = [Polygon(r) for r in polygon.interiors if Polygon(r).area > _ISLAND_M2]
    shape = Polygon(polygon.exterior)
    pieces = [shape]
    for island in islands:
        x = island.representative_point().x
        low_x, low_y, high_x, high_y = shape.bounds
        halves = (
            shapely.box(low_x - 1.0, low_y - 1.0, x, high_y + 1.0),
            shapely.box(x, low_y - 1.0, high_x + 1.0, high_y + 1.0),
        )
        pieces = [
            part
            for piece in pieces
            for half in halves
            for part in shapely.get_parts(piece.difference(island).intersection(half))
            if part.geom_type == "Polygon"
        ]
    return [shapely.get_coordinates(p.exterior)[:-1] for p in pieces if p.area > 0.01]


def _with_height(ring: FloatArray, surface: Surface, z_near: float) -> FloatArray:
    z = surface.at(ring, np.full(len(ring), z_near)).z
    known = ~np.isnan(z)
    if not known.any():
        z[:] = z_near
    elif not known.all():
        gaps = np.linalg.norm(ring[:, None, :] - ring[None, known, :], axis=2)
        z = np.where(known, z, z[known][np.argmin(gaps, axis=1)])
    return np.column_stack([ring, z])
