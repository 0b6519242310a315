# SPDX-License-Identifier: Apache-2.0
"""Calls that are answered but change nothing: nobody looks at this world through a window."""

from __future__ import annotations

from typing import Any

from flad_sim.protocol.structs import decode_int
from flad_sim.rpc.api import Api, Handler, values, voids


def _ignore(api: Api, *args: Any) -> None:
    """Accepted so that programs which draw while they drive run unchanged."""


def _no_ros(api: Api, stream_id: Any) -> bool:
    decode_int(stream_id, "stream_id")
    return False


HANDLERS: dict[str, Handler] = values(is_sensor_enabled_for_ros=_no_ros) | voids(
    draw_debug_shape=_ignore,
    clear_debug_shape=_ignore,
    clear_debug_string=_ignore,
)
