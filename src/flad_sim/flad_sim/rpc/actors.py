# SPDX-License-Identifier: Apache-2.0
"""Calls that any actor understands: finding, spawning, destroying, moving."""

from __future__ import annotations

from typing import Any

from flad_sim import spawning
from flad_sim.actors import Actor, ClientVehicle, ClientWalker, TrafficVehicle
from flad_sim.errors import RequestRefused
from flad_sim.physics.vehicle import VehicleBody
from flad_sim.protocol.structs import (
    decode_bool,
    decode_description,
    decode_ids,
    decode_int,
    decode_transform,
    decode_vector,
    encode_box,
)
from flad_sim.rpc.api import Api, Handler, values, voids
from flad_sim.rpc.encode import encode

_MAX_SPEED = 1.0e4
_MAX_FORCE = 1.0e9


def _by_id(api: Api, ids: Any) -> list[Any]:
    found = (api.episode.actors.find(i) for i in decode_ids(ids))
    return [encode(api, actor) for actor in found if actor is not None]


def _box(api: Api, actor_id: Any) -> list[Any]:
    actor = find(api, actor_id)
    return encode_box(actor.box, actor.actor_id)


def _spawn(api: Api, description: Any, transform: Any) -> list[Any]:
    actor = spawning.spawn(
        api.episode, decode_description(description), decode_transform(transform)
    )
    return encode(api, actor)


def _spawn_attached(
    api: Api, description: Any, transform: Any, parent: Any, attachment: Any = 0, bone: Any = ""
) -> list[Any]:
    actor = spawning.spawn(
        api.episode,
        decode_description(description),
        decode_transform(transform),
        decode_int(parent, "parent"),
    )
    return encode(api, actor)


def destroy(api: Api, actor_id: Any) -> bool:
    """Take an actor out of the world."""
    number = decode_int(actor_id, "actor")
    if not spawning.destroy(api.episode, number):
        raise RequestRefused(f"no actor {number}: it was destroyed or never spawned")
    return True


def set_transform(api: Api, actor_id: Any, transform: Any) -> None:
    """Move an actor at once."""
    spawning.place(api.episode, decode_int(actor_id, "actor"), decode_transform(transform))


def set_location(api: Api, actor_id: Any, location: Any) -> None:
    """Move an actor at once and leave its rotation."""
    actor = find(api, actor_id)
    x, y, z = decode_vector(location, "location")
    base = actor.mount if actor.mount is not None else actor.pose.transform
    spawning.place(api.episode, actor.actor_id, base.moved(x=x, y=y, z=z))


def set_target_velocity(api: Api, actor_id: Any, velocity: Any) -> None:
    """Give a vehicle or pedestrian a velocity, m/s in the world."""
    spawning.body_of(api.episode, find(api, actor_id)).set_target_velocity(
        decode_vector(velocity, "velocity", _MAX_SPEED)
    )


def set_target_angular_velocity(api: Api, actor_id: Any, velocity: Any) -> None:
    """Give a vehicle a yaw rate, deg/s."""
    _vehicle_body(api, actor_id).set_target_angular_velocity(
        decode_vector(velocity, "angular velocity", _MAX_SPEED)
    )


def add_impulse(api: Api, actor_id: Any, impulse: Any) -> None:
    """Kick a body, N s."""
    spawning.body_of(api.episode, find(api, actor_id)).add_impulse(
        decode_vector(impulse, "impulse", _MAX_FORCE)
    )


def add_force(api: Api, actor_id: Any, force: Any) -> None:
    """Push a vehicle during the next frame, N."""
    _vehicle_body(api, actor_id).add_force(decode_vector(force, "force", _MAX_FORCE))


def add_angular_impulse(api: Api, actor_id: Any, impulse: Any) -> None:
    """Twist a vehicle, N m s."""
    _vehicle_body(api, actor_id).add_angular_impulse(
        decode_vector(impulse, "angular impulse", _MAX_FORCE)
    )


def add_torque(api: Api, actor_id: Any, torque: Any) -> None:
    """Twist a vehicle during the next frame, N m."""
    _vehicle_body(api, actor_id).add_torque(decode_vector(torque, "torque", _MAX_FORCE))


def set_simulate_physics(api: Api, actor_id: Any, enabled: Any) -> None:
    """False: the actor stays where it is put."""
    actor = find(api, actor_id)
    wanted = decode_bool(enabled, "enabled")
    if isinstance(actor, (ClientVehicle, ClientWalker)):
        actor.body.set_simulate_physics(wanted)
    elif isinstance(actor, TrafficVehicle) and not wanted:
        spawning.take_over(api.episode, actor.actor_id).body.set_simulate_physics(False)


def set_collisions(api: Api, actor_id: Any, enabled: Any) -> None:
    """False: others go through the actor."""
    actor = find(api, actor_id)
    if isinstance(actor, (ClientVehicle, ClientWalker)):
        actor.body.collides = decode_bool(enabled, "enabled")


def set_enable_gravity(api: Api, actor_id: Any, enabled: Any) -> None:
    """False: the actor does not fall."""
    actor = find(api, actor_id)
    if isinstance(actor, (ClientVehicle, ClientWalker)):
        actor.body.set_enable_gravity(decode_bool(enabled, "enabled"))


def find(api: Api, actor_id: Any) -> Actor:
    """The living actor of that id."""
    return api.episode.actors.get(decode_int(actor_id, "actor"), Actor)


def _constant_velocity(api: Api, actor_id: Any, velocity: Any) -> None:
    _vehicle_body(api, actor_id).enable_constant_velocity(
        decode_vector(velocity, "velocity", _MAX_SPEED)
    )


def _no_constant_velocity(api: Api, actor_id: Any) -> None:
    actor = find(api, actor_id)
    if isinstance(actor, ClientVehicle):
        actor.body.disable_constant_velocity()


def _impulse_at(api: Api, actor_id: Any, impulse: Any, location: Any) -> None:
    x, y, _ = decode_vector(impulse, "impulse", _MAX_FORCE)
    px, py, _ = decode_vector(location, "location")
    spawning.body_of(api.episode, find(api, actor_id)).push((x, y), (px, py))


def _vehicle_body(api: Api, actor_id: Any) -> VehicleBody:
    return spawning.take_over(api.episode, decode_int(actor_id, "actor")).body


HANDLERS: dict[str, Handler] = values(
    get_actors_by_id=_by_id,
    get_actor_bounding_box=_box,
    spawn_actor=_spawn,
    spawn_actor_with_parent=_spawn_attached,
    destroy_actor=destroy,
) | voids(
    set_actor_transform=set_transform,
    set_actor_location=set_location,
    set_actor_target_velocity=set_target_velocity,
    set_actor_target_angular_velocity=set_target_angular_velocity,
    enable_actor_constant_velocity=_constant_velocity,
    disable_actor_constant_velocity=_no_constant_velocity,
    add_actor_impulse=add_impulse,
    add_actor_force=add_force,
    add_actor_angular_impulse=add_angular_impulse,
    add_actor_torque=add_torque,
    add_actor_impulse_at_location=_impulse_at,
    set_actor_simulate_physics=set_simulate_physics,
    set_actor_collisions=set_collisions,
    set_actor_enable_gravity=set_enable_gravity,
)
