# SPDX-License-Identifier: Apache-2.0
"""An actor as the client's struct, with the token of its stream."""

from __future__ import annotations

from typing import Any

from flad_sim.actors import Actor, Sensor
from flad_sim.encoding import actor_struct
from flad_sim.rpc.api import Api


def encode(api: Api, actor: Actor) -> list[Any]:
    """The struct; only a sensor that streams carries a token."""
    if isinstance(actor, Sensor) and actor.stream_id:
        return actor_struct(actor, api.stream_token(actor.stream_id))
    return actor_struct(actor)
