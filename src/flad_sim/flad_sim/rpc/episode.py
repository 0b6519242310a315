# SPDX-License-Identifier: Apache-2.0
"""Calls about the episode: version, map, settings, ticks, weather, streams."""

from __future__ import annotations

from typing import Any

from flad_sim.protocol.structs import (
    decode_int,
    decode_settings,
    decode_str,
    decode_weather,
    encode_settings,
    encode_transform,
    encode_weather,
)
from flad_sim.protocol.tokens import EPISODE_STREAM
from flad_sim.rpc.api import Api, Handler, values, voids
from flad_sim.rpc.encode import encode

VERSION = "0.9.16"


def _version(api: Api) -> str:
    return VERSION


def _available_maps(api: Api) -> list[str]:
    return [f"/Game/Carla/Maps/{name}" for name in api.world.town_names()]


def _episode_info(api: Api) -> list[Any]:
    return [api.world.episode_id, [api.stream_token(EPISODE_STREAM)]]


def _sensor_token(api: Api, stream_id: Any) -> list[Any]:
    stream = decode_int(stream_id, "stream_id")
    api.expect_subscriber(stream)
    return [api.stream_token(stream)]


def _settings(api: Api) -> list[Any]:
    return encode_settings(api.world.settings)


def _set_settings(api: Api, settings: Any) -> int:
    return api.apply_settings(decode_settings(settings))


def _map_info(api: Api) -> list[Any]:
    world = api.world
    points = [encode_transform(t) for t in world.episode.spawn_points]
    return [f"Carla/Maps/{world.episode.town.name}", points]


def _map_data(api: Api) -> str:
    return api.world.episode.town.xodr_text


def _required_files(api: Api, folder: Any = "", download: Any = True) -> list[str]:
    return []


def _lights_state(api: Api, client: Any) -> list[Any]:
    return []


def _tick(api: Api) -> int:
    return api.tick()


def _load(api: Api, name: Any, reset_settings: Any = True, layers: Any = 0xFFFF) -> None:
    town = decode_str(name, "map name").rsplit("/", 1)[-1]
    api.change_episode(lambda: api.world.load(town, reset_settings=bool(reset_settings)))


def _copy_opendrive(api: Api, text: Any, parameters: Any = None) -> None:
    api.world.keep_opendrive(decode_str(text, "OpenDRIVE text"))


def _ignore(api: Api, *args: Any) -> None:
    return None


def _spectator(api: Api) -> list[Any]:
    return encode(api, api.episode.spectator)


def _definitions(api: Api) -> list[Any]:
    return api.world.library.definitions()


def _weather(api: Api) -> list[float]:
    return encode_weather(api.episode.weather)


def _set_weather(api: Api, weather: Any) -> None:
    api.episode.weather = decode_weather(weather)


HANDLERS: dict[str, Handler] = values(
    version=_version,
    get_available_maps=_available_maps,
    get_episode_info=_episode_info,
    get_sensor_token=_sensor_token,
    get_episode_settings=_settings,
    set_episode_settings=_set_settings,
    get_map_info=_map_info,
    get_map_data=_map_data,
    get_required_files=_required_files,
    query_lights_state=_lights_state,
    tick_cue=_tick,
    get_actor_definitions=_definitions,
    get_spectator=_spectator,
    get_weather_parameters=_weather,
) | voids(
    load_new_episode=_load,
    copy_opendrive_to_file=_copy_opendrive,
    load_map_layer=_ignore,
    unload_map_layer=_ignore,
    update_lights_state=_ignore,
    update_day_night_cycle=_ignore,
    set_weather_parameters=_set_weather,
)
