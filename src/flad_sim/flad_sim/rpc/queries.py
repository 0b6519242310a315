# SPDX-License-Identifier: Apache-2.0
"""Questions about the town's geometry: rays, boxes, environment objects."""

from __future__ import annotations

from typing import Any

from flad_sim.protocol.structs import (
    decode_int,
    decode_number,
    decode_vector,
    encode_box,
)
from flad_sim.rpc.api import Api, Handler, values
from flad_sim.types import BoundingBox, StaticBox, Tag, Vec3

_ANY = 255
_MAX_DISTANCE_M = 1.0e5


def _cast_ray(api: Api, start: Any, end: Any) -> list[Any]:
    hits = api.episode.renderer.cast_ray(
        api.episode.visible(), decode_vector(start, "start"), decode_vector(end, "end")
    )
    return [_labelled(point, tag) for point, tag in hits]


def _project_point(api: Api, location: Any, direction: Any, distance: Any) -> list[Any]:
    start = decode_vector(location, "location")
    d = decode_vector(direction, "direction")
    length = sum(v * v for v in d) ** 0.5
    reach = decode_number(distance, "distance", _MAX_DISTANCE_M)
    if length == 0.0 or reach <= 0.0:
        return [False, _labelled(start, Tag.UNLABELED)]
    scale = reach / length
    end = (start[0] + d[0] * scale, start[1] + d[1] * scale, start[2] + d[2] * scale)
    hits = api.episode.renderer.cast_ray(api.episode.visible(), start, end)
    return [True, _labelled(*hits[0])] if hits else [False, _labelled(start, Tag.UNLABELED)]


def _labelled(point: Vec3, tag: int) -> list[Any]:
    return [list(point), int(tag)]


def _level_boxes(api: Api, tag: Any) -> list[Any]:
    return [encode_box(_box(b)) for _, b in _selected(api, tag)]


def _environment_objects(api: Api, tag: Any) -> list[Any]:
    """Arrays of transform, box (both in the world), id, name, label: the order of the client."""
    found = []
    for number, box in _selected(api, tag):
        transform = [list(box.center), [0.0, box.yaw, 0.0]]
        found.append([transform, encode_box(_box(box)), number, _name(number, box), int(box.tag)])
    return found


def _object_names(api: Api) -> list[str]:
    return [_name(number, box) for number, box in _selected(api, _ANY)]


def _selected(api: Api, tag: Any) -> list[tuple[int, StaticBox]]:
    wanted = decode_int(tag, "object type")
    boxes = enumerate(api.episode.scenery.boxes, start=1)
    return [(i, b) for i, b in boxes if wanted in (_ANY, int(b.tag))]


def _box(box: StaticBox) -> BoundingBox:
    return BoundingBox(box.center, box.extent, box.yaw)


def _name(number: int, box: StaticBox) -> str:
    return f"{box.type_id.rsplit('.', 1)[-1]}_{number}"


HANDLERS: dict[str, Handler] = values(
    cast_ray=_cast_ray,
    project_point=_project_point,
    get_all_level_BBs=_level_boxes,
    get_environment_objects=_environment_objects,
    get_names_of_all_objects=_object_names,
)
