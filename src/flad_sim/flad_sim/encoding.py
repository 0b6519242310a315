# SPDX-License-Identifier: Apache-2.0
"""An actor of the world, or a piece of its scenery, as the client's Actor struct."""

from __future__ import annotations

from typing import Any

from flad_sim.actors import Actor
from flad_sim.protocol.structs import encode_actor, encode_description
from flad_sim.types import BoundingBox, StaticBox


def actor_struct(actor: Actor, token: bytes = b"") -> list[Any]:
    """The struct; ``token`` only for a sensor that streams."""
    blueprint = actor.blueprint
    description = encode_description(
        blueprint.uid, blueprint.blueprint_id, actor.attributes, blueprint.kinds()
    )
    tags = bytes([blueprint.semantic_tag])
    return encode_actor(actor.actor_id, actor.parent_id, description, actor.box, tags, token)


def scenery_struct(box: StaticBox) -> list[Any]:
    """Scenery has no id: 0, and a type such as ``static.building``."""
    description = encode_description(0, box.type_id, {}, {})
    extent = BoundingBox((0.0, 0.0, 0.0), box.extent)
    return encode_actor(0, 0, description, extent, bytes([box.tag]), b"")
