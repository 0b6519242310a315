# SPDX-License-Identifier: Apache-2.0
"""The data that the page's scripts draw, packed to fit a size; ``page`` puts it into HTML."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from flad_carla.report.packing import pack
from flad_carla.report.page_perception import pack_perception, pack_scenes, scenes_bytes
from flad_carla.report.run_file import RunRecord
from flad_carla.report.simplify import simplify
from flad_carla.run_log import LaneShape

_CURVE_PERIOD_S = 0.1  # the page draws curves at 10 Hz
_STEPS = {"t": 0.01, "x": 0.02, "y": 0.02, "yaw": 0.2, "completion": 0.01, "light": 1.0}
_STEPS |= {"answer": 0.0005, "completed": 0.01}
_DEFAULT_STEP = 0.002
_LANE_TOLERANCE_M = 0.06
_BASE64 = 4 / 3

_TWO_WHEELERS = (
    *("crossbike", "omafiets", "century", "bicycle", "low_rider", "ninja", "yzf", "zx125"),
    *("motorcycle", "bike"),
)

KIND_LABELS = {
    "collisions_pedestrian": "Hit a pedestrian",
    "collisions_vehicle": "Hit a vehicle",
    "collisions_layout": "Hit something static",
    "red_light": "Ran a red light",
    "stop_infraction": "Ran a stop sign",
    "outside_route_lanes": "Left the lanes",
    "route_dev": "Left the route",
    "route_timeout": "Ran out of time",
    "vehicle_blocked": "Got blocked",
    "min_speed_infractions": "Too slow",
    "yield_emergency_vehicle_infractions": "Did not yield",
    "scenario_timeouts": "Scenario ran out of time",
}


def kind_label(kind: str) -> str:
    """Words for a key of the results JSON."""
    return KIND_LABELS.get(kind, kind.replace("_", " ").capitalize())


def pack_runs(runs: Sequence[RunRecord], titles: Sequence[str], max_bytes: int) -> dict[str, Any]:
    """Pack runs and their towns; pictures get what the rest leaves of ``max_bytes``."""
    towns = {run.info.town: run.info.lanes for run in runs if run.info.lanes}
    data: dict[str, Any] = {
        "towns": {name: _pack_town(lanes) for name, lanes in towns.items()},
        "runs": [_pack_run(run, title) for run, title in zip(runs, titles, strict=True)],
    }
    blobs = sum(_packed_bytes(item) for run in data["runs"] for item in run.values())
    blobs += sum(len(town["points"]["blob"]) for town in data["towns"].values())
    room = max(0.0, max_bytes - 1.1 * blobs) / _BASE64
    wanted = sum(
        sum(map(len, (*run.thumbnails, *run.insets))) + scenes_bytes(run) / _BASE64 for run in runs
    )
    share = min(1.0, room / wanted) if wanted else 1.0
    for packed, run in zip(data["runs"], runs, strict=True):
        _add_pictures(packed, run, share)
    return data


def placed_infractions(run: RunRecord) -> list[dict[str, Any]]:
    """Events in the order of time, numbered; those without time and place come last."""
    events = [
        {
            "label": kind_label(event.kind),
            "message": event.message,
            "t": round(event.sim_time_s, 2),
            "x": round(event.x, 2),
            "y": round(event.y, 2),
            "placed": True,
        }
        for event in sorted(run.infractions, key=lambda event: event.sim_time_s)
    ]
    booked = Counter(event.kind for event in run.infractions)
    for kind, messages in run.result.infractions.items():
        for message in list(messages)[booked[kind] :]:
            events.append({"label": kind_label(kind), "message": message, "placed": False})
    return [{"no": number, **event} for number, event in enumerate(events, 1)]


def _pack_run(run: RunRecord, title: str) -> dict[str, Any]:
    every = _stride(run)
    index = {kind.actor_id: i for i, kind in enumerate(run.actor_kinds)}
    place = {light.light_id: i for i, light in enumerate(run.light_places)}
    route = run.info.route
    speeds = run.ego["speed"]
    notes = [run.info.town, _weather_words(run), run.result.status]
    return {
        "id": f"{run.info.route_id}/{run.info.repetition}",
        "title": title,
        "note": " · ".join(note for note in notes if note),
        "town": run.info.town,
        "topSpeed": round(float(np.max(speeds)), 2) if speeds.size else 1.0,
        "egoSize": run.ego_size,
        "trackStep": run.track_step_s,
        "kinds": [
            {
                "color": _actor_color(k.type_id),
                "length": round(k.length, 2),
                "width": round(k.width, 2),
                "height": round(k.height, 2),
            }
            for k in run.actor_kinds
        ],
        "lightPlaces": [(round(p.x, 2), round(p.y, 2)) for p in run.light_places],
        "infractions": placed_infractions(run),
        "texts": run.texts,
        "seen": pack_perception(run),
        "ego": pack(
            {
                name: (_thinned(run, name, every), _STEPS.get(name, _DEFAULT_STEP))
                for name in run.ego
            }
        ),
        "tracks": pack(
            {
                "actor": ([index[int(a)] for a in run.tracks["actor"]], 1.0),
                "step": (run.tracks["step"], 1.0),
                "x": (run.tracks["x"], 0.05),
                "y": (run.tracks["y"], 0.05),
                "yaw": (run.tracks["yaw"], 1.0),
            }
        ),
        "lights": pack(
            {
                "light": ([place[int(key)] for key in run.lights["light"]], 1.0),
                "t": (run.lights["t"], 0.05),
                "state": (run.lights["state"], 1.0),
            }
        ),
        "plans": pack(
            {
                "plan": (run.plans["plan"], 1.0),
                "t": (run.plans["t"], 0.01),
                "x": (run.plans["x"], 0.05),
                "y": (run.plans["y"], 0.05),
            }
        ),
        "route": pack({"x": ([p.x for p in route], 0.05), "y": ([p.y for p in route], 0.05)}),
    }


def _stride(run: RunRecord) -> int:
    t = run.ego["t"]
    if t.size < 2:
        return 1
    return max(1, round(_CURVE_PERIOD_S / max(1e-3, float(t[-1] - t[0]) / (t.size - 1))))


def _thinned(run: RunRecord, name: str, every: int) -> Any:
    """Every n-th value, and the last one."""
    values = run.ego[name]
    if values.size == 0:
        return values
    keep = np.unique(np.append(np.arange(0, values.size, every), values.size - 1))
    return values[keep]


def _pack_town(lanes: Sequence[LaneShape]) -> dict[str, Any]:
    shapes, points = [], []
    for lane in lanes:
        left = simplify(lane.left, _LANE_TOLERANCE_M)
        right = simplify(lane.right, _LANE_TOLERANCE_M)
        shapes.append((lane.kind, int(lane.is_junction), len(left), len(right)))
        points += [*left, *right]
    return {
        "lanes": shapes,
        "points": pack({"x": ([p[0] for p in points], 0.05), "y": ([p[1] for p in points], 0.05)}),
    }


def _add_pictures(packed: dict[str, Any], run: RunRecord, share: float) -> None:
    """The pictures and what was predicted at their moments, evenly thinned to ``share``."""
    count = len(run.thumbnails)
    keep = np.unique(np.linspace(0, count - 1, int(count * share)).astype(int)).tolist()
    packed["thumbs"] = {
        "name": run.camera,
        "times": [round(float(run.thumbnail_times[i]), 2) for i in keep],
        **_joined([run.thumbnails[i] for i in keep]),
    }
    if run.perception.num_moments:
        packed["insets"] = _joined([run.insets[i] for i in keep] if run.insets else [])
        packed["scenes"] = pack_scenes(run, keep)


def _joined(jpegs: Sequence[bytes]) -> dict[str, Any]:
    return {
        "sizes": [len(jpeg) for jpeg in jpegs],
        "blob": base64.b64encode(b"".join(jpegs)).decode("ascii"),
    }


def _packed_bytes(item: Any) -> int:
    if isinstance(item, dict) and "blob" in item:
        return len(item["blob"])
    return len(str(item))


def _weather_words(run: RunRecord) -> str:
    weather = run.info.weather
    if not weather:
        return ""
    altitude = weather.get("sun_altitude_angle", 45.0)
    words = ["night" if altitude < 0.0 else "low sun" if altitude < 20.0 else "day"]
    if weather.get("precipitation", 0.0) > 0.0:
        words.append("rain")
    elif weather.get("cloudiness", 0.0) > 60.0:
        words.append("clouds")
    if weather.get("fog_density", 0.0) > 30.0:
        words.append("fog")
    if weather.get("precipitation_deposits", 0.0) > 30.0:
        words.append("wet road")
    return ", ".join(words)


def _actor_color(type_id: str) -> str:
    """Name of the style's colour for an actor."""
    if type_id.startswith("walker"):
        return "walker"
    return "bike" if any(word in type_id for word in _TWO_WHEELERS) else "car"
