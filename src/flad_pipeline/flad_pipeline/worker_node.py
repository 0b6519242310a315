# SPDX-License-Identifier: Apache-2.0
"""ROS side of :class:`StageWorker`: a vehicle that trains with others, led by its edge.

The vehicle's name is the node's namespace. What is trained is injected by the parameter ``task``
(:mod:`flad_pipeline.round.task`).
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from flad_msgs.msg import TrainOrder, TrainStatus
from rclpy.lifecycle import State, TransitionCallbackReturn

from flad_common.config import knob, section
from flad_common.ros.lifecycle import ManagedNode, reports_errors, run_node
from flad_common.ros.parameters import from_node
from flad_common.ros.qos import DIAGNOSTICS, MANY
from flad_pipeline.aggregation.keys import VehicleKey
from flad_pipeline.group.transport import Transport
from flad_pipeline.ros.dds_transport import DdsLink, DdsLinkConfig
from flad_pipeline.ros.edge_client import EdgeClient
from flad_pipeline.ros.round_messages import ORDERS, STATUSES, order_from_msg, status_to_msg
from flad_pipeline.round.order import Stand, Status, VehicleFacts
from flad_pipeline.round.task import load_task
from flad_pipeline.round.worker import StageWorker, StepDone, WorkerConfig

_DIAGNOSTICS_EVERY = 4  # statuses


@dataclass(frozen=True, kw_only=True)
class WorkerNodeConfig:
    """A vehicle's part in federated training."""

    peers: tuple[str, ...] = knob(unit="1", doc="Every vehicle that it may ever train with.")
    task: str = knob(unit="1", doc="package.module:function that makes the TrainingTask.")
    task_file: str = knob("", unit="1", doc="What that function is given: a file of its own kind.")
    key_file: str = knob(unit="1", doc="Private key (./flad keys new) that signs its updates.")
    device: str = knob("nano", unit="1", doc="Of config/devices.yaml: what it computes with.")
    available_bytes: int = knob(unit="B", doc="Memory that training may take.")
    dwell_s: float = knob(3600.0, unit="s", doc="How long it will stay near.")
    status_s: float = knob(0.25, unit="s", doc="Between two words on where it stands.")
    call_s: float = knob(20.0, unit="s", doc="Longest wait for an answer of the edge.")
    threads: int = knob(1, unit="1", doc="Of PyTorch.")
    step_log: str = knob("", unit="1", doc="A file for every step and its loss; it stays here.")
    worker: WorkerConfig = section(WorkerConfig, doc="Waits.")
    link: DdsLinkConfig = section(DdsLinkConfig, doc="Topics to the other vehicles.")

    def __post_init__(self) -> None:
        for name in ("dwell_s", "status_s", "call_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.available_bytes < 1 or self.threads < 1:
            raise ValueError(
                f"available_bytes and threads must be at least 1, got {self.available_bytes} and "
                f"{self.threads}"
            )


class WorkerNode(ManagedNode):
    """Trains while active. Attributes exist from configure to cleanup."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("worker", **kwargs)
        self._thread: threading.Thread | None = None
        self._transport: Transport | None = None

    @reports_errors
    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Load model and data, make the topics."""
        c = self._config = from_node(WorkerNodeConfig, self)
        self._vehicle = self.get_namespace().strip("/").rsplit("/")[-1]
        torch.set_num_threads(c.threads)
        self._task = load_task(c.task, c.task_file, self._vehicle)
        self._key = VehicleKey.load(Path(c.key_file))
        self._transport = Transport(
            DdsLink(self._vehicle, [self._vehicle, *c.peers], c.link), c.link.transport
        )
        self._edge = EdgeClient(self, c.call_s)
        self._status_pub = self.create_publisher(TrainStatus, STATUSES, MANY)
        self._diagnostics_pub = self.create_publisher(DiagnosticArray, "/diagnostics", DIAGNOSTICS)
        self._num_said = 0
        return super().on_configure(state)

    @reports_errors
    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Begin to follow orders."""
        c = self._config
        assert self._transport is not None
        self._worker = StageWorker(
            self._vehicle,
            self._task,
            self._transport,
            self._edge,
            key=self._key,
            facts=VehicleFacts(
                device=c.device,
                available_bytes=c.available_bytes,
                dwell_s=c.dwell_s,
                num_samples=self._task.num_samples,
                digest=self._task.graph.digest,
            ),
            config=c.worker,
            say=self._publish,
            on_step=self._log_step,
        )
        self._orders = self.create_subscription(TrainOrder, ORDERS, self._on_order, MANY)
        self._timer = self.create_timer(c.status_s, self._beat)
        self._thread = threading.Thread(target=self._worker.run, name="training", daemon=True)
        self._thread.start()
        return super().on_activate(state)

    @reports_errors
    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Train no more; the others go on without this vehicle."""
        self._end_worker()
        self.destroy_timer(self._timer)
        self.destroy_subscription(self._orders)
        return super().on_deactivate(state)

    @reports_errors
    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Let go of the topics."""
        self._end_transport()
        self._edge.close()
        self.destroy_publisher(self._status_pub)
        self.destroy_publisher(self._diagnostics_pub)
        return super().on_cleanup(state)

    def close(self) -> None:
        """End the threads."""
        self._end_worker()
        self._end_transport()

    def _end_worker(self) -> None:
        if self._thread is not None:
            self._worker.close()
            self._thread.join(self._config.call_s)
            self._thread = None

    def _end_transport(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _on_order(self, msg: TrainOrder) -> None:
        try:
            self._worker.offer(order_from_msg(msg))
        except ValueError as error:
            self.get_logger().error(f"an order that cannot be followed: {error}")

    def _beat(self) -> None:
        status = self._worker.status
        self._publish(status)
        self._num_said += 1
        if self._num_said % _DIAGNOSTICS_EVERY == 0:
            self._diagnostics_pub.publish(self._diagnostics(status))

    def _publish(self, status: Status) -> None:
        self._status_pub.publish(status_to_msg(status))

    def _log_step(self, done: StepDone) -> None:
        if self._config.step_log:
            line = {
                "round": done.round,
                "step": done.step,
                "seconds": done.seconds,
                "ended_s": time.monotonic(),
                "loss": done.result.loss,
                "gradient_norm": done.result.gradient_norm,
                "epoch": self._worker.status.epoch,
            }
            with Path(self._config.step_log).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def _diagnostics(self, status: Status) -> DiagnosticArray:
        bad = status.state in (Stand.BROKEN, Stand.FAILED)
        values = {
            "state": status.state.name.lower(),
            "client": status.client,
            "round": status.round,
            "step": status.step,
            "epoch": status.epoch,
            "samples_per_s": round(status.samples_per_s, 3),
            "resident_bytes": status.resident_bytes,
            "copied_bytes": self._worker.copied_bytes,
        }
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        array.status = [
            DiagnosticStatus(
                level=DiagnosticStatus.WARN if bad else DiagnosticStatus.OK,
                name=f"{self._vehicle}/worker",
                message=status.text or status.state.name.lower(),
                hardware_id=self._vehicle,
                values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
            )
        ]
        return array


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run_node(WorkerNode, args)


if __name__ == "__main__":
    main()
