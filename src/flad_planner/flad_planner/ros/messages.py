# SPDX-License-Identifier: Apache-2.0
"""Planner values as ROS messages and back."""

from __future__ import annotations

import math

from builtin_interfaces.msg import Time
from carla_msgs.msg import CarlaEgoVehicleControl, CarlaEgoVehicleInfo
from flad_msgs.msg import Plan as PlanMsg
from flad_msgs.msg import PlannerStatus, ScenePrediction
from geometry_msgs.msg import Point as PointMsg
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from flad_planner.control import Control
from flad_planner.geometry import Pose2
from flad_planner.plan import AnchoredPlan, RawPlan
from flad_planner.planner import Decision, Ego, PlannerState
from flad_planner.tracking import Box

_COLORS = {
    PlannerState.FOLLOWING: ColorRGBA(r=0.1, g=0.8, b=0.2, a=0.9),
    PlannerState.MANUAL: ColorRGBA(r=0.2, g=0.4, b=1.0, a=0.9),
}
_WARNING = ColorRGBA(r=0.95, g=0.3, b=0.1, a=0.9)


def stamp_to_ns(stamp: Time) -> int:
    """A ROS time as nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def ns_to_stamp(stamp_ns: int) -> Time:
    """Nanoseconds as a ROS time."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def ego_from_odometry(msg: Odometry) -> Ego:
    """The vehicle on the plane; its speed is along its own x axis, negative when rolling back."""
    q = msg.pose.pose.orientation
    yaw_rad = math.atan2(2.0 * (q.w * q.z + q.x * q.y), 1.0 - 2.0 * (q.y * q.y + q.z * q.z))
    position = msg.pose.pose.position
    pose = Pose2(position.x, position.y, yaw_rad)
    return Ego(stamp_to_ns(msg.header.stamp), pose, msg.twist.twist.linear.x)


def raw_plan(msg: PlanMsg) -> RawPlan:
    """A plan as it arrived, unchecked."""
    return RawPlan(
        stamp_to_ns(msg.header.stamp), list(msg.x), list(msg.y), float(msg.step_s), msg.source
    )


def boxes(msg: ScenePrediction) -> list[Box]:
    """Who was detected, unchecked.

    Raises:
        ValueError: if the columns are of different lengths.
    """
    columns = (
        *(msg.box_x, msg.box_y, msg.box_yaw, msg.box_half_length, msg.box_half_width),
        msg.box_score,
    )
    if len({len(column) for column in columns}) != 1:
        raise ValueError(f"columns of {[len(column) for column in columns]} boxes")
    return [Box(*map(float, row)) for row in zip(*columns, strict=True)]


def control_from_msg(msg: CarlaEgoVehicleControl) -> Control:
    """The parts of a CARLA control that a person gives."""
    return Control(
        throttle=msg.throttle,
        steer=msg.steer,
        brake=msg.brake,
        hand_brake=msg.hand_brake,
        reverse=msg.reverse,
    )


def control_to_msg(control: Control, header: Header) -> CarlaEgoVehicleControl:
    """A control as CARLA's bridge takes it."""
    return CarlaEgoVehicleControl(
        header=header,
        throttle=control.throttle,
        steer=control.steer,
        brake=control.brake,
        hand_brake=control.hand_brake,
        reverse=control.reverse,
    )


def status_msg(decision: Decision, header: Header) -> PlannerStatus:
    """A decision as it is told to others."""
    return PlannerStatus(
        header=header,
        state=int(decision.state),
        plan_age_s=decision.plan_age_s,
        desired_speed_mps=decision.desired_speed_mps,
        reason=decision.reason,
    )


def path_msg(active: AnchoredPlan, header: Header, height_m: float) -> Path:
    """The plan on the ground, as rviz draws it; ``header`` names the frame of the odometry."""
    step_ns = round(active.plan.step_s * 1e9)
    poses = []
    for i, (x, y) in enumerate(active.path):
        pose = PoseStamped()
        pose.header.frame_id = header.frame_id
        pose.header.stamp = ns_to_stamp(active.plan.stamp_ns + i * step_ns)
        pose.pose.position = PointMsg(x=x, y=y, z=height_m)
        poses.append(pose)
    return Path(header=header, poses=poses)


def marker_msgs(
    active: AnchoredPlan | None, decision: Decision, header: Header, ego: Ego, height_m: float
) -> MarkerArray:
    """The waypoints as balls and the state as text above the vehicle."""
    color = _COLORS.get(decision.state, _WARNING)
    balls = Marker(header=header, ns="plan", id=0, type=Marker.SPHERE_LIST, color=color)
    balls.action = Marker.ADD if active is not None else Marker.DELETE
    balls.pose.orientation.w = 1.0
    balls.scale.x = balls.scale.y = balls.scale.z = 0.4
    for x, y in active.path[1:] if active is not None else ():
        balls.points.append(PointMsg(x=x, y=y, z=height_m + 0.3))
    text = Marker(header=header, ns="state", id=1, type=Marker.TEXT_VIEW_FACING, color=color)
    text.action = Marker.ADD
    text.pose.position = PointMsg(x=ego.pose.x_m, y=ego.pose.y_m, z=height_m + 2.5)
    text.pose.orientation.w = 1.0
    text.scale.z = 0.8
    text.text = f"{decision.state.name} {decision.reason}".strip()
    return MarkerArray(markers=[balls, text])


def car_of(msg: CarlaEgoVehicleInfo) -> tuple[float, float] | None:
    """Wheelbase in metres and full steering angle in degrees; None where the wheels are unknown."""
    steer_rad = max((wheel.max_steer_angle for wheel in msg.wheels), default=0.0)
    along = [wheel.position.x for wheel in msg.wheels]
    if not along or not steer_rad > 0.0:
        return None
    return round(max(along) - min(along), 2), round(math.degrees(steer_rad), 2)
