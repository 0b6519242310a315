# SPDX-License-Identifier: Apache-2.0
"""Calls about traffic lights; their programs run in ``flad_sim.traffic``."""

from __future__ import annotations

from typing import Any

from flad_sim.actors import TrafficLight
from flad_sim.errors import RequestRefused
from flad_sim.protocol.structs import decode_bool, decode_int, decode_number, encode_box
from flad_sim.rpc.api import Api, Handler, values, voids
from flad_sim.types import BoundingBox, LightState

_HEAD_EXTENT = (0.2, 0.25, 0.55)  # half sizes of a head with three 0.3 m lamps


def _light(api: Api, actor_id: Any) -> TrafficLight:
    return api.episode.actors.get(decode_int(actor_id, "traffic light"), TrafficLight)


def set_state(api: Api, actor_id: Any, state: Any) -> None:
    """Show a state until the program moves on (for good when frozen)."""
    number = decode_int(state, "traffic light state")
    if number not in [s.value for s in LightState]:
        raise RequestRefused(f"traffic light state must be 0 to 4, got {number}")
    light = _light(api, actor_id)
    api.episode.traffic.set_light(light.signal.signal_id, LightState(number))
    api.episode.read_lights()


def _set_green(api: Api, actor_id: Any, seconds: Any) -> None:
    api.episode.traffic.set_light_times(
        _light(api, actor_id).signal.signal_id, green=_duration(seconds)
    )
    api.episode.read_lights()


def _set_yellow(api: Api, actor_id: Any, seconds: Any) -> None:
    api.episode.traffic.set_light_times(
        _light(api, actor_id).signal.signal_id, yellow=_duration(seconds)
    )
    api.episode.read_lights()


def _set_red(api: Api, actor_id: Any, seconds: Any) -> None:
    api.episode.traffic.set_light_times(
        _light(api, actor_id).signal.signal_id, red=_duration(seconds)
    )
    api.episode.read_lights()


def _duration(seconds: Any) -> float:
    duration_s = decode_number(seconds, "seconds", 1.0e5)
    if duration_s < 0.0:
        raise RequestRefused(f"seconds must not be negative, got {duration_s}")
    return duration_s


def _freeze_all(api: Api, frozen: Any) -> None:
    api.episode.traffic.freeze_lights(decode_bool(frozen, "frozen"))
    api.episode.read_lights()


def _reset_group(api: Api, actor_id: Any) -> None:
    _light(api, actor_id)
    _reset_all(api)


def _reset_all(api: Api) -> None:
    api.episode.traffic.reset_lights()
    api.episode.read_lights()


def _group(api: Api, actor_id: Any) -> list[int]:
    light = _light(api, actor_id)
    ids = set(api.episode.traffic.light_group(light.signal.signal_id))
    return [a.actor_id for a in api.episode.lights if a.signal.signal_id in ids]


def _head_boxes(api: Api, actor_id: Any) -> list[Any]:
    signal = _light(api, actor_id).signal
    t = signal.transform
    head = BoundingBox((t.x, t.y, t.z + signal.height), _HEAD_EXTENT, t.yaw)
    return [encode_box(head, decode_int(actor_id, "traffic light"))]


HANDLERS: dict[str, Handler] = values(
    get_group_traffic_lights=_group,
    get_light_boxes=_head_boxes,
) | voids(
    set_traffic_light_state=set_state,
    set_traffic_light_green_time=_set_green,
    set_traffic_light_yellow_time=_set_yellow,
    set_traffic_light_red_time=_set_red,
    freeze_all_traffic_lights=_freeze_all,
    reset_traffic_light_group=_reset_group,
    reset_all_traffic_lights=_reset_all,
)
