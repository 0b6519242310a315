# SPDX-License-Identifier: Apache-2.0
"""Road surfaces: asphalt by lane type, whole junctions, raised pavements with kerbs, the land."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import shapely
from scipy.spatial import cKDTree

from flad_sim.scenery.ground import Ground
from flad_sim.scenery.materials import ASPHALT, GRASS, PAVEMENT
from flad_sim.scenery.mesh import MeshBuilder, Rgb
from flad_sim.scenery.network import WALKED, Network, is_road
from flad_sim.types import FloatArray, LaneStrip, Tag

KERB_M = 0.12  # step from road to pavement where the map states none (netconvert's figure)
_KERB_STONE_M = 0.15
_CORNER_M = 6.0  # pavements that end this close to each other around a junction are joined
_SKIRT_M = 0.4
_SEAM_M = 0.3
_SAME_LEVEL_M = 2.0  # roads that differ by less in height meet, others cross by a bridge
_ASPHALT_RGB: dict[str, Rgb] = {
    "driving": (70, 71, 74),
    "shoulder": (92, 92, 92),
    "parking": (84, 84, 86),
    "biking": (112, 66, 56),
}
_PAVEMENT_RGB: Rgb = (148, 145, 138)
_KERB_RGB: Rgb = (172, 170, 164)
_GRASS_RGB: Rgb = (72, 86, 44)
_FAR_M = 340.0  # from the roads to the hills around
_TERRAIN_CELL_M = 8.0


def add_roads(builder: MeshBuilder, network: Network, ground: Ground) -> None:
    """Add everything one drives, walks and stands on."""
    for strip in network.lanes:
        if strip.lane_type in WALKED:
            if strip.junction_id < 0:
                _add_pavement(builder, strip)
        elif is_road(strip.lane_type) and strip.junction_id < 0:
            rgb = _ASPHALT_RGB.get(strip.lane_type, _ASPHALT_RGB["driving"])
            builder.strip(strip.left, strip.right, rgb=rgb, tag=Tag.ROADS, material=ASPHALT)
            if not ground.flat:
                for edge in (strip.left, strip.right):
                    depth = ground.wall_below(edge)
                    _add_skirt(builder, edge, _ASPHALT_RGB["shoulder"], Tag.ROADS, depth)
    driven = np.concatenate(
        [np.concatenate([s.left, s.right]) for s in network.lanes if is_road(s.lane_type)]
    )
    for area in network.junction_areas:
        # An outline's own height may be that of a pavement it touches.
        level = driven[np.abs(driven[:, 2] - np.median(area[:, 2])) < _SAME_LEVEL_M]
        heights = _Heights([level if len(level) else area])
        _add_polygon(builder, shapely.Polygon(area[:, :2]).buffer(0.06), heights, Tag.ROADS)
    _add_corners(builder, network)
    _add_land(builder, ground)


class _Heights:
    """Height of the nearest of some given points."""

    def __init__(self, lines: Iterable[FloatArray]) -> None:
        points = np.concatenate(list(lines))
        self._z = points[:, 2]
        self._tree = cKDTree(points[:, :2])

    def __call__(self, xy: FloatArray) -> FloatArray:
        z: FloatArray = self._z[self._tree.query(xy)[1]]
        return z


def _add_polygon(
    builder: MeshBuilder, shape: shapely.Geometry, heights: _Heights, tag: Tag, rise_m: float = 0.0
) -> None:
    pavement = tag == Tag.SIDEWALKS
    rgb = _PAVEMENT_RGB if pavement else _ASPHALT_RGB["driving"]
    material = PAVEMENT if pavement else ASPHALT
    corners = []
    for polygon in shapely.get_parts(shape):
        if polygon.geom_type != "Polygon" or polygon.area < 0.01:
            continue
        for triangle in shapely.get_parts(shapely.constrained_delaunay_triangles(polygon)):
            corners.append(shapely.get_coordinates(triangle)[:3])
        if pavement:
            for ring in (polygon.exterior, *polygon.interiors):
                xy = shapely.get_coordinates(ring)
                edge = np.column_stack([xy, heights(xy) + rise_m])
                _add_skirt(builder, edge, _KERB_RGB, Tag.SIDEWALKS)
    if not corners:
        return
    xy = np.concatenate(corners)
    vertices = np.column_stack([xy, heights(xy) + rise_m])
    triangles = np.arange(len(vertices)).reshape(-1, 3)
    builder.add(vertices, triangles, rgb=rgb, tag=tag, material=material)


def _add_pavement(builder: MeshBuilder, strip: LaneStrip) -> None:
    rise = _rise(strip)
    lift = np.array([0.0, 0.0, rise])
    left, right = strip.left + lift, strip.right + lift
    across = right - left
    width = np.maximum(np.linalg.norm(across[:, :2], axis=1, keepdims=True), 1e-6)
    stone = np.minimum(_KERB_STONE_M / width, 0.3) * across
    # The kerb is where the road is: left of lanes on the right side, along increasing s.
    inner = strip.lane_id < 0
    split = left + stone if inner else right - stone
    kerb = (left, split) if inner else (split, right)
    slabs = (split, right) if inner else (left, split)
    builder.strip(*kerb, rgb=_KERB_RGB, tag=Tag.SIDEWALKS)
    builder.strip(*slabs, rgb=_PAVEMENT_RGB, tag=Tag.SIDEWALKS, material=PAVEMENT)
    for edge in (left, right):
        _add_skirt(builder, edge, _KERB_RGB, Tag.SIDEWALKS)
    for end in (0, -1):
        _add_skirt(builder, np.stack([left[end], right[end]]), _KERB_RGB, Tag.SIDEWALKS)


def _rise(strip: LaneStrip) -> float:
    """What a pavement must be lifted by: nothing where the map gives it a height."""
    return 0.0 if float(strip.left[:, 2].min()) % 1.0 > 0.05 else KERB_M


def _add_skirt(
    builder: MeshBuilder, edge: FloatArray, rgb: Rgb, tag: Tag, depth: FloatArray | None = None
) -> None:
    low = edge.copy()
    low[:, 2] -= _SKIRT_M if depth is None else depth
    builder.strip(edge, low, rgb=rgb, tag=tag)


def _add_corners(builder: MeshBuilder, network: Network) -> None:
    """Pavement around junctions: the map's own, and between the ends of pavements at corners."""
    walked = [s for s in network.lanes if s.lane_type in WALKED]
    if not walked or not network.junction_areas:
        return
    roads = shapely.union_all(
        [
            *_quads([s for s in network.lanes if is_road(s.lane_type)]),
            *[shapely.Polygon(a[:, :2]).buffer(0) for a in network.junction_areas],
        ]
    )
    roads = roads.buffer(_SEAM_M).buffer(0.02 - _SEAM_M)  # lanes and junctions meet without seams
    pavements = shapely.union_all(_quads(walked)).buffer(0.02)
    rises = {_rise(s) for s in walked}
    heights = _Heights([np.concatenate([s.left, s.right]) for s in walked])
    along_streets = shapely.union_all(_quads([s for s in walked if s.junction_id < 0]))
    for area in network.junction_areas:
        outline = shapely.Polygon(area[:, :2]).buffer(0)
        near = outline.buffer(12.0)
        local = shapely.union_all([pavements.intersection(near), outline])
        closed = local.buffer(_CORNER_M).buffer(-_CORNER_M)
        corner = closed.difference(roads).difference(along_streets.buffer(0.01))
        corner = corner.intersection(outline.buffer(9.0)).simplify(0.03)
        corner = corner.buffer(-_SEAM_M).buffer(_SEAM_M)  # no slivers
        corner = corner.difference(roads)
        _add_polygon(builder, corner, heights, Tag.SIDEWALKS, max(rises))


def _quads(strips: Sequence[LaneStrip]) -> list[shapely.Polygon]:
    if not strips:
        return []
    corners = np.concatenate(
        [np.stack([s.left[:-1], s.left[1:], s.right[1:], s.right[:-1]], axis=1) for s in strips]
    )[..., :2]
    return list(shapely.buffer(shapely.polygons(corners), 0.01))


def _add_land(builder: MeshBuilder, ground: Ground) -> None:
    x0, y0, x1, y1 = ground.bounds
    radius = _hills_radius(ground) + 30.0
    far_x = 0.5 * (x0 + x1) + np.array([-radius, radius])
    far_y = 0.5 * (y0 + y1) + np.array([-radius, radius])
    if ground.flat:
        z = ground.height(x0, y0)
        xs, ys = far_x, far_y
        heights = np.full((2, 2), z)
    else:
        inner_x = np.arange(x0 - 60.0, x1 + 60.0, _TERRAIN_CELL_M)
        inner_y = np.arange(y0 - 60.0, y1 + 60.0, _TERRAIN_CELL_M)
        xs = np.concatenate([far_x[:1], inner_x, far_x[1:]])
        ys = np.concatenate([far_y[:1], inner_y, far_y[1:]])
        gx, gy = np.meshgrid(xs, ys, indexing="ij")
        heights = ground.heights(np.column_stack([gx.ravel(), gy.ravel()])).reshape(gx.shape)
        heights = np.minimum(heights, _lowest_around(heights))
    gx, gy = np.meshgrid(xs, ys, indexing="ij")
    vertices = np.stack([gx, gy, heights], axis=-1).reshape(-1, 3)
    k = len(ys)
    corner = (np.arange(len(xs) - 1)[:, None] * k + np.arange(k - 1)).ravel()
    triangles = np.concatenate(
        [
            np.stack([corner, corner + 1, corner + k], axis=1),
            np.stack([corner + 1, corner + k + 1, corner + k], axis=1),
        ]
    )
    builder.add(vertices, triangles, rgb=_GRASS_RGB, tag=Tag.TERRAIN, material=GRASS)
    _add_hills(builder, ground)


def _lowest_around(heights: FloatArray) -> FloatArray:
    padded = np.pad(heights, 1, mode="edge")
    n, m = heights.shape
    lowest: FloatArray = np.min(
        [padded[i : i + n, j : j + m] for i in range(3) for j in range(3)], axis=0
    )
    return lowest


def _hills_radius(ground: Ground) -> float:
    x0, y0, x1, y1 = ground.bounds
    return 0.5 * math.hypot(x1 - x0, y1 - y0) + _FAR_M


def _add_hills(builder: MeshBuilder, ground: Ground) -> None:
    """Wooded hills around the land, so that streets end against something."""
    x0, y0, x1, y1 = ground.bounds
    center = np.array([0.5 * (x0 + x1), 0.5 * (y0 + y1)])
    radius = _hills_radius(ground)
    angle = np.linspace(0.0, 2.0 * math.pi, 97)
    z = ground.height(float(center[0]), float(center[1]))
    ridge = 24.0 + 12.0 * np.sin(3.0 * angle) + 9.0 * np.sin(7.0 * angle + 1.0)
    ridge += 4.0 * np.sin(17.0 * angle + 2.0)
    ridge[-1] = ridge[0]
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    profile = [(-10.0, 0.0), (50.0, 0.55), (120.0, 1.0), (400.0, 1.1)]
    rings = [
        np.column_stack([center + (radius + out) * ring, z - 1.0 + share * ridge])
        for out, share in profile
    ]
    for a, b in pairwise(rings):
        builder.strip(a, b, rgb=(62, 84, 44), tag=Tag.VEGETATION, material=GRASS)
