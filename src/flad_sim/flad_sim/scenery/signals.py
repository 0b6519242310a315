# SPDX-License-Identifier: Apache-2.0
"""Traffic lights and signs of real size, on poles that never stand on a lane.

A head hangs where the map says. Where that is too near the stop line for the first car to see
(less than 8 m beyond it), a second head repeats it across the junction, as at American junctions
and with the high repeaters of European ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from flad_sim.scenery.ground import Ground
from flad_sim.scenery.markings import LIGHT, STOP, YIELD
from flad_sim.scenery.materials import METAL, SIGN, SIGNAL_LAMP
from flad_sim.scenery.mesh import MeshBuilder, Rgb
from flad_sim.scenery.network import Network
from flad_sim.types import FloatArray, Signal, StaticBox, Tag, Transform, Vec3

SPEED = "274"
LAMP_RADIUS_M = 0.15  # EN 12368's 300 mm roundel
_LAMP_PITCH_M = 0.34
_LAMPS: tuple[Rgb, ...] = ((255, 16, 8), (255, 170, 0), (10, 255, 90))
_VISIBLE_FROM_M = 8.0  # beyond the stop line, where the first car's camera still sees a head
_FAR_UNTIL_M = 42.0
_POLE_RADIUS_M = 0.07
_POLE_CLEARANCE_M = 0.45
_STEEL: Rgb = (96, 100, 102)
_BLACK: Rgb = (22, 23, 24)


@dataclass(slots=True)
class SignalWorks:
    """What :func:`add_signals` found out on the way."""

    names: list[str] = field(default_factory=list)
    lamps: list[tuple[float, ...]] = field(default_factory=list)  # x, y, z, direction, row
    boxes: list[StaticBox] = field(default_factory=list)
    sight_lines: list[tuple[float, float, float, float]] = field(default_factory=list)


def add_signals(builder: MeshBuilder, network: Network, ground: Ground) -> SignalWorks:
    """Add all signals of ``network``."""
    works = SignalWorks()
    for signal in network.signals:
        if signal.kind == LIGHT:
            _add_light(builder, signal, ground, works)
        elif signal.kind in (STOP, YIELD, SPEED):
            _add_sign(builder, signal, ground, works)
    return works


def _add_light(builder: MeshBuilder, signal: Signal, ground: Ground, works: SignalWorks) -> None:
    row = 3 * len(works.names)
    works.names.append(signal.signal_id)
    foot = free_foot(ground, signal.transform)
    places = [foot]
    if signal.stop_points:
        stop = signal.stop_points[0]
        ahead = float(stop.to_local(np.array([foot.location]))[0, 0])
        if ahead < _VISIBLE_FROM_M and (far := _far_side(ground, stop)) is not None:
            places.append(far)
    for place in places:
        _add_pole(builder, place, signal.height + 0.7, works)
        _add_head(builder, place, signal.height, row, works)
        for stop in signal.stop_points:
            back = stop.to_world(np.array([[-45.0, 0.0, 0.0]]))[0]
            works.sight_lines.append((float(back[0]), float(back[1]), place.x, place.y))


def free_foot(ground: Ground, wanted: Transform) -> Transform:
    """The place nearest to ``wanted`` where a pole does not stand on a lane."""
    here = np.array([[wanted.x, wanted.y]])
    if ground.road_gap(here)[0] >= _POLE_CLEARANCE_M:
        return wanted
    radius, angle = np.meshgrid(np.arange(0.5, 15.0, 0.5), np.arange(0.0, 2 * math.pi, 0.2))
    ring = here + np.column_stack(
        [(radius * np.cos(angle)).ravel(), (radius * np.sin(angle)).ravel()]
    )
    free = ring[ground.road_gap(ring) >= _POLE_CLEARANCE_M + 0.3]
    if len(free) == 0:
        return wanted
    best = free[np.argmin(np.linalg.norm(free - here, axis=1))]
    return wanted.moved(x=float(best[0]), y=float(best[1]))


def _far_side(ground: Ground, stop: Transform) -> Transform | None:
    """A pole's place across the junction, best a little right of the lane's line."""
    ahead, side = np.meshgrid(np.arange(10.0, _FAR_UNTIL_M, 0.5), np.arange(-7.0, 9.1, 0.5))
    local = np.column_stack([ahead.ravel(), side.ravel(), np.zeros(ahead.size)])
    world = stop.to_world(local)[:, :2]
    free = (ground.road_gap(world) >= 0.6) & (ground.paved_gap(world) < 4.0)
    if not free.any():
        return None
    cost = local[:, 0] + 1.5 * np.abs(local[:, 1] - 3.0) + np.where(free, 0.0, 1e6)
    x, y = (float(v) for v in world[np.argmin(cost)])
    return Transform(x, y, stop.z, yaw=stop.yaw + 180.0)


def _add_pole(builder: MeshBuilder, foot: Transform, height: float, works: SignalWorks) -> None:
    x, y, z = foot.location
    builder.tube(
        (x, y, z - 0.2), (x, y, z + height), _POLE_RADIUS_M, rgb=_STEEL, tag=Tag.POLES,
        material=METAL,
    )  # fmt: skip
    extent = (_POLE_RADIUS_M, _POLE_RADIUS_M, 0.5 * height)
    center = (x, y, z + 0.5 * height)
    works.boxes.append(StaticBox(center, extent, 0.0, Tag.POLES, "static.pole"))


def _add_head(
    builder: MeshBuilder, foot: Transform, height: float, row: int, works: SignalWorks
) -> None:
    head = foot.compose(Transform(x=_POLE_RADIUS_M + 0.16, z=height))
    yaw = head.yaw

    def place(x: float, y: float, z: float) -> Vec3:
        px, py, pz = head.to_world(np.array([[x, y, z]]))[0]
        return (float(px), float(py), float(pz))

    tag = Tag.TRAFFIC_LIGHT
    builder.box(head.location, (0.13, 0.19, 0.55), rgb=_BLACK, tag=tag, yaw=yaw)
    builder.box(place(-0.02, 0, 0), (0.012, 0.31, 0.68), rgb=(235, 235, 230), tag=tag, yaw=yaw)
    builder.box(place(-0.04, 0, 0), (0.012, 0.31, 0.68), rgb=_BLACK, tag=tag, yaw=yaw)
    builder.box(place(0.0, 0, 0), (0.012, 0.28, 0.65), rgb=_BLACK, tag=tag, yaw=yaw)
    fx, fy, _ = head.forward()
    for k, rgb in enumerate(_LAMPS):
        z = (1 - k) * _LAMP_PITCH_M
        center = place(0.135, 0.0, z)
        builder.disc(
            center, (fx, fy, 0.0), LAMP_RADIUS_M, rgb=rgb, tag=tag, sides=14,
            material=SIGNAL_LAMP, aux=row + k,
        )  # fmt: skip
        builder.box(place(0.24, 0.0, z + 0.165), (0.10, 0.15, 0.006), rgb=_BLACK, tag=tag, yaw=yaw)
        works.lamps.append((*center, fx, fy, 0.0, row + k))
    extent = (0.15, 0.31, 0.68)
    works.boxes.append(StaticBox(head.location, extent, yaw, tag, "static.trafficlight"))


def _add_sign(builder: MeshBuilder, signal: Signal, ground: Ground, works: SignalWorks) -> None:
    foot = free_foot(ground, signal.transform)
    _add_pole(builder, foot, signal.height + 0.35, works)
    face = foot.compose(Transform(x=_POLE_RADIUS_M + 0.02, z=signal.height))
    plate = _Plate(builder, face)
    if signal.kind == STOP:
        plate.polygon(8, 0.44, (240, 240, 240), 0.000, math.pi / 8)
        plate.polygon(8, 0.40, (185, 15, 20), 0.004, math.pi / 8)
        plate.strokes("STOP", 0.13, (240, 240, 240), 0.008)
    elif signal.kind == YIELD:
        plate.polygon(3, 0.55, (190, 15, 20), 0.000, -math.pi / 2)
        plate.polygon(3, 0.36, (240, 240, 240), 0.004, -math.pi / 2)
    else:
        plate.polygon(20, 0.36, (195, 15, 20), 0.000, 0.0)
        plate.polygon(20, 0.28, (240, 240, 240), 0.004, 0.0)
        plate.strokes(f"{signal.value:.0f}", 0.17, (15, 15, 15), 0.008)
    back = face.compose(Transform(x=-0.012))
    fx, fy, _ = face.forward()
    builder.disc(
        back.location, (-fx, -fy, 0.0), 0.36, rgb=(120, 122, 124), tag=Tag.TRAFFIC_SIGNS,
        material=METAL,
    )  # fmt: skip


# Strokes of the letters signs need, in a cell of width 1 and height 2: (y0, z0, y1, z1).
_SEGMENTS = {
    "a": (0.0, 2.0, 1.0, 2.0),
    "b": (1.0, 1.0, 1.0, 2.0),
    "c": (1.0, 0.0, 1.0, 1.0),
    "d": (0.0, 0.0, 1.0, 0.0),
    "e": (0.0, 0.0, 0.0, 1.0),
    "f": (0.0, 1.0, 0.0, 2.0),
    "g": (0.0, 1.0, 1.0, 1.0),
    "t": (0.5, 0.0, 0.5, 2.0),
}
_GLYPHS = {
    "0": "abcdef", "1": "bc", "2": "abged", "3": "abgcd", "4": "fgbc", "5": "afgcd",
    "6": "afgedc", "7": "abc", "8": "abcdefg", "9": "abcdfg",
    "S": "afgcd", "T": "at", "O": "abcdef", "P": "abefg",
}  # fmt: skip


class _Plate:
    """Draws on the plane of a sign: y to the right of its reader is the face's -y."""

    def __init__(self, builder: MeshBuilder, face: Transform) -> None:
        self._builder = builder
        self._face = face

    def polygon(self, sides: int, radius: float, rgb: Rgb, out: float, phase_rad: float) -> None:
        angle = np.arange(sides) * 2.0 * math.pi / sides + phase_rad
        flat = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
        self._builder.fan(self._on_face(flat, out), rgb=rgb, tag=Tag.TRAFFIC_SIGNS, material=SIGN)

    def strokes(self, text: str, size: float, rgb: Rgb, out: float) -> None:
        pitch = 1.45 * size
        left = -0.5 * (pitch * (len(text) - 1) + size)
        half = 0.13 * size
        for i, letter in enumerate(text):
            for segment in _GLYPHS.get(letter, ""):
                y0, z0, y1, z1 = (size * v for v in _SEGMENTS[segment])
                ys, zs = sorted((y0, y1)), sorted((z0 - size, z1 - size))
                low = np.array([left + i * pitch + ys[0] - half, zs[0] - half])
                high = np.array([left + i * pitch + ys[1] + half, zs[1] + half])
                flat = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
                ring = self._on_face(flat, out)
                self._builder.fan(ring, rgb=rgb, tag=Tag.TRAFFIC_SIGNS, material=SIGN)

    def _on_face(self, flat: FloatArray, out: float) -> FloatArray:
        local = np.column_stack([np.full(len(flat), out), -flat[:, 0], flat[:, 1]])
        return self._face.to_world(local)
