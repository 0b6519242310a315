# SPDX-License-Identifier: Apache-2.0
"""The evaluation's side of a vehicle's encoder: target points out, tokens and predictions in."""

from __future__ import annotations

import math
import time
from typing import Any

from flad_msgs.msg import ScenePrediction, SceneTokens
from geometry_msgs.msg import PointStamped
from rclpy.node import Node

from flad_carla.bridge import ControlTimeout
from flad_carla.ros import messages
from flad_carla.run_log import Point, PredictedBox, PredictionView, TokensView
from flad_common import error_codes, frames
from flad_common.ros.qos import SCENE, STATE

_KEPT = 8  # newest stamps of which one of both messages has come


class EncoderTimeout(ControlTimeout):
    """The encoder gave no tokens for a tick in time."""

    CODE = error_codes.ENCODER_TIMEOUT


class EncoderLink:
    """Listens to the encoder of ``role`` through another's node. Single-threaded."""

    def __init__(self, node: Node, role: str) -> None:
        self._node = node
        self._role = role
        self._target_pub = node.create_publisher(PointStamped, f"/{role}/target_point", STATE)
        self._inputs = [
            node.create_subscription(SceneTokens, f"/{role}/scene_tokens", self._on_tokens, SCENE),
            node.create_subscription(
                ScenePrediction, f"/{role}/scene_prediction", self._on_prediction, SCENE
            ),
        ]
        self._tokens: dict[int, SceneTokens] = {}
        self._predictions: dict[int, ScenePrediction] = {}
        self._newest: PredictionView | None = None
        self._newest_ns: int | None = None
        self._sent: dict[int, float] = {}  # wall time when a tick was begun to be sent

    @property
    def newest(self) -> PredictionView | None:
        """The newest tick that both messages came of; the same object until there is another."""
        return self._newest

    def reset(self) -> None:
        """Another route begins: forget the last one."""
        self._tokens.clear()
        self._predictions.clear()
        self._newest = self._newest_ns = None
        self._sent.clear()

    def is_ready(self) -> bool:
        """Whether the encoder hears us: it listens to target points after all other inputs."""
        return bool(self._target_pub.get_subscription_count() > 0)

    def note_sending(self, stamp_ns: int) -> None:
        """The sensors of a tick are about to be sent."""
        self._sent[stamp_ns] = time.monotonic()
        while len(self._sent) > _KEPT:
            del self._sent[next(iter(self._sent))]

    def publish_target(self, point: Point, height_m: float, stamp_ns: int) -> None:
        """Tell the next far node of the route, given in CARLA's world."""
        x, y, z = frames.carla_vector_to_ros((point[0], point[1], height_m))
        msg = PointStamped(header=messages.header(stamp_ns, "map"))
        msg.point = messages.point_msg((x, y, z))
        self._target_pub.publish(msg)

    def has(self, stamp_ns: int) -> bool:
        """Whether tokens and prediction of this tick have come."""
        return self._newest_ns == stamp_ns

    def complaint(self, stamp_ns: int, deadline_s: float) -> EncoderTimeout:
        """What is known of an encoder that did not answer."""
        role = self._role
        if not self._node.count_publishers(f"/{role}/scene_tokens"):
            known = f"nobody publishes /{role}/scene_tokens; is its encoder running?"
        elif stamp_ns in self._tokens or stamp_ns in self._predictions:
            lacks = "scene_prediction" if stamp_ns in self._tokens else "scene_tokens"
            known = f"/{role}/{lacks} of this tick has not come"
        elif self._newest_ns is None:
            known = "it is there and never answered; is it active, does it hear the sensors?"
        else:
            known = f"its last tokens were for {self._newest_ns * 1e-9:.3f} s"
        return EncoderTimeout(
            f"no tokens for the tick of {stamp_ns * 1e-9:.3f} s within {deadline_s:g} s from "
            f"{role}: {known}",
            (role,),
        )

    def destroy(self) -> None:
        """Take the topics away, in reverse."""
        for subscription in reversed(self._inputs):
            self._node.destroy_subscription(subscription)
        self._node.destroy_publisher(self._target_pub)

    def _on_tokens(self, msg: SceneTokens) -> None:
        self._take(self._tokens, msg)

    def _on_prediction(self, msg: ScenePrediction) -> None:
        self._take(self._predictions, msg)

    def _take(self, heard: dict[int, Any], msg: Any) -> None:
        stamp_ns = msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec
        heard[stamp_ns] = msg
        while len(heard) > _KEPT:
            del heard[next(iter(heard))]
        if stamp_ns in self._tokens and stamp_ns in self._predictions:
            tokens, prediction = self._tokens.pop(stamp_ns), self._predictions.pop(stamp_ns)
            sent_s = self._sent.pop(stamp_ns, math.nan)
            self._newest = prediction_view(prediction, tokens, time.monotonic() - sent_s)
            self._newest_ns = stamp_ns


def prediction_view(
    msg: ScenePrediction, tokens: SceneTokens, round_trip_s: float
) -> PredictionView:
    """Both messages as plain values."""
    stamp_ns = msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec
    columns = (
        *(msg.box_x, msg.box_y, msg.box_yaw),
        *(msg.box_half_length, msg.box_half_width, msg.box_speed, msg.box_score),
    )
    return PredictionView(
        stamp_s=stamp_ns * 1e-9,
        light_red=msg.light_red,
        stop=msg.stop,
        boxes=tuple(
            PredictedBox(
                x_m=x,
                y_m=y,
                yaw_rad=yaw,
                half_length_m=half_length,
                half_width_m=half_width,
                speed_mps=speed,
                score=score,
            )
            for x, y, yaw, half_length, half_width, speed, score in zip(*columns, strict=True)
        ),
        waypoints=tuple(zip(msg.x, msg.y, strict=True)),
        step_s=msg.step_s,
        latency_s=msg.latency_s,
        round_trip_s=round_trip_s,
        model_hash=msg.model_hash,
        missing_views=tuple(
            view for view, valid in zip(tokens.views, tokens.view_valid, strict=True) if not valid
        ),
        tokens=TokensView(
            stamp_ns=stamp_ns,
            model_hash=tokens.model_hash,
            contract_version=tokens.contract_version,
            num_tokens=tokens.num_tokens,
            dim=tokens.dim,
            dtype=tokens.dtype,
            data=bytes(tokens.data),
            scale=tuple(tokens.scale),
            crc32=tokens.crc32,
            views=tuple(tokens.views),
            view_valid=tuple(tokens.view_valid),
            lidar_valid=tokens.lidar_valid,
            speed_mps=tokens.speed_mps,
        ),
    )
