# SPDX-License-Identifier: Apache-2.0
"""ROS side of :class:`FleetPlanner`: vehicles speak, plans and markers go out. No planning here."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from typing import Any

from flad_msgs.msg import FleetVehicle
from flad_msgs.srv import PlanPipelines
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import State, TransitionCallbackReturn
from visualization_msgs.msg import MarkerArray

from flad_common.config import knob, section
from flad_common.ros.lifecycle import ManagedNode, reports_errors, run_node
from flad_common.ros.parameters import from_node
from flad_common.ros.qos import MANY, VIEW
from flad_edge.mobility.traces import Coverage
from flad_edge.ros.planning_messages import fill_response, markers, member_from_msg
from flad_edge.swift.devices import load_devices
from flad_edge.swift.dqn_planner import load_planner
from flad_edge.swift.fleet import (
    FleetConfig,
    FleetPlan,
    FleetPlanner,
    Heard,
    Member,
    TaskConfig,
    task_of,
)
from flad_perception.worker import Worker

_CLOSE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class PlanningNodeConfig:
    """What an edge plans, for whom and how often."""

    period_s: float = knob(1.0, unit="s", doc="Between two looks at who is there.")
    lost_s: float = knob(3.0, unit="s", doc="Who says nothing for longer is gone.")
    coverage: Coverage = section(Coverage, doc="Of this edge; it is drawn.")
    task: TaskConfig = section(TaskConfig, doc="What is trained.")
    fleet: FleetConfig = section(FleetConfig, doc="How vehicles are grouped and planned.")

    def __post_init__(self) -> None:
        for name in ("period_s", "lost_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


class PlanningNode(ManagedNode):
    """Keeps clusters, pipelines and templates fresh while active, and answers who asks for them.

    ``edge/plan_pipelines`` without vehicles answers the plan as it stands; with vehicles it plans
    those, from nothing. Plans are made in a thread of their own, asked ones in the executor's.
    Attributes exist from configure to cleanup.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("planning", **kwargs)
        self._active = False

    @reports_errors
    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Read the model's units and make the topics.

        Raises:
            ValueError: if there are no units.
        """
        self._config = config = from_node(PlanningNodeConfig, self)
        self._model, self._needs = task_of(config.task)
        self._devices, self._learned = load_devices(), load_planner()
        self._marker_pub = self.create_lifecycle_publisher(MarkerArray, "edge/fleet_markers", VIEW)
        self._input = self.create_subscription(FleetVehicle, "edge/fleet", self._on_vehicle, MANY)
        self._service = self.create_service(
            PlanPipelines, "edge/plan_pipelines", self._on_plan_pipelines
        )
        self._timer = self.create_timer(
            config.period_s, self._each_period, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self.get_logger().info(
            f"plans {self._model.name}: {len(self._model)} units, "
            f"{self._needs.capacity_bytes / 1e9:.2f} GB, {self._needs.flops:.3g} FLOP a round"
        )
        return super().on_configure(state)

    @reports_errors
    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Start afresh: no vehicle is known."""
        self._heard, self._plan = Heard(self._config.lost_s), FleetPlan()
        self._planner = self._new_planner()
        self._worker = Worker(self._work, self._on_failure, "newest")
        result = super().on_activate(state)
        self._active = True
        return result

    @reports_errors
    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Let the plan that is being made end."""
        self.close()
        return super().on_deactivate(state)

    @reports_errors
    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Undo what configure did, in reverse."""
        self.destroy_timer(self._timer)
        self.destroy_service(self._service)
        self.destroy_subscription(self._input)
        self.destroy_lifecycle_publisher(self._marker_pub)
        return super().on_cleanup(state)

    def close(self) -> None:
        """End the thread; also where the process ends without a transition."""
        if self._active:
            self._active = False
            self._worker.close(_CLOSE_S)

    def _new_planner(self) -> FleetPlanner:
        return FleetPlanner(
            self._config.fleet, self._needs, self._model, self._devices, learned=self._learned
        )

    # --- in the executor's thread ---------------------------------------------------------------

    def _on_vehicle(self, msg: FleetVehicle) -> None:
        if not self._active:
            return
        try:
            self._heard.take(member_from_msg(msg), time.monotonic())
        except ValueError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=1.0)

    def _each_period(self) -> None:
        if not self._active:
            return
        members = self._heard.present(time.monotonic())
        self._worker.submit(members)
        if self._marker_pub.get_subscription_count():
            stamp = self.get_clock().now().to_msg()
            self._marker_pub.publish(markers(self._plan, members, self._config.coverage, stamp))

    def _on_plan_pipelines(
        self, request: PlanPipelines.Request, response: PlanPipelines.Response
    ) -> PlanPipelines.Response:
        if not self._active:
            response.refused = "the planning node is not active; activate it"
            return response
        if not request.vehicles:
            return fill_response(response, self._plan)
        try:
            members = [member_from_msg(msg) for msg in request.vehicles]
            return fill_response(response, self._new_planner().plan(members))
        except ValueError as error:
            response.refused = str(error)
            return response

    # --- in the worker's thread -----------------------------------------------------------------

    def _work(self, members: list[Member]) -> None:
        self._plan = self._planner.plan(members)

    def _on_failure(self, _: list[Member], error: Exception) -> None:
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        self.get_logger().error(f"no plan was made\n{''.join(lines)}", throttle_duration_sec=1.0)


def main(args: list[str] | None = None) -> None:
    """Run the node."""
    run_node(PlanningNode, args)


if __name__ == "__main__":
    main()
