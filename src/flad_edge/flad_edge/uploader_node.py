# SPDX-License-Identifier: Apache-2.0
"""ROS side of :class:`ClipBuilder`, on the vehicle: uploads clips to the edge. Hears no camera.

What leaves the vehicle through it is ``/edge/clips`` alone, and that is features, words, speeds and
positions relative to the vehicle.
"""

from __future__ import annotations

import array
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from flad_msgs.msg import DriverStatus, SceneTokens
from nav_msgs.msg import Odometry
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import State, TransitionCallbackReturn
from std_msgs.msg import String, UInt8MultiArray

from flad_common.config import knob, section
from flad_common.error_codes import UPLOAD_QUOTA
from flad_common.ros.lifecycle import ManagedNode, reports_errors, run_node
from flad_common.ros.parameters import from_node
from flad_common.ros.qos import DIAGNOSTICS, LATCHED, LOCKSTEP, STATE
from flad_edge.adapt.clip_builder import ClipBuilder, ClipBuilderConfig, SeenFrame
from flad_edge.adapt.outbox import Fate, Outbox, OutboxConfig
from flad_edge.adapt.signed import seal
from flad_edge.training.clip_file import FeatureClip, clip_to_bytes
from flad_perception.ros.messages import stamp_to_ns, tokens_from_msg
from flad_perception.wire import decode_tokens
from flad_pipeline.aggregation.keys import VehicleKey
from flad_planner.language.operator_text import RefusedTextError, TextLimits, accepted_text
from flad_planner.ros.messages import ego_from_odometry


@dataclass(frozen=True, kw_only=True)
class UploaderNodeConfig:
    """What is made of a drive, and how it goes out."""

    folder: str = knob(
        "~/.flad/clips",
        unit="",
        doc="Clips are here until the edge has them, below the vehicle's name.",
    )
    key: str = knob(
        "", unit="", doc="The vehicle's private key (./flad keys new); empty: nothing is signed."
    )
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
        """Read the key and what waits from earlier drives, and make the topics.

        Raises:
            FladError: if the key is none.
        """
        self._config = config = from_node(UploaderNodeConfig, self)
        self._vehicle = self.get_namespace().strip("/").rsplit("/")[-1]
        self._key = VehicleKey.load(Path(config.key).expanduser()) if config.key else None
        self._outbox = Outbox(Path(config.folder).expanduser() / self._vehicle, config.outbox)
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
        self._instruction = self._notice = ""
        self._problem = ""
        self._num_bytes = 0
        result = super().on_activate(state)
        self._active = True
        return result

    @reports_errors
    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Keep what there is of the drive; what waits is sent when the node is active again."""
        self.close()
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

    def close(self) -> None:
        """Keep what there is of the drive, also where the process ends without a transition."""
        if self._active:
            self._active = False
            self._keep(self._builder.finish())

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
        self._keep(self._builder.pose(ego.stamp_ns, pose.x_m, pose.y_m, pose.yaw_rad))

    def _keep(self, clips: Iterable[FeatureClip]) -> None:
        for clip in clips:
            try:
                if self._outbox.put(clip_to_bytes(clip)):
                    continue
                self._problem = "a clip was not kept: outbox.max_mib is full of unsent ones"
            except OSError as error:
                self._problem = f"a clip was not kept: {error}"
            self.get_logger().error(self._problem, throttle_duration_sec=10.0)

    # --- to the edge ----------------------------------------------------------------------------

    def _on_receipt(self, msg: DiagnosticStatus) -> None:
        if not self._active or msg.name not in (self._vehicle, ""):
            return
        fate = _fate(msg)
        if not self._outbox.receipt(msg.hardware_id, fate):
            return
        self._problem = ""
        if fate != "accepted":
            self._problem = f"the edge did not take a clip: {msg.message}"
            self.get_logger().warning(self._problem)

    def _each_second(self) -> None:
        if not self._active:
            return
        listens = self._clip_pub.get_subscription_count() > 0
        clip = None
        try:
            clip = self._outbox.due(time.monotonic(), someone_listens=listens)
        except OSError as error:
            self._problem = f"a clip cannot be read: {error}"
        if clip is not None:
            data = clip if self._key is None else seal(clip, self._key)
            self._num_bytes += len(data)
            self._clip_pub.publish(UInt8MultiArray(data=array.array("B", data)))
        self._publish_diagnostics()

    def _publish_diagnostics(self) -> None:
        values = {
            "waiting": self._outbox.num_waiting,
            "bytes_sent": self._num_bytes,
            "bytes_kept": self._outbox.num_bytes,
        }
        values |= dict(sorted(self._outbox.counts.items()))
        status = DiagnosticStatus(
            name=f"{self.get_fully_qualified_name()}: uploads",
            hardware_id=self._vehicle,
            level=DiagnosticStatus.WARN if self._problem else DiagnosticStatus.OK,
            message=self._problem or f"{self._outbox.counts['accepted']} clips accepted",
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        array_msg = DiagnosticArray(status=[status])
        array_msg.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_pub.publish(array_msg)


def _fate(receipt: DiagnosticStatus) -> Fate:
    if receipt.level == DiagnosticStatus.OK:
        return "accepted"
    errors = {value.value for value in receipt.values if value.key == "error"}
    return "later" if str(UPLOAD_QUOTA.number) in errors else "refused"


def main(args: list[str] | None = None) -> None:
    """Run the node; with ``autostart`` it goes active by itself."""
    run_node(UploaderNode, args)


if __name__ == "__main__":
    main()
