# SPDX-License-Identifier: Apache-2.0
"""Bringing actors into the world and taking them out of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

from flad_sim.actors import (
    Actor,
    ClientVehicle,
    ClientWalker,
    Prop,
    Sensor,
    TrafficLight,
    TrafficSign,
    TrafficVehicle,
    TrafficWalker,
    Vehicle,
)
from flad_sim.blueprints import LANE_INVASION, Blueprint
from flad_sim.catalogue import VEHICLES, WALKERS, VehicleSpec, WalkerSpec
from flad_sim.episode import Episode
from flad_sim.errors import PlaceTaken, RequestRefused
from flad_sim.measuring import check
from flad_sim.physics.vehicle import VehicleBody
from flad_sim.physics.walker import WalkerBody
from flad_sim.protocol.payloads import SENSOR_TYPES
from flad_sim.protocol.structs import ActorDescription
from flad_sim.types import BoundingBox, Pose, Transform

_LIMIT = 2_000  # actors: an endless spawning loop must not eat the machine


def spawn(
    episode: Episode, description: ActorDescription, transform: Transform, parent_id: int = 0
) -> Actor:
    """Add an actor; with a parent, ``transform`` is relative to it.

    Raises:
        RequestRefused: for an unknown blueprint or parent, a bad attribute, or an occupied place.
    """
    blueprint = episode.library[description.blueprint]
    blueprint_id = blueprint.blueprint_id
    attributes = episode.library.attributes(description)
    if len(episode.actors) >= _LIMIT:
        raise RequestRefused(f"{len(episode.actors)} actors live already; destroy some first")
    if blueprint_id == "spectator" or blueprint_id.startswith("traffic."):
        raise RequestRefused(f"{blueprint_id} belongs to the town and cannot be spawned")
    mount = None
    if parent_id:
        parent = episode.actors.get(parent_id, Actor)
        mount = transform
        transform = parent.pose.transform.compose(mount)
    common = _Common(
        blueprint=blueprint,
        attributes=attributes,
        box=blueprint.box,
        pose=Pose(transform),
        parent_id=parent_id,
        mount=mount,
    )
    if blueprint_id.startswith("sensor."):
        return episode.actors.add(_sensor(episode, common))
    if blueprint.has_body and not parent_id:
        _check_place(episode, blueprint, transform)
    actor_id = episode.actors.new_id()
    if blueprint_id in VEHICLES:
        body = VehicleBody(
            VEHICLES[blueprint_id],
            transform,
            sticky_control=attributes["sticky_control"].lower() == "true",
        )
        return episode.actors.add(ClientVehicle(actor_id=actor_id, **common, body=body))
    if blueprint_id in WALKERS:
        walker = WalkerBody(WALKERS[blueprint_id], transform)
        return episode.actors.add(ClientWalker(actor_id=actor_id, **common, body=walker))
    kind = Prop if blueprint.has_body else Actor
    return episode.actors.add(kind(actor_id=actor_id, **common))


def _check_place(episode: Episode, blueprint: Blueprint, transform: Transform) -> None:
    obstacles = episode.obstacles(with_driven=True)
    blocker = episode.contact_solver.blocker(transform, blueprint.box, obstacles)
    if blocker is None:
        return
    what = f"actor {blocker}" if isinstance(blocker, int) else f"a {blocker.type_id}"
    raise PlaceTaken(
        f"Spawn failed because of collision at spawn position: {blueprint.blueprint_id} at "
        f"({transform.x:.1f}, {transform.y:.1f}, {transform.z:.1f}) would touch {what}"
    )


class _Common(TypedDict):
    blueprint: Blueprint
    attributes: dict[str, str]
    box: BoundingBox
    pose: Pose
    parent_id: int
    mount: Transform | None


def _sensor(episode: Episode, common: _Common) -> Sensor:
    blueprint_id = common["blueprint"].blueprint_id
    streams = blueprint_id != LANE_INVASION  # that one the client computes by itself
    try:
        check(blueprint_id, common["attributes"])
    except ValueError as error:
        raise RequestRefused(f"{blueprint_id}: {error}") from error
    return Sensor(
        actor_id=episode.actors.new_id(),
        **common,
        stream_id=next(episode.stream_ids) if streams else 0,
        sensor_type=SENSOR_TYPES[blueprint_id] if streams else -1,
        period_s=max(0.0, float(common["attributes"].get("sensor_tick", 0.0))),
    )


def destroy(episode: Episode, actor_id: int) -> bool:
    """Take an actor out of the world; what is attached to it stays where it is.

    Raises:
        RequestRefused: for the town's own signals and the spectator.
    """
    actor = episode.actors.find(actor_id)
    if actor is None:
        return False
    if isinstance(actor, (TrafficLight, TrafficSign)) or actor is episode.spectator:
        raise RequestRefused(f"actor {actor_id} belongs to the town and cannot be destroyed")
    if isinstance(actor, (TrafficVehicle, TrafficWalker)):
        episode.leave_traffic(actor.mover.key)
    if isinstance(actor, Sensor):
        episode.renderer.forget(actor_id)
        episode.kinematic.forget(actor_id)
    episode.actors.remove(actor_id)
    return True


def take_over(episode: Episode, actor_id: int) -> ClientVehicle:
    """The vehicle of that id as one that a client drives.

    A vehicle of the traffic simulation leaves it the first time a client steers or moves it.

    Raises:
        RequestRefused: when there is no such vehicle.
    """
    actor = episode.actors.get(actor_id, Vehicle)
    if isinstance(actor, ClientVehicle):
        return actor
    assert isinstance(actor, TrafficVehicle)
    episode.leave_traffic(actor.mover.key)
    body = VehicleBody(vehicle_spec(actor), actor.pose.transform)
    body.set_target_velocity(actor.pose.velocity)
    return episode.actors.add(
        ClientVehicle(
            actor_id=actor_id,
            blueprint=actor.blueprint,
            attributes=actor.attributes,
            box=actor.box,
            pose=actor.pose,
            body=body,
            lights=actor.lights,
            speed_limit_kmh=actor.speed_limit_kmh,
        )
    )


def take_over_walker(episode: Episode, actor_id: int) -> ClientWalker:
    """The pedestrian of that id as one that a client moves; see :func:`take_over`."""
    actor = episode.actors.get(actor_id, Actor)
    if isinstance(actor, ClientWalker):
        return actor
    if not isinstance(actor, TrafficWalker):
        raise RequestRefused(f"actor {actor_id} ({actor.blueprint.blueprint_id}) is no walker")
    episode.leave_traffic(actor.mover.key)
    body = WalkerBody(_walker_spec(actor), actor.pose.transform)
    return episode.actors.add(
        ClientWalker(
            actor_id=actor_id,
            blueprint=actor.blueprint,
            attributes=actor.attributes,
            box=actor.box,
            pose=actor.pose,
            body=body,
        )
    )


def body_of(episode: Episode, actor: Actor) -> VehicleBody | WalkerBody:
    """The body of a vehicle or pedestrian, taken out of the traffic simulation if need be.

    Raises:
        RequestRefused: for anything that has no body to push.
    """
    if isinstance(actor, Vehicle):
        return take_over(episode, actor.actor_id).body
    if isinstance(actor, (ClientWalker, TrafficWalker)):
        return take_over_walker(episode, actor.actor_id).body
    raise RequestRefused(
        f"actor {actor.actor_id} ({actor.blueprint.blueprint_id}) is neither vehicle nor walker"
    )


def place(episode: Episode, actor_id: int, transform: Transform) -> None:
    """Move an actor to a pose at once (relative to its parent where it has one)."""
    actor = episode.actors.get(actor_id, Actor)
    if isinstance(actor, (Vehicle, ClientWalker, TrafficWalker)):
        body = body_of(episode, actor)
        body.set_transform(transform)
        episode.actors.get(actor_id, Actor).pose = body.pose
    elif isinstance(actor, (TrafficLight, TrafficSign)):
        raise RequestRefused(f"actor {actor_id} ({actor.blueprint.blueprint_id}) cannot be moved")
    elif actor.parent_id:
        actor.mount = transform
    else:
        actor.pose = replace(actor.pose, transform=transform)


def vehicle_spec(actor: Actor) -> VehicleSpec:
    """The figures of a vehicle's blueprint."""
    return VEHICLES[actor.blueprint.blueprint_id]


def _walker_spec(actor: Actor) -> WalkerSpec:
    return WALKERS[actor.blueprint.blueprint_id]
