# SPDX-License-Identifier: Apache-2.0
"""Houses along the streets and behind them, with the table of their facades for the shader."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from flad_sim.scenery.edges import Edge
from flad_sim.scenery.ground import Ground
from flad_sim.scenery.materials import FACADE, METAL, ROOF
from flad_sim.scenery.mesh import MeshBuilder, Rgb
from flad_sim.types import FloatArray, StaticBox, Tag, Transform

_GAP_M = 1.6  # from any road or pavement
_WALLS: tuple[Rgb, ...] = (
    (186, 170, 142), (168, 96, 74), (150, 82, 66), (206, 194, 172), (176, 178, 176),
    (214, 206, 190), (196, 160, 108), (140, 138, 134), (178, 120, 92), (198, 182, 150),
    (156, 166, 172), (222, 214, 200), (188, 140, 116), (120, 112, 106),
)  # fmt: skip
_TILES: tuple[Rgb, ...] = ((134, 66, 48), (112, 60, 48), (92, 88, 88), (78, 74, 72), (146, 84, 60))
_FLAT_ROOF: Rgb = (112, 110, 106)


@dataclass(slots=True)
class Houses:
    """What :func:`add_houses` built."""

    boxes: list[StaticBox] = field(default_factory=list)
    facades: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Lot:
    center: tuple[float, float]
    yaw: float  # local x looks to the street
    depth: float  # along local x
    width: float
    floors: int


def add_houses(
    builder: MeshBuilder, edges: list[Edge], ground: Ground, rng: np.random.Generator
) -> Houses:
    """Fill the sides of ``edges`` (outer edges of streets), then the blocks behind them."""
    houses = Houses()
    for edge in edges:
        s = rng.uniform(0.0, 6.0)
        while s < edge.length - 6.0:
            if rng.random() < 0.10:  # a gap: a yard, a passage
                s += rng.uniform(6.0, 16.0)
                continue
            lot = _street_lot(edge, s, rng, ground)
            if _fits(lot, ground):
                _build(builder, lot, ground, rng, houses)
                s += lot.width + (0.0 if rng.random() < 0.45 else rng.uniform(1.5, 7.0))
            else:
                s += 2.5
    _fill_blocks(builder, ground, rng, houses)
    return houses


def _street_lot(edge: Edge, s: float, rng: np.random.Generator, ground: Ground) -> _Lot:
    floors = _floors(edge.at(s, 0.0), ground, rng)
    width = min(rng.uniform(9.0, 22.0), edge.length - s)
    depth = rng.uniform(9.0, 15.0)
    setback = rng.choice([1.8, 2.5, 4.0, 6.0], p=[0.35, 0.3, 0.2, 0.15])
    middle = s + 0.5 * width
    x, y, _ = edge.at(middle, float(setback) + 0.5 * depth)
    yaw = edge.yaw_out_deg(middle) + 180.0
    return _Lot((x, y), yaw, depth, width - 0.05, floors)


def _floors(point: tuple[float, float, float], ground: Ground, rng: np.random.Generator) -> int:
    x0, y0, x1, y1 = ground.bounds
    far = math.hypot(
        (point[0] - 0.5 * (x0 + x1)) / (x1 - x0 + 1.0),
        (point[1] - 0.5 * (y0 + y1)) / (y1 - y0 + 1.0),
    )
    tall = max(0.0, 1.0 - 1.7 * far)  # 1 in the middle of town
    return int(2 + rng.integers(0, 2) + round(tall * rng.uniform(0.0, 5.0)))


def _fill_blocks(
    builder: MeshBuilder, ground: Ground, rng: np.random.Generator, houses: Houses
) -> None:
    x0, y0, x1, y1 = ground.bounds
    tries = int((x1 - x0 + 80.0) * (y1 - y0 + 80.0) / 160.0)
    for _ in range(min(tries, 4000)):
        x, y = rng.uniform(x0 - 40.0, x1 + 40.0), rng.uniform(y0 - 40.0, y1 + 40.0)
        yaw = float(rng.integers(0, 4)) * 90.0
        depth, width = rng.uniform(9.0, 16.0), rng.uniform(10.0, 24.0)
        lot = _Lot((x, y), yaw, depth, width, _floors((x, y, 0.0), ground, rng))
        if ground.paved_gap(np.array([[x, y]]))[0] > 20.0 and _fits(lot, ground, 3.0):
            _build(builder, lot, ground, rng, houses)


def _footprint(lot: _Lot, grow_m: float = 0.0) -> FloatArray:
    nx, ny = int(lot.depth / 0.45) + 2, int(lot.width / 0.45) + 2
    x = np.linspace(-0.5 * lot.depth - grow_m, 0.5 * lot.depth + grow_m, nx)
    y = np.linspace(-0.5 * lot.width - grow_m, 0.5 * lot.width + grow_m, ny)
    gx, gy = np.meshgrid(x, y)
    local = np.column_stack([gx.ravel(), gy.ravel(), np.zeros(gx.size)])
    return Transform(*lot.center, yaw=lot.yaw).to_world(local)[:, :2]


def _fits(lot: _Lot, ground: Ground, grow_m: float = 0.0) -> bool:
    if lot.width < 7.0:
        return False
    points = _footprint(lot, grow_m)
    return bool((ground.paved_gap(points) > _GAP_M).all() and not ground.is_taken(points).any())


def _build(
    builder: MeshBuilder, lot: _Lot, ground: Ground, rng: np.random.Generator, houses: Houses
) -> None:
    ground.take(_footprint(lot))
    base = float(ground.heights(_footprint(lot)[:1]).min())
    floor_m = rng.uniform(2.9, 3.5)
    height = lot.floors * floor_m + rng.uniform(0.3, 0.8)
    frame = Transform(*lot.center, base, yaw=lot.yaw)
    wall = _varied(_WALLS[rng.integers(len(_WALLS))], rng)
    dx, dy = 0.5 * lot.depth, 0.5 * lot.width
    corners = [(dx, dy), (dx, -dy), (-dx, -dy), (-dx, dy)]
    bay = rng.uniform(2.1, 3.3)
    half_w, half_h = rng.uniform(0.19, 0.34), rng.uniform(0.22, 0.33)
    seed = float(rng.integers(1, 100_000))
    for i, start in enumerate(corners):
        end = corners[(i + 1) % 4]
        blind = i in (1, 3) and rng.random() < 0.35  # a side wall without windows
        row = _facade(frame, start, end, base, floor_m, bay, half_w, half_h, seed + i, lot.floors)
        if blind:
            row[10] = 0.0
        houses.facades.append(row)
        low = frame.to_world(np.array([[*start, -1.0], [*end, -1.0]]))
        high = frame.to_world(np.array([[*start, height], [*end, height]]))
        builder.strip(
            low, high, rgb=wall, tag=Tag.BUILDINGS, material=FACADE, aux=len(houses.facades) - 1
        )
    if lot.floors <= 4 and rng.random() < 0.6:
        rise = _add_gable(builder, frame, dx, dy, height, wall, rng)
    else:
        rise = _add_flat_roof(builder, frame, dx, dy, height, wall, rng)
    half = 0.5 * (height + rise)
    center = (frame.x, frame.y, base + half)
    houses.boxes.append(
        StaticBox(center, (dx, dy, half), lot.yaw, Tag.BUILDINGS, "static.building")
    )


def _facade(
    frame: Transform,
    start: tuple[float, float],
    end: tuple[float, float],
    base: float,
    floor_m: float,
    bay_m: float,
    half_w: float,
    half_h: float,
    seed: float,
    floors: int,
) -> list[float]:
    """Origin x, y; direction x, y; base; storey; bay; half window w, h; seed; storeys; bays."""
    a, b = frame.to_world(np.array([[*start, 0.0], [*end, 0.0]]))[:, :2]
    length = float(np.linalg.norm(b - a))
    bays = max(1, int((length - 1.0) / bay_m))
    bay = (length - 1.0) / bays
    along = (b - a) / length
    origin = a + 0.5 * along
    return [*origin, *along, base, floor_m, bay, half_w, half_h, seed, float(floors), float(bays)]


def _add_flat_roof(
    builder: MeshBuilder,
    frame: Transform,
    dx: float,
    dy: float,
    height: float,
    wall: Rgb,
    rng: np.random.Generator,
) -> float:
    rim = 0.35
    ring = [[dx, dy, height], [dx, -dy, height], [-dx, -dy, height], [-dx, dy, height]]
    builder.fan(frame.to_world(np.array(ring)), rgb=_FLAT_ROOF, tag=Tag.BUILDINGS, material=ROOF)
    ledge = _varied((wall[0] - 24, wall[1] - 24, wall[2] - 24), rng)
    for x, y, ex, ey in (
        (dx, 0, 0.15, dy),
        (-dx, 0, 0.15, dy),
        (0, dy, dx, 0.15),
        (0, -dy, dx, 0.15),
    ):
        center = frame.to_world(np.array([[x, y, height]]))[0]
        builder.box(
            (float(center[0]), float(center[1]), float(center[2])), (ex + 0.1, ey + 0.1, rim),
            rgb=ledge, tag=Tag.BUILDINGS, yaw=frame.yaw,
        )  # fmt: skip
    for _ in range(int(rng.integers(0, 3))):
        x, y = rng.uniform(-0.6, 0.6) * dx, rng.uniform(-0.6, 0.6) * dy
        center = frame.to_world(np.array([[x, y, height + 0.5]]))[0]
        builder.box(
            (float(center[0]), float(center[1]), float(center[2])),
            (rng.uniform(0.5, 1.3), rng.uniform(0.5, 1.3), 0.6),
            rgb=(150, 152, 154), tag=Tag.BUILDINGS, yaw=frame.yaw, material=METAL,
        )  # fmt: skip
    return rim


def _add_gable(
    builder: MeshBuilder,
    frame: Transform,
    dx: float,
    dy: float,
    height: float,
    wall: Rgb,
    rng: np.random.Generator,
) -> float:
    """Ridge along the street (local y)."""
    rise, over = rng.uniform(0.45, 0.75) * dx, 0.4
    tiles = _varied(_TILES[rng.integers(len(_TILES))], rng)
    drop = height - over * rise / dx
    eaves_front = [[dx + over, dy + over, drop], [dx + over, -dy - over, drop]]
    eaves_back = [[-dx - over, dy + over, drop], [-dx - over, -dy - over, drop]]
    ridge = [[0.0, dy + over, height + rise], [0.0, -dy - over, height + rise]]
    for eaves in (eaves_front, eaves_back):
        quad = frame.to_world(np.array([eaves[0], eaves[1], ridge[1], ridge[0]]))
        builder.fan(quad, rgb=tiles, tag=Tag.BUILDINGS, material=ROOF)
    for y in (dy, -dy):
        gable = frame.to_world(np.array([[dx, y, height], [-dx, y, height], [0, y, height + rise]]))
        builder.fan(gable, rgb=wall, tag=Tag.BUILDINGS)
    if rng.random() < 0.6:
        x, y = 0.35 * dx, rng.uniform(-0.7, 0.7) * dy
        center = frame.to_world(np.array([[x, y, height + 0.65 * rise + 0.5]]))[0]
        builder.box(
            (float(center[0]), float(center[1]), float(center[2])), (0.3, 0.4, 0.9),
            rgb=(120, 70, 58), tag=Tag.BUILDINGS, yaw=frame.yaw,
        )  # fmt: skip
    return rise


def _varied(rgb: Rgb, rng: np.random.Generator) -> Rgb:
    shift = rng.integers(-14, 15)
    r, g, b = (int(np.clip(c + shift + rng.integers(-5, 6), 8, 245)) for c in rgb)
    return (r, g, b)
