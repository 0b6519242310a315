# SPDX-License-Identifier: Apache-2.0
"""What the encoder believes, as markers for rviz, in the vehicle's own frame."""

from __future__ import annotations

import math

from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from flad_perception.scene_output import SceneOutput

_BOX = ColorRGBA(r=0.98, g=0.6, b=0.1, a=0.6)
_WAYPOINTS = ColorRGBA(r=0.2, g=0.55, b=1.0, a=0.9)
_RED = ColorRGBA(r=0.95, g=0.15, b=0.1, a=1.0)
_FREE = ColorRGBA(r=0.1, g=0.75, b=0.3, a=1.0)
_STOP = ColorRGBA(r=0.75, g=0.1, b=0.5, a=1.0)
_BOX_HEIGHT_M = 1.5
_SURE = 0.5  # a light or sign that is at least as probable is shown as there


def scene_markers(head: Header, output: SceneOutput) -> MarkerArray:
    """Boxes, waypoints, light and stop sign; those of the last message are deleted first."""
    markers = [Marker(header=head, ns="encoder", action=Marker.DELETEALL)]
    for number, box in enumerate(output.boxes):
        marker = _marker(head, "encoder_boxes", number, Marker.CUBE, _BOX)
        marker.pose = Pose(
            position=Point(x=box.x_m, y=box.y_m, z=_BOX_HEIGHT_M / 2.0),
            orientation=Quaternion(z=math.sin(box.yaw_rad / 2.0), w=math.cos(box.yaw_rad / 2.0)),
        )
        marker.scale = Vector3(
            x=max(0.1, 2.0 * box.half_length_m),
            y=max(0.1, 2.0 * box.half_width_m),
            z=_BOX_HEIGHT_M,
        )
        markers.append(marker)
    balls = _marker(head, "encoder_waypoints", 0, Marker.SPHERE_LIST, _WAYPOINTS)
    balls.scale = Vector3(x=0.35, y=0.35, z=0.35)
    balls.points = [Point(x=x, y=y, z=0.3) for x, y in output.waypoints_m]
    red = output.light_red >= _SURE
    light = _marker(head, "encoder_light", 0, Marker.TEXT_VIEW_FACING, _RED if red else _FREE)
    light.pose.position = Point(z=3.2)
    light.scale.z = 0.7
    light.text = f"{'RED' if red else 'free'} {output.light_red:.2f}"
    markers += [balls, light]
    if output.stop >= _SURE:
        sign = _marker(head, "encoder_stop", 0, Marker.TEXT_VIEW_FACING, _STOP)
        sign.pose.position = Point(z=4.0)
        sign.scale.z = 0.7
        sign.text = f"STOP {output.stop:.2f}"
        markers.append(sign)
    return MarkerArray(markers=markers)


def _marker(head: Header, namespace: str, number: int, kind: int, color: ColorRGBA) -> Marker:
    marker = Marker(header=head, ns=namespace, id=number, type=kind, color=color)
    marker.action = Marker.ADD
    marker.pose.orientation.w = 1.0
    return marker
