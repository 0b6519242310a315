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
from flad_sim.errors import RequestRefused
from flad_sim.physics.vehicle import VehicleBody
from flad_sim.physics.walker import WalkerBody
from flad_sim.protocol.payloads import SENSOR_TYPES
from flad_sim.protocol.structs import ActorDescription
from flad_sim.types import BoundingBox, Pose, Transform
from flad_sim.world import World

_LIMIT = 10_000  # actors: an endless spawning loop must not eat the machine


def spawn(
    world: World, description: ActorDescription, transform: Transform, parent_id: int = 0
) -> Actor:
    """Add an actor; with a parent, ``transform`` is relative to it.

    Raises:
        RequestRefused: for an unknown blueprint or parent, a bad attribute, or an occupied place.
    """
    blueprint = world.library[description.blueprint]
    blueprint_id = blueprint.blueprint_id
    attributes = world.library.attributes(description)
    if len(world.actors) >= _LIMIT:
        raise RequestRefused(f"{len(world.actors)} actors live already; destroy some first")
    if blueprint_id == "spectator" or blueprint_id.startswith("traffic."):
        raise RequestRefused(f"{blueprint_id} belongs to the town and cannot be spawned")
    mount = None
    if parent_id:
        parent = world.actors.get(parent_id, Actor)
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
        return world.actors.add(_sensor(world, common))
    if blueprint.has_body and not parent_id:
        _check_place(world, blueprint, transform)
    actor_id = world.actors.new_id()
    if blueprint_id in VEHICLES:
        body = VehicleBody(
            VEHICLES[blueprint_id],
            transform,
            sticky_control=attributes["sticky_control"].lower() == "true",
        )
        return world.actors.add(ClientVehicle(actor_id=actor_id, **common, body=body))
    if blueprint_id in WALKERS:
        walker = WalkerBody(WALKERS[blueprint_id], transform)
        return world.actors.add(ClientWalker(actor_id=actor_id, **common, body=walker))
    kind = Prop if blueprint.has_body else Actor
    return world.actors.add(kind(actor_id=actor_id, **common))


def _check_place(world: World, blueprint: Blueprint, transform: Transform) -> None:
    obstacles = world.obstacles(with_client_bodies=True)
    blocker = world.contact_solver.blocker(transform, blueprint.box, obstacles)
    if blocker is None:
        return
    what = f"actor {blocker}" if isinstance(blocker, int) else f"a {blocker.type_id}"
    raise RequestRefused(
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


def _sensor(world: World, common: _Common) -> Sensor:
    blueprint_id = common["blueprint"].blueprint_id
    streams = blueprint_id != LANE_INVASION  # that one the client computes by itself
    return Sensor(
        actor_id=world.actors.new_id(),
        **common,
        stream_id=world.new_stream_id() if streams else 0,
        sensor_type=SENSOR_TYPES[blueprint_id] if streams else -1,
        period_s=max(0.0, float(common["attributes"].get("sensor_tick", 0.0))),
        next_due_s=world.elapsed_s,
    )


def destroy(world: World, actor_id: int) -> bool:
    """Take an actor out of the world; what is attached to it stays where it is.

    Raises:
        RequestRefused: for the town's own signals and the spectator.
    """
    actor = world.actors.find(actor_id)
    if actor is None:
        return False
    if isinstance(actor, (TrafficLight, TrafficSign)) or actor is world.spectator:
        raise RequestRefused(f"actor {actor_id} belongs to the town and cannot be destroyed")
    if isinstance(actor, (TrafficVehicle, TrafficWalker)):
        _leave_traffic(world, actor.mover.key)
    world.actors.remove(actor_id)
    return True


def take_over(world: World, actor_id: int) -> ClientVehicle:
    """The vehicle of that id as one that a client drives.

    A vehicle of the traffic simulation leaves it the first time a client steers or moves it.

    Raises:
        RequestRefused: when there is no such vehicle.
    """
    actor = world.actors.get(actor_id, Vehicle)
    if isinstance(actor, ClientVehicle):
        return actor
    assert isinstance(actor, TrafficVehicle)
    _leave_traffic(world, actor.mover.key)
    body = VehicleBody(vehicle_spec(actor), actor.pose.transform)
    body.set_target_velocity(actor.pose.velocity)
    return world.actors.add(
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


def take_over_walker(world: World, actor_id: int) -> ClientWalker:
    """The pedestrian of that id as one that a client moves; see :func:`take_over`."""
    actor = world.actors.get(actor_id, Actor)
    if isinstance(actor, ClientWalker):
        return actor
    if not isinstance(actor, TrafficWalker):
        raise RequestRefused(f"actor {actor_id} ({actor.blueprint.blueprint_id}) is no walker")
    _leave_traffic(world, actor.mover.key)
    body = WalkerBody(_walker_spec(actor), actor.pose.transform)
    return world.actors.add(
        ClientWalker(
            actor_id=actor_id,
            blueprint=actor.blueprint,
            attributes=actor.attributes,
            box=actor.box,
            pose=actor.pose,
            body=body,
        )
    )


def body_of(world: World, actor: Actor) -> VehicleBody | WalkerBody:
    """The body of a vehicle or pedestrian, taken out of the traffic simulation if need be.

    Raises:
        RequestRefused: for anything that has no body to push.
    """
    if isinstance(actor, Vehicle):
        return take_over(world, actor.actor_id).body
    if isinstance(actor, (ClientWalker, TrafficWalker)):
        return take_over_walker(world, actor.actor_id).body
    raise RequestRefused(
        f"actor {actor.actor_id} ({actor.blueprint.blueprint_id}) is neither vehicle nor walker"
    )


def place(world: World, actor_id: int, transform: Transform) -> None:
    """Move an actor to a pose at once (relative to its parent where it has one)."""
    actor = world.actors.get(actor_id, Actor)
    if isinstance(actor, (Vehicle, ClientWalker, TrafficWalker)):
        body = body_of(world, actor)
        body.set_transform(transform)
        world.actors.get(actor_id, Actor).pose = body.pose
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


def _leave_traffic(world: World, key: str) -> None:
    world.traffic.remove(key)
    world.forget_mover(key)
