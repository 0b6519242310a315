# SPDX-License-Identifier: Apache-2.0
"""Where boxes will be, and which of them will meet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flad_carla.expert.scene import Agents, FloatArray, Kind

_MAX_TURN_RAD = 1.6  # nobody turns by more within the forecast


def forecast_agents(agents: Agents, times_s: FloatArray) -> FloatArray:
    """Poses [N, M, 3] (x, y, yaw) of the agents at ``times_s``.

    Vehicles keep speed and turn rate (a kinematic bicycle with its wheel held), walkers keep
    their velocity.
    """
    t = times_s[None, :]
    is_vehicle = (agents.kind == Kind.VEHICLE) | (agents.kind == Kind.BICYCLE)
    rate = np.where(is_vehicle & (agents.speed > 0.5), agents.yaw_rate, 0.0)[:, None]
    turned = np.clip(rate * t, -_MAX_TURN_RAD, _MAX_TURN_RAD)
    # the chord of an arc of angle 'turned' leaves at half of it and is shorter by sinc
    half = 0.5 * turned
    chord = np.sinc(half / np.pi) * t
    c, s = np.cos(half), np.sin(half)
    vx, vy = agents.vx[:, None], agents.vy[:, None]
    x = agents.x[:, None] + chord * (c * vx - s * vy)
    y = agents.y[:, None] + chord * (s * vx + c * vy)
    return np.stack([x, y, agents.yaw[:, None] + turned], axis=-1)


def boxes_overlap(
    a: FloatArray, a_half: FloatArray, b: FloatArray, b_half: FloatArray
) -> NDArray[np.bool_]:
    """Whether oriented boxes overlap, by separating axes; all arguments broadcast.

    Args:
        a: poses [..., 3] (x, y, yaw); ``a_half`` half sizes [..., 2]; ``b``, ``b_half`` alike.
    """
    dx, dy = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1]
    ca, sa = np.cos(a[..., 2]), np.sin(a[..., 2])
    cb, sb = np.cos(b[..., 2]), np.sin(b[..., 2])
    cos = np.abs(ca * cb + sa * sb)
    sin = np.abs(ca * sb - sa * cb)
    al, aw = a_half[..., 0], a_half[..., 1]
    bl, bw = b_half[..., 0], b_half[..., 1]
    apart = np.abs(dx * ca + dy * sa) > al + bl * cos + bw * sin
    apart |= np.abs(-dx * sa + dy * ca) > aw + bl * sin + bw * cos
    apart |= np.abs(dx * cb + dy * sb) > bl + al * cos + aw * sin
    apart |= np.abs(-dx * sb + dy * cb) > bw + al * sin + aw * cos
    return np.asarray(~apart)
