# SPDX-License-Identifier: Apache-2.0
"""An actor of the world as the client's Actor struct."""

from __future__ import annotations

from typing import Any

from flad_sim.actors import Actor, Sensor
from flad_sim.protocol.structs import encode_actor, encode_description
from flad_sim.rpc.api import Api


def encode(api: Api, actor: Actor) -> list[Any]:
    """The struct; only a sensor that streams carries a token."""
    blueprint = actor.blueprint
    streams = isinstance(actor, Sensor) and actor.stream_id
    return encode_actor(
        actor.actor_id,
        actor.parent_id,
        encode_description(
            blueprint.uid, blueprint.blueprint_id, actor.attributes, blueprint.kinds()
        ),
        actor.box,
        bytes([blueprint.semantic_tag]),
        api.stream_token(actor.stream_id) if streams else b"",
    )
