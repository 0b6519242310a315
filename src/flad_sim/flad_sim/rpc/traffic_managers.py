# SPDX-License-Identifier: Apache-2.0
"""The registry of TrafficManagers, which run inside clients; here only who serves which port."""

from __future__ import annotations

from typing import Any

from flad_sim.errors import RequestRefused
from flad_sim.protocol.structs import decode_int, decode_list, decode_str
from flad_sim.rpc.api import Api, Handler, values, voids


def _is_running(api: Api, port: Any) -> bool:
    return decode_int(port, "port") in api.traffic_managers


def _get(api: Api, port: Any) -> list[Any]:
    number = decode_int(port, "port")
    if number not in api.traffic_managers:
        raise RequestRefused(f"no TrafficManager is registered on port {number}")
    return [api.traffic_managers[number], number]


def _add(api: Api, endpoint: Any) -> bool:
    host, port = decode_list(endpoint, "endpoint", 2)[:2]
    number = decode_int(port, "port")
    if number in api.traffic_managers:
        return False
    api.register_traffic_manager(number, decode_str(host, "host"))
    return True


def _remove(api: Api, port: Any) -> bool:
    return api.traffic_managers.pop(decode_int(port, "port"), None) is not None


HANDLERS: dict[str, Handler] = (
    values(
        is_traffic_manager_running=_is_running,
        get_traffic_manager_running=_get,
        add_traffic_manager_running=_add,
        destroy_traffic_manager=_remove,
    )
    | voids()
)
