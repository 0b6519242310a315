# SPDX-License-Identifier: Apache-2.0
"""What lines a street: lamp posts, trees, hedges, benches, bins; and trees in the open."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from flad_sim.scenery.edges import Edge
from flad_sim.scenery.ground import Ground
from flad_sim.scenery.materials import FOLIAGE, METAL, STREET_LAMP
from flad_sim.scenery.mesh import MeshBuilder, Rgb
from flad_sim.types import StaticBox, Tag, Transform

_LAMP_EVERY_M, _LAMP_HEIGHT_M, _LAMP_ARM_M = 28.0, 7.0, 1.6
_KERB_TO_POLE_M = 0.6
_TREE_EVERY_M = (11.0, 19.0)
_LEAVES: tuple[Rgb, ...] = (
    (74, 104, 42),
    (88, 112, 48),
    (62, 92, 44),
    (104, 116, 52),
    (80, 98, 36),
)
_NEEDLES: Rgb = (46, 74, 46)
_BARK: Rgb = (88, 70, 54)
_STEEL: Rgb = (70, 74, 76)


@dataclass(slots=True)
class StreetLife:
    """What was put up."""

    boxes: list[StaticBox] = field(default_factory=list)
    lamps: list[tuple[float, float, float]] = field(default_factory=list)


class Furnisher:
    """Places things one at a time, keeping lanes, houses and sight lines to the lights free."""

    def __init__(
        self,
        builder: MeshBuilder,
        ground: Ground,
        rng: np.random.Generator,
        sight_lines: list[tuple[float, float, float, float]],
    ) -> None:
        self._builder = builder
        self._ground = ground
        self._rng = rng
        self._sight = np.array(sight_lines, dtype=float).reshape(-1, 4)
        self.placed = StreetLife()

    def line_kerbs(self, edges: list[Edge]) -> None:
        """Lamp posts, then street trees, along the outer edges of carriageways."""
        for number, edge in enumerate(edges):
            start = 9.0 + (0.5 * _LAMP_EVERY_M if number % 2 else 0.0)
            for s in np.arange(start, edge.length - 5.0, _LAMP_EVERY_M):
                self._lamp_post(edge, float(s))
        for edge in edges:
            if self._rng.random() < 0.2:
                continue
            s = self._rng.uniform(5.0, 14.0)
            while s < edge.length - 5.0:
                x, y, z = edge.at(s, 1.0)
                if self._free(x, y, road_m=0.7, sight_m=2.6, own_m=1.2):
                    self._tree(x, y, z, street=True)
                elif self._rng.random() < 0.3:
                    self._bench_or_bin(edge, s)
                s += self._rng.uniform(*_TREE_EVERY_M)

    def plant_gardens(self, edges: list[Edge]) -> None:
        """Hedges and trees between pavement and houses."""
        for edge in edges:
            s = self._rng.uniform(2.0, 10.0)
            while s < edge.length - 3.0:
                x, y, _ = edge.at(s, 1.2)
                if self._rng.random() < 0.3:
                    length = self._rng.uniform(2.0, 6.0)
                    self._hedge(edge, s, length)
                    s += length
                elif self._free(x, y, road_m=2.0, sight_m=2.6, own_m=1.5):
                    self._tree(x, y, self._ground.height(x, y), street=False)
                s += self._rng.uniform(5.0, 16.0)

    def plant_parks(self) -> None:
        """Trees wherever there is room, denser in groves."""
        x0, y0, x1, y1 = self._ground.bounds
        tries = min(int((x1 - x0 + 120.0) * (y1 - y0 + 120.0) / 220.0), 3500)
        for _ in range(tries):
            x = self._rng.uniform(x0 - 60.0, x1 + 60.0)
            y = self._rng.uniform(y0 - 60.0, y1 + 60.0)
            if self._free(x, y, road_m=4.5, sight_m=3.0, own_m=2.0):
                self._tree(x, y, self._ground.height(x, y), street=False)

    def _free(self, x: float, y: float, *, road_m: float, sight_m: float, own_m: float) -> bool:
        here = np.array([[x, y]])
        if self._ground.road_gap(here)[0] < road_m or _near(self._sight, x, y) < sight_m:
            return False
        angle = np.arange(8) * (math.pi / 4)
        ring = here + own_m * np.column_stack([np.cos(angle), np.sin(angle)])
        return not bool(self._ground.is_taken(np.concatenate([here, ring])).any())

    def _lamp_post(self, edge: Edge, s: float) -> None:
        x, y, z = edge.at(s, _KERB_TO_POLE_M)
        if not self._free(x, y, road_m=0.3, sight_m=1.0, own_m=0.5):
            return
        lx, ly, _ = edge.at(s, _KERB_TO_POLE_M - _LAMP_ARM_M)
        top = z + _LAMP_HEIGHT_M
        b, tag = self._builder, Tag.POLES
        b.tube(
            (x, y, z - 0.2), (x, y, top), 0.09, end_radius=0.06, rgb=_STEEL, tag=tag, material=METAL
        )
        b.tube((x, y, top - 0.1), (lx, ly, top + 0.15), 0.04, rgb=_STEEL, tag=tag, sides=5)
        yaw = edge.yaw_out_deg(s)
        b.box((lx, ly, top + 0.14), (0.34, 0.14, 0.06), rgb=_STEEL, tag=tag, yaw=yaw)
        b.box(
            (lx, ly, top + 0.07), (0.28, 0.11, 0.02), rgb=(225, 222, 210), tag=tag, yaw=yaw,
            material=STREET_LAMP,
        )  # fmt: skip
        self.placed.lamps.append((lx, ly, top))
        self._solid(x, y, z, 0.09, _LAMP_HEIGHT_M, Tag.POLES, "static.pole")

    def _tree(self, x: float, y: float, z: float, *, street: bool) -> None:
        rng, b, tag = self._rng, self._builder, Tag.VEGETATION
        if not street and rng.random() < 0.22:
            height, radius = rng.uniform(6.0, 11.0), rng.uniform(1.3, 2.1)
            b.tube((x, y, z - 0.2), (x, y, z + 1.2), 0.16, rgb=_BARK, tag=tag, sides=6)
            for k in range(3):
                low, high = 0.12 + 0.25 * k, 0.58 + 0.21 * k
                b.tube(
                    (x, y, z + low * height), (x, y, z + min(high, 1.0) * height),
                    radius * (1.0 - 0.27 * k), end_radius=0.03, rgb=_NEEDLES, tag=tag, sides=9,
                    material=FOLIAGE,
                )  # fmt: skip
            self._solid(x, y, z, 0.2, height, tag, "static.vegetation")
            return
        trunk = rng.uniform(2.9, 3.5) if street else rng.uniform(1.8, 3.2)
        size = rng.uniform(1.25, 1.65) if street else rng.uniform(1.6, 2.9)
        lean_x, lean_y = rng.uniform(-0.25, 0.25, 2)
        rgb = _LEAVES[rng.integers(len(_LEAVES))]
        crown = (x + lean_x, y + lean_y, z + trunk + 0.75 * size)
        b.tube(
            (x, y, z - 0.2), (crown[0], crown[1], crown[2]), 0.15, end_radius=0.07, rgb=_BARK,
            tag=tag, sides=6,
        )  # fmt: skip
        for k in range(3):
            turn = 2.1 * k + rng.uniform(0.0, 1.0)
            off = 0.45 * size
            center = (
                crown[0] + off * math.cos(turn),
                crown[1] + off * math.sin(turn),
                crown[2] + rng.uniform(-0.15, 0.55) * size,
            )
            r = size * rng.uniform(0.68, 0.92)
            b.blob(
                center, (r, r, 0.85 * r), rng, rgb=rgb, tag=tag, roughness=0.17, material=FOLIAGE
            )
        self._solid(x, y, z, 0.2, trunk, tag, "static.vegetation")

    def _hedge(self, edge: Edge, s: float, length: float) -> None:
        x, y, _ = edge.at(s + 0.5 * length, 0.8)
        yaw = edge.yaw_out_deg(s + 0.5 * length)
        frame = Transform(x, y, self._ground.height(x, y), yaw=yaw)
        line = frame.to_world(
            np.column_stack([np.zeros(9), np.linspace(-0.5, 0.5, 9) * length, np.zeros(9)])
        )
        if (
            self._ground.is_taken(line[:, :2]).any()
            or (self._ground.paved_gap(line[:, :2]) < 0.4).any()
        ):
            return
        height = self._rng.uniform(0.4, 0.75)
        center = (x, y, frame.z + height)
        extent = (0.3, 0.5 * length, height)
        self._builder.box(
            center, extent, rgb=_LEAVES[2], tag=Tag.VEGETATION, yaw=yaw, material=FOLIAGE
        )
        self.placed.boxes.append(
            StaticBox(center, extent, yaw, Tag.VEGETATION, "static.vegetation")
        )
        self._ground.take(line[:, :2])

    def _bench_or_bin(self, edge: Edge, s: float) -> None:
        x, y, z = edge.at(s, 1.3)
        if not self._free(x, y, road_m=0.9, sight_m=0.8, own_m=0.8):
            return
        yaw, b, tag = edge.yaw_out_deg(s), self._builder, Tag.STATIC
        if self._rng.random() < 0.5:
            b.tube((x, y, z), (x, y, z + 0.9), 0.25, rgb=(54, 84, 60), tag=tag, sides=8)
            self._solid(x, y, z, 0.25, 0.9, tag, "static.prop.bin")
            return
        b.box((x, y, z + 0.44), (0.22, 0.8, 0.03), rgb=(128, 92, 58), tag=tag, yaw=yaw)
        frame = Transform(x, y, z, yaw=yaw)
        for lx, ly, lz, extent in (
            (0.2, 0.0, 0.7, (0.025, 0.8, 0.16)),
            (0.0, 0.6, 0.2, (0.18, 0.03, 0.22)),
            (0.0, -0.6, 0.2, (0.18, 0.03, 0.22)),
        ):
            px, py, pz = (float(v) for v in frame.to_world(np.array([[lx, ly, lz]]))[0])
            b.box((px, py, pz), extent, rgb=(118, 84, 52), tag=tag, yaw=yaw)
        self.placed.boxes.append(
            StaticBox((x, y, z + 0.43), (0.25, 0.8, 0.43), yaw, tag, "static.prop.bench")
        )
        self._ground.take(np.array([[x, y]]))

    def _solid(
        self, x: float, y: float, z: float, radius: float, height: float, tag: Tag, name: str
    ) -> None:
        center, extent = (x, y, z + 0.5 * height), (radius, radius, 0.5 * height)
        self.placed.boxes.append(StaticBox(center, extent, 0.0, tag, name))
        self._ground.take(np.array([[x, y]]))


def _near(lines: np.ndarray, x: float, y: float) -> float:
    """Distance of a point from the nearest of segments ``[N, 4]``."""
    if len(lines) == 0:
        return math.inf
    a, b, p = lines[:, :2], lines[:, 2:], np.array([x, y])
    along = b - a
    t = np.clip(((p - a) * along).sum(axis=1) / np.maximum((along**2).sum(axis=1), 1e-9), 0.0, 1.0)
    return float(np.linalg.norm(a + t[:, None] * along - p, axis=1).min())
