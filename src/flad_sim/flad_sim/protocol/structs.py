# SPDX-License-Identifier: Apache-2.0
"""CARLA's structs as msgpack arrays: encoders for replies, decoders that trust nothing.

A decoder raises :class:`RequestRefused` naming the field; what it returns is finite and of the
right type, so that nothing a client sends can put a NaN into the world.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from flad_sim.catalogue import Attribute
from flad_sim.errors import RequestRefused
from flad_sim.physics.ackermann import AckermannControl
from flad_sim.physics.walker import WalkerControl
from flad_sim.types import BoundingBox, Transform, Vec3, VehicleControl, Weather

WORLD_LIMIT_M = 1.0e6
_MAX_SPEED = 1.0e4
_TYPE_CODES = {"bool": 1, "int": 2, "float": 3, "string": 4, "color": 5}


@dataclass(frozen=True, kw_only=True)
class EpisodeSettings:
    """CARLA's WorldSettings, in the order of the wire."""

    synchronous_mode: bool = False
    no_rendering_mode: bool = False
    fixed_delta_s: float | None = None
    substepping: bool = True
    max_substep_delta_s: float = 0.01
    max_substeps: int = 10
    max_culling_distance: float = 0.0
    deterministic_ragdolls: bool = True
    tile_stream_distance: float = 3000.0
    actor_active_distance: float = 2000.0
    spectator_as_ego: bool = True


@dataclass(frozen=True, slots=True)
class ActorDescription:
    """What a client asks to spawn: a blueprint and all its attributes as text."""

    uid: int
    blueprint: str
    attributes: dict[str, str]


# --- encoders -----------------------------------------------------------------------------------


def encode_transform(t: Transform) -> list[Any]:
    """``[[x, y, z], [pitch, yaw, roll]]``."""
    return [[t.x, t.y, t.z], [t.pitch, t.yaw, t.roll]]


def encode_box(box: BoundingBox, actor_id: int = 0) -> list[Any]:
    """``[center, half sizes, rotation, actor id]``."""
    return [list(box.center), list(box.extent), [0.0, box.yaw, 0.0], actor_id]


def encode_settings(settings: EpisodeSettings) -> list[Any]:
    """WorldSettings; the fixed delta is an optional."""
    values = [getattr(settings, f.name) for f in fields(settings)]
    values[2] = [False] if settings.fixed_delta_s is None else [True, settings.fixed_delta_s]
    return values


def encode_weather(weather: Weather) -> list[float]:
    """The 14 weather parameters."""
    return [getattr(weather, f.name) for f in fields(weather)]


def encode_definition(
    uid: int, blueprint: str, tags: str, attributes: Iterable[Attribute]
) -> list[Any]:
    """An ActorDefinition of the blueprint library."""
    return [
        uid,
        blueprint,
        tags,
        [
            [
                a.name,
                _TYPE_CODES[a.kind],
                a.value,
                list(a.recommended),
                a.modifiable,
                False,  # restrict to recommended
            ]
            for a in attributes
        ],
    ]


def encode_actor(
    actor_id: int,
    parent_id: int,
    description: list[Any],
    box: BoundingBox,
    tags: bytes,
    token: bytes,
) -> list[Any]:
    """An Actor; ``token`` is 24 bytes for a sensor that streams and must be empty for others."""
    assert len(token) in (0, 24)
    return [actor_id, parent_id, description, encode_box(box, actor_id), tags, token]


def encode_description(
    uid: int, blueprint: str, attributes: dict[str, str], kinds: dict[str, str]
) -> list[Any]:
    """An ActorDescription; ``kinds`` gives the attributes' types."""
    return [
        uid,
        blueprint,
        [[k, _TYPE_CODES[kinds.get(k, "string")], v] for k, v in attributes.items()],
    ]


# --- decoders -----------------------------------------------------------------------------------


def decode_number(value: Any, name: str, limit: float = WORLD_LIMIT_M) -> float:
    """A finite number within ``limit``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RequestRefused(f"{name} must be a number, got {value!r:.60}")
    number = float(value)
    if not math.isfinite(number) or abs(number) > limit:
        raise RequestRefused(f"{name} must be finite and within +-{limit:g}, got {number}")
    return number


def decode_int(value: Any, name: str) -> int:
    """A whole number that fits 32 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**32:
        raise RequestRefused(f"{name} must be an integer, got {value!r:.60}")
    return value


def decode_bool(value: Any, name: str) -> bool:
    """A truth value."""
    if not isinstance(value, (bool, int)):
        raise RequestRefused(f"{name} must be true or false, got {value!r:.60}")
    return bool(value)


def decode_str(value: Any, name: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise RequestRefused(f"{name} must be a text, got {value!r:.60}")
    return value


def decode_list(value: Any, name: str, at_least: int = 0) -> list[Any]:
    """An array of at least so many items."""
    if not isinstance(value, (list, tuple)) or len(value) < at_least:
        raise RequestRefused(f"{name} must be an array of {at_least} items, got {value!r:.60}")
    return list(value)


def decode_vector(value: Any, name: str, limit: float = WORLD_LIMIT_M) -> Vec3:
    """``[x, y, z]``."""
    x, y, z = decode_list(value, name, 3)[:3]
    return (
        decode_number(x, f"{name}.x", limit),
        decode_number(y, f"{name}.y", limit),
        decode_number(z, f"{name}.z", limit),
    )


def decode_transform(value: Any, name: str = "transform") -> Transform:
    """``[[x, y, z], [pitch, yaw, roll]]``."""
    location, rotation = decode_list(value, name, 2)[:2]
    x, y, z = decode_vector(location, f"{name}.location")
    pitch, yaw, roll = decode_vector(rotation, f"{name}.rotation")
    return Transform(x, y, z, _angle(pitch), _angle(yaw), _angle(roll))


def decode_description(value: Any) -> ActorDescription:
    """What to spawn."""
    uid, blueprint, attributes = decode_list(value, "description", 3)[:3]
    values: dict[str, str] = {}
    for item in decode_list(attributes, "description.attributes"):
        name, _, text = decode_list(item, "attribute", 3)[:3]
        values[decode_str(name, "attribute.id")] = decode_str(text, "attribute.value")
    return ActorDescription(
        decode_int(uid, "description.uid"), decode_str(blueprint, "description.id"), values
    )


def decode_control(value: Any) -> VehicleControl:
    """A VehicleControl, as sent: :func:`clamp_control` brings it into range."""
    items = decode_list(value, "control", 7)
    return VehicleControl(
        decode_number(items[0], "control.throttle"),
        decode_number(items[1], "control.steer"),
        decode_number(items[2], "control.brake"),
        decode_bool(items[3], "control.hand_brake"),
        decode_bool(items[4], "control.reverse"),
        decode_bool(items[5], "control.manual_gear_shift"),
        decode_int(items[6], "control.gear"),
    )


def clamp_control(control: VehicleControl) -> VehicleControl:
    """The nearest control that the pedals and the wheel can do."""
    throttle = _clamp(control.throttle, 0.0, 1.0)
    steer = _clamp(control.steer, -1.0, 1.0)
    brake = _clamp(control.brake, 0.0, 1.0)
    if (throttle, steer, brake) == (control.throttle, control.steer, control.brake):
        return control
    return replace(control, throttle=throttle, steer=steer, brake=brake)


def decode_ackermann(value: Any) -> AckermannControl:
    """A VehicleAckermannControl."""
    names = ("steer", "steer_speed", "speed", "acceleration", "jerk")
    items = decode_list(value, "control", 5)
    return AckermannControl(
        *(decode_number(v, f"control.{n}", _MAX_SPEED) for v, n in zip(items, names, strict=False))
    )


def decode_walker_control(value: Any) -> WalkerControl:
    """A WalkerControl."""
    items = decode_list(value, "control", 3)
    return WalkerControl(
        decode_vector(items[0], "control.direction"),
        decode_number(items[1], "control.speed", _MAX_SPEED),
        decode_bool(items[2], "control.jump"),
    )


def decode_weather(value: Any) -> Weather:
    """The 14 weather parameters (missing ones keep their defaults)."""
    items = decode_list(value, "weather")
    names = [f.name for f in fields(Weather)]
    return Weather(
        **{n: decode_number(v, f"weather.{n}") for n, v in zip(names, items, strict=False)}
    )


def decode_settings(value: Any) -> EpisodeSettings:
    """WorldSettings.

    Raises:
        RequestRefused: on a fixed delta that is not within (0, 10] s.
    """
    items = decode_list(value, "settings", 3)
    fixed = decode_list(items[2], "settings.fixed_delta_seconds", 1)
    delta_s: float | None = None
    if fixed[0]:
        delta_s = decode_number(fixed[1] if len(fixed) > 1 else None, "fixed_delta_seconds", 10.0)
        if delta_s < 0.0:
            raise RequestRefused(f"fixed_delta_seconds must be within (0, 10] s, got {delta_s}")
        delta_s = delta_s or None  # the client writes 0 for "variable"
    rest = {f.name: v for f, v in zip(fields(EpisodeSettings)[3:], items[3:], strict=False)}
    return EpisodeSettings(
        synchronous_mode=decode_bool(items[0], "synchronous_mode"),
        no_rendering_mode=decode_bool(items[1], "no_rendering_mode"),
        fixed_delta_s=delta_s,
        **rest,
    )


def decode_ids(value: Any, name: str = "ids") -> list[int]:
    """A list of actor ids."""
    return [decode_int(item, name) for item in decode_list(value, name)]


def decode_floats(value: Any, name: str, count: int) -> list[float]:
    """So many finite numbers."""
    items: Sequence[Any] = decode_list(value, name, count)[:count]
    return [decode_number(v, f"{name}[{i}]", 1.0e12) for i, v in enumerate(items)]


def _angle(degrees: float) -> float:
    """Angles come in any number of turns and go out within (-180, 180], unchanged when inside."""
    if -180.0 < degrees <= 180.0:
        return degrees
    return 180.0 - (180.0 - degrees) % 360.0


def _clamp(value: float, low: float, high: float) -> float:
    return low if value < low else high if value > high else value
