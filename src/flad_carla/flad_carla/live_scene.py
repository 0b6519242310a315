# SPDX-License-Identifier: Apache-2.0
"""A tick of a live world as the scene that targets are made of.

The counterpart of ``flad_perception.data.scenes``, which reads the same from a recording: a tick
and its recorded frame give equal targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from flad_carla.recorder.fields import StopSignWatch, forward_speed_mps
from flad_carla.run_log import (
    BodyView,
    BoxView,
    LightView,
    Point,
    PoseView,
    RoutePoint,
    RunInfo,
    TickEntry,
)
from flad_perception.scene import (
    VEHICLE,
    WALKER,
    LightState,
    Scene,
    SceneActor,
    a_red_light_stops,
    world_from_carla,
)

# As far as recordings tell: metres.
_ACTOR_RANGE_M = 50.0
_LIGHT_RANGE_M = 70.0
_STATES: dict[int, LightState] = {0: "red", 1: "yellow", 2: "green"}


class LiveScenes:
    """The scenes of one run; take every tick, in order: a stop sign is owed until it was obeyed."""

    def __init__(self, info: RunInfo) -> None:
        self._route: Sequence[RoutePoint] = info.route
        self._stops = StopSignWatch()

    def step(self, entry: TickEntry, future: Sequence[Point] = ()) -> Scene:
        """The scene of a tick.

        Args:
            entry: the tick.
            future: where the ego will be at the waypoints' times, in CARLA's world, where known.

        Raises:
            ValueError: if the expert has not answered yet: it says which light makes it stop.
        """
        expert = entry.expert
        owed = self._stops.step(entry, self._route)
        if expert is None:
            raise ValueError(f"tick {entry.frame} has no answer of the expert")
        here = entry.ego.pose
        light = _affecting(entry.lights, expert.affected_light_id, here)
        state: LightState = "none" if light is None else _STATES.get(light.state, "none")
        return Scene(
            ego=world_from_carla(here.x, here.y, here.yaw),
            speed_mps=forward_speed_mps(entry.ego),
            actors=tuple(_actor(body) for body in entry.actors if _is_seen(body, here)),
            red_light_stops=a_red_light_stops(expert.red_lights, expert.affected_light_id, state),
            stop_sign=owed or bool(expert.stop_signs),
            light_state=state,
            light_distance_m=math.nan if light is None else _to_trigger_m(light, here),
            future_m=tuple(_world(point) for point in future),
            far_node_m=_world(expert.far_node or (here.x, here.y)),
        )


def _is_seen(body: BodyView, here: PoseView) -> bool:
    if not body.type_id.startswith(("vehicle", "walker")):
        return False
    at = body.pose
    return math.dist((at.x, at.y, at.z), (here.x, here.y, here.z)) <= _ACTOR_RANGE_M


def _actor(body: BodyView) -> SceneActor:
    return SceneActor(
        actor_id=body.actor_id,
        kind=WALKER if body.type_id.startswith("walker") else VEHICLE,
        pose=world_from_carla(body.pose.x, body.pose.y, body.pose.yaw),
        half_length_m=body.extent[0],
        half_width_m=body.extent[1],
        speed_mps=body.speed_mps,
    )


def _affecting(lights: Sequence[LightView], light_id: int, here: PoseView) -> LightView | None:
    for light in lights:
        at = light.pose
        near = math.dist((at.x, at.y, at.z), (here.x, here.y, here.z)) <= _LIGHT_RANGE_M
        if light.actor_id == light_id and near:
            return light
    return None


def _to_trigger_m(light: LightView, here: PoseView) -> float:
    """To the nearest edge of the light's trigger box, which lies at the stop line; 0 within."""
    at = light.pose
    box = light.trigger or BoxView(center=(at.x, at.y, at.z), extent=(0.0, 0.0, 0.0))
    frame = PoseView(x=box.center[0], y=box.center[1], yaw=box.yaw)
    forward, right = frame.to_local(here.x, here.y)
    return math.hypot(max(0.0, abs(forward) - box.extent[0]), max(0.0, abs(right) - box.extent[1]))


def _world(point: Point) -> Point:
    place = world_from_carla(point[0], point[1])
    return (place.x_m, place.y_m)
