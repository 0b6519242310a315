# SPDX-License-Identifier: Apache-2.0
"""One publisher per kind of sensor, with ros-bridge's topics and types.

Heavy messages are made only while somebody listens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from carla_msgs.msg import CarlaCollisionEvent, CarlaLaneInvasionEvent
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix, NavSatStatus, PointCloud2, PointField

from flad_carla import images
from flad_carla.rig import SensorSpec
from flad_carla.ros import messages
from flad_common import frames
from flad_common.ros.qos import SENSOR_OUT, STATE


class SensorPublisher:
    """Publishes one sensor's measurements below ``/carla/<role>/<id>``."""

    def __init__(self, node: Node, role: str, spec: SensorSpec) -> None:
        self._node = node
        self._base = f"/carla/{role}/{spec.id}"
        self._spec = spec
        self.frame_id = f"{role}/{spec.id}"
        self._publishers: list[Any] = []

    def pose_in_vehicle(self) -> frames.RosPose:
        """Where the sensor's frame stands on the vehicle, for tf."""
        return frames.carla_pose_to_ros(self._spec.pose)

    def publish(self, data: Any, stamp_ns: int) -> None:
        """Publish one measurement."""
        raise NotImplementedError

    def destroy(self) -> None:
        """Take the topics away."""
        for publisher in reversed(self._publishers):
            self._node.destroy_publisher(publisher)
        self._publishers.clear()

    def _topic(self, msg_type: Any, suffix: str = "", qos: QoSProfile = SENSOR_OUT) -> Any:
        publisher = self._node.create_publisher(msg_type, self._base + suffix, qos)
        self._publishers.append(publisher)
        return publisher


class CameraPublisher(SensorPublisher):
    """``image`` and ``camera_info`` in the optical frame."""

    def __init__(self, node: Node, role: str, spec: SensorSpec) -> None:
        super().__init__(node, role, spec)
        self._image_pub = self._topic(Image, "/image")
        self._info_pub = self._topic(CameraInfo, "/camera_info")

    def pose_in_vehicle(self) -> frames.RosPose:
        """The optical frame: z forward, x right, y down."""
        return frames.carla_camera_pose_to_ros_optical(self._spec.pose)

    def publish(self, data: Any, stamp_ns: int) -> None:
        """One picture and the pinhole that took it."""
        header = messages.header(stamp_ns, self.frame_id)
        if self._info_pub.get_subscription_count():
            self._info_pub.publish(_camera_info(data, header))
        if not self._image_pub.get_subscription_count():
            return
        pixels, encoding = self._pixels(images.bgra(data.raw_data, data.height, data.width))
        message = Image(
            header=header, height=data.height, width=data.width, encoding=encoding, is_bigendian=0
        )
        message.step = pixels.nbytes // data.height
        message.data = messages.bytes_array(np.ascontiguousarray(pixels))
        self._image_pub.publish(message)

    def _pixels(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], str]:
        return pixels, "bgra8"


class DepthPublisher(CameraPublisher):
    """Depth as 32-bit metres."""

    def _pixels(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], str]:
        return images.depth_m(pixels), "32FC1"


class SemanticPublisher(CameraPublisher):
    """Semantic tags in the Cityscapes colours, as ros-bridge shows them."""

    def _pixels(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], str]:
        return images.cityscapes_bgra(pixels), "bgra8"


class CloudPublisher(SensorPublisher):
    """LiDAR, semantic LiDAR and radar as PointCloud2."""

    def __init__(self, node: Node, role: str, spec: SensorSpec) -> None:
        super().__init__(node, role, spec)
        self._cloud_pub = self._topic(PointCloud2)

    def publish(self, data: Any, stamp_ns: int) -> None:
        """One sweep, in the sensor's frame."""
        if not self._cloud_pub.get_subscription_count():
            return
        if self._spec.type == "sensor.other.radar":
            points = images.radar_points(data.raw_data)
        elif self._spec.type == "sensor.lidar.ray_cast_semantic":
            points = images.mirrored(data.raw_data, images.SEMANTIC_LIDAR)
        else:
            points = images.mirrored(data.raw_data, images.LIDAR)
        self._cloud_pub.publish(cloud_msg(points, messages.header(stamp_ns, self.frame_id)))


class GnssPublisher(SensorPublisher):
    """Position as NavSatFix."""

    def __init__(self, node: Node, role: str, spec: SensorSpec) -> None:
        super().__init__(node, role, spec)
        self._fix_pub = self._topic(NavSatFix)

    def publish(self, data: Any, stamp_ns: int) -> None:
        """One fix."""
        fix = NavSatFix(header=messages.header(stamp_ns, self.frame_id))
        fix.status.status = NavSatStatus.STATUS_FIX
        fix.status.service = NavSatStatus.SERVICE_GPS
        fix.latitude, fix.longitude, fix.altitude = data.latitude, data.longitude, data.altitude
        self._fix_pub.publish(fix)


class ImuPublisher(SensorPublisher):
    """Rotation rates, accelerations, and heading from the compass."""

    def __init__(self, node: Node, role: str, spec: SensorSpec) -> None:
        super().__init__(node, role, spec)
        self._imu_pub = self._topic(Imu)

    def publish(self, data: Any, stamp_ns: int) -> None:
        """One measurement."""
        imu = Imu(header=messages.header(stamp_ns, self.frame_id))
        imu.angular_velocity = messages.vector_msg(
            frames.carla_gyroscope_to_ros(messages.carla_vec(data.gyroscope))
        )
        imu.linear_acceleration = messages.vector_msg(
            frames.carla_accelerometer_to_ros(messages.carla_vec(data.accelerometer))
        )
        imu.orientation = messages.quaternion_msg(
            frames.quaternion_from_euler(
                roll_rad=0.0, pitch_rad=0.0, yaw_rad=frames.carla_compass_to_ros_yaw(data.compass)
            )
        )
        self._imu_pub.publish(imu)


class CollisionPublisher(SensorPublisher):
    """Who was hit, how hard."""

    def __init__(self, node: Node, role: str, spec: SensorSpec) -> None:
        super().__init__(node, role, spec)
        self._event_pub = self._topic(CarlaCollisionEvent, qos=STATE)

    def publish(self, data: Any, stamp_ns: int) -> None:
        """One collision."""
        self._event_pub.publish(
            CarlaCollisionEvent(
                header=messages.header(stamp_ns, self.frame_id),
                other_actor_id=data.other_actor.id,
                normal_impulse=messages.vector_msg(
                    frames.carla_vector_to_ros(messages.carla_vec(data.normal_impulse))
                ),
            )
        )


class LaneInvasionPublisher(SensorPublisher):
    """Which lines were crossed."""

    def __init__(self, node: Node, role: str, spec: SensorSpec) -> None:
        super().__init__(node, role, spec)
        self._event_pub = self._topic(CarlaLaneInvasionEvent, qos=STATE)

    def publish(self, data: Any, stamp_ns: int) -> None:
        """One crossing."""
        kinds = {
            "Broken": CarlaLaneInvasionEvent.LANE_MARKING_BROKEN,
            "Solid": CarlaLaneInvasionEvent.LANE_MARKING_SOLID,
        }
        crossed = [
            kinds.get(str(m.type), CarlaLaneInvasionEvent.LANE_MARKING_OTHER)
            for m in data.crossed_lane_markings
        ]
        self._event_pub.publish(
            CarlaLaneInvasionEvent(
                header=messages.header(stamp_ns, self.frame_id), crossed_lane_markings=crossed
            )
        )


PUBLISHERS: dict[str, type[SensorPublisher]] = {
    "sensor.camera.rgb": CameraPublisher,
    "sensor.camera.depth": DepthPublisher,
    "sensor.camera.semantic_segmentation": SemanticPublisher,
    "sensor.camera.instance_segmentation": CameraPublisher,
    "sensor.lidar.ray_cast": CloudPublisher,
    "sensor.lidar.ray_cast_semantic": CloudPublisher,
    "sensor.other.radar": CloudPublisher,
    "sensor.other.gnss": GnssPublisher,
    "sensor.other.imu": ImuPublisher,
    "sensor.other.collision": CollisionPublisher,
    "sensor.other.lane_invasion": LaneInvasionPublisher,
}


def sensor_publisher(node: Node, role: str, spec: SensorSpec) -> SensorPublisher | None:
    """The publisher of this kind of sensor; None for one that only the session reads."""
    kind = PUBLISHERS.get(spec.type)
    return None if kind is None else kind(node, role, spec)


def cloud_msg(points: NDArray[Any], header: Any) -> PointCloud2:
    """Records ``[N]`` as an unordered cloud; each field of the records is a field of the cloud."""
    kinds = {"f": PointField.FLOAT32, "u": PointField.UINT32}
    cloud = PointCloud2(header=header, height=1, width=len(points), is_dense=True)
    cloud.fields = [
        PointField(
            name=name,
            offset=int(points.dtype.fields[name][1]),
            datatype=kinds[points.dtype.fields[name][0].kind],
            count=1,
        )
        for name in points.dtype.names or ()
        if points.dtype.fields is not None
    ]
    cloud.point_step = points.dtype.itemsize
    cloud.row_step = points.nbytes
    cloud.data = messages.bytes_array(points.view(np.uint8)) if len(points) else cloud.data
    return cloud


def _camera_info(data: Any, header: Any) -> CameraInfo:
    focal = images.focal_px(data.width, data.fov)
    cx, cy = data.width / 2.0, data.height / 2.0
    info = CameraInfo(header=header, width=data.width, height=data.height)
    info.distortion_model = "plumb_bob"
    info.d = [0.0] * 5
    info.k = [focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info
