# SPDX-License-Identifier: Apache-2.0
"""One tick of a CARLA world as plain values (``run_log``'s), for criteria, expert and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import carla

from flad_carla.run_log import BodyView, BoxView, LightView, PoseView, StopSignView, Vec3

BACKGROUND_ROLES = ("background", "autopilot")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldState:
    """Everything of one tick."""

    ego: BodyView
    actors: tuple[BodyView, ...]
    lights: tuple[LightView, ...]
    stop_signs: tuple[StopSignView, ...]
    speed_limit_mps: float
    traffic_speed_mps: float | None  # mean over the background vehicles


@dataclass(frozen=True, slots=True)
class _Known:
    """What does not change about an actor."""

    type_id: str
    extent: Vec3
    center: Vec3
    background: bool


class WorldView:
    """Reads a world around one ego. Single-threaded; make a new one for every episode."""

    def __init__(self, world: carla.World, ego: carla.Vehicle) -> None:
        self._world = world
        self._ego = ego
        self._known: dict[int, _Known | None] = {}
        actors = world.get_actors()
        self._lights = [
            (a, _pose(a.get_transform()), _trigger(a)) for a in _of(actors, "traffic.traffic_light")
        ]
        self._stops = [
            StopSignView(actor_id=a.id, pose=_pose(a.get_transform()), trigger=_trigger(a))
            for a in _of(actors, "traffic.stop")
        ]
        self._learn(actors)

    @property
    def ego(self) -> carla.Vehicle:
        """The vehicle that this is seen from."""
        return self._ego

    @property
    def lights(self) -> Sequence[LightView]:
        """The traffic lights as they are now."""
        return tuple(
            LightView(actor_id=a.id, state=int(a.state), pose=pose, trigger=trigger)
            for a, pose, trigger in self._lights
        )

    @property
    def stop_signs(self) -> Sequence[StopSignView]:
        """The stop signs of the town."""
        return tuple(self._stops)

    def read(self, snapshot: carla.WorldSnapshot) -> WorldState:
        """The state in ``snapshot``."""
        states = sorted(snapshot, key=lambda actor: actor.id)  # a run repeats in this order
        if unknown := [a.id for a in states if a.id not in self._known]:
            self._learn(self._world.get_actors(unknown))
            for actor_id in unknown:
                self._known.setdefault(actor_id, None)
        bodies: list[BodyView] = []
        ego: BodyView | None = None
        total, count = 0.0, 0
        for state in states:
            known = self._known[state.id]
            if known is None:
                continue
            body = _body(state, known)
            if state.id == self._ego.id:
                ego = body
                continue
            bodies.append(body)
            if known.background:
                total += body.speed_mps
                count += 1
        if ego is None:
            raise RuntimeError(f"the ego (actor {self._ego.id}) is gone from the world")
        return WorldState(
            ego=ego,
            actors=tuple(bodies),
            lights=tuple(self.lights),
            stop_signs=tuple(self._stops),
            speed_limit_mps=float(self._ego.get_speed_limit()) / 3.6,
            traffic_speed_mps=total / count if count else None,
        )

    def _learn(self, actors: Any) -> None:
        for actor in actors:
            kind = actor.type_id
            if not kind.startswith(("vehicle.", "walker.", "static.prop")):
                self._known[actor.id] = None
                continue
            box = actor.bounding_box
            self._known[actor.id] = _Known(
                kind,
                (box.extent.x, box.extent.y, box.extent.z),
                (box.location.x, box.location.y, box.location.z),
                kind.startswith("vehicle.")
                and actor.attributes.get("role_name", "") in BACKGROUND_ROLES,
            )


def _of(actors: Any, type_id: str) -> list[Any]:
    return sorted((a for a in actors if a.type_id == type_id), key=lambda a: a.id)


def _body(state: Any, known: _Known) -> BodyView:
    velocity = state.get_velocity()
    turn = state.get_angular_velocity()
    accel = state.get_acceleration()
    return BodyView(
        actor_id=state.id,
        type_id=known.type_id,
        pose=_pose(state.get_transform()),
        extent=known.extent,
        center=known.center,
        velocity=(velocity.x, velocity.y, velocity.z),
        acceleration=(accel.x, accel.y, accel.z),
        angular_velocity=(turn.x, turn.y, turn.z),
    )


def _pose(transform: carla.Transform) -> PoseView:
    at, r = transform.location, transform.rotation
    return PoseView(x=at.x, y=at.y, z=at.z, pitch=r.pitch, yaw=r.yaw, roll=r.roll)


def _trigger(actor: Any) -> BoxView:
    box, transform = actor.trigger_volume, actor.get_transform()
    center = transform.transform(box.location)
    return BoxView(
        center=(center.x, center.y, center.z),
        extent=(box.extent.x, box.extent.y, box.extent.z),
        yaw=transform.rotation.yaw + box.rotation.yaw,
    )
