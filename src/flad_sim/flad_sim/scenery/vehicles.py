# SPDX-License-Identifier: Apache-2.0
"""Low-poly cars, vans, trucks and buses that fill their box: body, glass, wheels, lamps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flad_sim.catalogue import VehicleSpec
from flad_sim.scenery.materials import (
    BLINKER_LEFT,
    BLINKER_RIGHT,
    BODY,
    BRAKE_LAMP,
    GLASS,
    HEAD_LAMP,
    METAL,
    PLAIN,
    REVERSE_LAMP,
)
from flad_sim.scenery.mesh import Mesh, MeshBuilder, Rgb
from flad_sim.types import FloatArray

_LENS_M = 0.012
_BLACK: Rgb = (20, 20, 22)
_TYRE: Rgb = (26, 26, 28)
_RIM: Rgb = (168, 170, 174)
_DARK_GLASS: Rgb = (26, 32, 38)
_WHITE: Rgb = (228, 228, 226)


@dataclass(frozen=True, slots=True)
class _Profile:
    """A side view, as shares of length from the front and of height: belt line and cabin."""

    belt: tuple[tuple[float, float, float], ...]  # (x, top z, half width)
    windscreen: tuple[float, float]  # x at the belt, x at the roof
    rear: tuple[float, float]  # x at the roof, x at the belt
    belt_z: float
    cabin_width: float = 0.74  # of the roof


_SEDAN = _Profile(
    belt=(
        (0.0, 0.40, 0.78), (0.025, 0.47, 0.90), (0.10, 0.535, 0.98), (0.28, 0.60, 1.0),
        (0.55, 0.625, 1.0), (0.83, 0.655, 1.0), (0.95, 0.64, 0.94), (1.0, 0.56, 0.82),
    ),
    windscreen=(0.27, 0.41), rear=(0.68, 0.86), belt_z=0.61,
)  # fmt: skip
_HATCH = _Profile(
    belt=(
        (0.0, 0.38, 0.78), (0.03, 0.46, 0.92), (0.12, 0.53, 0.99), (0.24, 0.58, 1.0),
        (0.60, 0.61, 1.0), (0.93, 0.63, 0.97), (1.0, 0.58, 0.86),
    ),
    windscreen=(0.22, 0.38), rear=(0.84, 0.965), belt_z=0.59, cabin_width=0.77,
)  # fmt: skip
_SUV = _Profile(
    belt=(
        (0.0, 0.42, 0.84), (0.025, 0.52, 0.94), (0.10, 0.58, 1.0), (0.25, 0.61, 1.0),
        (0.60, 0.625, 1.0), (0.95, 0.635, 0.98), (1.0, 0.58, 0.90),
    ),
    windscreen=(0.24, 0.36), rear=(0.88, 0.97), belt_z=0.61, cabin_width=0.80,
)  # fmt: skip
_VAN = _Profile(
    belt=(
        (0.0, 0.32, 0.86), (0.02, 0.40, 0.95), (0.10, 0.46, 1.0), (0.16, 0.50, 1.0),
        (0.60, 0.52, 1.0), (1.0, 0.52, 0.98),
    ),
    windscreen=(0.12, 0.26), rear=(0.98, 0.995), belt_z=0.50, cabin_width=0.90,
)  # fmt: skip
_FLAT_FRONT = _Profile(
    belt=((0.0, 0.40, 0.92), (0.02, 0.44, 1.0), (0.60, 0.45, 1.0), (1.0, 0.45, 0.99)),
    windscreen=(0.012, 0.05), rear=(0.985, 0.995), belt_z=0.44, cabin_width=0.93,
)  # fmt: skip
_WEDGE = _Profile(
    belt=((0.0, 0.42, 0.88), (0.04, 0.50, 1.0), (0.25, 0.58, 1.0), (1.0, 0.62, 0.98)),
    windscreen=(0.18, 0.48), rear=(0.50, 0.98), belt_z=0.60, cabin_width=0.70,
)  # fmt: skip


def vehicle_mesh(spec: VehicleSpec) -> Mesh:
    """The shape of a vehicle with four or more wheels, in its own frame."""
    return _Vehicle(spec).build()


class _Vehicle:
    def __init__(self, spec: VehicleSpec) -> None:
        self._spec = spec
        self._b = MeshBuilder()
        cx, _, _ = spec.box.center
        ex, ey, ez = spec.extent
        self._front, self._length = cx + ex, 2.0 * ex
        self._half = ey * (0.94 if spec.base_type in ("car", "van") else 0.97)
        self._full_half, self._height = ey, 2.0 * ez
        self._tag = spec.tag
        self._radius = min(spec.drivetrain.wheel_radius_m, 0.26 * self._height)

    def build(self) -> Mesh:
        spec = self._spec
        if spec.base_type == "truck" and "cybertruck" not in spec.blueprint:
            self._truck()
        elif spec.base_type == "bus":
            self._shell(_FLAT_FRONT, windows=6, ground=0.10)
        elif spec.base_type == "van":
            flat = "volkswagen" in spec.blueprint
            closed = not flat
            self._shell(_FLAT_FRONT if flat else _VAN, windows=3, ground=0.10, closed=closed)
        else:
            self._shell(self._car_profile(), windows=2, ground=0.13)
        self._wheels()
        self._lamps()
        self._extras()
        return self._b.build()

    def _car_profile(self) -> _Profile:
        if "cybertruck" in self._spec.blueprint:
            return _WEDGE
        if self._height > 1.62:
            return _SUV
        return _HATCH if self._length < 4.35 else _SEDAN

    def _x(self, share: float) -> float:
        """Where the body is at a share of its length; lamps stand out of it a little."""
        return self._front - _LENS_M - share * (self._length - 2.0 * _LENS_M)

    def _shell(
        self, profile: _Profile, *, windows: int, ground: float, closed: bool = False
    ) -> None:
        h, half = self._height, self._half
        rings = []
        for x, top, width in profile.belt:
            w = width * half
            z0 = ground * h + (0.05 * h if x in (0.0, 1.0) else 0.0)
            zb = z0 + 0.62 * (top * h - z0)
            rings.append(
                [
                    (self._x(x), y, z)
                    for y, z in (
                        (-0.94 * w, z0), (-w, z0 + 0.06 * h), (-w, zb), (-0.90 * w, top * h),
                        (0.90 * w, top * h), (w, zb), (w, z0 + 0.06 * h), (0.94 * w, z0),
                    )
                ]
            )  # fmt: skip
        self._b.loft(np.array(rings), rgb=(120, 120, 120), tag=self._tag, material=BODY)
        self._cabin(profile, windows, closed)

    def _cabin(self, profile: _Profile, windows: int, closed: bool) -> None:
        h = self._height
        wb, wr = 0.905 * self._half, profile.cabin_width * self._half
        zb, zr = (profile.belt_z - 0.02) * h, 0.975 * h
        xa, xb = self._x(profile.windscreen[0]), self._x(profile.windscreen[1])
        xc, xd = self._x(profile.rear[0]), self._x(profile.rear[1])
        base = np.array([[xa, -wb, zb], [xa, wb, zb], [xd, wb, zb], [xd, -wb, zb]])
        roof = np.array([[xb, -wr, zr], [xb, wr, zr], [xc, wr, zr], [xc, -wr, zr]])
        # The crown of the roof reaches the top of the box.
        crown = np.array([[xb - 0.12, -0.8 * wr, h], [xb - 0.12, 0.8 * wr, h],
                          [xc + 0.10, 0.8 * wr, h], [xc + 0.10, -0.8 * wr, h]])  # fmt: skip
        for k in range(4):
            n = (k + 1) % 4
            self._paint([base[k], base[n], roof[n], roof[k]], BODY)
            self._paint([roof[k], roof[n], crown[n], crown[k]], BODY)
        self._paint(list(crown), BODY)
        front = [base[0], base[1], roof[1], roof[0]]
        back = [base[2], base[3], roof[3], roof[2]]
        self._glass(front, 0.05, 0.95, 0.10, 0.95)
        if not closed:
            self._glass(back, 0.06, 0.94, 0.18, 0.92)
        for side in ([base[1], base[2], roof[2], roof[1]], [base[3], base[0], roof[0], roof[3]]):
            last = 1 if closed else windows
            for i in range(last):
                a, b = i / windows, (i + 1) / windows
                if side[0][1] < 0:  # the left side runs from the rear to the front
                    a, b = 1.0 - b, 1.0 - a
                self._glass(side, a + 0.03, b - 0.02, 0.14, 0.90)

    def _paint(self, corners: list[FloatArray], material: int, rgb: Rgb = (120, 120, 120)) -> None:
        self._b.fan(np.array(corners), rgb=rgb, tag=self._tag, material=material)

    def _glass(self, quad: list[FloatArray], u0: float, u1: float, v0: float, v1: float) -> None:
        """A pane on part of a quad (bottom edge first), a little in front of it."""
        p = np.array(quad)
        normal = np.cross(p[1] - p[0], p[3] - p[0])
        middle = p.mean(axis=0) - [self._x(0.5), 0.0, 0.0]
        normal *= np.sign(normal @ (middle - [0, 0, 0.3 * self._height])) or 1.0
        lift = 0.004 * normal / np.linalg.norm(normal)

        def at(u: float, v: float) -> FloatArray:
            low, high = p[0] + u * (p[1] - p[0]), p[3] + u * (p[2] - p[3])
            point: FloatArray = low + v * (high - low) + lift
            return point

        self._paint([at(u0, v0), at(u1, v0), at(u1, v1), at(u0, v1)], GLASS, _DARK_GLASS)

    def _truck(self) -> None:
        """A cab and a body behind it."""
        h, half, tag, b = self._height, self._half, self._tag, self._b
        long = self._length > 6.5
        cab = 0.30 if long else 0.36
        cab_h = 0.86 * h if long else 0.84 * h
        mid, back = self._x(cab), self._x(1.0)
        b.box(
            (0.5 * (self._x(0.0) + mid), 0.0, 0.5 * (cab_h + 0.13 * h)),
            (0.5 * (self._x(0.0) - mid), 0.94 * half, 0.5 * (cab_h - 0.13 * h)),
            rgb=(120, 120, 120), tag=tag, material=BODY,
        )  # fmt: skip
        b.box(
            (0.5 * (mid + back) - 0.04, 0.0, 0.5 * (h + 0.26 * h)),
            (0.5 * (mid - back) - 0.05, half, 0.37 * h),
            rgb=_WHITE if not self._is("firetruck") else (170, 20, 18),
            tag=tag, material=BODY if self._is("firetruck") else PLAIN,
        )  # fmt: skip
        b.box(
            (self._x(0.5), 0.0, 0.2 * h),
            (0.5 * (self._x(0.0) - back) - 0.002, 0.42 * half, 0.05 * h),
            rgb=_BLACK, tag=tag,
        )  # fmt: skip
        z0, z1, w = 0.50 * cab_h, 0.90 * cab_h, 0.86 * half
        x = self._front - 0.002
        pane = np.array([[x, -w, z0], [x, w, z0], [x, w, z1], [x, -w, z1]])
        self._paint(list(pane), GLASS, _DARK_GLASS)
        for y in (-0.945 * half, 0.945 * half):
            xs = (self._front - 0.15, mid + 0.35)
            side = [(xs[0], y, z0), (xs[1], y, z0), (xs[1], y, z1), (xs[0], y, z1)]
            self._paint([np.array(c) for c in side], GLASS, _DARK_GLASS)

    def _wheels(self) -> None:
        spec, r = self._spec, self._radius
        width = 0.2 if self._half < 1.1 else 0.28
        outer = self._half + 0.012
        front = spec.wheelbase_m * 0.5 if spec.base_type != "bus" else 0.32 * self._length
        middle = 0.0 if spec.base_type in ("car", "van") else -0.04 * self._length
        axles = [middle + front, middle - front]
        if spec.base_type == "truck":
            axles = [self._front - 1.25, max(self._front - 1.25 - spec.wheelbase_m, self._x(0.86))]
            if self._length > 7.0:
                axles.append(axles[1] - 2.3 * r)
        for x in axles:
            for sign in (-1.0, 1.0):
                y = sign * outer
                arch_y = sign * (self._half + 0.004)
                if spec.base_type != "truck":
                    self._b.disc(
                        (x, arch_y, 1.02 * r), (0.0, sign, 0.0), 1.16 * r, rgb=_BLACK,
                        tag=self._tag, sides=14,
                    )  # fmt: skip
                self._b.tube(
                    (x, y - sign * width, r), (x, y, r), r, rgb=_TYRE, tag=self._tag, sides=14
                )
                self._b.disc(
                    (x, y + sign * 0.004, r), (0.0, sign, 0.0), 0.62 * r, rgb=_RIM,
                    tag=self._tag, sides=10, material=METAL,
                )  # fmt: skip

    def _lamps(self) -> None:
        h, half = self._height, self._half
        big = self._spec.base_type in ("truck", "bus", "van")
        front_z = (0.20 if big else 0.43) * h
        rear_z = (0.24 if big else 0.50) * h
        tall = min(0.055 * h, 0.09)
        for sign, blinker in ((-1.0, BLINKER_LEFT), (1.0, BLINKER_RIGHT)):
            self._lens(
                0.0, sign * 0.60 * half, front_z, 0.17 * half, tall, HEAD_LAMP, (235, 238, 240)
            )
            self._lens(
                0.0, sign * 0.80 * half, front_z, 0.035 * half, tall, blinker, (210, 120, 30)
            )
            self._lens(
                1.0, sign * 0.62 * half, rear_z, 0.16 * half, tall, BRAKE_LAMP, (140, 10, 10)
            )
            self._lens(1.0, sign * 0.80 * half, rear_z, 0.035 * half, tall, blinker, (190, 100, 25))
            self._lens(
                1.0, sign * 0.40 * half, rear_z, 0.05 * half, tall, REVERSE_LAMP, (215, 215, 215)
            )
        third = 0.93 * h if not big else 0.95 * h
        if self._spec.base_type == "car":
            profile = self._car_profile()
            x = self._x(profile.rear[0]) - 0.03
            self._b.box(
                (x, 0.0, third),
                (0.02, 0.18, 0.015),
                rgb=(140, 10, 10),
                tag=self._tag,
                material=BRAKE_LAMP,
            )
        grille = (0.28 if not big else 0.13) * h
        self._lens(0.0, 0.0, grille, 0.55 * half, 0.06 * h, PLAIN, _BLACK)
        for end, z in ((0.0, grille - 0.02), (1.0, 0.34 * h if not big else 0.16 * h)):
            self._lens(end, 0.0, z, 0.26, 0.055, PLAIN, _WHITE, out=0.012)

    def _lens(
        self, end: float, y: float, z: float, half_w: float, half_h: float, material: int, rgb: Rgb,
        out: float = 0.006,
    ) -> None:  # fmt: skip
        """A flat lamp at the front (``end`` 0) or the rear (1), within the box."""
        x = self._x(0.0) + out if end == 0.0 else self._x(1.0) - out
        ring = np.array(
            [[x, y - half_w, z - half_h], [x, y + half_w, z - half_h],
             [x, y + half_w, z + half_h], [x, y - half_w, z + half_h]]
        )  # fmt: skip
        self._b.fan(ring, rgb=rgb, tag=self._tag, material=material)
        depth = 0.10 * (1.0 if end == 0.0 else -1.0)  # and round the corner, seen from the side
        corner = ring - [depth, 0.0, 0.0]
        edge = 1 if y > 0 else 0
        sign = 1.0 if y > 0 else -1.0
        if abs(y) + half_w > 0.75 * self._half:
            outer = np.array([ring[edge], ring[(3, 2)[edge]], corner[(3, 2)[edge]], corner[edge]])
            outer[2:, 1] = sign * (self._half + 0.003)
            self._b.fan(outer, rgb=rgb, tag=self._tag, material=material)

    def _extras(self) -> None:
        h = self._height
        if self._spec.base_type in ("car", "van"):
            x, z = self._x(0.29), 0.66 * h
            for sign in (-1.0, 1.0):
                reach = self._full_half - 0.09
                self._b.box(
                    (x, sign * max(reach, 0.9 * self._half), z), (0.05, 0.085, 0.06),
                    rgb=(60, 60, 60), tag=self._tag, material=BODY,
                )  # fmt: skip
        if self._is("police") or self._is("ambulance") or self._is("firetruck"):
            x = self._x(0.50 if self._spec.base_type == "car" else 0.16)
            top = 0.965 * h
            for sign, rgb in ((-1.0, (20, 40, 220)), (1.0, (210, 20, 20))):
                self._b.box((x, sign * 0.3, top), (0.1, 0.28, 0.03 * h), rgb=rgb, tag=self._tag)
        if self._is("ford.crown"):
            self._b.box(
                (self._x(0.5), 0.0, 0.975 * h),
                (0.1, 0.3, 0.02 * h),
                rgb=(240, 200, 40),
                tag=self._tag,
            )

    def _is(self, word: str) -> bool:
        return word in self._spec.blueprint
