# SPDX-License-Identifier: Apache-2.0
"""ROS side of :class:`StageWorker`: a vehicle that trains with others, led by its edge.

The vehicle's name is the node's namespace. What is trained is injected by the parameter ``task``
(:mod:`flad_pipeline.round.task`).
"""

from __future__ import annotations

import gc
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
from flad_pipeline.memory.allocator import give_back_freed
from flad_pipeline.memory.manager import MemoryConfig, MemoryManager
from flad_pipeline.ros.dds_transport import DdsLink, DdsLinkConfig
from flad_pipeline.ros.edge_client import EdgeClient
from flad_pipeline.ros.round_messages import ORDERS, STATUSES, order_from_msg, status_to_msg
from flad_pipeline.round.computer import Computer
from flad_pipeline.round.edge_link import EdgeLink
from flad_pipeline.round.order import Stand, Status, VehicleFacts
from flad_pipeline.round.task import load_costs, load_task
from flad_pipeline.round.worker import StageWorker, StepDone, WorkerConfig
from flad_pipeline.testbed.pace import Pace
from flad_pipeline.testbed.shaped_edge import ShapedEdge
from flad_pipeline.testbed.shaped_link import ShapedLink
from flad_pipeline.testbed.testbed import Testbed, read_testbed

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
    costs: str = knob(
        "",
        unit="1",
        doc="package.module:function (task_file, graph) -> UnitCosts: with it no stage is begun "
        "that does not fit.",
    )
    testbed: str = knob(
        "", unit="1", doc="File of an emulated testbed: speeds and links; needs costs."
    )
    air: str = knob("", unit="1", doc="Of the testbed: a file, the same for all of its vehicles.")
    work_scale: float = knob(1.0, unit="1", doc="Of the testbed: each FLOP counts so many.")
    step_log: str = knob("", unit="1", doc="A file for every step and its loss; it stays here.")
    worker: WorkerConfig = section(WorkerConfig, doc="Waits.")
    memory: MemoryConfig = section(MemoryConfig, doc="What training may hold.")
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
        if self.testbed and not (self.costs and self.air):
            raise ValueError(
                "testbed needs costs and air: speeds are of counted work, links of one channel"
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
        if c.memory.mapped_from_bytes:
            give_back_freed(mapped_from_bytes=c.memory.mapped_from_bytes)
        self._task = load_task(c.task, c.task_file, self._vehicle)
        self._key = VehicleKey.load(Path(c.key_file))
        testbed = read_testbed(Path(c.testbed).read_text(encoding="utf-8")) if c.testbed else None
        self._transport = self._connected(c, testbed)
        self._memory = MemoryManager(c.memory)
        self._computer = self._computes_on(c, testbed)
        self._client = EdgeClient(self, c.call_s)
        self._edge = self._edge_of(c, testbed)
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
            computer=self._computer,
            say=self._publish,
            on_step=self._log_step,
        )
        self._orders = self.create_subscription(TrainOrder, ORDERS, self._on_order, MANY)
        self._timer = self.create_timer(c.status_s, self._beat)
        self._memory.start()
        gc.collect()
        gc.freeze()  # libraries and model stay: what an order left is then found in milliseconds
        self._thread = threading.Thread(target=self._worker.run, name="training", daemon=True)
        self._thread.start()
        return super().on_activate(state)

    @reports_errors
    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Train no more; the others go on without this vehicle."""
        self._end_worker()
        gc.unfreeze()
        self.destroy_timer(self._timer)
        self.destroy_subscription(self._orders)
        return super().on_deactivate(state)

    @reports_errors
    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Let go of the topics."""
        self._end_transport()
        self._client.close()
        self.destroy_publisher(self._status_pub)
        self.destroy_publisher(self._diagnostics_pub)
        return super().on_cleanup(state)

    def close(self) -> None:
        """End the threads."""
        self._end_worker()
        self._end_transport()

    def _connected(self, c: WorkerNodeConfig, testbed: Testbed | None) -> Transport:
        dds = DdsLink(self._vehicle, [self._vehicle, *c.peers], c.link)
        if testbed is None:
            return Transport(dds, c.link.transport)
        shaped = ShapedLink(dds, testbed, Path(c.air))
        return Transport(shaped, testbed.transport_config(c.link.transport))

    def _edge_of(self, c: WorkerNodeConfig, testbed: Testbed | None) -> EdgeLink:
        if testbed is None:
            return self._client
        return ShapedEdge(self._client, testbed, self._vehicle, Path(c.air))

    def _computes_on(self, c: WorkerNodeConfig, testbed: Testbed | None) -> Computer | None:
        if not c.costs:
            return None
        pace = Pace(testbed, self._vehicle, work_scale=c.work_scale) if testbed else None
        costs = load_costs(c.costs, c.task_file, self._task.graph)
        return Computer(costs=costs, memory=self._memory, pace=pace)

    def _end_worker(self) -> None:
        if self._thread is not None:
            self._worker.close()
            self._thread.join(self._config.call_s)
            self._thread = None
            self._memory.close()

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
        memory = self._memory.state()
        values = {
            "state": status.state.name.lower(),
            "client": status.client,
            "round": status.round,
            "step": status.step,
            "epoch": status.epoch,
            "samples_per_s": round(status.samples_per_s, 3),
            "resident_bytes": status.resident_bytes,
            "copied_bytes": self._worker.copied_bytes,
            "planned_stage_bytes": round(memory.stage_bytes),
            "room_bytes": round(memory.room_bytes),
            "memory_reclaims": memory.num_reclaims,
        }
        if self._computer is not None and self._computer.pace is not None:
            paced = self._computer.pace.report()
            values |= {
                "emulated_busy_s": round(paced.busy_s, 3),
                "passes": paced.num_works,
                "overruns": paced.num_overruns,
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
