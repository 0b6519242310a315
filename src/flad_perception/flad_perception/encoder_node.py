# SPDX-License-Identifier: Apache-2.0
"""ROS side of :class:`SceneEncoder`: sensors in, scene tokens out. No arithmetic here."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from diagnostic_msgs.msg import DiagnosticArray
from flad_msgs.msg import ScenePrediction, SceneTokens
from geometry_msgs.msg import PointStamped
from nav_msgs.msg import Odometry
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import State, TransitionCallbackReturn
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, PointCloud2
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from flad_common.config import knob, section
from flad_common.ros.lifecycle import ManagedNode, reports_errors, run_node
from flad_common.ros.parameters import from_node
from flad_common.ros.qos import DIAGNOSTICS, LOCKSTEP, SCENE, SENSOR, STATE, TF_STATIC, VIEW
from flad_perception.live_input import needed_cameras
from flad_perception.live_sensors import LiveSensors, to_vehicle
from flad_perception.node_health import NodeHealth
from flad_perception.ros import messages as convert
from flad_perception.ros.health import health_msg
from flad_perception.ros.markers import scene_markers
from flad_perception.ros.static_frames import StaticFrames
from flad_perception.scene_encoder import Place, SceneEncoder, SceneEncoderConfig
from flad_perception.scene_output import SceneOutput
from flad_perception.tick_sync import (
    LIDAR,
    ODOMETRY,
    TARGET,
    GatheredTick,
    TickSync,
    TickSyncConfig,
)
from flad_perception.wire import WireDtype, encode_tokens
from flad_perception.worker import Worker

_LOOK_S = {"realtime": 0.02, "lockstep": 0.25}
"""How often deadlines are looked at. Lockstep has long ones, and its wall time is expensive."""
_CLOSE_S = 10.0
_MAX_UNMOUNTED = 32  # sweeps that wait for their transform


@dataclass(frozen=True, kw_only=True)
class EncoderNodeConfig:
    """How the node works in time and on the wire; the model's knobs are below ``encoder``."""

    mode: Literal["lockstep", "realtime"] = knob(
        "realtime",
        unit="",
        doc="lockstep: every due tick is answered, in order; realtime: the newest one wins.",
    )
    wire: Literal["fp32", "fp16", "int8"] = knob(
        "fp16", unit="", doc="How the numbers of tokens are written."
    )
    cameras: tuple[str, ...] = knob(
        (), unit="", doc="Cameras that the vehicle carries; empty: all that the model looks at."
    )
    lidar: bool = knob(True, unit="", doc="Whether the vehicle carries a LiDAR.")
    await_target: bool = knob(
        False, unit="", doc="In lockstep, a tick waits for its target_point as for a sensor."
    )
    vehicle_frame: str = knob(
        "", unit="", doc="Frame of the vehicle's origin on the ground; empty: the namespace's name."
    )
    stages: tuple[str, ...] = knob(
        (),
        unit="",
        doc="Computers that run the model as a pipeline, this one first; empty: this one alone. "
        "Needs flad_edge's executable encoder_on_stages.",
    )
    stages_wait_s: float = knob(
        60.0, unit="s", doc="Longest wait for the other computers when this one is configured."
    )
    encoder: SceneEncoderConfig = section(SceneEncoderConfig, doc="The model.")
    tick: TickSyncConfig = section(TickSyncConfig, doc="What belongs to one tick.")


class EncoderNode(ManagedNode):
    """Answers every tick of its sensors with tokens and a prediction of the same stamp.

    Attributes exist from configure to cleanup; the worker and the sync only while active. Messages
    are received by the executor's thread, the model runs in the worker's, which publishes.

    In lockstep it listens to ``target_point`` only once every other input has a publisher and the
    LiDAR's place is known: who waits for that before the first step loses no sensor of it.
    """

    def __init__(
        self, on_stages: Callable[[tuple[str, ...], str, float], Place] | None = None, **kwargs: Any
    ) -> None:
        super().__init__("encoder", **kwargs)
        self._on_stages = on_stages
        self._active = False

    @reports_errors
    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Load the model, try it once, and make the topics.

        Raises:
            FladError: if the model is not what the parameters ask for.
        """
        self._config = config = from_node(EncoderNodeConfig, self)
        self._vehicle = config.vehicle_frame or self.get_namespace().strip("/").rsplit("/")[-1]
        place = None
        if config.stages:
            if self._on_stages is None:
                raise ValueError(
                    f"stages names {list(config.stages)}, and this executable runs the model "
                    "alone; start encoder_on_stages of flad_edge, with the same parameters"
                )
            place = self._on_stages(config.stages, self.get_namespace(), config.stages_wait_s)
        self._encoder = SceneEncoder(config.encoder, config.cameras, place)
        try:
            self._encoder.run(LiveSensors(pictures={}))  # the first time takes longer
        except Exception:
            self._encoder.close()
            raise
        cameras = needed_cameras(self._encoder.config, config.cameras)
        self._expected = [*cameras, *([LIDAR] if config.lidar else []), ODOMETRY]
        self._expected += [TARGET] if config.await_target else []
        self._frames = StaticFrames()
        self._wire = WireDtype[config.wire.upper()]
        self._tokens_pub = self.create_lifecycle_publisher(SceneTokens, "scene_tokens", SCENE)
        self._prediction_pub = self.create_lifecycle_publisher(
            ScenePrediction, "scene_prediction", SCENE
        )
        self._marker_pub = self.create_lifecycle_publisher(MarkerArray, "scene_markers", VIEW)
        self._diagnostics_pub = self.create_lifecycle_publisher(
            DiagnosticArray, "diagnostics", DIAGNOSTICS
        )
        sensor_qos = LOCKSTEP if config.mode == "lockstep" else SENSOR
        state_qos = LOCKSTEP if config.mode == "lockstep" else STATE
        self._inputs = [
            self._listen(Image, f"{camera}/image", partial(self._on_image, camera), sensor_qos)
            for camera in cameras
        ]
        if config.lidar:
            self._inputs.append(self._listen(PointCloud2, "lidar", self._on_cloud, sensor_qos))
        self._inputs += [
            self._listen(Odometry, "odometry", self._on_odometry, state_qos),
            self._listen(TFMessage, "/tf_static", self._on_tf_static, TF_STATIC),
        ]
        self._hears_targets = False
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timers = [
            self.create_timer(_LOOK_S[config.mode], self._look, clock=steady),
            self.create_timer(1.0, self._publish_diagnostics, clock=steady),
        ]
        self._log_plan(cameras)
        return super().on_configure(state)

    @reports_errors
    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Start afresh."""
        lockstep = self._config.mode == "lockstep"
        self._sync = TickSync(self._config.tick, self._expected, self._config.mode)
        self._health = NodeHealth(self._encoder.model_hash, time.monotonic())
        self._unmounted: deque[tuple[Any, Any]] = deque(maxlen=_MAX_UNMOUNTED)  # headers and points
        self._worker = Worker(
            self._begin,
            self._on_failure,
            "all" if lockstep else "newest",
            finish=self._finish,
            most_begun=max(1, len(self._config.stages)),
        )
        self._active = True
        return super().on_activate(state)

    @reports_errors
    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Let ticks that are being encoded end; those that wait are left unanswered."""
        self._active = False
        self._worker.close(_CLOSE_S)
        return super().on_deactivate(state)

    @reports_errors
    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Undo what configure did, in reverse."""
        for timer in self._timers:
            self.destroy_timer(timer)
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        for publisher in (
            self._diagnostics_pub,
            self._marker_pub,
            self._prediction_pub,
            self._tokens_pub,
        ):
            self.destroy_lifecycle_publisher(publisher)
        self._encoder.close()
        del self._encoder
        return super().on_cleanup(state)

    def close(self) -> None:
        """End the worker, where the process ends without a transition."""
        if self._active:
            self._active = False
            self._worker.close(_CLOSE_S)
        if hasattr(self, "_encoder"):
            self._encoder.close()

    # --- in the executor's thread ---------------------------------------------------------------

    def _listen(self, kind: Any, topic: str, take: Callable[[Any], None], qos: QoSProfile) -> Any:
        """A subscription whose bad messages are counted and dropped."""

        def callback(msg: Any) -> None:
            try:
                take(msg)
            except ValueError as error:
                if self._active:
                    self._health.got_bad(topic, str(error))
                self.get_logger().warning(
                    f"{topic}: dropped a message: {error}", throttle_duration_sec=5.0
                )

        return self.create_subscription(kind, topic, callback, qos)

    def _on_image(self, camera: str, msg: Image) -> None:
        if self._active:
            self._put(camera, msg.header, convert.picture_from_msg(msg))

    def _on_cloud(self, msg: PointCloud2) -> None:
        if not self._active:
            return
        self._put_points(msg.header, convert.points_from_msg(msg))

    def _put_points(self, header: Any, points: Any) -> None:
        mount = self._frames.mount(header.frame_id, self._vehicle)
        if mount is None:
            self._unmounted.append((header, points))
            self.get_logger().warning(
                f"lidar: no transform from {header.frame_id!r} to {self._vehicle!r} on "
                "/tf_static yet",
                throttle_duration_sec=5.0,
            )
            return
        self._put(LIDAR, header, to_vehicle(points, mount))

    def _on_odometry(self, msg: Odometry) -> None:
        if self._active:
            self._put(ODOMETRY, msg.header, convert.ego_from_odometry(msg))

    def _on_target(self, msg: PointStamped) -> None:
        if self._active:
            self._put(TARGET, msg.header, convert.route_point_from_msg(msg))

    def _on_tf_static(self, msg: TFMessage) -> None:
        self._frames.add(msg)
        if self._active:
            waiting, self._unmounted = self._unmounted, deque(maxlen=_MAX_UNMOUNTED)
            for header, points in waiting:
                self._put_points(header, points)

    def _put(self, name: str, header: Any, value: Any) -> None:
        self._sync.put(name, convert.stamp_to_ns(header.stamp), value, time.monotonic())
        self._advance()

    def _look(self) -> None:
        """What no message brings about: deadlines, and the bridge's topics being there."""
        if not self._hears_targets:
            self._listen_to_targets()
        self._advance()

    def _listen_to_targets(self) -> None:
        lockstep = self._config.mode == "lockstep"
        absent = [i.topic_name for i in self._inputs if not self.count_publishers(i.topic_name)]
        if self._config.lidar and not self._frames.num_frames:
            absent.append("transforms on /tf_static")
        if lockstep and absent:
            self.get_logger().info(
                f"waiting for who publishes {', '.join(absent)}", throttle_duration_sec=10.0
            )
            return
        qos = LOCKSTEP if lockstep else STATE
        self._inputs.append(self._listen(PointStamped, "target_point", self._on_target, qos))
        self._hears_targets = True

    def _advance(self) -> None:
        if not self._active:
            return
        for tick in self._sync.take(time.monotonic()):
            if tick.missing:
                self.get_logger().warning(
                    f"tick of {tick.stamp_ns * 1e-9:.3f} s goes on without "
                    f"{', '.join(tick.missing)}",
                    throttle_duration_sec=5.0,
                )
            self._worker.submit(tick)

    def _publish_diagnostics(self) -> None:
        if not self._active:
            return
        self._health.close_period(
            time.monotonic(),
            waiting_for=self._sync.waiting_for,
            late=self._sync.num_late,
            num_dropped=self._worker.num_dropped,
        )
        self._diagnostics_pub.publish(
            health_msg(
                self._health,
                name=self.get_fully_qualified_name(),
                hardware_id=self.get_namespace().strip("/"),
                stamp=self.get_clock().now().to_msg(),
            )
        )

    def _log_plan(self, cameras: tuple[str, ...]) -> None:
        c, model = self._config, self._encoder.config
        self.get_logger().info(
            f"encoder {model.name!r}, model {self._encoder.model_hash}, {c.mode}\n"
            f"  in:  {', '.join(cameras) or 'no camera'}{', lidar' if c.lidar else ''}, odometry"
            f" -> frame {self._vehicle!r}, every {c.tick.period_s:g} s\n"
            f"  out: {model.num_tokens} tokens of {model.embed_dim} in {c.wire}, "
            f"{len(model.views)} views, contract {model.contract_version}"
        )

    # --- in the worker's thread -----------------------------------------------------------------

    def _begin(self, tick: GatheredTick) -> None:
        target = tick.target and tick.target.seen_from(tick.odometry, self._vehicle)
        self._encoder.begin(
            LiveSensors(
                pictures=tick.pictures,
                sweep=tick.sweep,
                previous_sweep=tick.previous_sweep,
                speed_mps=tick.odometry.speed_mps if tick.odometry else 0.0,
                target_point_m=target or (0.0, 0.0),
            )
        )

    def _finish(self, tick: GatheredTick) -> None:
        output = self._encoder.finish()
        if self._active:
            self._publish(tick, output)

    def _publish(self, tick: GatheredTick, output: SceneOutput) -> None:
        head = convert.header(tick.stamp_ns, self._vehicle)
        encoded = encode_tokens(output.tokens, self._wire)
        latency_s = time.monotonic() - tick.last_s
        self._prediction_pub.publish(
            convert.prediction_msg(
                head, output, latency_s=latency_s, inference_s=output.inference_s
            )
        )
        # In lockstep the tokens end the tick.
        self._tokens_pub.publish(convert.tokens_msg(head, output, encoded))
        self._health.ticked(time.monotonic() - tick.last_s, output.inference_s, tick.missing)
        if self._marker_pub.get_subscription_count():
            self._marker_pub.publish(scene_markers(head, output))

    def _on_failure(self, tick: GatheredTick, error: Exception) -> None:
        self._health.failed(str(error).partition("\n")[0])
        self.get_logger().error(
            f"tick of {tick.stamp_ns * 1e-9:.3f} s could not be encoded\n"
            + "".join(traceback.format_exception(type(error), error, error.__traceback__)),
            throttle_duration_sec=1.0,
        )


def main(args: list[str] | None = None) -> None:
    """Run the node; with ``autostart`` it goes active by itself."""
    run_node(EncoderNode, args)


if __name__ == "__main__":
    main()
