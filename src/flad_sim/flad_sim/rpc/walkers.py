# SPDX-License-Identifier: Apache-2.0
"""Calls that pedestrians understand."""

from __future__ import annotations

from typing import Any

from flad_sim import spawning
from flad_sim.protocol.structs import (
    decode_int,
    decode_number,
    decode_transform,
    decode_walker_control,
)
from flad_sim.rpc.api import Api, Handler, voids


def apply_control(api: Api, actor_id: Any, control: Any) -> None:
    """Walk in a direction at a speed until told otherwise."""
    wanted = decode_walker_control(control)
    walker = spawning.take_over_walker(api.episode, decode_int(actor_id, "actor"))
    walker.body.control = wanted


def apply_state(api: Api, actor_id: Any, transform: Any, speed: Any) -> None:
    """Put a pedestrian somewhere, walking along its own forward axis at a speed."""
    pose = decode_transform(transform)
    speed_mps = decode_number(speed, "speed", 100.0)
    spawning.place(api.episode, decode_int(actor_id, "actor"), pose)
    apply_control(api, actor_id, [list(pose.forward()), speed_mps, False])


HANDLERS: dict[str, Handler] = voids(apply_control_to_walker=apply_control)
