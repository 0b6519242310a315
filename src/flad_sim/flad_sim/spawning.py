# SPDX-License-Identifier: Apache-2.0
"""Bringing actors into the world and taking them out of it."""

from __future__ import annotations

from dataclasses import replace

from flad_sim._parts import VehicleBody, WalkerBody
from flad_sim.actors import (
    Actor,
    ClientVehicle,
    ClientWalker,
    Sensor,
    TrafficLight,
    TrafficSign,
    TrafficVehicle,
    TrafficWalker,
    Vehicle,
)
from flad_sim.blueprints import CATALOGUE, LANE_INVASION
from flad_sim.contacts import overlaps
from flad_sim.errors import RequestRefused
from flad_sim.protocol.payloads import SENSOR_TYPES
from flad_sim.protocol.structs import ActorDescription
from flad_sim.types import Pose, Transform
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
    common = {
        "blueprint": blueprint,
        "attributes": attributes,
        "box": blueprint.box,
        "pose": Pose(transform),
        "parent_id": parent_id,
        "mount": mount,
    }
    if blueprint_id.startswith("sensor."):
        streams = blueprint_id != LANE_INVASION
        return world.actors.add(
            Sensor(
                actor_id=world.actors.new_id(),
                **common,
                stream_id=world.new_stream_id() if streams else 0,
                sensor_type=SENSOR_TYPES[blueprint_id] if streams else -1,
                period_s=max(0.0, float(attributes.get("sensor_tick", 0.0))),
                next_due_s=world.elapsed_s,
            )
        )
    if blueprint.has_body and not parent_id and (other := overlaps(world, blueprint, transform)):
        raise RequestRefused(
            f"Spawn failed because of collision at spawn position: {blueprint_id} at "
            f"({transform.x:.1f}, {transform.y:.1f}, {transform.z:.1f}) would touch {other}"
        )
    actor_id = world.actors.new_id()
    if blueprint_id.startswith("vehicle."):
        body = VehicleBody(CATALOGUE[blueprint_id], transform)
        return world.actors.add(ClientVehicle(actor_id=actor_id, **common, body=body))
    if blueprint_id.startswith("walker."):
        body = WalkerBody(CATALOGUE[blueprint_id], transform)
        return world.actors.add(ClientWalker(actor_id=actor_id, **common, body=body))
    return world.actors.add(Actor(actor_id=actor_id, **common))


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
        world.traffic.remove(actor.mover.key)
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
    world.traffic.remove(actor.mover.key)
    world.forget_mover(actor.mover.key)
    blueprint = actor.blueprint
    body = VehicleBody(CATALOGUE[blueprint.blueprint_id], actor.pose.transform)
    body.set_target_velocity(actor.pose.velocity)
    return world.actors.add(
        ClientVehicle(
            actor_id=actor_id,
            blueprint=blueprint,
            attributes=actor.attributes,
            box=actor.box,
            pose=actor.pose,
            body=body,
            lights=actor.lights,
            speed_limit_kmh=actor.speed_limit_kmh,
        )
    )


def place(world: World, actor_id: int, transform: Transform) -> None:
    """Move an actor to a pose at once (relative to its parent where it has one)."""
    actor = world.actors.get(actor_id, Actor)
    if isinstance(actor, Vehicle):
        vehicle = take_over(world, actor_id)
        vehicle.body.set_transform(transform)
        vehicle.pose = vehicle.body.pose
    elif isinstance(actor, ClientWalker):
        actor.body.set_transform(transform)
        actor.pose = actor.body.pose
    elif actor.parent_id:
        actor.mount = transform
    elif isinstance(actor, (TrafficLight, TrafficSign, TrafficWalker)):
        raise RequestRefused(f"actor {actor_id} ({actor.blueprint.blueprint_id}) cannot be moved")
    else:
        actor.pose = replace(actor.pose, transform=transform)
