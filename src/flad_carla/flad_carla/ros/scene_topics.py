# SPDX-License-Identifier: Apache-2.0
"""What surrounds a vehicle: objects, their markers, and the traffic lights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from carla_msgs.msg import (
    CarlaBoundingBox,
    CarlaTrafficLightInfo,
    CarlaTrafficLightInfoList,
    CarlaTrafficLightStatus,
    CarlaTrafficLightStatusList,
)
from derived_object_msgs.msg import Object, ObjectArray
from rclpy.node import Node
from shape_msgs.msg import SolidPrimitive
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from flad_carla.ros import messages
from flad_carla.session import CarlaSession, Tick
from flad_common import frames
from flad_common.ros.qos import LATCHED, STATE, VIEW

_CLASSES = {
    "car": Object.CLASSIFICATION_CAR,
    "van": Object.CLASSIFICATION_CAR,
    "truck": Object.CLASSIFICATION_TRUCK,
    "bus": Object.CLASSIFICATION_TRUCK,
    "motorcycle": Object.CLASSIFICATION_MOTORCYCLE,
    "bicycle": Object.CLASSIFICATION_BIKE,
}
_EGO_COLOR = ColorRGBA(r=0.1, g=0.8, b=0.2, a=0.5)
_OTHER_COLOR = ColorRGBA(r=0.2, g=0.3, b=1.0, a=0.5)
_LANE_COLOR = ColorRGBA(r=0.7, g=0.7, b=0.7, a=0.8)


@dataclass
class _Thing:
    """A vehicle or pedestrian, with what does not change about it."""

    actor: Any
    half_m: frames.Vec3
    center_m: frames.Vec3  # of its box, in its own frame, ROS axes
    kind: int
    age: int = 0


@dataclass
class SceneCache:
    """Everything that moves, by actor id; boxes cost a call each, so they are asked for once."""

    session: CarlaSession
    things: dict[int, _Thing] = field(default_factory=dict)
    _frame: int = -1

    def update(self, tick: Tick) -> dict[int, _Thing]:
        """The things of this step."""
        if tick.frame == self._frame:
            return self.things
        self._frame = tick.frame
        current: dict[int, _Thing] = {}
        for actor in self.session.world.get_actors():
            if not actor.type_id.startswith(("vehicle.", "walker.")):
                continue
            thing = self.things.get(actor.id) or _describe(actor)
            thing.age += 1
            current[actor.id] = thing
        self.things = current
        return current

    def forget(self) -> None:
        """Another town: nothing from before holds."""
        self.things.clear()


class SceneTopics:
    """``objects``, ``markers`` and ``traffic_lights`` below one prefix.

    Args:
        node: the bridge.
        prefix: ``/carla`` for the world, ``/carla/<role>`` for what one vehicle has around it.
        cache: shared by all.
        own_id: actor that is left out of ``objects``: the vehicle itself.
    """

    def __init__(
        self, node: Node, prefix: str, cache: SceneCache, own_id: int | None = None
    ) -> None:
        self._node = node
        self._cache = cache
        self._own_id = own_id
        self._object_pub = node.create_publisher(ObjectArray, f"{prefix}/objects", STATE)
        self._marker_pub = node.create_publisher(MarkerArray, f"{prefix}/markers", VIEW)
        self._status_pub = node.create_publisher(
            CarlaTrafficLightStatusList, f"{prefix}/traffic_lights/status", LATCHED
        )
        self._info_pub = node.create_publisher(
            CarlaTrafficLightInfoList, f"{prefix}/traffic_lights/info", LATCHED
        )
        self._states: tuple[tuple[int, int], ...] | None = None
        self._marked: set[int] = set()

    def rebind(self, own_id: int) -> None:
        """Another vehicle has taken the role."""
        self._own_id = own_id
        self._states = None

    def destroy(self) -> None:
        """Take the topics away, in reverse."""
        for publisher in (self._info_pub, self._status_pub, self._marker_pub, self._object_pub):
            self._node.destroy_publisher(publisher)

    def publish(self, tick: Tick, lights: list[Any]) -> None:
        """Publish what is wanted of this step."""
        if self._object_pub.get_subscription_count():
            self._object_pub.publish(self._objects(tick))
        if self._marker_pub.get_subscription_count():
            self._marker_pub.publish(self._markers(tick))
        states = tuple((light.id, int(light.get_state())) for light in lights)
        if states == self._states:
            return
        if self._states is None or [s[0] for s in self._states] != [s[0] for s in states]:
            infos = [_light_info(light) for light in lights]
            self._info_pub.publish(CarlaTrafficLightInfoList(traffic_lights=infos))
        self._states = states
        statuses = [CarlaTrafficLightStatus(id=i, state=state) for i, state in states]
        self._status_pub.publish(CarlaTrafficLightStatusList(traffic_lights=statuses))

    def _objects(self, tick: Tick) -> ObjectArray:
        header = messages.header(tick.stamp_ns, "map")
        array = ObjectArray(header=header)
        for actor_id, thing in self._cache.update(tick).items():
            state = tick.snapshot.find(actor_id)
            if actor_id == self._own_id or state is None:
                continue
            pose = frames.carla_pose_to_ros(messages.carla_pose(state.get_transform()))
            item = Object(header=header, id=actor_id, pose=messages.pose_msg(pose))
            item.detection_level = Object.OBJECT_TRACKED
            item.twist.linear = _mirrored(state.get_velocity())
            item.twist.angular = messages.vector_msg(
                frames.carla_angular_velocity_to_ros(
                    messages.carla_vec(state.get_angular_velocity())
                )
            )
            item.accel.linear = _mirrored(state.get_acceleration())
            item.shape.type = SolidPrimitive.BOX
            item.shape.dimensions = [2.0 * half for half in thing.half_m]
            item.object_classified = thing.kind != Object.CLASSIFICATION_UNKNOWN
            item.classification = thing.kind
            item.classification_certainty = 255
            item.classification_age = thing.age
            array.objects.append(item)
        return array

    def _markers(self, tick: Tick) -> MarkerArray:
        header = messages.header(tick.stamp_ns, "map")
        own = {ego.actor.id for ego in self._cache.session.egos.values()}
        markers = []
        things = self._cache.update(tick)
        for actor_id, thing in things.items():
            state = tick.snapshot.find(actor_id)
            if state is None:
                continue
            pose = frames.carla_pose_to_ros(messages.carla_pose(state.get_transform()))
            offset = frames.body_to_world(thing.center_m, pose.orientation)
            x, y, z = (a + b for a, b in zip(pose.position_m, offset, strict=True))
            marker = Marker(header=header, ns="actors", id=actor_id, type=Marker.CUBE)
            marker.color = _EGO_COLOR if actor_id in own else _OTHER_COLOR
            marker.pose.position = messages.point_msg((x, y, z))
            marker.pose.orientation = messages.quaternion_msg(pose.orientation)
            length, width, height = (2.0 * half for half in thing.half_m)
            marker.scale = messages.vector_msg((length, width, height))
            markers.append(marker)
        for actor_id in self._marked - things.keys():
            gone = Marker(header=header, ns="actors", id=actor_id)
            gone.action = Marker.DELETE
            markers.append(gone)
        self._marked = set(things)
        return MarkerArray(markers=markers)


def lane_markers(carla_map: Any, step_m: float = 2.0) -> MarkerArray:
    """The edges of every driving lane as line segments in the map: the roads, for rviz."""
    lines = Marker(ns="lanes", id=0, type=Marker.LINE_LIST, color=_LANE_COLOR)
    lines.header.frame_id = "map"
    lines.pose.orientation.w = 1.0
    lines.scale.x = 0.1
    for start, _ in carla_map.get_topology():
        track = [start, *start.next_until_lane_end(step_m)]
        for a, b in pairwise(track):
            for side in (-0.5, 0.5):
                lines.points.append(_beside(a, side))
                lines.points.append(_beside(b, side))
    return MarkerArray(markers=[lines])


def _beside(waypoint: Any, lane_widths: float) -> Any:
    """A point ``lane_widths`` to the right of a lane's centre."""
    at, yaw_rad = waypoint.transform.location, math.radians(waypoint.transform.rotation.yaw)
    right_m = lane_widths * waypoint.lane_width
    x, y = at.x - right_m * math.sin(yaw_rad), at.y + right_m * math.cos(yaw_rad)
    return messages.point_msg(frames.carla_vector_to_ros((x, y, at.z)))


def _describe(actor: Any) -> _Thing:
    box = actor.bounding_box
    kind = Object.CLASSIFICATION_PEDESTRIAN
    if actor.type_id.startswith("vehicle."):
        base = actor.attributes.get("base_type", "").lower()
        kind = _CLASSES.get(base, Object.CLASSIFICATION_OTHER_VEHICLE)
    return _Thing(
        actor=actor,
        half_m=(box.extent.x, box.extent.y, box.extent.z),
        center_m=frames.carla_vector_to_ros(messages.carla_vec(box.location)),
        kind=kind,
    )


def _light_info(light: Any) -> CarlaTrafficLightInfo:
    pose = frames.carla_pose_to_ros(messages.carla_pose(light.get_transform()))
    volume = light.trigger_volume
    size = (2.0 * volume.extent.x, 2.0 * volume.extent.y, 2.0 * volume.extent.z)
    box = CarlaBoundingBox(
        center=messages.vector_msg(frames.carla_vector_to_ros(messages.carla_vec(volume.location))),
        size=messages.vector_msg(size),
    )
    return CarlaTrafficLightInfo(id=light.id, transform=messages.pose_msg(pose), trigger_volume=box)


def _mirrored(vector: Any) -> Any:
    return messages.vector_msg(frames.carla_vector_to_ros(messages.carla_vec(vector)))
