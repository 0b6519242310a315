# SPDX-License-Identifier: Apache-2.0
"""Triangles with what the shader needs to know of each, and a builder of simple solids."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flad_sim.scenery.materials import PLAIN, linear
from flad_sim.types import FloatArray, Tag, Transform, Vec3

Rgb = tuple[int, int, int]

_BOX_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
_BOX_TRIANGLES = np.array(
    [
        [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
        [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
    ]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mesh:
    """``V`` vertices and ``T`` triangles; per triangle what it is made of."""

    vertices: NDArray[np.float32]  # [V, 3]
    triangles: NDArray[np.uint32]  # [T, 3]
    material: NDArray[np.uint8]  # [T] flad_sim.scenery.materials
    albedo: NDArray[np.float32]  # [T, 3] linear
    tag: NDArray[np.uint8]  # [T] flad_sim.types.Tag
    aux: NDArray[np.int32]  # [T] meaning depends on the material


class MeshBuilder:
    """Collects solids into one :class:`Mesh`; colours are 8-bit sRGB, sizes half extents."""

    def __init__(self) -> None:
        self._vertices: list[FloatArray] = []
        self._triangles: list[NDArray[np.int64]] = []
        self._styles: list[tuple[int, int, Rgb, int, int]] = []
        self._num_vertices = 0

    def add(
        self,
        vertices: ArrayLike,
        triangles: ArrayLike,
        *,
        rgb: Rgb,
        tag: Tag,
        material: int = PLAIN,
        aux: int = 0,
    ) -> None:
        """Add ``vertices`` ``[N, 3]`` and ``triangles`` ``[M, 3]`` that index them."""
        v = np.asarray(vertices, dtype=np.float64).reshape(-1, 3)
        t = np.asarray(triangles, dtype=np.int64).reshape(-1, 3)
        if len(t) == 0:
            return
        self._vertices.append(v)
        self._triangles.append(t + self._num_vertices)
        self._styles.append((len(t), material, rgb, int(tag), aux))
        self._num_vertices += len(v)

    def fan(
        self, ring: ArrayLike, *, rgb: Rgb, tag: Tag, material: int = PLAIN, aux: int = 0
    ) -> None:
        """Add a convex polygon ``[N, 3]``."""
        n = len(np.asarray(ring))
        triangles = [[0, i, i + 1] for i in range(1, n - 1)]
        self.add(ring, triangles, rgb=rgb, tag=tag, material=material, aux=aux)

    def strip(
        self,
        left: FloatArray,
        right: FloatArray,
        *,
        rgb: Rgb,
        tag: Tag,
        material: int = PLAIN,
        aux: int = 0,
    ) -> None:
        """Add the band between two polylines ``[N, 3]`` of equal length."""
        n = len(left)
        i = np.arange(n - 1)
        triangles = np.concatenate(
            [np.stack([i, i + 1, n + i], axis=1), np.stack([i + 1, n + i + 1, n + i], axis=1)]
        )
        vertices = np.concatenate([left, right])
        self.add(vertices, triangles, rgb=rgb, tag=tag, material=material, aux=aux)

    def box(
        self,
        center: Vec3,
        extent: Vec3,
        *,
        rgb: Rgb,
        tag: Tag,
        yaw: float = 0.0,
        material: int = PLAIN,
        aux: int = 0,
    ) -> None:
        """Add a box of half sizes ``extent``, turned by ``yaw`` degrees."""
        corners = Transform(*center, yaw=yaw).to_world(_BOX_CORNERS * np.array(extent))
        self.add(corners, _BOX_TRIANGLES, rgb=rgb, tag=tag, material=material, aux=aux)

    def loft(
        self,
        rings: FloatArray,
        *,
        rgb: Rgb,
        tag: Tag,
        material: int = PLAIN,
        aux: int = 0,
        caps: bool = True,
    ) -> None:
        """Add the skin over ``rings`` ``[K, N, 3]``: closed outlines of equal length in a row."""
        k, n = rings.shape[:2]
        i, j = np.meshgrid(np.arange(k - 1), np.arange(n), indexing="ij")
        a, b = (i * n + j).ravel(), (i * n + (j + 1) % n).ravel()
        triangles = [np.stack([a, b, a + n], axis=1), np.stack([b, b + n, a + n], axis=1)]
        if caps:
            f = np.arange(1, n - 1)
            triangles.append(np.stack([0 * f, f, f + 1], axis=1))
            triangles.append(np.stack([0 * f, f, f + 1], axis=1) + (k - 1) * n)
        vertices = rings.reshape(-1, 3)
        all_triangles = np.concatenate(triangles)
        self.add(vertices, all_triangles, rgb=rgb, tag=tag, material=material, aux=aux)

    def tube(
        self,
        start: Vec3,
        end: Vec3,
        radius: float,
        *,
        rgb: Rgb,
        tag: Tag,
        end_radius: float | None = None,
        sides: int = 8,
        material: int = PLAIN,
        aux: int = 0,
    ) -> None:
        """Add a (tapered) cylinder from ``start`` to ``end``."""
        a, b = np.array(start), np.array(end)
        u, v = _normals_to(b - a)
        angle = np.arange(sides) * (2.0 * math.pi / sides)
        circle = np.outer(np.cos(angle), u) + np.outer(np.sin(angle), v)
        top = radius if end_radius is None else end_radius
        rings = np.stack([a + radius * circle, b + top * circle])
        self.loft(rings, rgb=rgb, tag=tag, material=material, aux=aux)

    def disc(
        self,
        center: Vec3,
        normal: Vec3,
        radius: float,
        *,
        rgb: Rgb,
        tag: Tag,
        sides: int = 12,
        phase_rad: float = 0.0,
        material: int = PLAIN,
        aux: int = 0,
    ) -> None:
        """Add a flat regular polygon facing ``normal``."""
        u, v = _normals_to(np.array(normal))
        angle = np.arange(sides) * (2.0 * math.pi / sides) + phase_rad
        ring = np.array(center) + radius * (np.outer(np.cos(angle), u) + np.outer(np.sin(angle), v))
        self.fan(ring, rgb=rgb, tag=tag, material=material, aux=aux)

    def blob(
        self,
        center: Vec3,
        radii: Vec3,
        rng: np.random.Generator,
        *,
        rgb: Rgb,
        tag: Tag,
        roughness: float = 0.0,
        material: int = PLAIN,
        aux: int = 0,
    ) -> None:
        """Add an icosphere of 80 triangles, its vertices jittered by ``roughness`` (relative)."""
        vertices, triangles = _icosphere()
        swell = 1.0 + rng.uniform(-roughness, roughness, size=(len(vertices), 1))
        placed = vertices * swell * np.array(radii) + np.array(center)
        self.add(placed, triangles, rgb=rgb, tag=tag, material=material, aux=aux)

    def build(self) -> Mesh:
        """The mesh of everything added so far."""
        if not self._vertices:
            empty = np.zeros((0, 3))
            return _mesh(empty, empty, [])
        return _mesh(np.concatenate(self._vertices), np.concatenate(self._triangles), self._styles)


def _mesh(
    vertices: FloatArray,
    triangles: NDArray[np.int64] | FloatArray,
    styles: list[tuple[int, int, Rgb, int, int]],
) -> Mesh:
    counts = [s[0] for s in styles]
    return Mesh(
        vertices=np.ascontiguousarray(vertices, dtype=np.float32),
        triangles=np.ascontiguousarray(triangles, dtype=np.uint32),
        material=np.repeat(np.array([s[1] for s in styles], dtype=np.uint8), counts),
        albedo=np.repeat(linear(np.array([s[2] for s in styles]).reshape(-1, 3)), counts, axis=0),
        tag=np.repeat(np.array([s[3] for s in styles], dtype=np.uint8), counts),
        aux=np.repeat(np.array([s[4] for s in styles], dtype=np.int32), counts),
    )


def _normals_to(axis: FloatArray) -> tuple[FloatArray, FloatArray]:
    w = axis / np.linalg.norm(axis)
    helper = np.array([0.0, 0.0, 1.0]) if abs(w[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    u = np.cross(helper, w)
    u /= np.linalg.norm(u)
    return u, np.cross(w, u)


@cache
def _icosphere() -> tuple[FloatArray, NDArray[np.int64]]:
    """A unit sphere of 42 vertices and 80 triangles: an icosahedron, subdivided once."""
    g = (1.0 + math.sqrt(5.0)) / 2.0
    corners = [
        [-1, g, 0], [1, g, 0], [-1, -g, 0], [1, -g, 0], [0, -1, g], [0, 1, g],
        [0, -1, -g], [0, 1, -g], [g, 0, -1], [g, 0, 1], [-g, 0, -1], [-g, 0, 1],
    ]  # fmt: skip
    faces = [
        [0, 11, 5], [0, 5, 1], [0, 1, 7], [0, 7, 10], [0, 10, 11], [1, 5, 9], [5, 11, 4],
        [11, 10, 2], [10, 7, 6], [7, 1, 8], [3, 9, 4], [3, 4, 2], [3, 2, 6], [3, 6, 8],
        [3, 8, 9], [4, 9, 5], [2, 4, 11], [6, 2, 10], [8, 6, 7], [9, 8, 1],
    ]  # fmt: skip
    points = [np.array(c, float) for c in corners]
    middle: dict[tuple[int, int], int] = {}

    def between(a: int, b: int) -> int:
        key = (min(a, b), max(a, b))
        if key not in middle:
            middle[key] = len(points)
            points.append((points[a] + points[b]) / 2.0)
        return middle[key]

    triangles: list[list[int]] = []
    for a, b, c in faces:
        ab, bc, ca = between(a, b), between(b, c), between(c, a)
        triangles += [[a, ab, ca], [b, bc, ab], [c, ca, bc], [ab, bc, ca]]
    vertices = np.array(points)
    vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    return vertices, np.array(triangles)
