# SPDX-License-Identifier: Apache-2.0
"""ROS side of :class:`Conductor`: the edge of a federation. A round is an action.

Orders go out on a topic, statuses come in on one; units and updates are services; that a vehicle's
process is gone is told by the liveliness of its topic.
"""

from __future__ import annotations

import importlib
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from flad_msgs.action import TrainRound
from flad_msgs.msg import FleetVehicle, TrainOrder, TrainStatus
from flad_msgs.srv import FetchUnits, StoreUnits, SubmitUpdate
from rclpy.action import ActionServer, CancelResponse
from rclpy.lifecycle import State, TransitionCallbackReturn
from rclpy.task import Future
from std_msgs.msg import Empty

from flad_common.config import knob, section
from flad_common.error_codes import FladError
from flad_common.ros.lifecycle import ManagedNode, reports_errors, run_node
from flad_common.ros.parameters import from_node
from flad_common.ros.qos import DIAGNOSTICS, MANY, alive
from flad_edge.federate.conductor import Conductor
from flad_edge.federate.health import federation_health
from flad_edge.federate.planning import PlanningConfig, RoundPlanner
from flad_edge.federate.rounds import ConductorConfig, RoundGoal, RoundOutcome
from flad_edge.ros.federation_report import diagnostics_msg
from flad_edge.ros.planning_messages import FLEET, member_from_msg
from flad_edge.swift.devices import load_devices
from flad_pipeline.aggregation.keys import KeyRing
from flad_pipeline.ros.round_messages import (
    FETCH,
    ORDERS,
    ROUND,
    STATUSES,
    STORE,
    SUBMIT,
    order_to_msg,
    packed,
    status_from_msg,
    status_to_msg,
    unpacked,
)
from flad_pipeline.round.edge_link import CutName
from flad_pipeline.round.order import Order
from flad_pipeline.round.task import load_task

with warnings.catch_warnings():  # Humble has only the old name, Jazzy warns of it
    warnings.simplefilter("ignore")
    from rclpy.qos_event import SubscriptionEventCallbacks


@dataclass(frozen=True, kw_only=True)
class ConductorNodeConfig:
    """The edge of a federation."""

    task: str = knob(unit="1", doc="package.module:function that makes the TrainingTask.")
    task_file: str = knob("", unit="1", doc="What that function is given.")
    costs: str = knob(unit="1", doc="package.module:function (task_file, graph) -> UnitCosts.")
    folder: str = knob(unit="1", doc="Journal, models, copies and updates.")
    ring: str = knob(unit="1", doc="Public keys of the vehicles (./flad keys enrol).")
    lease_s: float = knob(0.3, unit="s", doc="As the vehicles' link.lease_s.")
    tick_s: float = knob(0.1, unit="s", doc="Between two looks at the time.")
    feedback_s: float = knob(0.5, unit="s", doc="Between two feedbacks of a round.")
    diagnostics_s: float = knob(1.0, unit="s", doc="Between two diagnostics of the federation.")
    listen_s: float = knob(
        2.0,
        unit="s",
        doc="An edge that has just begun hears for so long who is there before it begins a round.",
    )
    rounds: ConductorConfig = section(ConductorConfig, doc="How rounds go.")
    planning: PlanningConfig = section(PlanningConfig, doc="How clients are made.")

    def __post_init__(self) -> None:
        for name in ("lease_s", "tick_s", "feedback_s", "diagnostics_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.listen_s < 0.0:
            raise ValueError(f"listen_s must not be negative, got {self.listen_s}")


class ConductorNode(ManagedNode):
    """Leads rounds while active. Attributes exist from configure to cleanup."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("conductor", **kwargs)

    @reports_errors
    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Read the model and the journal."""
        c = self._config = from_node(ConductorNodeConfig, self)
        task = load_task(c.task, c.task_file, "")
        module, _, name = c.costs.partition(":")
        costs = getattr(importlib.import_module(module), name)(c.task_file, task.graph)
        planner = RoundPlanner(
            costs, task.step_config.num_micro_batches, load_devices(), c.planning
        )
        self._order_pub = self.create_publisher(TrainOrder, ORDERS, MANY)
        self._diagnostics_pub = self.create_publisher(DiagnosticArray, "/diagnostics", DIAGNOSTICS)
        self._events: list[str] = []
        self._conductor = Conductor(
            task,
            planner,
            c.rounds,
            Path(c.folder),
            KeyRing.load(Path(c.ring)),
            say=self._say,
            tell=self._tell,
        )
        return super().on_configure(state)

    @reports_errors
    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Hear vehicles and take goals."""
        c = self._config
        self._goals: list[Any] = []
        self._over: Future | None = None
        self._listened = Future(executor=self.executor)
        self._began_s = time.monotonic()
        self._conductor.resume_clock(self._began_s)
        self._watched: dict[str, Any] = {}
        self._status_sub = self.create_subscription(TrainStatus, STATUSES, self._on_status, MANY)
        self._fleet_sub = self.create_subscription(FleetVehicle, FLEET, self._on_place, MANY)
        self._services = [
            self.create_service(FetchUnits, FETCH, self._on_fetch),
            self.create_service(StoreUnits, STORE, self._on_store),
            self.create_service(SubmitUpdate, SUBMIT, self._on_submit),
        ]
        self._timers = [
            self.create_timer(c.tick_s, self._tick),
            self.create_timer(c.feedback_s, self._feedback),
            self.create_timer(c.diagnostics_s, self._diagnose),
        ]
        self._action = ActionServer(
            self,
            TrainRound,
            ROUND,
            execute_callback=self._execute,
            cancel_callback=lambda _: CancelResponse.REJECT,
        )
        return super().on_activate(state)

    @reports_errors
    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Lead no more."""
        self._action.destroy()
        for timer in self._timers:
            self.destroy_timer(timer)
        for service in self._services:
            self.destroy_service(service)
        for subscription in (self._status_sub, self._fleet_sub, *self._watched.values()):
            self.destroy_subscription(subscription)
        return super().on_deactivate(state)

    @reports_errors
    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Let go of the topics."""
        self.destroy_publisher(self._order_pub)
        self.destroy_publisher(self._diagnostics_pub)
        return super().on_cleanup(state)

    # --- the action -----------------------------------------------------------------------------

    async def _execute(self, goal: Any) -> TrainRound.Result:
        """Whoever asks for the round that is under way, or was the last, hears how it ends."""
        wanted = RoundGoal(
            round=goal.request.round,
            vehicles=tuple(goal.request.vehicles),
            steps=goal.request.steps,
            deadline_s=goal.request.deadline_s,
        )
        if not self._conductor.is_training:
            await self._listened
        last = self._conductor.last
        if last is not None and not self._conductor.is_training and last.round == wanted.round:
            goal.succeed()  # it has ended while nobody listened
            return _result(last)
        try:
            self._conductor.begin(wanted, time.monotonic())
        except FladError as error:
            self._tell(f"no round: {error.detail}")
            goal.abort()
            return TrainRound.Result(completed=False, text=str(error))
        if self._over is None or self._over.done():
            self._over = Future(executor=self.executor)
        self._goals.append(goal)
        outcome = await self._over
        self._feedback()
        self._goals.remove(goal)
        goal.succeed()
        return _result(outcome)

    def _feedback(self) -> None:
        if self._goals:
            events, self._events = self._events, []
            feedback = TrainRound.Feedback(
                round=self._conductor.round_number,
                vehicles=[status_to_msg(s) for s in self._conductor.statuses],
                events=events,
            )
            for goal in self._goals:
                goal.publish_feedback(feedback)

    def _diagnose(self) -> None:
        c = self._conductor
        found = federation_health(
            c.round_number, c.round, c.last, c.statuses, now_s=time.monotonic()
        )
        self._diagnostics_pub.publish(diagnostics_msg(found, self.get_clock().now().to_msg()))

    def _tick(self) -> None:
        now_s = time.monotonic()
        if not self._listened.done() and now_s - self._began_s >= self._config.listen_s:
            self._listened.set_result(None)
        self._conductor.on_tick(now_s)
        if self._over is not None and not self._over.done() and not self._conductor.is_training:
            self._over.set_result(self._conductor.last)

    # --- vehicles -------------------------------------------------------------------------------

    def _on_status(self, msg: TrainStatus) -> None:
        try:
            status = status_from_msg(msg)
        except ValueError as error:
            self.get_logger().error(f"a status that cannot be read: {error}")
            return
        if status.vehicle not in self._watched:
            self._watched[status.vehicle] = self._watch(status.vehicle)
        self._conductor.on_status(status, time.monotonic())

    def _on_place(self, msg: FleetVehicle) -> None:
        try:
            self._conductor.on_place(member_from_msg(msg), time.monotonic())
        except ValueError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=1.0)

    def _watch(self, vehicle: str) -> Any:
        lease_s = self._config.lease_s

        def changed(event: Any) -> None:
            if event.alive_count == 0 and event.alive_count_change < 0:
                how = f"DDS has not heard of it for {lease_s:g} s"
                self._conductor.on_lost(vehicle, how, time.monotonic())

        return self.create_subscription(
            Empty,
            f"/{vehicle}/group/alive",
            lambda _: None,
            alive(lease_s),
            event_callbacks=SubscriptionEventCallbacks(liveliness=changed),
        )

    def _on_fetch(self, request: Any, response: Any) -> Any:
        try:
            pieces = self._conductor.fetch(_cut_name(request), list(request.units))
        except FladError as error:
            response.refused = error.detail
            return response
        fields = packed(pieces)
        response.sizes, response.data = fields["sizes"], fields["data"]
        return response

    def _on_store(self, request: Any, response: Any) -> Any:
        try:
            pieces = unpacked(request)
            response.whole_step = self._conductor.store(_cut_name(request), pieces)
        except (FladError, ValueError) as error:
            response.refused = str(error)
        return response

    def _on_submit(self, request: Any, response: Any) -> Any:
        try:
            self._conductor.submit(request.vehicle, memoryview(request.data).tobytes())
        except FladError as error:
            response.refused = error.detail
        return response

    def _say(self, order: Order) -> None:
        self._order_pub.publish(order_to_msg(order))

    def _tell(self, event: str) -> None:
        self.get_logger().info(event)
        self._events.append(event)


def _cut_name(request: Any) -> CutName:
    return CutName(
        vehicle=request.vehicle,
        client=request.client,
        round=request.round,
        epoch=request.epoch,
        step=request.step,
    )


def _result(outcome: RoundOutcome) -> TrainRound.Result:
    return TrainRound.Result(
        completed=outcome.completed,
        round=outcome.round,
        model_hash=outcome.model_hash,
        model_file=str(outcome.model_file),
        clients=list(outcome.clients),
        num_samples=outcome.num_samples,
        text=outcome.text,
        report=json.dumps(outcome.report),
    )


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    run_node(ConductorNode, args)


if __name__ == "__main__":
    main()
