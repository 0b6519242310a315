# SPDX-License-Identifier: Apache-2.0
"""What the encoder predicted, as messages: the numbers, and markers for rviz as its node has them.

Everything is in the vehicle's own frame, which at its stamp is where the boxes were seen from.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flad_carla.bag.messages import MessageMaker
from flad_carla.run_log import Point, PoseView, PredictionView, TokensView
from flad_common import frames

PREDICTION = "flad_msgs/msg/ScenePrediction"
TOKENS = "flad_msgs/msg/SceneTokens"

_CUBE, _SPHERE_LIST, _TEXT = 1, 7, 9
_DELETE_ALL = 3
_HEIGHT_M = 1.5  # the encoder predicts none
_SURE = 0.5
_SEEN = (1.0, 0.69, 0.13)
_RED, _FREE = (0.95, 0.15, 0.10), (0.10, 0.75, 0.30)


def prediction_message(make: MessageMaker, stamp_ns: int, role: str, view: PredictionView) -> Any:
    """``flad_msgs/ScenePrediction``."""

    def column(values: Any) -> Any:
        return np.array(list(values), dtype=np.float32)

    return make.new(
        PREDICTION,
        header=make.header(stamp_ns, role),
        model_hash=view.model_hash,
        light_red=view.light_red,
        stop=view.stop,
        x=column(x for x, _ in view.waypoints),
        y=column(y for _, y in view.waypoints),
        step_s=view.step_s,
        box_x=column(b.x_m for b in view.boxes),
        box_y=column(b.y_m for b in view.boxes),
        box_yaw=column(b.yaw_rad for b in view.boxes),
        box_half_length=column(b.half_length_m for b in view.boxes),
        box_half_width=column(b.half_width_m for b in view.boxes),
        box_speed=column(b.speed_mps for b in view.boxes),
        box_score=column(b.score for b in view.boxes),
        latency_s=view.latency_s,
    )


def tokens_message(make: MessageMaker, role: str, tokens: TokensView) -> Any:
    """``flad_msgs/SceneTokens``, byte for byte what came over the wire."""
    return make.new(
        TOKENS,
        header=make.header(tokens.stamp_ns, role),
        model_hash=tokens.model_hash,
        contract_version=tokens.contract_version,
        num_tokens=tokens.num_tokens,
        dim=tokens.dim,
        dtype=tokens.dtype,
        scale=np.array(tokens.scale, dtype=np.float32),
        data=np.frombuffer(tokens.data, dtype=np.uint8),
        crc32=tokens.crc32,
        views=list(tokens.views),
        view_valid=np.array(tokens.view_valid, dtype=np.bool_),
        lidar_valid=tokens.lidar_valid,
        speed_mps=tokens.speed_mps,
    )


def target_message(make: MessageMaker, stamp_ns: int, ego: PoseView, node: Point | None) -> Any:
    """``geometry_msgs/PointStamped``: the route's next far node, or the ego itself."""
    x, y, z = frames.carla_vector_to_ros((*(node or (ego.x, ego.y)), ego.z))
    return make.new(
        "geometry_msgs/msg/PointStamped",
        header=make.header(stamp_ns),
        point=make.new("geometry_msgs/msg/Point", x=x, y=y, z=z),
    )


def prediction_markers(make: MessageMaker, stamp_ns: int, role: str, view: PredictionView) -> Any:
    """A box per road user, the waypoints, and the light in words."""
    header = make.header(stamp_ns, role)

    def marker(
        namespace: str,
        number: int,
        kind: int,
        *,
        place: frames.Vec3 = (0.0, 0.0, 0.0),
        yaw_rad: float = 0.0,
        size: frames.Vec3 = (1.0, 1.0, 1.0),
        color: tuple[float, float, float] = _SEEN,
        alpha: float = 0.9,
        **fields: Any,
    ) -> Any:
        q = frames.quaternion_from_euler(roll_rad=0.0, pitch_rad=0.0, yaw_rad=yaw_rad)
        return make.new(
            "visualization_msgs/msg/Marker",
            header=header,
            ns=namespace,
            id=number,
            type=kind,
            pose=make.new(
                "geometry_msgs/msg/Pose",
                position=_point(make, place),
                orientation=make.new(
                    "geometry_msgs/msg/Quaternion", x=q[0], y=q[1], z=q[2], w=q[3]
                ),
            ),
            scale=make.new("geometry_msgs/msg/Vector3", x=size[0], y=size[1], z=size[2]),
            color=make.new("std_msgs/msg/ColorRGBA", r=color[0], g=color[1], b=color[2], a=alpha),
            **fields,
        )

    markers = [marker("encoder", 0, _CUBE, action=_DELETE_ALL)]
    for number, box in enumerate(view.boxes):
        size = (max(0.1, 2.0 * box.half_length_m), max(0.1, 2.0 * box.half_width_m), _HEIGHT_M)
        place = (box.x_m, box.y_m, _HEIGHT_M / 2.0)
        markers.append(
            marker(
                *("encoder_boxes", number, _CUBE),
                place=place,
                yaw_rad=box.yaw_rad,
                size=size,
                alpha=0.6,
            )
        )
    points = [_point(make, (x, y, 0.3)) for x, y in view.waypoints]
    markers.append(
        marker("encoder_waypoints", 0, _SPHERE_LIST, size=(0.35, 0.35, 0.35), points=points)
    )
    red = view.light_red >= _SURE
    markers.append(
        marker(
            *("encoder_light", 0, _TEXT),
            place=(0.0, 0.0, 3.2),
            size=(0.7, 0.7, 0.7),
            color=_RED if red else _FREE,
            text=f"{'RED' if red else 'free'} {view.light_red:.2f}",
        )
    )
    return make.new("visualization_msgs/msg/MarkerArray", markers=markers)


def _point(make: MessageMaker, place: frames.Vec3) -> Any:
    return make.new("geometry_msgs/msg/Point", x=place[0], y=place[1], z=place[2])
