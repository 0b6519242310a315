# SPDX-License-Identifier: Apache-2.0
"""ROS side of :class:`ClipBuilder`, on the vehicle: uploads clips to the edge. Hears no camera.

What leaves the vehicle through it is ``/edge/clips`` alone, and that is features, words, speeds and
positions relative to the vehicle.
"""

from __future__ import annotations

import array
import time
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from flad_msgs.msg import DriverStatus, SceneTokens
from nav_msgs.msg import Odometry
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import State, TransitionCallbackReturn
from std_msgs.msg import String, UInt8MultiArray

from flad_common.config import section
from flad_common.ros.lifecycle import ManagedNode, reports_errors, run_node
from flad_common.ros.parameters import from_node
from flad_common.ros.qos import DIAGNOSTICS, LATCHED, LOCKSTEP, STATE
from flad_edge.adapt.clip_builder import ClipBuilder, ClipBuilderConfig, SeenFrame
from flad_edge.adapt.outbox import Outbox, OutboxConfig
from flad_edge.training.clip_file import clip_to_bytes
from flad_perception.ros.messages import stamp_to_ns, tokens_from_msg
from flad_perception.wire import decode_tokens
from flad_planner.language.operator_text import RefusedTextError, TextLimits, accepted_text
from flad_planner.ros.messages import ego_from_odometry


@dataclass(frozen=True, kw_only=True)
class UploaderNodeConfig:
    """What is made of a drive, and how it goes out."""

    clips: ClipBuilderConfig = section(ClipBuilderConfig, doc="How a drive is cut.")
    outbox: OutboxConfig = section(OutboxConfig, doc="How clips go out.")
    text: TextLimits = section(TextLimits, doc="What counts as an instruction or a notice.")


class UploaderNode(ManagedNode):
    """Makes clips while active. Attributes exist from configure to cleanup."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("uploader", **kwargs)
        self._active = False

    @reports_errors
    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Make the topics."""
        self._config = from_node(UploaderNodeConfig, self)
        self._vehicle = self.get_namespace().strip("/").rsplit("/")[-1]
        self._clip_pub = self.create_lifecycle_publisher(UInt8MultiArray, "/edge/clips", LOCKSTEP)
        self._diagnostics_pub = self.create_lifecycle_publisher(
            DiagnosticArray, "diagnostics", DIAGNOSTICS
        )
        self._inputs = [
            self.create_subscription(String, "instruction", self._on_instruction, LATCHED),
            self.create_subscription(String, "notice", self._on_notice, LATCHED),
            self.create_subscription(DriverStatus, "driver_status", self._on_status, LATCHED),
            self.create_subscription(SceneTokens, "scene_tokens", self._on_tokens, LOCKSTEP),
            self.create_subscription(Odometry, "odometry", self._on_odometry, STATE),
            self.create_subscription(
                DiagnosticStatus, "/edge/clip_receipts", self._on_receipt, LOCKSTEP
            ),
        ]
        self._timer = self.create_timer(
            1.0, self._each_second, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        return super().on_configure(state)

    @reports_errors
    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Start afresh: told nothing, nothing seen."""
        self._builder = ClipBuilder(self._config.clips, self._vehicle)
        self._outbox = Outbox(self._config.outbox)
        self._instruction = self._notice = ""
        self._last_refusal = ""
        self._num_bytes = 0
        result = super().on_activate(state)
        self._active = True
        return result

    @reports_errors
    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """What waits is forgotten."""
        self._active = False
        return super().on_deactivate(state)

    @reports_errors
    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Undo what configure did, in reverse."""
        self.destroy_timer(self._timer)
        for subscription in reversed(self._inputs):
            self.destroy_subscription(subscription)
        for publisher in (self._diagnostics_pub, self._clip_pub):
            self.destroy_lifecycle_publisher(publisher)
        return super().on_cleanup(state)

    # --- what the vehicle is told and sees ------------------------------------------------------

    def _on_instruction(self, msg: String) -> None:
        if self._active and (text := self._accepted(msg.data)) and text != self._instruction:
            self._instruction, self._notice = text, ""

    def _on_notice(self, msg: String) -> None:
        if self._active:
            self._notice = self._accepted(msg.data)

    def _accepted(self, text: str) -> str:
        try:
            return accepted_text(text, self._config.text) if text else ""
        except RefusedTextError:
            return ""  # the driver node says so to whoever typed it

    def _on_status(self, msg: DriverStatus) -> None:
        if self._active and msg.driver == DriverStatus.NONE and stamp_to_ns(msg.header.stamp):
            self._builder.cut()  # where nobody drives, the vehicle stops for no reason it sees

    def _on_tokens(self, msg: SceneTokens) -> None:
        if not self._active or not self._instruction:
            return
        try:
            tokens = decode_tokens(tokens_from_msg(msg))
        except ValueError:
            self._builder.cut()
            return
        notice, self._notice = self._notice, ""
        self._builder.frame(
            SeenFrame(
                stamp_ns=stamp_to_ns(msg.header.stamp),
                tokens=tokens,
                speed_mps=msg.speed_mps,
                encoder_hash=msg.model_hash,
                contract_version=msg.contract_version,
                instruction=self._instruction,
                notice=notice or None,
            )
        )

    def _on_odometry(self, msg: Odometry) -> None:
        if not self._active:
            return
        ego = ego_from_odometry(msg)
        pose = ego.pose
        for clip in self._builder.pose(ego.stamp_ns, pose.x_m, pose.y_m, pose.yaw_rad):
            self._outbox.put(clip_to_bytes(clip))

    # --- to the edge ----------------------------------------------------------------------------

    def _on_receipt(self, msg: DiagnosticStatus) -> None:
        if not self._active or msg.name not in (self._vehicle, ""):
            return
        accepted = msg.level == DiagnosticStatus.OK
        if self._outbox.receipt(msg.hardware_id, accepted=accepted) and not accepted:
            self._last_refusal = msg.message
            self.get_logger().warning(f"the edge refused a clip: {msg.message}")

    def _each_second(self) -> None:
        if not self._active:
            return
        listens = self._clip_pub.get_subscription_count() > 0
        data = self._outbox.due(time.monotonic(), someone_listens=listens)
        if data is not None:
            self._num_bytes += len(data)
            self._clip_pub.publish(UInt8MultiArray(data=array.array("B", data)))
        self._publish_diagnostics()

    def _publish_diagnostics(self) -> None:
        values = {"waiting": self._outbox.num_waiting, "bytes_sent": self._num_bytes}
        values |= dict(sorted(self._outbox.counts.items()))
        refused = self._outbox.counts["refused"] + self._outbox.counts["given_up"]
        status = DiagnosticStatus(
            name=f"{self.get_fully_qualified_name()}: uploads",
            hardware_id=self._vehicle,
            level=DiagnosticStatus.WARN if refused else DiagnosticStatus.OK,
            message=self._last_refusal or f"{self._outbox.counts['accepted']} clips accepted",
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        array_msg = DiagnosticArray(status=[status])
        array_msg.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_pub.publish(array_msg)


def main(args: list[str] | None = None) -> None:
    """Run the node; with ``autostart`` it goes active by itself."""
    run_node(UploaderNode, args)


if __name__ == "__main__":
    main()
