# SPDX-License-Identifier: Apache-2.0
"""Calls that vehicles understand."""

from __future__ import annotations

from typing import Any

from flad_sim import spawning
from flad_sim.protocol.structs import clamp_control, decode_control, decode_int
from flad_sim.rpc.api import Api, Handler, values, voids


def _control(api: Api, actor_id: Any, control: Any) -> None:
    wanted = decode_control(control)
    vehicle = spawning.take_over(api.world, decode_int(actor_id, "actor"))
    vehicle.body.control = clamp_control(wanted)


HANDLERS: dict[str, Handler] = values() | voids(
    apply_control_to_vehicle=_control,
)
