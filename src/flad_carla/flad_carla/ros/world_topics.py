# SPDX-License-Identifier: Apache-2.0
"""What belongs to the world and to no vehicle: status, town, weather, pause, spawning."""

from __future__ import annotations

import fnmatch
import random
from typing import Any

import carla
from carla_msgs.msg import CarlaControl, CarlaStatus, CarlaWeatherParameters, CarlaWorldInfo
from carla_msgs.srv import DestroyObject, GetBlueprints, SpawnObject
from rclpy.node import Node
from visualization_msgs.msg import MarkerArray

from flad_carla.ros.guard import guarded
from flad_carla.ros.scene_topics import SceneCache, SceneTopics, lane_markers
from flad_carla.session import CarlaSession, Tick
from flad_common import frames
from flad_common.ros.qos import CONTROL, LATCHED, STATE

_WEATHER_FIELDS = tuple(CarlaWeatherParameters.get_fields_and_field_types())


class WorldTopics:
    """Topics and services directly below ``/carla/``."""

    def __init__(self, node: Node, session: CarlaSession) -> None:
        self._node = node
        self._session = session
        self.cache = SceneCache(session)
        self.paused = False
        self.steps_left = 0  # STEP_ONCE while paused
        self._world: Any = None  # the one that world_info was sent for
        self._lights: list[Any] = []
        self._spawned: dict[int, Any] = {}
        self._status_pub = node.create_publisher(CarlaStatus, "/carla/status", STATE)
        self._info_pub = node.create_publisher(CarlaWorldInfo, "/carla/world_info", LATCHED)
        self._static_pub = node.create_publisher(MarkerArray, "/carla/markers/static", LATCHED)
        self._lanes_sent = False
        self._scene = SceneTopics(node, "/carla", self.cache)
        self._inputs = [
            node.create_subscription(
                CarlaControl, "/carla/control", guarded(node, self._on_control), CONTROL
            ),
            node.create_subscription(
                CarlaWeatherParameters,
                "/carla/weather_control",
                guarded(node, self._on_weather),
                CONTROL,
            ),
        ]
        self._services = [
            node.create_service(SpawnObject, "/carla/spawn_object", self._spawn),
            node.create_service(DestroyObject, "/carla/destroy_object", self._destroy),
            node.create_service(GetBlueprints, "/carla/get_blueprints", self._blueprints),
        ]

    def destroy(self) -> None:
        """Remove what the services spawned and take the topics away, in reverse."""
        for actor in self._spawned.values():
            actor.destroy()
        self._spawned.clear()
        for service in reversed(self._services):
            self._node.destroy_service(service)
        for subscription in reversed(self._inputs):
            self._node.destroy_subscription(subscription)
        self._scene.destroy()
        for publisher in (self._static_pub, self._info_pub, self._status_pub):
            self._node.destroy_publisher(publisher)

    @property
    def lights(self) -> list[Any]:
        """The traffic lights of this town."""
        return self._lights

    def publish(self, tick: Tick) -> None:
        """Publish what this step brought."""
        if self._world is not self._session.world:
            self._announce_town()
        self._status_pub.publish(
            CarlaStatus(
                frame=tick.frame,
                fixed_delta_seconds=self._session.config.fixed_delta_s,
                synchronous_mode=True,
                synchronous_mode_running=not self.paused,
            )
        )
        if not self._lanes_sent and self._static_pub.get_subscription_count():
            self._static_pub.publish(lane_markers(self._session.map))
            self._lanes_sent = True
        self._scene.publish(tick, self._lights)

    def take_step(self) -> bool:
        """Whether the world may step now; a paused one spends a STEP_ONCE."""
        if not self.paused:
            return True
        if self.steps_left > 0:
            self.steps_left -= 1
            return True
        return False

    def _announce_town(self) -> None:
        self._world = self._session.world
        self._lanes_sent = False
        self._spawned.clear()
        self.cache.forget()
        town = self._session.map
        self._info_pub.publish(CarlaWorldInfo(map_name=town.name, opendrive=town.to_opendrive()))
        actors = self._world.get_actors().filter("traffic.traffic_light*")
        self._lights = sorted(actors, key=lambda actor: actor.id)

    def _on_control(self, msg: CarlaControl) -> None:
        if msg.command == CarlaControl.PLAY:
            self.paused = False
        elif msg.command == CarlaControl.PAUSE:
            self.paused, self.steps_left = True, 0
        elif msg.command == CarlaControl.STEP_ONCE:
            self.paused = True
            self.steps_left += 1
        else:
            self._node.get_logger().warning(
                f"/carla/control refused: command is {msg.command}, allowed are 0, 1 and 2"
            )

    def _on_weather(self, msg: CarlaWeatherParameters) -> None:
        weather = self._session.world.get_weather()
        for name in _WEATHER_FIELDS:
            value = getattr(msg, name)
            if value != value or abs(value) > 1e6:
                self._node.get_logger().warning(
                    f"/carla/weather_control refused: {name} is {value}"
                )
                return
            setattr(weather, name, value)
        self._session.world.set_weather(weather)

    def _spawn(self, request: Any, response: Any) -> Any:
        response.id = -1
        try:
            actor = self._spawn_actor(request)
            self._spawned[actor.id] = actor
            response.id = actor.id
        except (RuntimeError, IndexError, ValueError) as error:
            response.error_string = f"{request.type} was not spawned: {error}"
        return response

    def _spawn_actor(self, request: Any) -> Any:
        world = self._session.world
        blueprint = world.get_blueprint_library().find(request.type)
        if request.id:
            blueprint.set_attribute("role_name", request.id)
        for pair in request.attributes:
            if not blueprint.has_attribute(pair.key):
                raise ValueError(f"it has no attribute {pair.key!r}")
            blueprint.set_attribute(pair.key, pair.value)
        if request.random_pose:
            points = self._session.map.get_spawn_points()
            return world.spawn_actor(blueprint, random.Random(request.id).choice(points))
        transform = _carla_transform(request.transform)
        if not request.attach_to:
            return world.spawn_actor(blueprint, transform)
        parent = world.get_actor(request.attach_to)
        if parent is None:
            raise ValueError(f"there is no actor {request.attach_to} to attach it to")
        return world.spawn_actor(blueprint, transform, attach_to=parent)

    def _destroy(self, request: Any, response: Any) -> Any:
        """Only what was spawned here: the egos belong to the session."""
        actor = self._spawned.pop(request.id, None)
        response.success = actor is not None and bool(actor.destroy())
        return response

    def _blueprints(self, request: Any, response: Any) -> Any:
        names = sorted(b.id for b in self._session.world.get_blueprint_library())
        response.blueprints = fnmatch.filter(names, request.filter or "*")
        return response


def _carla_transform(pose: Any) -> carla.Transform:
    q, p = pose.orientation, pose.position
    place = frames.ros_pose_to_carla(
        frames.RosPose(position_m=(p.x, p.y, p.z), orientation=(q.x, q.y, q.z, q.w))
    )
    return carla.Transform(
        carla.Location(x=place.x_m, y=place.y_m, z=place.z_m),
        carla.Rotation(pitch=place.pitch_deg, yaw=place.yaw_deg, roll=place.roll_deg),
    )
