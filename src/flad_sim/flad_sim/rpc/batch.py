# SPDX-License-Identifier: Apache-2.0
"""Many commands in one call; each answers for itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from flad_sim import spawning
from flad_sim.errors import PlaceTaken, RequestRefused, SimError
from flad_sim.protocol.framing import value_error, value_result
from flad_sim.protocol.structs import (
    decode_bool,
    decode_description,
    decode_int,
    decode_list,
    decode_transform,
)
from flad_sim.rpc import actors, traffic_lights, vehicles, walkers
from flad_sim.rpc.api import Api, Handler, Shape

_LOG = logging.getLogger(__name__)
_FUTURE_ACTOR = 0  # in do_after: the actor that the command before it has spawned
_MAX_DEPTH = 8  # of do_after within do_after


def _apply_batch(api: Api, commands: Any, do_tick: Any = False) -> list[Any]:
    results = [_response(api, c) for c in decode_list(commands, "commands")]
    if decode_bool(do_tick, "do_tick"):
        api.tick()
    return results


def _response(api: Api, command: Any) -> Any:
    try:
        return value_result(_execute(api, command))
    except PlaceTaken as error:
        return value_error(str(error))
    except SimError as error:
        api.note(f"apply_batch refused: {error}")
        return value_error(str(error))
    except Exception as error:  # the boundary: one bad command must not spoil the others
        _LOG.exception("a command of a batch failed")
        return value_error(f"internal error: {error!r}")


def _execute(api: Api, command: Any, future_id: int = 0, depth: int = 0) -> int:
    """Run one command and return the id of its actor."""
    variant = decode_list(decode_list(command, "command", 1)[0], "command", 2)
    index, body = decode_int(variant[0], "command"), decode_list(variant[1], "command body", 1)
    if index == _SPAWN:
        return _spawn(api, body, depth)
    run = _COMMANDS.get(index)
    if run is None:
        raise RequestRefused(f"command {index} is not served in a batch")
    actor_id = decode_int(body[0], "actor")
    if actor_id == _FUTURE_ACTOR and future_id:
        actor_id = future_id
    try:
        run(api, actor_id, *body[1:])
    except TypeError as error:
        raise RequestRefused(f"command {index} with {len(body)} fields: {error}") from error
    return actor_id


def _spawn(api: Api, body: list[Any], depth: int) -> int:
    if len(body) < 2 or depth > _MAX_DEPTH:
        raise RequestRefused(f"SpawnActor with {len(body)} fields, nested {depth} deep")
    parent = decode_list(body[2], "parent", 1) if len(body) > 2 else [False]
    parent_id = decode_int(parent[1], "parent") if parent[0] and len(parent) > 1 else 0
    # body[3], the attachment type, is uninitialised memory of the client when there is no parent.
    actor = spawning.spawn(
        api.episode, decode_description(body[0]), decode_transform(body[1]), parent_id
    )
    for command in decode_list(body[5], "do_after") if len(body) > 5 else []:
        try:
            _execute(api, command, actor.actor_id, depth + 1)
        except SimError as error:
            api.note(f"apply_batch refused, after a spawn: {error}")
    return actor.actor_id


def _nothing(api: Api, actor_id: int, *args: Any) -> None:
    actors.find(api, actor_id)


_SPAWN = 0
_COMMANDS: dict[int, Callable[..., Any]] = {
    1: actors.destroy,
    2: vehicles.apply_control,
    3: vehicles.apply_ackermann,
    4: walkers.apply_control,
    5: vehicles.apply_physics,
    6: actors.set_transform,
    7: walkers.apply_state,
    8: actors.set_target_velocity,
    9: actors.set_target_angular_velocity,
    10: actors.add_impulse,
    11: actors.add_force,
    12: actors.add_angular_impulse,
    13: actors.add_torque,
    14: actors.set_simulate_physics,
    15: actors.set_enable_gravity,
    16: _nothing,  # SetAutopilot: the client's TrafficManager does it
    17: _nothing,  # ShowDebugTelemetry
    18: vehicles.set_lights,
    19: actors.set_location,
    21: traffic_lights.set_state,
}

HANDLERS: dict[str, Handler] = {"apply_batch": Handler(_apply_batch, Shape.BARE)}
