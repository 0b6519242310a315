# SPDX-License-Identifier: Apache-2.0
"""Values of a run as messages: standard types first, all in ROS's frame.

``flad_common.frames`` has the geometry; here values only find their fields.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from flad_carla.bag.types import MessageTypes
from flad_carla.report.thumbnails import encode_jpeg, image_to_rgb
from flad_carla.rig import SensorSpec
from flad_carla.run_log import (
    BodyView,
    ControlView,
    Infraction,
    LaneShape,
    LightView,
    PlanView,
    Point,
    PoseView,
)
from flad_common import frames

MAP = "map"

Rgba = tuple[float, float, float, float]
_ARROW, _CUBE, _CYLINDER, _LINE_STRIP, _LINE_LIST, _TEXT = 0, 1, 3, 4, 5, 9
_DELETE_ALL = 3
_VEHICLE: Rgba = (0.35, 0.45, 0.58, 0.95)
_WALKER: Rgba = (0.90, 0.38, 0.10, 0.95)
_BAD: Rgba = (0.83, 0.15, 0.18, 1.0)
_ROAD: Rgba = (0.75, 0.78, 0.82, 0.9)
_LIGHT_COLORS: tuple[Rgba, ...] = (
    (0.90, 0.10, 0.10, 1.0),
    (0.95, 0.70, 0.05, 1.0),
    (0.10, 0.75, 0.30, 1.0),
    (0.50, 0.50, 0.50, 1.0),
    (0.50, 0.50, 0.50, 1.0),
)


class MessageMaker:
    """Makes the messages of one vehicle's bag."""

    def __init__(self, types: MessageTypes, role: str) -> None:
        self._types = types
        self._role = role

    def new(self, type_name: str, /, **fields: Any) -> Any:
        """Make a message, see :meth:`MessageTypes.new`."""
        return self._types.new(type_name, **fields)

    def header(self, stamp_ns: int, frame_id: str = MAP) -> Any:
        """A header."""
        return self.new("std_msgs/msg/Header", stamp=self.time(stamp_ns), frame_id=frame_id)

    def time(self, stamp_ns: int) -> Any:
        """A time."""
        return self.new(
            "builtin_interfaces/msg/Time",
            sec=stamp_ns // 1_000_000_000,
            nanosec=stamp_ns % 1_000_000_000,
        )

    def clock(self, stamp_ns: int) -> Any:
        """``/clock``."""
        return self.new("rosgraph_msgs/msg/Clock", clock=self.time(stamp_ns))

    def transforms(self, stamp_ns: int, poses: Iterable[tuple[str, str, frames.RosPose]]) -> Any:
        """``/tf``: parent, child and the child's pose in it."""
        return self.new(
            "tf2_msgs/msg/TFMessage",
            transforms=[
                self.new(
                    "geometry_msgs/msg/TransformStamped",
                    header=self.header(stamp_ns, parent),
                    child_frame_id=child,
                    transform=self.new(
                        "geometry_msgs/msg/Transform",
                        translation=self._vector(pose.position_m),
                        rotation=self._quaternion(pose.orientation),
                    ),
                )
                for parent, child, pose in poses
            ],
        )

    def odometry(self, stamp_ns: int, ego: BodyView) -> Any:
        """Pose in the map; twist in the body's axes, as the type wants it."""
        pose = ros_pose(ego.pose)
        linear = frames.world_to_body(frames.carla_vector_to_ros(ego.velocity), pose.orientation)
        angular = frames.world_to_body(
            frames.carla_angular_velocity_to_ros(ego.angular_velocity), pose.orientation
        )
        twist = self.new(
            "geometry_msgs/msg/Twist", linear=self._vector(linear), angular=self._vector(angular)
        )
        return self.new(
            "nav_msgs/msg/Odometry",
            header=self.header(stamp_ns),
            child_frame_id=self._role,
            pose=self.new("geometry_msgs/msg/PoseWithCovariance", pose=self._pose(pose)),
            twist=self.new("geometry_msgs/msg/TwistWithCovariance", twist=twist),
        )

    def path(self, stamp_ns: int, points: Sequence[PoseView], step_ns: int = 0) -> Any:
        """World poses as a Path in the map, ``step_ns`` apart from each other."""
        return self.new(
            "nav_msgs/msg/Path",
            header=self.header(stamp_ns),
            poses=[
                self.new(
                    "geometry_msgs/msg/PoseStamped",
                    header=self.header(stamp_ns + (i + 1) * step_ns),
                    pose=self._pose(ros_pose(point)),
                )
                for i, point in enumerate(points)
            ],
        )

    def plan(self, stamp_ns: int, plan: PlanView, seen_from: PoseView) -> Any:
        """``flad_msgs/Plan``: the points as seen from where the vehicle was."""
        local = np.array([seen_from.to_local(x, y) for x, y in plan.points], dtype=np.float32)
        local = local.reshape(-1, 2)
        return self.new(
            "flad_msgs/msg/Plan",
            header=self.header(stamp_ns, self._role),
            x=np.ascontiguousarray(local[:, 0]),
            y=np.ascontiguousarray(-local[:, 1]),
            step_s=plan.step_s,
            source=plan.source,
        )

    def control(self, stamp_ns: int, control: ControlView) -> Any:
        """What the vehicle was given."""
        return self.new(
            "carla_msgs/msg/CarlaEgoVehicleControl",
            header=self.header(stamp_ns, self._role),
            throttle=control.throttle,
            steer=control.steer,
            brake=control.brake,
            hand_brake=control.hand_brake,
            reverse=control.reverse,
        )

    def actor_markers(self, stamp_ns: int, bodies: Iterable[BodyView]) -> Any:
        """A box per road user; boxes of the last message are deleted first."""
        markers = [self._marker(stamp_ns, "actors", 0, _CUBE, action=_DELETE_ALL)]
        for body in bodies:
            pose = ros_pose(body.pose)
            lift = frames.body_to_world(frames.carla_vector_to_ros(body.center), pose.orientation)
            x, y, z = (a + b for a, b in zip(pose.position_m, lift, strict=True))
            markers.append(
                self._marker(
                    stamp_ns,
                    "actors",
                    body.actor_id,
                    _CUBE,
                    pose=frames.RosPose(position_m=(x, y, z), orientation=pose.orientation),
                    scale=tuple(max(0.05, 2.0 * half) for half in body.extent),
                    color=_WALKER if body.type_id.startswith("walker") else _VEHICLE,
                )
            )
        return self._marker_array(markers)

    def light_markers(self, stamp_ns: int, lights: Iterable[LightView]) -> Any:
        """A lamp above each stop area, in its colour."""
        markers = []
        for light in lights:
            box = light.trigger
            x, y, z = box.center if box else (light.pose.x, light.pose.y, light.pose.z)
            markers.append(
                self._marker(
                    stamp_ns,
                    "lights",
                    light.actor_id,
                    _CYLINDER,
                    pose=ros_pose(PoseView(x=x, y=y, z=z + 3.0)),
                    scale=(1.0, 1.0, 0.4),
                    color=_LIGHT_COLORS[min(light.state, 4)],
                )
            )
        return self._marker_array(markers)

    def infraction_markers(self, stamp_ns: int, events: Sequence[Infraction]) -> Any:
        """An arrow down to each event so far, with its number and kind above it."""
        markers = []
        for number, event in enumerate(events, 1):
            x, y, z = frames.carla_vector_to_ros((event.x, event.y, 0.0))
            down = [self._point((x, y, z + 5.0)), self._point((x, y, z + 0.5))]
            markers += [
                self._marker(
                    stamp_ns,
                    "infractions",
                    number,
                    _ARROW,
                    points=down,
                    scale=(0.3, 0.8, 0.8),
                    color=_BAD,
                ),
                self._marker(
                    stamp_ns,
                    "infraction_names",
                    number,
                    _TEXT,
                    pose=frames.RosPose(position_m=(x, y, z + 6.0)),
                    scale=(1.2, 1.2, 1.2),
                    color=_BAD,
                    text=f"{number} {event.kind}",
                ),
            ]
        return self._marker_array(markers)

    def lane_markers(self, stamp_ns: int, lanes: Iterable[LaneShape]) -> Any:
        """The edges of all lanes outside junctions as one list of lines."""
        points = []
        for lane in lanes:
            if lane.is_junction:
                continue
            for edge in (lane.left, lane.right):
                line = [self._point(frames.carla_vector_to_ros((x, y, 0.0))) for x, y in edge]
                points += [p for pair in itertools.pairwise(line) for p in pair]
        marker = self._marker(
            stamp_ns, "lanes", 0, _LINE_LIST, points=points, scale=(0.12, 0.0, 0.0), color=_ROAD
        )
        return self._marker_array([marker])

    def compressed_image(self, stamp_ns: int, frame_id: str, image: Any, quality: int) -> Any:
        """A camera's picture as JPEG."""
        jpeg = encode_jpeg(image_to_rgb(image), quality=quality)
        return self.new(
            "sensor_msgs/msg/CompressedImage",
            header=self.header(stamp_ns, frame_id),
            format="rgb8; jpeg compressed bgr8",
            data=np.frombuffer(jpeg, dtype=np.uint8),
        )

    def image(self, stamp_ns: int, frame_id: str, image: Any) -> Any:
        """A camera's picture as the bridge publishes it."""
        return self.new(
            "sensor_msgs/msg/Image",
            header=self.header(stamp_ns, frame_id),
            height=image.height,
            width=image.width,
            encoding="bgra8",
            step=4 * image.width,
            data=np.frombuffer(image.raw_data, dtype=np.uint8),
        )

    def camera_info(self, stamp_ns: int, frame_id: str, image: Any) -> Any:
        """The pinhole of a camera, from its field of view."""
        f = image.width / (2.0 * math.tan(math.radians(image.fov) / 2.0))
        cx, cy = image.width / 2.0, image.height / 2.0
        return self.new(
            "sensor_msgs/msg/CameraInfo",
            header=self.header(stamp_ns, frame_id),
            height=image.height,
            width=image.width,
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=np.array([f, 0.0, cx, 0.0, f, cy, 0.0, 0.0, 1.0]),
            r=np.eye(3).ravel(),
            p=np.array([f, 0.0, cx, 0.0, 0.0, f, cy, 0.0, 0.0, 0.0, 1.0, 0.0]),
        )

    def point_cloud(self, stamp_ns: int, frame_id: str, measurement: Any) -> Any:
        """LiDAR points with x, y, z, intensity."""
        raw = np.frombuffer(measurement.raw_data, dtype=np.float32).reshape(-1, 4)
        points = frames.carla_points_to_ros(raw)
        return self.new(
            "sensor_msgs/msg/PointCloud2",
            header=self.header(stamp_ns, frame_id),
            height=1,
            width=len(points),
            fields=[
                self.new("sensor_msgs/msg/PointField", name=name, offset=4 * i, datatype=7, count=1)
                for i, name in enumerate(("x", "y", "z", "intensity"))
            ],
            point_step=16,
            row_step=16 * len(points),
            data=points.view(np.uint8).ravel(),
            is_dense=True,
        )

    def imu(self, stamp_ns: int, frame_id: str, measurement: Any) -> Any:
        """Acceleration with gravity, rates, and the compass as orientation."""
        a, g = measurement.accelerometer, measurement.gyroscope
        compass = 0.0 if math.isnan(measurement.compass) else measurement.compass
        yaw_rad = frames.carla_compass_to_ros_yaw(compass)
        orientation = frames.quaternion_from_euler(roll_rad=0.0, pitch_rad=0.0, yaw_rad=yaw_rad)
        return self.new(
            "sensor_msgs/msg/Imu",
            header=self.header(stamp_ns, frame_id),
            orientation=self._quaternion(orientation),
            angular_velocity=self._vector(frames.carla_gyroscope_to_ros((g.x, g.y, g.z))),
            linear_acceleration=self._vector(frames.carla_accelerometer_to_ros((a.x, a.y, a.z))),
        )

    def nav_sat_fix(self, stamp_ns: int, frame_id: str, measurement: Any) -> Any:
        """Latitude, longitude, altitude."""
        return self.new(
            "sensor_msgs/msg/NavSatFix",
            header=self.header(stamp_ns, frame_id),
            latitude=measurement.latitude,
            longitude=measurement.longitude,
            altitude=measurement.altitude,
        )

    def number(self, value: float) -> Any:
        """A Float32, for plots."""
        return self.new("std_msgs/msg/Float32", data=value)

    def words(self, text: str) -> Any:
        """A String."""
        return self.new("std_msgs/msg/String", data=text)

    def _marker(
        self,
        stamp_ns: int,
        namespace: str,
        number: int,
        kind: int,
        *,
        pose: frames.RosPose | None = None,
        scale: Sequence[float] = (1.0, 1.0, 1.0),
        color: Rgba = (0.0, 0.0, 0.0, 0.0),
        **fields: Any,
    ) -> Any:
        r, g, b, a = color
        return self.new(
            "visualization_msgs/msg/Marker",
            header=self.header(stamp_ns),
            ns=namespace,
            id=number % 2**31,
            type=kind,
            pose=self._pose(pose or frames.RosPose()),
            scale=self._vector((scale[0], scale[1], scale[2])),
            color=self.new("std_msgs/msg/ColorRGBA", r=r, g=g, b=b, a=a),
            **fields,
        )

    def _marker_array(self, markers: list[Any]) -> Any:
        return self.new("visualization_msgs/msg/MarkerArray", markers=markers)

    def _pose(self, pose: frames.RosPose) -> Any:
        return self.new(
            "geometry_msgs/msg/Pose",
            position=self._point(pose.position_m),
            orientation=self._quaternion(pose.orientation),
        )

    def _point(self, p: frames.Vec3) -> Any:
        return self.new("geometry_msgs/msg/Point", x=p[0], y=p[1], z=p[2])

    def _vector(self, v: frames.Vec3) -> Any:
        return self.new("geometry_msgs/msg/Vector3", x=v[0], y=v[1], z=v[2])

    def _quaternion(self, q: frames.Quaternion) -> Any:
        return self.new("geometry_msgs/msg/Quaternion", x=q[0], y=q[1], z=q[2], w=q[3])


def ros_pose(pose: PoseView) -> frames.RosPose:
    """A pose of a run, in ROS's frame."""
    return frames.carla_pose_to_ros(
        frames.CarlaPose(
            x_m=pose.x,
            y_m=pose.y,
            z_m=pose.z,
            yaw_deg=pose.yaw,
            pitch_deg=pose.pitch,
            roll_deg=pose.roll,
        )
    )


def sensor_pose(sensor: SensorSpec) -> frames.RosPose:
    """Where a sensor's frame stands on the vehicle: optical for cameras."""
    if sensor.is_camera:
        return frames.carla_camera_pose_to_ros_optical(sensor.pose)
    return frames.carla_pose_to_ros(sensor.pose)


def plan_poses(start: Point, plan: PlanView, z: float) -> list[PoseView]:
    """The plan's points as poses that look from each point to the next."""
    poses, (x0, y0) = [], start
    for x, y in plan.points:
        yaw = math.degrees(math.atan2(y - y0, x - x0))
        poses.append(PoseView(x=x, y=y, z=z, yaw=yaw))
        x0, y0 = x, y
    return poses
