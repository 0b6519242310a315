# SPDX-License-Identifier: Apache-2.0
"""One episode: the actors of a loaded town and how a frame moves them.

(1) client controls move bodies, (2) contacts, (3) traffic, lights and pedestrians. What follows,
snapshot and measurements, is the part of ``flad_sim.world``; spawning is ``flad_sim.spawning``.
Single-threaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from flad_sim.actors import (
    Actor,
    ClientVehicle,
    ClientWalker,
    Prop,
    TrafficLight,
    TrafficVehicle,
    TrafficWalker,
    Vehicle,
)
from flad_sim.blueprints import SPECTATOR, BlueprintLibrary
from flad_sim.height_field import HeightField
from flad_sim.physics import Contact, ContactSolver, Obstacle
from flad_sim.registry import ActorRegistry
from flad_sim.scenery import Scenery
from flad_sim.sensors import Renderer, RendererConfig
from flad_sim.sensors.kinematic import KinematicSensors
from flad_sim.signals import place_signals
from flad_sim.towns import Town
from flad_sim.traffic import Traffic
from flad_sim.triggers import LightTriggers
from flad_sim.types import ClientVehicle as MirroredVehicle
from flad_sim.types import (
    MovingActor,
    Pose,
    Transform,
    VisibleActor,
    VisibleWorld,
    Weather,
)

_SPECTATOR_HEIGHT_M = 10.0
_LAMPS_BELOW_DEG = 5.0  # altitude of the sun
_HEAD_LAMPS = 0x1 | 0x2  # Position and LowBeam of CARLA's VehicleLightState
_SPEED_LIMIT_EVERY = 10  # frames between two looks at the map, per vehicle


class Episode:
    """Everything that begins anew when a map is loaded."""

    def __init__(
        self,
        town: Town,
        scenery: Scenery,
        library: BlueprintLibrary,
        stream_ids: Iterator[int],
        *,
        seed: int,
        num_vehicles: int,
        num_walkers: int,
    ) -> None:
        self.town = town
        self.library = library
        self.stream_ids = stream_ids
        self.weather = Weather()
        self.num_ticks = 0
        self.elapsed_s = 0.0
        self.delta_s = 0.0  # of the last frame
        self.actors = ActorRegistry()
        self.spectator = self.actors.add(
            Actor(
                actor_id=self.actors.new_id(),
                blueprint=library[SPECTATOR],
                attributes={},
                pose=Pose(Transform(z=_SPECTATOR_HEIGHT_M)),
            )
        )
        self.spawn_points = town.network.spawn_points()
        place_signals(self.actors, library, town.network.signals)
        self.lights = self.actors.of_kind(TrafficLight)
        self._triggers = LightTriggers(self.lights)
        self._heights = HeightField(town.network)
        self.scenery = scenery
        self.contact_solver = ContactSolver(self.scenery.boxes)
        self.contacts: list[Contact] = []  # of the last frame
        self.renderer = Renderer(self.scenery, RendererConfig(seed=seed))
        self.kinematic = KinematicSensors(self.scenery.boxes, town.network.geo.to_geo, seed)
        self.traffic = Traffic(town, seed=seed, num_vehicles=num_vehicles, num_walkers=num_walkers)
        self._movers: dict[str, int] = {}  # actor id by key of the traffic simulation
        self._meet_movers()
        self.read_lights()

    def close(self) -> None:
        """Release what lives outside Python's memory."""
        self.traffic.close()
        self.renderer.close()

    def advance(self, delta_s: float) -> None:
        """Move everything by one frame."""
        self.num_ticks += 1
        self.elapsed_s += delta_s
        self.delta_s = delta_s
        self._move_driven(delta_s)
        self._move_traffic(delta_s)
        self._follow_parents()
        vehicles = self.actors.of_kind(Vehicle)
        self._triggers.update(vehicles)
        self._read_speed_limits(vehicles)
        self._switch_head_lamps()

    def obstacles(self, *, with_driven: bool = False) -> list[Obstacle]:
        """Solid actors that a contact does not move: traffic and props."""
        solid: tuple[type[Actor], ...] = (TrafficVehicle, TrafficWalker, Prop)
        if with_driven:
            solid = (*solid, ClientVehicle, ClientWalker)
        return [
            Obstacle(a.actor_id, a.pose, a.box, a.blueprint.mass_kg)
            for a in self.actors
            if isinstance(a, solid)
        ]

    def visible(self) -> VisibleWorld:
        """What the sensors see of this frame."""
        return VisibleWorld(
            frame=self.num_ticks,
            elapsed_s=self.elapsed_s,
            delta_s=self.delta_s,
            weather=self.weather,
            actors=tuple(_visible(a) for a in self.actors if a.blueprint.has_body),
            lights={light.signal.signal_id: light.status.state for light in self.lights},
        )

    def read_lights(self) -> None:
        """Take over what the lights show, after a step or a client's command."""
        statuses = {s.signal_id: s for s in self.traffic.lights()}
        for light in self.lights:
            light.status = statuses.get(light.signal.signal_id, light.status)

    def leave_traffic(self, key: str) -> None:
        """The traffic simulation shall not move that actor any more."""
        self.traffic.remove(key)
        self._movers.pop(key, None)

    def _move_driven(self, delta_s: float) -> None:
        driven = [a for a in self.actors if isinstance(a, (ClientVehicle, ClientWalker))]
        self.contacts = []
        if not driven:
            return
        for actor in driven:
            actor.body.step(delta_s, self._heights.near(actor.pose.transform.z))
        bodies = {a.actor_id: a.body for a in driven}
        self.contacts = self.contact_solver.resolve(bodies, self.obstacles(), delta_s)
        for actor in driven:
            actor.pose = actor.body.pose

    def _move_traffic(self, delta_s: float) -> None:
        self.traffic.step(delta_s, self._mirrored(ClientVehicle), self._mirrored(ClientWalker))
        self._meet_movers()
        self.read_lights()

    def _mirrored(self, kind: type[Actor]) -> list[MirroredVehicle]:
        return [
            MirroredVehicle(a.actor_id, a.blueprint.blueprint_id, a.pose, a.box.extent)
            for a in self.actors
            if isinstance(a, kind)
        ]

    def _meet_movers(self) -> None:
        """Who came, moved and went in the traffic simulation."""
        seen: dict[str, int] = {}
        for mover in self.traffic.actors():
            actor_id = self._movers.get(mover.key)
            actor = None if actor_id is None else self.actors.find(actor_id)
            if isinstance(actor, (TrafficVehicle, TrafficWalker)):
                actor.mover = mover
                actor.pose = mover.pose
            else:
                actor = self._enter(mover)
            seen[mover.key] = actor.actor_id
        for key, actor_id in self._movers.items():
            if key not in seen:
                self.actors.remove(actor_id)
        self._movers = seen

    def _enter(self, mover: MovingActor) -> TrafficVehicle | TrafficWalker:
        blueprint = self.library[mover.blueprint]
        attributes = blueprint.defaults()
        walks = mover.blueprint.startswith("walker.")
        attributes["role_name"] = "background" if walks else "autopilot"
        if "color" in attributes:
            attributes["color"] = ",".join(map(str, mover.color))
        kind = TrafficWalker if walks else TrafficVehicle
        return self.actors.add(
            kind(
                actor_id=self.actors.new_id(),
                blueprint=blueprint,
                attributes=attributes,
                box=blueprint.box,
                pose=mover.pose,
                mover=mover,
            )
        )

    def _follow_parents(self) -> None:
        for actor in self.actors:
            if actor.mount is None:
                continue
            parent = self.actors.find(actor.parent_id)
            if parent is not None:
                place = parent.pose.transform.compose(actor.mount)
                actor.pose = replace(parent.pose, transform=place)

    def _switch_head_lamps(self) -> None:
        """Traffic drives with its head lamps on when the sun is low; clients switch their own."""
        lamps = _HEAD_LAMPS if self.weather.sun_altitude_angle < _LAMPS_BELOW_DEG else 0
        for vehicle in self.actors.of_kind(TrafficVehicle):
            vehicle.lights = lamps

    def _read_speed_limits(self, vehicles: list[Vehicle]) -> None:
        asking = [v for v in vehicles if (self.num_ticks + v.actor_id) % _SPEED_LIMIT_EVERY == 0]
        if asking:
            places = [v.pose.transform for v in asking]
            limits = self.town.network.speed_limits_kmh(
                np.array([[t.x, t.y] for t in places]), np.array([t.z for t in places])
            )
            for vehicle, limit in zip(asking, limits.tolist(), strict=True):
                vehicle.speed_limit_kmh = limit


def _visible(actor: Actor) -> VisibleActor:
    r, g, b = (int(v) for v in actor.attributes.get("color", "128,128,128").split(","))
    pose = actor.pose
    name = actor.blueprint.blueprint_id
    if not isinstance(actor, Vehicle):
        return VisibleActor(actor.actor_id, name, pose.transform, pose.velocity, (r, g, b))
    control = actor.control
    return VisibleActor(
        actor.actor_id,
        name,
        pose.transform,
        pose.velocity,
        (r, g, b),
        control.brake > 0.0,
        actor.lights,
        control.steer,
    )
