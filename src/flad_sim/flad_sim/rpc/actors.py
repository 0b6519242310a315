# SPDX-License-Identifier: Apache-2.0
"""Calls that any actor understands: finding, spawning, destroying, moving."""

from __future__ import annotations

from typing import Any

from flad_sim import spawning
from flad_sim.actors import Actor
from flad_sim.errors import RequestRefused
from flad_sim.protocol.structs import (
    decode_description,
    decode_ids,
    decode_int,
    decode_transform,
    decode_vector,
    encode_box,
)
from flad_sim.rpc.api import Api, Handler, values, voids
from flad_sim.rpc.encode import encode


def _by_id(api: Api, ids: Any) -> list[Any]:
    found = (api.world.actors.find(i) for i in decode_ids(ids))
    return [encode(api, actor) for actor in found if actor is not None]


def _box(api: Api, actor_id: Any) -> list[Any]:
    actor = _actor(api, actor_id)
    return encode_box(actor.box, actor.actor_id)


def _spawn(api: Api, description: Any, transform: Any) -> list[Any]:
    actor = spawning.spawn(api.world, decode_description(description), decode_transform(transform))
    return encode(api, actor)


def _spawn_attached(
    api: Api, description: Any, transform: Any, parent: Any, attachment: Any = 0, bone: Any = ""
) -> list[Any]:
    actor = spawning.spawn(
        api.world,
        decode_description(description),
        decode_transform(transform),
        decode_int(parent, "parent"),
    )
    return encode(api, actor)


def _destroy(api: Api, actor_id: Any) -> bool:
    number = decode_int(actor_id, "actor")
    if not spawning.destroy(api.world, number):
        raise RequestRefused(f"no actor {number}: it was destroyed or never spawned")
    return True


def _set_transform(api: Api, actor_id: Any, transform: Any) -> None:
    spawning.place(api.world, decode_int(actor_id, "actor"), decode_transform(transform))


def _set_location(api: Api, actor_id: Any, location: Any) -> None:
    actor = _actor(api, actor_id)
    x, y, z = decode_vector(location, "location")
    base = actor.mount if actor.mount is not None else actor.pose.transform
    spawning.place(api.world, actor.actor_id, base.moved(x=x, y=y, z=z))


def _actor(api: Api, actor_id: Any) -> Actor:
    return api.world.actors.get(decode_int(actor_id, "actor"), Actor)


HANDLERS: dict[str, Handler] = values(
    get_actors_by_id=_by_id,
    get_actor_bounding_box=_box,
    spawn_actor=_spawn,
    spawn_actor_with_parent=_spawn_attached,
    destroy_actor=_destroy,
) | voids(
    set_actor_transform=_set_transform,
    set_actor_location=_set_location,
)
