# SPDX-License-Identifier: Apache-2.0
"""One ego vehicle's topics: its state and sensors out, its controls in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ackermann_msgs.msg import AckermannDrive
from carla_msgs.msg import (
    CarlaEgoVehicleControl,
    CarlaEgoVehicleInfo,
    CarlaEgoVehicleInfoWheel,
    CarlaEgoVehicleStatus,
)
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from std_msgs.msg import Bool, Float32

from flad_carla.control_inbox import ControlInbox, StampedControl
from flad_carla.ros import messages
from flad_carla.ros.guard import guarded
from flad_carla.ros.sensors import SensorPublisher, sensor_publisher
from flad_carla.session import Ego, Tick
from flad_carla.session_errors import SessionError
from flad_common import frames
from flad_common.ros.qos import CONTROL, LATCHED, STATE
from flad_planner.control import Control


class EgoTopics:
    """Everything below ``/carla/<role>/`` but the world's objects.

    Args:
        node: the bridge.
        ego: the vehicle.
        inbox: where its controls go.
        step: the newest step's stamp and the watchdog's clock, at the time of the call.
        set_autopilot: called with what ``enable_autopilot`` asks for.
    """

    def __init__(
        self,
        node: Node,
        ego: Ego,
        inbox: ControlInbox,
        step: Callable[[], tuple[int, float]],
        set_autopilot: Callable[[bool], None],
    ) -> None:
        self._node = node
        self._ego = ego
        self._inbox = inbox
        self._step = step
        self._set_autopilot = set_autopilot
        self.ackermann: AckermannDrive | None = None
        base = f"/carla/{ego.role}"
        self.control_topic = f"{base}/vehicle_control_cmd"
        self._odometry_pub = node.create_publisher(Odometry, f"{base}/odometry", STATE)
        self._speed_pub = node.create_publisher(Float32, f"{base}/speedometer", STATE)
        self._status_pub = node.create_publisher(
            CarlaEgoVehicleStatus, f"{base}/vehicle_status", STATE
        )
        self._info_pub = node.create_publisher(CarlaEgoVehicleInfo, f"{base}/vehicle_info", LATCHED)
        self._info_sent = False
        self._sensors: dict[str, SensorPublisher] = {}
        self._make_sensors()
        self._inputs = [
            node.create_subscription(
                CarlaEgoVehicleControl, self.control_topic, guarded(node, self._on_control), CONTROL
            ),
            node.create_subscription(
                CarlaEgoVehicleControl,
                f"{base}/vehicle_control_cmd_manual",
                guarded(node, self._on_manual),
                CONTROL,
            ),
            node.create_subscription(
                Bool,
                f"{base}/vehicle_control_manual_override",
                guarded(node, self._on_override),
                LATCHED,
            ),
            node.create_subscription(
                AckermannDrive, f"{base}/ackermann_cmd", guarded(node, self._on_ackermann), CONTROL
            ),
            node.create_subscription(
                Bool, f"{base}/enable_autopilot", guarded(node, self._on_autopilot), CONTROL
            ),
        ]

    def destroy(self) -> None:
        """Take the topics away, in reverse."""
        for subscription in reversed(self._inputs):
            self._node.destroy_subscription(subscription)
        for sensor in self._sensors.values():
            sensor.destroy()
        for publisher in (self._info_pub, self._status_pub, self._speed_pub, self._odometry_pub):
            self._node.destroy_publisher(publisher)

    @property
    def ego(self) -> Ego:
        """The vehicle that these topics tell of."""
        return self._ego

    def rebind(self, ego: Ego) -> None:
        """Another vehicle has taken the role: the topics stay, so that nobody has to rediscover."""
        changed = ego.rig != self._ego.rig
        self._ego = ego
        self._info_sent = False
        self.ackermann = None
        self._inbox.reset()
        if changed:
            for sensor in self._sensors.values():
                sensor.destroy()
            self._sensors.clear()
            self._make_sensors()

    def static_transforms(self, stamp_ns: int) -> list[TransformStamped]:
        """Where the sensors stand on the vehicle, and ``base_link`` for who expects one."""
        role = self._ego.role
        base = messages.transform_msg(stamp_ns, role, f"{role}/base_link", frames.RosPose())
        return [base] + [
            messages.transform_msg(stamp_ns, role, s.frame_id, s.pose_in_vehicle())
            for s in self._sensors.values()
        ]

    def publish(self, tick: Tick) -> TransformStamped | None:
        """Publish what this step brought; returns the vehicle's transform in the map.

        The odometry goes out last: who answers it has the rest already on its way.
        """
        state = tick.snapshot.find(self._ego.actor.id)
        if state is None:
            self._node.get_logger().error(
                f"{self._ego.role} is not in the world any more", throttle_duration_sec=5.0
            )
            return None
        stamp_ns = tick.stamp_ns
        for sensor_id, data in tick.data.get(self._ego.role, {}).items():
            if sensor_id in self._sensors:
                self._sensors[sensor_id].publish(data, stamp_ns)
        for event in tick.events:
            if event.role == self._ego.role and event.sensor_id in self._sensors:
                self._sensors[event.sensor_id].publish(event.data, stamp_ns)
        if not self._info_sent:
            self._info_pub.publish(self._info())
            self._info_sent = True
        pose = frames.carla_pose_to_ros(messages.carla_pose(state.get_transform()))
        velocity = frames.carla_vector_to_ros(messages.carla_vec(state.get_velocity()))
        self._status_pub.publish(self._status(state, pose, stamp_ns))
        forward_mps = frames.world_to_body(velocity, pose.orientation)[0]
        self._speed_pub.publish(Float32(data=forward_mps))
        self._odometry_pub.publish(self._odometry(state, pose, velocity, stamp_ns))
        return messages.transform_msg(stamp_ns, "map", self._ego.role, pose)

    def num_drivers(self) -> int:
        """How many publishers there are on the control topic."""
        return self._node.count_publishers(self.control_topic)

    def is_heard(self) -> bool:
        """Whether somebody listens to the odometry and may answer it."""
        return self._odometry_pub.get_subscription_count() > 0 and self.num_drivers() > 0

    def _make_sensors(self) -> None:
        for spec in self._ego.rig.sensors:
            publisher = sensor_publisher(self._node, self._ego.role, spec)
            if publisher is not None:
                self._sensors[spec.id] = publisher

    def _odometry(
        self, state: Any, pose: frames.RosPose, velocity: frames.Vec3, stamp_ns: int
    ) -> Odometry:
        odometry = Odometry(header=messages.header(stamp_ns, "map"))
        odometry.child_frame_id = self._ego.role
        odometry.pose.pose = messages.pose_msg(pose)
        turning = frames.carla_angular_velocity_to_ros(
            messages.carla_vec(state.get_angular_velocity())
        )
        twist = odometry.twist.twist
        twist.linear = messages.vector_msg(frames.world_to_body(velocity, pose.orientation))
        twist.angular = messages.vector_msg(frames.world_to_body(turning, pose.orientation))
        return odometry

    def _status(self, state: Any, pose: frames.RosPose, stamp_ns: int) -> CarlaEgoVehicleStatus:
        control = self._ego.actor.get_control()
        status = CarlaEgoVehicleStatus(header=messages.header(stamp_ns, "map"))
        status.velocity = math.hypot(*messages.carla_vec(state.get_velocity()))
        acceleration = frames.carla_vector_to_ros(messages.carla_vec(state.get_acceleration()))
        status.acceleration.linear = messages.vector_msg(
            frames.world_to_body(acceleration, pose.orientation)
        )
        status.orientation = messages.quaternion_msg(pose.orientation)
        status.control = CarlaEgoVehicleControl(
            header=status.header,
            throttle=control.throttle,
            steer=control.steer,
            brake=control.brake,
            hand_brake=control.hand_brake,
            reverse=control.reverse,
            gear=control.gear,
            manual_gear_shift=control.manual_gear_shift,
        )
        return status

    def _info(self) -> CarlaEgoVehicleInfo:
        actor = self._ego.actor
        physics = actor.get_physics_control()
        info = CarlaEgoVehicleInfo(
            id=actor.id,
            type=actor.type_id,
            rolename=self._ego.role,
            max_rpm=physics.max_rpm,
            moi=physics.moi,
            damping_rate_full_throttle=physics.damping_rate_full_throttle,
            damping_rate_zero_throttle_clutch_engaged=(
                physics.damping_rate_zero_throttle_clutch_engaged
            ),
            damping_rate_zero_throttle_clutch_disengaged=(
                physics.damping_rate_zero_throttle_clutch_disengaged
            ),
            use_gear_autobox=physics.use_gear_autobox,
            gear_switch_time=physics.gear_switch_time,
            clutch_strength=physics.clutch_strength,
            mass=physics.mass,
            drag_coefficient=physics.drag_coefficient,
            center_of_mass=messages.vector_msg(
                frames.carla_vector_to_ros(messages.carla_vec(physics.center_of_mass))
            ),
        )
        place = frames.carla_pose_to_ros(messages.carla_pose(actor.get_transform()))
        info.wheels = [_wheel_msg(wheel, place) for wheel in physics.wheels]
        return info

    def _on_control(self, msg: CarlaEgoVehicleControl) -> None:
        step_ns, clock_s = self._step()
        reason = self._inbox.put(_stamped(msg), step_ns, clock_s)
        self.ackermann = None
        if reason is not None:
            self._refused("control", reason)

    def _on_manual(self, msg: CarlaEgoVehicleControl) -> None:
        reason = self._inbox.put_manual(_stamped(msg), self._step()[1])
        if reason is not None:
            self._refused("manual control", reason)

    def _on_override(self, msg: Bool) -> None:
        if msg.data != self._inbox.manual.active:
            self._node.get_logger().info(
                f"{self._ego.role}: manual control {'taken' if msg.data else 'ended'}"
            )
        self._inbox.manual.set_active(msg.data, self._step()[1])

    def _on_ackermann(self, msg: AckermannDrive) -> None:
        values = (msg.steering_angle, msg.steering_angle_velocity, msg.speed, msg.acceleration)
        if not all(math.isfinite(v) for v in (*values, msg.jerk)):
            self._inbox.num_refused += 1
            self._refused("ackermann_cmd", f"not every value is finite: {msg}")
            return
        self.ackermann = msg

    def _on_autopilot(self, msg: Bool) -> None:
        try:
            self._set_autopilot(msg.data)
        except SessionError as error:
            self._refused("enable_autopilot", error.detail)

    def _refused(self, what: str, reason: str) -> None:
        self._node.get_logger().warning(
            f"{self._ego.role}: {what} refused: {reason}", throttle_duration_sec=2.0
        )


def _stamped(msg: CarlaEgoVehicleControl) -> StampedControl:
    stamp = msg.header.stamp
    control = Control(
        throttle=msg.throttle,
        steer=msg.steer,
        brake=msg.brake,
        hand_brake=msg.hand_brake,
        reverse=msg.reverse,
    )
    stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
    return StampedControl(stamp_ns, control, msg.gear, msg.manual_gear_shift)


def _wheel_msg(wheel: Any, place: frames.RosPose) -> CarlaEgoVehicleInfoWheel:
    # CARLA gives wheel positions in the world, in centimetres.
    x, y, z = (value / 100.0 for value in messages.carla_vec(wheel.position))
    at = frames.carla_vector_to_ros((x, y, z))
    offset = (
        at[0] - place.position_m[0],
        at[1] - place.position_m[1],
        at[2] - place.position_m[2],
    )
    return CarlaEgoVehicleInfoWheel(
        tire_friction=wheel.tire_friction,
        damping_rate=wheel.damping_rate,
        max_steer_angle=math.radians(wheel.max_steer_angle),
        radius=wheel.radius,
        max_brake_torque=wheel.max_brake_torque,
        max_handbrake_torque=wheel.max_handbrake_torque,
        position=messages.vector_msg(frames.world_to_body(offset, place.orientation)),
    )
