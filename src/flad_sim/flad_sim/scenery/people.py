# SPDX-License-Identifier: Apache-2.0
"""Pedestrians in a few poses of a stride, and riders with their bicycles and motorcycles."""

from __future__ import annotations

import math

import numpy as np

from flad_sim.catalogue import VehicleSpec, WalkerSpec
from flad_sim.scenery.materials import BODY, BRAKE_LAMP, HEAD_LAMP, METAL
from flad_sim.scenery.mesh import Mesh, MeshBuilder, Rgb
from flad_sim.types import Tag, Vec3

NUM_POSES = 5  # 0 stands, 1 to 4 walk
STRIDE_M = 1.3  # metres of a full stride

_SKIN: tuple[Rgb, ...] = ((224, 184, 154), (198, 152, 118), (140, 98, 70), (96, 66, 48))
_TOPS: tuple[Rgb, ...] = (
    (176, 40, 44), (38, 72, 140), (226, 222, 214), (52, 56, 60), (222, 176, 50), (52, 122, 74),
    (126, 70, 130), (214, 112, 52), (90, 140, 180), (150, 128, 104),
)  # fmt: skip
_TROUSERS: tuple[Rgb, ...] = (
    (40, 48, 74),
    (54, 54, 56),
    (118, 100, 78),
    (34, 34, 36),
    (88, 96, 110),
)
_HAIR: tuple[Rgb, ...] = ((36, 26, 20), (84, 58, 36), (170, 134, 80), (150, 148, 146))
_SHOES: Rgb = (34, 30, 28)


def walker_mesh(spec: WalkerSpec, pose: int) -> Mesh:
    """A pedestrian about its middle, looking along x; everything stays in its box."""
    number = int(spec.blueprint.rsplit(".", 1)[-1])
    rng = np.random.default_rng(number)
    skin, top = _SKIN[rng.integers(4)], _TOPS[number % len(_TOPS)]
    trousers, hair = _TROUSERS[rng.integers(len(_TROUSERS))], _HAIR[rng.integers(4)]
    if spec.age == "elderly":
        hair = _HAIR[3]
    ex, ey, ez = spec.extent
    h, low = 2.0 * ez, -ez
    b, tag = MeshBuilder(), spec.tag
    swing = 0.0 if pose == 0 else math.sin(2.0 * math.pi * (pose - 1) / 4.0 + 0.6)
    hip, knee, ankle = low + 0.49 * h, low + 0.27 * h, low + 0.04 * h
    reach = 0.62 * ex
    for side, turn in ((-1.0, swing), (1.0, -swing)):
        y = side * 0.42 * ey
        foot = reach * turn
        bend = (0.4 * foot + 0.25 * ex * abs(turn), y, knee)
        lift = ankle + (0.03 * h if turn > 0.3 else 0.0)
        b.tube((0.0, y, hip), bend, 0.05 * h, end_radius=0.036 * h, rgb=trousers, tag=tag, sides=7)
        b.tube(
            bend, (foot, y, lift), 0.036 * h, end_radius=0.026 * h, rgb=trousers, tag=tag, sides=7
        )
        b.box(
            (foot + 0.2 * ex, y, lift - 0.018 * h),
            (0.48 * ex, 0.024 * h, 0.02 * h),
            rgb=_SHOES,
            tag=tag,
        )
        shoulder = (0.0, side * 0.86 * ey, low + 0.80 * h)
        elbow = (-0.35 * reach * turn, side * 0.90 * ey, low + 0.63 * h)
        hand = (-0.8 * reach * turn + 0.1 * ex, side * 0.88 * ey, low + 0.49 * h)
        b.tube(shoulder, elbow, 0.026 * h, rgb=top, tag=tag, sides=6)
        b.tube(elbow, hand, 0.023 * h, end_radius=0.017 * h, rgb=top, tag=tag, sides=6)
        b.box(hand, (0.016 * h, 0.012 * h, 0.024 * h), rgb=skin, tag=tag)
    _torso(b, (0.0, 0.0, low), h, 0.52 * ex, 0.80 * ey, top, tag)
    _head(b, (0.0, 0.0, low + 0.925 * h), 0.066 * h, skin, hair, tag, rng)
    if spec.gender == "female" and number % 3:
        b.blob(
            (-0.035 * h, 0.0, low + 0.90 * h),
            (0.05 * h, 0.06 * h, 0.075 * h),
            rng,
            rgb=hair,
            tag=tag,
        )
    if number % 4 == 1:
        b.box(
            (-0.62 * ex, 0.0, low + 0.68 * h),
            (0.30 * ex, 0.5 * ey, 0.10 * h),
            rgb=(60, 66, 72),
            tag=tag,
        )
    return b.build()


def two_wheeler_mesh(spec: VehicleSpec) -> Mesh:
    """A bicycle or motorcycle and its rider, inside the box."""
    b, tag = MeshBuilder(), spec.tag
    cx, _, _ = spec.box.center
    ex, ey, ez = spec.extent
    h, motor = 2.0 * ez, spec.base_type == "motorcycle"
    r = 0.31 if motor else min(0.34, 0.42 * ex)
    front, rear = cx + ex - r - 0.02, cx - ex + r + 0.02
    width = 0.06 if motor else 0.02
    for x in (front, rear):
        b.tube((x, -width, r), (x, width, r), r, rgb=(24, 24, 26), tag=tag, sides=16)
        for y in (-width - 0.003, width + 0.003):
            sign = math.copysign(1.0, y)
            b.disc(
                (x, y, r), (0.0, sign, 0.0), 0.8 * r, rgb=(150, 152, 156), tag=tag, material=METAL
            )
    seat: Vec3 = (rear + 0.36 * (front - rear), 0.0, (0.50 if motor else 0.54) * h)
    bars: Vec3 = (front - 0.10, 0.0, 0.60 * h)
    pedals: Vec3 = (rear + 0.48 * (front - rear), 0.0, 0.9 * r)
    frame = 0.028 if not motor else 0.05
    for a, c in (
        (seat, pedals), (pedals, (rear, 0.0, r)), (seat, (rear, 0.0, r)), (bars, (front, 0.0, r)),
        ((seat[0], 0.0, seat[2] - 0.1), (bars[0], 0.0, bars[2] - 0.12)),
        (pedals, (bars[0], 0.0, bars[2] - 0.14)),
    ):  # fmt: skip
        b.tube(a, c, frame, rgb=(120, 120, 120), tag=tag, sides=6, material=BODY)
    if motor:
        middle = 0.5 * (front + rear)
        b.blob(
            (middle + 0.12, 0.0, 0.46 * h),
            (0.34, 0.15, 0.14),
            np.random.default_rng(0),
            rgb=(120, 120, 120),
            tag=tag,
            material=BODY,
        )
        b.box(
            (middle, 0.0, 0.26 * h), (0.24, 0.13, 0.16), rgb=(60, 62, 64), tag=tag, material=METAL
        )
        b.box((seat[0] - 0.12, 0.0, seat[2] - 0.04), (0.30, 0.13, 0.04), rgb=(28, 28, 30), tag=tag)
    else:
        b.box(seat, (0.12, 0.06, 0.025), rgb=(30, 30, 32), tag=tag)
    grip = 0.82 * ey
    b.tube(
        (bars[0], -grip, bars[2]),
        (bars[0], grip, bars[2]),
        0.018,
        rgb=(40, 40, 42),
        tag=tag,
        sides=6,
    )
    b.disc(
        (bars[0] + 0.07, 0.0, bars[2] - 0.1),
        (1.0, 0.0, 0.0),
        0.08 if motor else 0.035,
        rgb=(235, 235, 230),
        tag=tag,
        material=HEAD_LAMP,
    )
    b.disc(
        (rear - r + 0.03, 0.0, 1.75 * r),
        (-1.0, 0.0, 0.0),
        0.06 if motor else 0.035,
        rgb=(150, 10, 10),
        tag=tag,
        material=BRAKE_LAMP,
    )
    _rider(b, spec, seat, bars, pedals, h, grip)
    return b.build()


def _rider(
    b: MeshBuilder, spec: VehicleSpec, seat: Vec3, bars: Vec3, pedals: Vec3, h: float, grip: float
) -> None:
    tag = Tag.RIDER
    rng = np.random.default_rng(len(spec.blueprint))
    skin, top = _SKIN[rng.integers(4)], _TOPS[rng.integers(len(_TOPS))]
    trousers = _TROUSERS[rng.integers(len(_TROUSERS))]
    lean = 0.16
    shoulder = (seat[0] + lean, 0.0, 0.82 * h)
    b.tube((seat[0], 0.0, seat[2]), shoulder, 0.13, end_radius=0.15, rgb=top, tag=tag, sides=8)
    for side in (-1.0, 1.0):
        y = side * 0.13
        high = 0.10 if side < 0 else -0.02
        knee = (seat[0] + 0.36, 1.1 * y, 0.5 * (seat[2] + pedals[2]) + high + 0.08)
        foot = (pedals[0] + 0.05, y, pedals[2] + high - 0.02)
        b.tube(
            (seat[0], 0.6 * y, seat[2]),
            knee,
            0.075,
            end_radius=0.055,
            rgb=trousers,
            tag=tag,
            sides=7,
        )
        b.tube(knee, foot, 0.055, end_radius=0.04, rgb=trousers, tag=tag, sides=7)
        b.box((foot[0] + 0.04, foot[1], foot[2] - 0.02), (0.11, 0.04, 0.03), rgb=_SHOES, tag=tag)
        hand = (bars[0], side * 0.9 * grip, bars[2] + 0.01)
        b.tube(
            (shoulder[0], side * 0.16, shoulder[2] - 0.02),
            hand,
            0.045,
            end_radius=0.03,
            rgb=top,
            tag=tag,
            sides=6,
        )
    head = (shoulder[0] + 0.05, 0.0, h - 0.125)
    _head(
        b,
        head,
        0.105,
        skin,
        (30, 30, 32) if spec.base_type == "motorcycle" else (190, 40, 40),
        tag,
        rng,
    )


def _torso(b: MeshBuilder, foot: Vec3, h: float, ex: float, ey: float, rgb: Rgb, tag: Tag) -> None:
    rings = []
    for z, x, y in (
        (0.46, 0.9, 0.78),
        (0.58, 0.85, 0.74),
        (0.74, 1.0, 0.95),
        (0.82, 0.85, 1.0),
        (0.855, 0.4, 0.4),
    ):
        angle = np.arange(10) * 2.0 * math.pi / 10
        rings.append(
            np.column_stack(
                [
                    foot[0] + x * ex * np.cos(angle),
                    foot[1] + y * ey * np.sin(angle),
                    np.full(10, foot[2] + z * h),
                ]
            )
        )
    b.loft(np.array(rings), rgb=rgb, tag=tag)


def _head(
    b: MeshBuilder, center: Vec3, radius: float, skin: Rgb, hair: Rgb, tag: Tag,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    x, y, z = center
    b.tube(
        (x, y, z - 1.7 * radius),
        (x, y, z - 0.5 * radius),
        0.45 * radius,
        rgb=skin,
        tag=tag,
        sides=6,
    )
    b.blob((x, y, z), (0.95 * radius, 0.82 * radius, 1.1 * radius), rng, rgb=skin, tag=tag)
    b.blob(
        (x - 0.18 * radius, y, z + 0.26 * radius),
        (0.95 * radius, 0.9 * radius, 0.88 * radius),
        rng,
        rgb=hair,
        tag=tag,
    )
