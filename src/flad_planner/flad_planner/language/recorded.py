# SPDX-License-Identifier: Apache-2.0
"""A recording's measurements as moments that a narrator can be asked about.

Reads the fields that LMDrive writes (``measurements_all.json``) and nothing else. The route is
put together from each frame's ``future_waypoints``, so it is the one that was driven by.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flad_common.config import knob
from flad_planner.language.notices import LightColour, Surroundings
from flad_planner.language.route_view import (
    OutlinePoint,
    PlaceFacts,
    Request,
    RouteOutline,
    RouteView,
)

FRAME_S = 0.1
_JOIN_POINTS = 60  # how far the route index may move between two frames
_LIGHT_BEFORE_M = 15.0  # a light this close before a junction is the junction's
_HARD_BRAKE_MPS2 = 4.0


class RecordingError(ValueError):
    """Measurements that cannot be read; the text names the frame and the field."""


@dataclass(frozen=True, kw_only=True)
class HindsightConfig:
    """Where a recording's slowing and stopping becomes something that was asked for."""

    probability: float = knob(
        0.5, unit="1", doc="Chance that a run's slowing (and its stopping) is told, once each."
    )
    min_drop_mps: float = knob(2.0, unit="m/s", doc="Least loss of speed that is a slowing.")
    min_frames: int = knob(8, unit="frames", doc="Shortest slowing or stopping.")
    stand_frames: int = knob(10, unit="frames", doc="How long a stop lasts beyond standstill.")

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"probability must be in 0..1, got {self.probability}")
        if not self.min_drop_mps > 0.0:
            raise ValueError(f"min_drop_mps must be positive, got {self.min_drop_mps}")
        if self.min_frames < 1 or self.stand_frames < 1:
            raise ValueError(
                f"min_frames and stand_frames must be at least 1, got {self.min_frames} and "
                f"{self.stand_frames}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """One recorded frame as the narrator sees it."""

    time_s: float
    view: RouteView
    surroundings: Surroundings


@dataclass(frozen=True, slots=True)
class RecordedRoute:
    """The route of a run and where on it each frame was."""

    points: tuple[OutlinePoint, ...]  # GPS plane: x north, y east
    index: tuple[int, ...]  # per frame, the first point ahead


def recorded_route(measurements: Sequence[Mapping[str, Any]]) -> RecordedRoute:
    """Put the route together from what each frame saw of it.

    Raises:
        RecordingError: if there are no frames, or a frame's points do not join the others.
    """
    if not measurements:
        raise RecordingError("the recording has no frames")
    points: list[OutlinePoint] = []
    index: list[int] = []
    at = 0
    for frame, values in enumerate(measurements):
        seen = _field(values, "future_waypoints", frame)
        if not isinstance(seen, list):
            raise RecordingError(f"frame {frame}: future_waypoints is {seen!r}, expected a list")
        ahead = [_route_point(raw, frame) for raw in seen]
        if ahead:
            at = _join(points, ahead, at, frame)
        index.append(at)
    if len(points) < 2:
        raise RecordingError(f"the recording's route has {len(points)} points, it needs 2")
    return RecordedRoute(tuple(points), tuple(index))


def moments(
    measurements: Sequence[Mapping[str, Any]],
    facts: Mapping[int, PlaceFacts] | None = None,
    light_states: Sequence[int | None] | None = None,
    lanes: Sequence[tuple[bool, bool]] | None = None,
    requests: Sequence[Request] | None = None,
) -> list[Moment]:
    """The moments of a run, one per frame.

    Args:
        measurements: the frames, every 0.1 s.
        facts: what the map knows of the route's manoeuvres, by number from 0; whether there
            are lights is read from the recording where it is not given.
        light_states: per frame, CARLA's state of the next light on the route, if known. Without
            it only red is: from what made the expert brake.
        lanes: per frame, whether there is a lane to change to on the left and right.
        requests: per frame, see :func:`speed_requests`.

    Raises:
        RecordingError: on measurements that cannot be read.
        ValueError: if a per-frame argument has another length.
    """
    for name, per_frame in (
        ("light_states", light_states),
        ("lanes", lanes),
        ("requests", requests),
    ):
        if per_frame is not None and len(per_frame) != len(measurements):
            raise ValueError(f"{name} has {len(per_frame)} frames of {len(measurements)}")
    route = recorded_route(measurements)
    plain = RouteOutline(route.points)
    along = [_along_m(plain, route, f, m) for f, m in enumerate(measurements)]
    outline = RouteOutline(route.points, _all_facts(plain, facts or {}, along, measurements))
    result = []
    for frame, values in enumerate(measurements):
        view = outline.view(along[frame], _number(values, "speed", frame))
        view = replace(
            view,
            is_braking=bool(_field(values, "should_brake", frame)),
            request=requests[frame] if requests is not None else Request.DRIVE,
            has_left_lane=lanes[frame][0] if lanes is not None else None,
            has_right_lane=lanes[frame][1] if lanes is not None else None,
        )
        state = light_states[frame] if light_states is not None else None
        surroundings = _surroundings(measurements, frame, view, state)
        result.append(Moment(time_s=frame * FRAME_S, view=view, surroundings=surroundings))
    return result


def speed_requests(
    measurements: Sequence[Mapping[str, Any]], config: HindsightConfig, seed: int
) -> list[Request]:
    """Where "slow down" and "stop" were true in hindsight, told at most once each per run.

    A recording is driven without anybody asking for it, so the driver's own slowing (behind
    traffic, before a light) is what the words are put to.
    """
    speeds = [_number(values, "speed", f) for f, values in enumerate(measurements)]
    requests = [Request.DRIVE] * len(speeds)
    slowing, stopping = _slowdowns(speeds, config)
    for request, spans in ((Request.SLOW_DOWN, slowing), (Request.STOP, stopping)):
        rng = random.Random(f"{seed}/{request.value}")
        if not spans or rng.random() >= config.probability:
            continue
        first, last = rng.choice(spans)
        if all(r is Request.DRIVE for r in requests[first:last]):
            requests[first:last] = [request] * (last - first)
    return requests


_Spans = list[tuple[int, int]]


def _slowdowns(speeds: Sequence[float], config: HindsightConfig) -> tuple[_Spans, _Spans]:
    """Stretches of falling speed: those that end in motion, and those that end standing."""
    slowing: _Spans = []
    stopping: _Spans = []
    frame = 0
    while frame < len(speeds) - 1:
        last = frame
        while last + 1 < len(speeds) and speeds[last + 1] < speeds[last] - 0.02:
            last += 1
        if (
            last - frame >= config.min_frames
            and speeds[frame] - speeds[last] >= config.min_drop_mps
        ):
            if speeds[last] > 1.0:
                slowing.append((frame, last))
            elif speeds[last] < 0.3:
                stopping.append((frame, min(len(speeds), last + config.stand_frames)))
        frame = max(last, frame + 1)
    return slowing, stopping


def _join(points: list[OutlinePoint], ahead: Sequence[OutlinePoint], at: int, frame: int) -> int:
    """Where ``ahead`` begins in ``points``, which it extends."""
    if not points:
        points.extend(ahead)
        return 0
    for start in range(at, min(len(points), at + _JOIN_POINTS)):
        if points[start] == ahead[0]:
            points.extend(ahead[len(points) - start :])
            return start
    raise RecordingError(
        f"frame {frame}: its route point ({ahead[0].x_m:.1f}, {ahead[0].y_m:.1f}) is not on the "
        "route of the frames before; the recording is of more than one run, or frames are missing"
    )


def _along_m(
    outline: RouteOutline, route: RecordedRoute, frame: int, values: Mapping[str, Any]
) -> float:
    """Distance along the route, from the true position; ``(-y, x)`` is the GPS plane."""
    i = min(route.index[frame], len(route.points) - 2)
    here, ahead = route.points[i], route.points[i + 1]
    dx, dy = ahead.x_m - here.x_m, ahead.y_m - here.y_m
    length = max(math.hypot(dx, dy), 1e-6)
    north, east = -_number(values, "y", frame), _number(values, "x", frame)
    beyond = ((north - here.x_m) * dx + (east - here.y_m) * dy) / length
    return outline.stations_m[i] + max(-2.0, min(2.0, beyond))


def _all_facts(
    outline: RouteOutline,
    facts: Mapping[int, PlaceFacts],
    along_m: Sequence[float],
    measurements: Sequence[Mapping[str, Any]],
) -> dict[int, PlaceFacts]:
    result = dict(facts)
    for number, manoeuvre in enumerate(outline.manoeuvres):
        if number in result or manoeuvre.command > 3:  # lane changes have no lights
            continue
        has_light = any(
            0.0 <= manoeuvre.start_m - along <= _LIGHT_BEFORE_M
            and _number(values, "affected_light_id", frame) >= 0
            for frame, (along, values) in enumerate(zip(along_m, measurements, strict=True))
        )
        result[number] = PlaceFacts(has_light=has_light)
    return result


def _surroundings(
    measurements: Sequence[Mapping[str, Any]], frame: int, view: RouteView, state: int | None
) -> Surroundings:
    values = measurements[frame]
    light: LightColour | None = None
    if state is not None and state in tuple(LightColour):
        light = LightColour(state)
    elif state is None and _field(values, "is_red_light_present", frame):
        light = LightColour.RED
    lit = next((m for m in view.manoeuvres if m.facts.has_light), None)
    light_m = None if lit is None else max(0.0, lit.start_m - view.along_m)
    before = max(0, frame - round(1.0 / FRAME_S))
    loss = _number(measurements[before], "speed", before) - view.speed_mps
    is_hard = frame > before and loss / ((frame - before) * FRAME_S) >= _HARD_BRAKE_MPS2
    return Surroundings(
        light=light,
        light_m=light_m,
        has_pedestrian=bool(_field(values, "is_pedestrian_present", frame)),
        has_cyclist=bool(_field(values, "is_bike_present", frame)),
        has_sudden_stop=is_hard and bool(_field(values, "is_lane_vehicle_present", frame)),
    )


def _route_point(raw: Any, frame: int) -> OutlinePoint:
    is_point = isinstance(raw, list) and len(raw) == 3
    if not (is_point and all(isinstance(v, int | float) and math.isfinite(v) for v in raw)):
        raise RecordingError(f"frame {frame}: a route point is {raw!r}, expected [x, y, command]")
    return OutlinePoint(raw[0], raw[1], raw[2])


def _field(values: Mapping[str, Any], name: str, frame: int) -> Any:
    if name not in values:
        raise RecordingError(f"frame {frame} has no field {name!r}")
    return values[name]


def _number(values: Mapping[str, Any], name: str, frame: int) -> float:
    value = _field(values, name, frame)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecordingError(f"frame {frame}: {name} is {value!r}, expected a number")
    return float(value)
