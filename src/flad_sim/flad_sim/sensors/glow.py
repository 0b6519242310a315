# SPDX-License-Identifier: Apache-2.0
"""Shining lamps over the finished picture: light spreads in a lens, so a small lamp stays visible.

One ray a pixel loses a lamp smaller than a pixel. Here every lit lamp in sight of the camera is
projected, and what of it is unhidden is spread over at least a pixel's width around its place.
"""

from __future__ import annotations

import math

import numpy as np

from flad_sim.scenery.scenery import Scenery
from flad_sim.sensors import embree as e
from flad_sim.sensors import frame as f
from flad_sim.sensors.embree import Packet, occluded16, packet_pointers
from flad_sim.sensors.frame import F32, Movers, Surroundings, View, view_pointers
from flad_sim.sensors.jit import kernel, pointer
from flad_sim.sensors.shading import fading

COLUMNS = 8  # x, y, z, blue, green, red (display values), radius, halo
_SIGNAL_BGR = ((30.0, 32.0, 255.0), (20.0, 190.0, 255.0), (120.0, 255.0, 40.0))
_SIGNAL_RADIUS_M = 0.15
_REACH_M = 150.0
_LOW_BEAM, _BRAKE = 6, 8  # bits of CARLA's VehicleLightState


class GlowMaker:
    """Finds the lamps that shine toward a camera."""

    def __init__(self, scenery: Scenery) -> None:
        self._signal_lamps = scenery.signal_lamps
        self._street_lamps = scenery.street_lamps

    def toward(self, view: View, around: Surroundings, movers: Movers, num_slots: int) -> F32:
        """Lamps in front of ``view`` that look at it, ``[N, COLUMNS]``."""
        night = float(around.light[f.NIGHT])
        rows = [self._signals(view, around, night)]
        if night > 0.1:
            rows.append(self._street(night))
        rows.append(_vehicles(movers, num_slots, night))
        lamps = np.concatenate(rows)
        offset = lamps[:, :3] - view.origin
        ahead = offset @ view.axes[0]
        seen = (ahead > 0.5) & (np.linalg.norm(offset, axis=1) < _REACH_M)
        return np.ascontiguousarray(lamps[seen], dtype=np.float32)

    def _signals(self, view: View, around: Surroundings, night: float) -> F32:
        lamps = self._signal_lamps
        number = lamps[:, 6].astype(np.int64)
        to_view = view.origin - lamps[:, :3]
        facing = (to_view * lamps[:, 3:6]).sum(axis=1) > 0.2 * np.linalg.norm(to_view, axis=1)
        shown = facing & (around.lamp_on[number] != 0)
        rows = np.empty((int(shown.sum()), COLUMNS), dtype=np.float32)
        rows[:, :3] = lamps[shown, :3] + 0.03 * lamps[shown, 3:6]
        rows[:, 3:6] = np.array(_SIGNAL_BGR)[number[shown] % 3]
        rows[:, 6] = _SIGNAL_RADIUS_M
        rows[:, 7] = 0.16 + 0.3 * night
        return rows

    def _street(self, night: float) -> F32:
        rows = np.empty((len(self._street_lamps), COLUMNS), dtype=np.float32)
        rows[:, :3] = self._street_lamps - [0.0, 0.0, 0.05]
        rows[:, 3:6] = (190.0, 225.0, 255.0)
        rows[:, 6] = 0.16
        rows[:, 7] = 0.5 * night
        return rows


def _vehicles(movers: Movers, num_slots: int, night: float) -> F32:
    """Brake lamps at any time, head lamps in the dark; hidden from behind by their own car."""
    rows: list[tuple[float, ...]] = []
    for slot in range(1, num_slots):
        lights = int(movers.lights[slot])
        if not movers.actor[slot] or not lights & (_LOW_BEAM | _BRAKE):
            continue
        x, y, z, c, s, length, width = (float(v) for v in movers.foot[slot])
        for side in (-0.6 * width, 0.6 * width) if width > 0.6 else (0.0,):
            if lights & _BRAKE:
                place = (x - c * (length + 0.05) - s * side, y - s * (length + 0.05) + c * side)
                rows.append((*place, z + 0.78, 25.0, 30.0, 255.0, 0.08, 0.05 + 0.3 * night))
            if lights & _LOW_BEAM and night > 0.1:
                place = (x + c * (length + 0.05) - s * side, y + s * (length + 0.05) + c * side)
                rows.append((*place, z + 0.66, 235.0, 250.0, 255.0, 0.1, 0.75 * night))
    return np.array(rows, dtype=np.float32).reshape(-1, COLUMNS)


@kernel
def spread_glows(
    scene: int,
    view: View,
    lamps: np.ndarray,
    fog_density: float,
    image: np.ndarray,
    packet: Packet,
) -> None:
    """Add ``lamps`` ``[N, COLUMNS]`` to ``image`` ``[H, W, 4]`` where nothing hides them."""
    view, packet = view_pointers(view), packet_pointers(packet)
    pixels, rows, axes, eye = pointer(image), pointer(lamps), view.axes, view.origin
    for first in range(0, len(lamps), 16):
        count = min(16, len(lamps) - first)
        for k in range(16):
            packet.valid[k] = 0
            if k >= count:
                continue
            at = (first + k) * COLUMNS
            packet.valid[k] = -1
            packet.shadow[e.ORG_X + k] = eye[0]
            packet.shadow[e.ORG_Y + k] = eye[1]
            packet.shadow[e.ORG_Z + k] = eye[2]
            packet.shadow[e.DIR_X + k] = rows[at] - eye[0]
            packet.shadow[e.DIR_Y + k] = rows[at + 1] - eye[1]
            packet.shadow[e.DIR_Z + k] = rows[at + 2] - eye[2]
            packet.shadow[e.T_NEAR + k] = 0.0
            packet.shadow[e.TIME + k] = 0.0
            packet.shadow[e.T_FAR + k] = 0.9995
            packet.shadow_ids[e.MASK + k] = -1
            packet.shadow_ids[e.FLAGS + k] = 0
        occluded16(packet.valid_at, scene, packet.shadow_at, packet.arguments_at)
        for k in range(count):
            if packet.shadow[e.T_FAR + k] < 0.0:
                continue
            at = (first + k) * COLUMNS
            dx, dy, dz = rows[at] - eye[0], rows[at + 1] - eye[1], rows[at + 2] - eye[2]
            ahead = dx * axes[0] + dy * axes[1] + dz * axes[2]
            right = dx * axes[3] + dy * axes[4] + dz * axes[5]
            up = dx * axes[6] + dy * axes[7] + dz * axes[8]
            px = 0.5 * np.float32(view.width) + view.focal_px * right / ahead - 0.5
            py = 0.5 * np.float32(view.height) - view.focal_px * up / ahead - 0.5
            size = view.focal_px * rows[at + 6] / ahead  # radius in pixels
            clear = fading(fog_density * ahead)
            core = 0.9 * min(max(2.6 - size, 0.0), 1.0) * clear
            narrow = 0.5 / max(0.65 * size, 0.62) ** 2
            wide_px = max(2.4 * size, 1.6)
            wide = 0.5 / (wide_px * wide_px)
            halo = rows[at + 7] * (0.35 + 0.65 * clear)
            reach = int(3.0 * wide_px) + 1
            x0, x1 = max(int(px) - reach, 0), min(int(px) + reach, view.width - 1)
            y0, y1 = max(int(py) - reach, 0), min(int(py) + reach, view.height - 1)
            for y in range(y0, y1 + 1):
                for x in range(x0, x1 + 1):
                    u, v = np.float32(x) - px, np.float32(y) - py
                    d2 = u * u + v * v
                    blend = core * math.exp(-d2 * narrow)
                    add = halo * math.exp(-d2 * wide)
                    spot = 4 * (y * view.width + x)
                    for c in range(3):
                        old, lamp = np.float32(pixels[spot + c]), rows[at + 3 + c]
                        new = old + (lamp - old) * blend
                        new += (255.0 - new) * add * lamp * 0.00392157
                        pixels[spot + c] = int(min(new, 255.0))
