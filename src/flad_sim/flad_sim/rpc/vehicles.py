# SPDX-License-Identifier: Apache-2.0
"""Calls that vehicles understand: driving, physics, lights, doors, telemetry."""

from __future__ import annotations

import dataclasses
from typing import Any

from flad_sim import spawning
from flad_sim.actors import ClientVehicle, Vehicle
from flad_sim.physics import Telemetry
from flad_sim.physics.ackermann import AckermannSettings
from flad_sim.physics.parameters import default_physics
from flad_sim.protocol.physics_structs import decode_physics, encode_physics
from flad_sim.protocol.structs import (
    clamp_control,
    decode_ackermann,
    decode_control,
    decode_floats,
    decode_int,
)
from flad_sim.rpc.api import Api, Handler, refusing, values, voids

_NUM_ACKERMANN_GAINS = 6


def apply_control(api: Api, actor_id: Any, control: Any) -> None:
    """Drive by pedals until told otherwise."""
    wanted = decode_control(control)
    vehicle = driven(api, actor_id)
    clamped = clamp_control(wanted)
    if clamped is not wanted:
        api.note(f"vehicle {vehicle.actor_id}: controls out of range are clamped (first: {wanted})")
    vehicle.body.apply_control(clamped)


def apply_ackermann(api: Api, actor_id: Any, control: Any) -> None:
    """Drive by speed and steering angle until told otherwise."""
    wanted = decode_ackermann(control)
    with refusing():
        driven(api, actor_id).body.apply_ackermann(wanted)


def apply_physics(api: Api, actor_id: Any, physics: Any) -> None:
    """Change mass, engine, gears, tyres, brakes, lock."""
    with refusing():
        wanted = decode_physics(physics)
        driven(api, actor_id).body.apply_physics_control(wanted)


def set_lights(api: Api, actor_id: Any, flags: Any) -> None:
    """Switch a vehicle's lights."""
    # The call carries a struct of one field, the command of a batch the bare number.
    number = flags[0] if isinstance(flags, list) and flags else flags
    _vehicle(api, actor_id).lights = decode_int(number, "light state") & 0xFFFFFFFF


def driven(api: Api, actor_id: Any) -> ClientVehicle:
    """The vehicle, taken out of the traffic simulation if it was in it."""
    return spawning.take_over(api.episode, decode_int(actor_id, "actor"))


def _vehicle(api: Api, actor_id: Any) -> Vehicle:
    return api.episode.actors.get(decode_int(actor_id, "actor"), Vehicle)


def _physics(api: Api, actor_id: Any) -> list[Any]:
    vehicle = _vehicle(api, actor_id)
    if isinstance(vehicle, ClientVehicle):
        return encode_physics(vehicle.body.physics_control())
    return encode_physics(default_physics(spawning.vehicle_spec(vehicle)))


def _ackermann_settings(api: Api, actor_id: Any) -> list[float]:
    vehicle = _vehicle(api, actor_id)
    settings = (
        vehicle.body.ackermann_settings
        if isinstance(vehicle, ClientVehicle)
        else AckermannSettings()
    )
    return list(dataclasses.astuple(settings))


def _set_ackermann_settings(api: Api, actor_id: Any, settings: Any) -> None:
    gains = decode_floats(settings, "settings", _NUM_ACKERMANN_GAINS)
    with refusing():
        driven(api, actor_id).body.ackermann_settings = AckermannSettings(*gains)


def _telemetry(api: Api, actor_id: Any) -> list[Any]:
    vehicle = _vehicle(api, actor_id)
    if isinstance(vehicle, ClientVehicle):
        t = vehicle.body.telemetry
    else:
        vx, vy, _ = vehicle.pose.velocity
        t = Telemetry((vx * vx + vy * vy) ** 0.5, 0.0, 0.0, 0.0, 0.0, 1, 0.0, ())
    wheels = [list(dataclasses.astuple(w)) for w in t.wheels]
    return [t.speed, t.steer, t.throttle, t.brake, t.engine_rpm, t.gear, t.drag, wheels]


def _lights(api: Api, actor_id: Any) -> list[int]:
    return [_vehicle(api, actor_id).lights]


def _all_lights(api: Api) -> list[list[int]]:
    return [[v.actor_id, v.lights] for v in api.episode.actors.of_kind(Vehicle)]


def _wheel_angle(api: Api, actor_id: Any, wheel: Any) -> float:
    vehicle = _vehicle(api, actor_id)
    is_front = decode_int(wheel, "wheel") < 2
    if isinstance(vehicle, ClientVehicle) and is_front:
        return vehicle.body.wheel_steer_deg
    return 0.0


def _without_effect(api: Api, actor_id: Any, *args: Any) -> None:
    """Doors, wheel poses and drawn telemetry: only a renderer with such parts would show them."""
    _vehicle(api, actor_id)


HANDLERS: dict[str, Handler] = values(
    get_physics_control=_physics,
    get_ackermann_controller_settings=_ackermann_settings,
    get_telemetry_data=_telemetry,
    get_vehicle_light_state=_lights,
    get_vehicle_light_states=_all_lights,
    get_wheel_steer_angle=_wheel_angle,
) | voids(
    apply_control_to_vehicle=apply_control,
    apply_ackermann_control_to_vehicle=apply_ackermann,
    apply_ackermann_controller_settings=_set_ackermann_settings,
    apply_physics_control=apply_physics,
    set_vehicle_light_state=set_lights,
    open_vehicle_door=_without_effect,
    close_vehicle_door=_without_effect,
    set_wheel_steer_direction=_without_effect,
    show_vehicle_debug_telemetry=_without_effect,
    set_actor_autopilot=_without_effect,  # the client's TrafficManager drives
)
