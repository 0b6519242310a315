# SPDX-License-Identifier: Apache-2.0
"""The 48-byte sensor header and the episode state: one 119-byte row for each live actor.

A wrong size here kills the client's process, so every size is asserted at import.
"""

from __future__ import annotations

import struct

from flad_sim.types import Transform, Vec3

HEADER_BYTES = 48
STATE_BYTES = 36
ROW_BYTES = 119

_HEADER = struct.Struct("<QQd6f")  # sensor type, frame, simulation time, transform
_STATE = struct.Struct("<QdfiiiI")  # episode, platform time, delta, map origin, flags
_ROW = "<IB6f3f3f3f"  # id, state, transform, velocity, angular velocity, acceleration

# Rows by kind of actor, padded to one size.
PLAIN_ROW = struct.Struct(_ROW + "54x")
# throttle, steer, brake, hand brake, reverse, manual gear, gear, speed limit km/h,
# light state, has light, light id, failure
VEHICLE_ROW = struct.Struct(_ROW + "fffBBBifBBIB24x")
# A light in two parts, because only the second changes: sign id;
# green, yellow, red, elapsed, pole index, frozen, state
LIGHT_HEAD = struct.Struct(_ROW + "32s")
LIGHT_TAIL = struct.Struct("<ffffIBB")
SIGN_ROW = struct.Struct(_ROW + "32s22x")
WALKER_ROW = struct.Struct(_ROW + "3ffB37x")  # direction, speed, jump

assert _HEADER.size == HEADER_BYTES
assert _STATE.size == STATE_BYTES
assert LIGHT_HEAD.size + LIGHT_TAIL.size == ROW_BYTES
for _row in (PLAIN_ROW, VEHICLE_ROW, SIGN_ROW, WALKER_ROW):
    assert _row.size == ROW_BYTES

ACTIVE = 1

FLAG_MAP_CHANGE = 1
FLAG_LIGHT_UPDATE = 2

ZERO: Vec3 = (0.0, 0.0, 0.0)
_NOWHERE = Transform()


def pack_header(
    sensor_type: int, frame: int, elapsed_s: float, transform: Transform = _NOWHERE
) -> bytes:
    """The header before every payload; ``transform`` is the sensor's in the world."""
    t = transform
    return _HEADER.pack(sensor_type, frame, elapsed_s, t.x, t.y, t.z, t.pitch, t.yaw, t.roll)


def pack_state(episode_id: int, platform_s: float, delta_s: float, flags: int) -> bytes:
    """The head of the episode state, before the actors' rows."""
    return _STATE.pack(episode_id, platform_s, delta_s, 0, 0, 0, flags)
