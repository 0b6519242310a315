# SPDX-License-Identifier: Apache-2.0
"""From sensors that are due to messages on their streams, in the order of the sensors' ids.

Rays are traced by ``flad_sim.sensors.Renderer``, values of motion come from
``flad_sim.sensors.kinematic``, collisions from the contacts of the episode's frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple

import numpy as np

from flad_sim import sensors
from flad_sim.actors import Actor, Sensor
from flad_sim.encoding import actor_struct, scenery_struct
from flad_sim.episode import Episode
from flad_sim.protocol import payloads
from flad_sim.protocol.snapshot import pack_header
from flad_sim.sensors import kinematic
from flad_sim.sensors.camera import CameraConfig
from flad_sim.sensors.gnss import GnssFix
from flad_sim.sensors.imu import ImuReading
from flad_sim.sensors.lidar import LidarConfig
from flad_sim.sensors.obstacle import ObstacleHit
from flad_sim.types import SensorRequest, StaticBox, Transform, VisibleWorld, Weather

_COLLISION = "sensor.other.collision"
_RAY_CAST = "sensor.lidar.ray_cast"
_RAY_CAST_SEMANTIC = "sensor.lidar.ray_cast_semantic"

Message = tuple[int, bytes]  # stream id, header and payload


def measure(
    episode: Episode, frame: int, is_listened: Callable[[int], bool], *, cameras: bool = True
) -> list[Message]:
    """Messages of this frame; without ``cameras`` (CARLA's no-rendering mode) those stay silent."""
    due = [
        s
        for s in episode.actors.of_kind(Sensor)
        if s.stream_id and s.due(episode.elapsed_s) and is_listened(s.stream_id)
    ]
    if not cameras:
        due = [s for s in due if not s.blueprint.blueprint_id.startswith("sensor.camera.")]
    if not due:
        return []
    world = episode.visible()
    traced = [s for s in due if s.blueprint.blueprint_id in sensors.SERVED]
    pictures: Mapping[int, bytes] = {}
    if traced:
        pictures = episode.renderer.render(world, [_request(s) for s in traced])
    messages = []
    for s in due:
        head = pack_header(s.sensor_type, frame, episode.elapsed_s, s.pose.transform)
        if s.actor_id in pictures:
            messages.append((s.stream_id, head + pictures[s.actor_id]))
        else:
            messages += [(s.stream_id, head + p) for p in _values(episode, world, s)]
    return messages


def check(blueprint_id: str, attributes: Mapping[str, str]) -> None:
    """See whether a sensor can measure with these attributes, before it is spawned.

    Raises:
        ValueError: naming the attribute and its range.
    """
    if blueprint_id in (_RAY_CAST, _RAY_CAST_SEMANTIC):
        LidarConfig.from_attributes(attributes)
    elif blueprint_id in sensors.SERVED:
        CameraConfig.from_attributes(attributes)
    elif blueprint_id in kinematic.SERVED:
        nothing = VisibleWorld(frame=1, elapsed_s=0.05, delta_s=0.05, weather=Weather())
        probe = kinematic.KinematicSensors((), lambda x, y, z: (x, y, z), seed=0)
        request = SensorRequest(0, blueprint_id, dict(attributes), Transform())
        probe.measure(nothing, request, (0.0, 0.0, 0.0))


def _values(episode: Episode, world: VisibleWorld, s: Sensor) -> Iterator[bytes]:
    """Payloads of a sensor that traces no picture: none, one, or one for each collision."""
    if s.blueprint.blueprint_id == _COLLISION:
        parent = episode.actors.find(s.parent_id)
        if parent is not None:
            for c in episode.contacts:
                if c.self_id == parent.actor_id:
                    other = _other(episode, c.other_id, c.scenery)
                    yield payloads.pack_collision(actor_struct(parent), other, c.impulse)
        return
    reading = episode.kinematic.measure(world, _request(s), s.pose.angular_velocity)
    match reading:
        case GnssFix():
            yield payloads.pack_gnss(*astuple(reading))
        case ImuReading():
            yield payloads.pack_imu(*astuple(reading))
        case ObstacleHit(other_id, scenery, distance_m):
            parent = episode.actors.find(s.parent_id) or s
            other = _other(episode, other_id, scenery)
            yield payloads.pack_obstacle(actor_struct(parent), other, distance_m)
        case np.ndarray():
            yield payloads.pack_radar(reading)


def _other(episode: Episode, actor_id: int, scenery: StaticBox | None) -> list[object]:
    if scenery is not None:
        return scenery_struct(scenery)
    actor: Actor | None = episode.actors.find(actor_id)
    return actor_struct(actor if actor is not None else episode.spectator)


def _request(s: Sensor) -> SensorRequest:
    return SensorRequest(
        s.actor_id,
        s.blueprint.blueprint_id,
        s.attributes,
        s.pose.transform,
        s.parent_id,
        s.pose.velocity,
    )
