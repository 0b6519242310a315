# SPDX-License-Identifier: Apache-2.0
"""ROS side of :class:`EdgeService`: requests of many vehicles in, answers out. No arithmetic here.

One pair of topics serves all vehicles: who comes or goes makes no endpoint at the edge, so no
discovery stands between a vehicle's first request and its answer. Requests have one reader. Every
vehicle reads all answers and keeps its own; one is some 200 bytes, 64 vehicles at 5 Hz are 320 of
them a second for each.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray
from flad_msgs.msg import DriveAnswer, DriveRequest
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import State, TransitionCallbackReturn

from flad_common.config import knob, section
from flad_common.error_codes import MODEL_REFUSED, FladError
from flad_common.ros.lifecycle import ManagedNode, reports_errors, run_node
from flad_common.ros.parameters import from_node
from flad_common.ros.qos import ANSWERS, DIAGNOSTICS, MANY
from flad_edge.adapt.store import ReleaseStore
from flad_edge.adapt.tuner import AdaptConfig
from flad_edge.ros import messages as convert
from flad_edge.ros.adaptation import Adaptation
from flad_edge.ros.health import health_msg
from flad_edge.service.core import EdgeService, EdgeServiceConfig
from flad_edge.service.driving_model import ServedModel
from flad_edge.service.requests import Answer, Outcome
from flad_edge.service.served_adllm import served_adllm, served_release
from flad_perception.worker import Worker

_CLOSE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class EdgeNodeConfig:
    """Which model the edge serves and where it runs; the service's knobs are below ``service``."""

    releases: str = knob(
        "", unit="", doc="Folder of a store of releases, whose live one drives; or else a model:"
    )
    model: str = knob("", unit="", doc="Weights of the AD-LLM, a .safetensors file.")
    encoder_hash: str = knob(
        "", unit="", doc="Of the encoder whose tokens it was trained on; others are refused."
    )
    release: str = knob("", unit="", doc="Name of the release; empty: the file's name.")
    device: str = knob("cpu", unit="", doc="Of torch, for example cuda.")
    num_threads: int = knob(0, unit="1", doc="That torch computes with on a CPU; 0: its default.")
    service: EdgeServiceConfig = section(EdgeServiceConfig, doc="The service itself.")
    adapt: AdaptConfig = section(AdaptConfig, doc="Uploads and tunings; need a store of releases.")
    log_folder: str = knob("", unit="", doc="For logs of tunings; empty: the store's tunings.")

    def __post_init__(self) -> None:
        if bool(self.releases) == bool(self.model):
            raise ValueError(
                f"give either releases (got {self.releases!r}) or model (got {self.model!r})"
            )
        if self.model and (self.adapt.uploads_folder or self.adapt.tunes):
            raise ValueError("adapt needs releases: what a tuning makes goes into their store")
        if self.num_threads < 0:
            raise ValueError(f"num_threads must not be negative, got {self.num_threads}")


class EdgeNode(ManagedNode):
    """Answers every request with one message of the same stamp, vehicle and session while active.

    Attributes exist from configure to cleanup; the service and the worker only while active.
    Requests are judged by the executor's thread, the model runs in the worker's.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("edge", **kwargs)
        self._active = False

    @reports_errors
    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Load the model and make the topics.

        Raises:
            FladError: if the model is not what the parameters ask for.
        """
        self._config = config = from_node(EdgeNodeConfig, self)
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        try:
            self._served = self._first_model()
        except (OSError, ValueError) as error:
            raise FladError(MODEL_REFUSED, str(error)) from error
        self._answer_pub = self.create_lifecycle_publisher(DriveAnswer, "edge/answers", ANSWERS)
        self._diagnostics_pub = self.create_lifecycle_publisher(
            DiagnosticArray, "diagnostics", DIAGNOSTICS
        )
        self._input = self.create_subscription(
            DriveRequest, "edge/requests", self._on_request, MANY
        )
        self._adaptation = self._make_adaptation()
        self._timer = self.create_timer(
            1.0, self._each_second, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        release, service = self._served.release, config.service
        self.get_logger().info(
            f"release {release.name!r}, AD-LLM {release.adllm_hash} on {config.device}\n"
            f"  in:  {release.num_tokens} tokens of {release.token_dim}, contract "
            f"{release.contract_version}, of encoder {release.encoder_hash}\n"
            f"  up to {service.admission.max_vehicles} vehicles, {service.max_batch} at once"
        )
        return super().on_configure(state)

    @reports_errors
    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Start afresh: no vehicle is known, no history kept."""
        self._last_served = self._served
        self._service = EdgeService(
            self._served, time.monotonic, self._config.service, self._on_model_failure
        )
        self._worker = Worker(self._work, self._on_failure, "newest")
        if self._adaptation:
            self._adaptation.activate(lambda: self._service.release, self._swap)
        result = super().on_activate(state)
        self._active = True
        return result

    @reports_errors
    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Let the batch that is being worked on end; refuse the requests that wait."""
        self.close()
        self._publish(self._service.close(time.monotonic()))
        self._served = self._last_served
        return super().on_deactivate(state)

    @reports_errors
    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Undo what configure did, in reverse."""
        self.destroy_timer(self._timer)
        if self._adaptation:
            self._adaptation.destroy()
        self.destroy_subscription(self._input)
        for publisher in (self._diagnostics_pub, self._answer_pub):
            self.destroy_lifecycle_publisher(publisher)
        del self._served
        return super().on_cleanup(state)

    def close(self) -> None:
        """End the threads and a tuning; also where the process ends without a transition."""
        if self._active:
            self._active = False
            try:
                if self._adaptation:
                    self._adaptation.deactivate()
            finally:
                self._worker.close(_CLOSE_S)

    def _first_model(self) -> ServedModel:
        config = self._config
        if not config.releases:
            return served_adllm(
                Path(config.model),
                encoder_hash=config.encoder_hash,
                name=config.release,
                device=config.device,
            )
        live = ReleaseStore(Path(config.releases)).live()
        if live is None:
            raise ValueError(
                f"{config.releases} has no live release; ./flad release publish makes one live"
            )
        return served_release(live, device=config.device)

    def _make_adaptation(self) -> Adaptation | None:
        config = self._config
        if not config.releases:
            return None
        store = ReleaseStore(Path(config.releases))
        logs = Path(config.log_folder) if config.log_folder else store.root / ".tunings"
        return Adaptation(self, store, config.adapt, config.device, logs)

    def _swap(self, served: ServedModel) -> None:
        """In the thread that loaded it: the model drives from the next batch on."""
        self._last_served = served
        self._service.swap(served)
        if self._active:
            self._worker.submit(None)  # also where nobody asks

    # --- in the executor's thread ---------------------------------------------------------------

    def _on_request(self, msg: DriveRequest) -> None:
        if not self._active:
            return
        head = convert.head_from_msg(msg, time.monotonic())
        try:
            request = convert.request_from_msg(msg, head)
        except ValueError as error:
            self._publish([self._service.refuse_unreadable(head, str(error))])
            return
        self._publish(self._service.submit(request))
        self._worker.submit(None)  # it takes whatever waits by then

    def _each_second(self) -> None:
        if not self._active:
            return
        self._worker.submit(None)  # vehicles that have fallen silent are forgotten
        if self._adaptation:
            self._adaptation.look(time.monotonic(), self._service.busy_share)
        self._diagnostics_pub.publish(
            health_msg(
                self._service,
                time.monotonic(),
                name=self.get_fully_qualified_name(),
                stamp=self.get_clock().now().to_msg(),
                more=self._adaptation.figures() if self._adaptation else {},
            )
        )

    # --- in the worker's thread -----------------------------------------------------------------

    def _work(self, _: None) -> None:
        self._publish(self._service.run_batch(time.monotonic()))
        while self._active and self._service.num_waiting:
            self._publish(self._service.run_batch(time.monotonic()))
        while self._active and self._service.read_ahead():
            pass  # until somebody asks, or nothing is left to do

    def _on_failure(self, _: None, error: Exception) -> None:
        self._log_traceback("a batch could not be run", error)

    def _on_model_failure(self, error: Exception) -> None:
        self._log_traceback("the model broke off, its batch is refused", error)

    def _log_traceback(self, what: str, error: Exception) -> None:
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        self.get_logger().error(f"{what}\n{''.join(lines)}", throttle_duration_sec=1.0)

    # --- in either ------------------------------------------------------------------------------

    def _publish(self, answers: list[Answer]) -> None:
        for answer in answers:
            self._answer_pub.publish(convert.answer_msg(answer))
            if answer.outcome is Outcome.REFUSED and answer.error:
                self.get_logger().warning(
                    f"{answer.head.vehicle!a}: FLAD-{answer.error.number} "
                    f"{answer.error.name}: {answer.text}",
                    throttle_duration_sec=1.0,
                )


def main(args: list[str] | None = None) -> None:
    """Run the node; with ``autostart`` it goes active by itself."""
    run_node(EdgeNode, args)


if __name__ == "__main__":
    main()
