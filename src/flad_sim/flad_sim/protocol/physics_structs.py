# SPDX-License-Identifier: Apache-2.0
"""VehiclePhysicsControl as msgpack arrays; what its fields do is in ``flad_sim.physics``."""

from __future__ import annotations

from typing import Any

from flad_sim.physics.parameters import Gear, VehiclePhysics, Wheel
from flad_sim.protocol.structs import (
    decode_bool,
    decode_floats,
    decode_list,
    decode_number,
    decode_vector,
)

_LIMIT = 1.0e9
_SCALARS_BEFORE = (
    "max_rpm",
    "moi",
    "damping_rate_full_throttle",
    "damping_rate_zero_throttle_clutch_engaged",
    "damping_rate_zero_throttle_clutch_disengaged",
)
_NUM_WHEEL_SCALARS = 9


def encode_physics(p: VehiclePhysics) -> list[Any]:
    """The struct, in the order of the wire."""
    return [
        [list(point) for point in p.torque_curve],
        *(getattr(p, name) for name in _SCALARS_BEFORE),
        p.use_gear_autobox,
        p.gear_switch_time,
        p.clutch_strength,
        p.final_ratio,
        [[g.ratio, g.down_ratio, g.up_ratio] for g in p.forward_gears],
        p.mass,
        p.drag_coefficient,
        list(p.center_of_mass),
        [list(point) for point in p.steering_curve],
        [_encode_wheel(w) for w in p.wheels],
        p.use_sweep_wheel_collision,
    ]


def decode_physics(value: Any) -> VehiclePhysics:
    """What a client applies.

    Raises:
        RequestRefused: on values of the wrong type or not finite.
        ValueError: on values that no vehicle can have.
    """
    v = decode_list(value, "physics", 17)
    scalars = {
        name: decode_number(v[1 + i], name, _LIMIT) for i, name in enumerate(_SCALARS_BEFORE)
    }
    return VehiclePhysics(
        torque_curve=_curve(v[0], "torque_curve"),
        **scalars,
        use_gear_autobox=decode_bool(v[6], "use_gear_autobox"),
        gear_switch_time=decode_number(v[7], "gear_switch_time"),
        clutch_strength=decode_number(v[8], "clutch_strength"),
        final_ratio=decode_number(v[9], "final_ratio"),
        forward_gears=tuple(
            Gear(ratio=r, down_ratio=d, up_ratio=u)
            for r, d, u in (
                decode_floats(g, "forward_gears", 3) for g in decode_list(v[10], "forward_gears")
            )
        ),
        mass=decode_number(v[11], "mass", _LIMIT),
        drag_coefficient=decode_number(v[12], "drag_coefficient"),
        center_of_mass=decode_vector(v[13], "center_of_mass"),
        steering_curve=_curve(v[14], "steering_curve"),
        wheels=tuple(_decode_wheel(w) for w in decode_list(v[15], "wheels")),
        use_sweep_wheel_collision=decode_bool(v[16], "use_sweep_wheel_collision"),
    )


def _curve(value: Any, name: str) -> tuple[tuple[float, float], ...]:
    points = [decode_floats(p, name, 2) for p in decode_list(value, name)]
    return tuple((x, y) for x, y in points)


def _encode_wheel(w: Wheel) -> list[Any]:
    return [
        w.tire_friction,
        w.damping_rate,
        w.max_steer_angle,
        w.radius,
        w.max_brake_torque,
        w.max_handbrake_torque,
        w.lat_stiff_max_load,
        w.lat_stiff_value,
        w.long_stiff_value,
        list(w.position),
    ]


def _decode_wheel(value: Any) -> Wheel:
    items = decode_list(value, "wheel", _NUM_WHEEL_SCALARS + 1)
    s = decode_floats(items, "wheel", _NUM_WHEEL_SCALARS)
    return Wheel(
        tire_friction=s[0],
        damping_rate=s[1],
        max_steer_angle=s[2],
        radius=s[3],
        max_brake_torque=s[4],
        max_handbrake_torque=s[5],
        lat_stiff_max_load=s[6],
        lat_stiff_value=s[7],
        long_stiff_value=s[8],
        position=decode_vector(items[9], "wheel.position", _LIMIT),
    )
