# SPDX-License-Identifier: Apache-2.0
"""Pictures from above, drawn from the map and the actors: ``birdview`` and ``topdown``.

Both have the ego in the middle and its heading up. The lanes are drawn once per town; a frame is
a rotated cut of that picture with the actors on top.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from flad_carla.run_log import BodyView, BoxView, LaneShape, Point, PoseView, RoutePoint, TickEntry

_DRIVABLE = ("driving", "bidirectional", "parking", "biking")
_WALKABLE = ("sidewalk", "shoulder", "median", "border")
_MAX_SIDE_PX = 12_000

Color = int | tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Palette:
    """Colours (or class ids) of the things in a picture."""

    ground: Color
    road: Color
    pavement: Color
    line: Color
    vehicle: Color
    ego: Color
    pedestrian: Color
    lights: Sequence[Color]  # by state
    stop_sign: Color
    route: Color | None = None


# birdview: colours for people.
BIRDVIEW = Palette(
    ground=(0, 0, 0),
    road=(46, 52, 54),
    pavement=(85, 87, 83),
    line=(211, 215, 207),
    vehicle=(114, 159, 207),
    ego=(252, 175, 62),
    pedestrian=(252, 233, 79),
    lights=((204, 0, 0), (196, 160, 0), (78, 154, 6), (136, 138, 133), (136, 138, 133)),
    stop_sign=(173, 127, 168),
    route=(78, 74, 130),
)
# topdown: class ids of CARLA 0.9.10, which LMDrive used; lights 23 + state, stop signs 26.
TOPDOWN = Palette(
    ground=22,
    road=7,
    pavement=8,
    line=6,
    vehicle=10,
    ego=10,
    pedestrian=4,
    lights=(23, 24, 25, 26, 27),
    stop_sign=26,
)


class RasterView:
    """One kind of picture of one town."""

    def __init__(
        self,
        lanes: Iterable[LaneShape],
        palette: Palette,
        *,
        size_px: int,
        pixels_per_m: float,
        smooth: bool,
    ) -> None:
        self._palette, self._size = palette, size_px
        self._scale, self._smooth = pixels_per_m, smooth
        shapes = [(lane, np.array([*lane.left, *lane.right[::-1]])) for lane in lanes]
        self._draw_town([(lane, ring) for lane, ring in shapes if len(ring) > 2])

    def draw(self, entry: TickEntry, route: Sequence[RoutePoint]) -> NDArray[np.uint8]:
        """The picture of a tick: ``[S, S, 3]`` with colours, ``[S, S]`` with class ids."""
        picture = self._cut(entry.ego.pose)
        pen, palette = ImageDraw.Draw(picture), self._palette
        to_picture = self._to_picture(entry.ego.pose)
        if palette.route is not None and route:
            ahead = route[entry.route_index : entry.route_index + 80]
            pen.line(to_picture([(p.x, p.y) for p in ahead]), fill=palette.route, width=5)
        for sign in entry.stop_signs:
            self._box(pen, to_picture, sign.trigger, palette.stop_sign)
        for light in entry.lights:
            self._box(pen, to_picture, light.trigger, palette.lights[min(light.state, 4)])
        for body in entry.actors:
            walker = body.type_id.startswith("walker")
            color = palette.pedestrian if walker else palette.vehicle
            pen.polygon(to_picture(_corners(body, at_least_m=0.4)), fill=color)
        pen.polygon(to_picture(_corners(entry.ego)), fill=palette.ego)
        return np.asarray(picture)

    def _draw_town(self, shapes: Sequence[tuple[LaneShape, NDArray[np.float64]]]) -> None:
        points = np.concatenate([ring for _, ring in shapes] or [np.zeros((1, 2))])
        margin = self._size / self._scale
        self._origin = points.min(axis=0) - margin
        sides = points.max(axis=0) + margin - self._origin
        # A town too large for one picture is drawn coarser, and enlarged by the cut.
        self._town_scale = min(self._scale, _MAX_SIDE_PX / float(sides.max()))
        width, height = (math.ceil(side * self._town_scale) for side in sides)
        colored = isinstance(self._palette.ground, tuple)
        self._town = Image.new("RGB" if colored else "L", (width, height), self._palette.ground)
        pen = ImageDraw.Draw(self._town)
        for kinds, color in ((_WALKABLE, self._palette.pavement), (_DRIVABLE, self._palette.road)):
            for lane, ring in shapes:
                if lane.kind in kinds:
                    pen.polygon(self._town_points(ring), fill=color, outline=color)
        for lane, _ in shapes:
            if lane.kind in _DRIVABLE and not lane.is_junction:
                for edge in (lane.left, lane.right):
                    pen.line(self._town_points(np.array(edge)), fill=self._palette.line)

    def _town_points(self, points: NDArray[np.float64]) -> list[Point]:
        return [(float(x), float(y)) for x, y in (points - self._origin) * self._town_scale]

    def _cut(self, pose: PoseView) -> Image.Image:
        """Output pixels to town pixels: forward is up, right is right."""
        c, s = math.cos(math.radians(pose.yaw)), math.sin(math.radians(pose.yaw))
        k, half = self._town_scale / self._scale, self._size / 2.0
        x0 = (pose.x - self._origin[0]) * self._town_scale
        y0 = (pose.y - self._origin[1]) * self._town_scale
        # world = ego + right * (u - half) - forward * (v - half), with right = (-s, c)
        a, b = -s * k, -c * k
        d, e = c * k, -s * k
        matrix = (a, b, x0 - (a + b) * half, d, e, y0 - (d + e) * half)
        return self._town.transform(
            (self._size, self._size),
            Image.Transform.AFFINE,
            matrix,
            resample=Image.Resampling.BILINEAR if self._smooth else Image.Resampling.NEAREST,
            fillcolor=self._palette.ground,
        )

    def _to_picture(self, pose: PoseView) -> _ToPicture:
        return _ToPicture(pose, self._scale, self._size / 2.0)

    def _box(
        self, pen: ImageDraw.ImageDraw, to_picture: _ToPicture, box: BoxView | None, color: Color
    ) -> None:
        if box is not None:
            frame = PoseView(x=box.center[0], y=box.center[1], yaw=box.yaw)
            ring = _rectangle(frame, max(0.3, box.extent[0]), max(0.3, box.extent[1]))
            pen.polygon(to_picture(ring), fill=color)


@dataclass(frozen=True)
class _ToPicture:
    """World points to pixels."""

    pose: PoseView
    scale: float
    half: float

    def __call__(self, points: Iterable[Point]) -> list[Point]:
        local = [self.pose.to_local(x, y) for x, y in points]
        return [(self.half + r * self.scale, self.half - f * self.scale) for f, r in local]


def make_views(lanes: Sequence[LaneShape]) -> Mapping[str, RasterView]:
    """LMDrive's two: ``birdview`` 400 px at 4 px/m, ``topdown`` 512 px of a 93 m square."""
    width_m = 2.0 * 100.0 * math.tan(math.radians(50.0 / 2.0))  # from 100 m, field of view 50
    return {
        "birdview": RasterView(lanes, BIRDVIEW, size_px=400, pixels_per_m=4.0, smooth=True),
        "topdown": RasterView(
            lanes, TOPDOWN, size_px=512, pixels_per_m=512.0 / width_m, smooth=False
        ),
    }


def _corners(body: BodyView, at_least_m: float = 0.0) -> list[Point]:
    x, y = body.pose.to_world(body.center[0], body.center[1])
    frame = PoseView(x=x, y=y, yaw=body.pose.yaw)
    return _rectangle(frame, max(at_least_m, body.extent[0]), max(at_least_m, body.extent[1]))


def _rectangle(frame: PoseView, half_length: float, half_width: float) -> list[Point]:
    signs = ((1, 1), (1, -1), (-1, -1), (-1, 1))
    return [frame.to_world(a * half_length, b * half_width) for a, b in signs]
