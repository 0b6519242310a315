# SPDX-License-Identifier: Apache-2.0
"""ROS side of :class:`Planner`: odometry and plans in, control out. No control law here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from carla_msgs.msg import CarlaEgoVehicleControl, CarlaEgoVehicleInfo
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from flad_msgs.msg import Plan as PlanMsg
from flad_msgs.msg import PlannerStatus, ScenePrediction
from nav_msgs.msg import Odometry, Path
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import State, TransitionCallbackReturn
from std_msgs.msg import Bool, Header
from visualization_msgs.msg import MarkerArray

from flad_common.config import knob, section
from flad_common.periods import is_due
from flad_common.ros.lifecycle import ManagedNode, reports_errors, run_node
from flad_common.ros.parameters import from_node
from flad_common.ros.qos import CONTROL, DIAGNOSTICS, LATCHED, SCENE, STATE, VIEW
from flad_planner.control import FULL_BRAKE
from flad_planner.plan import RawPlan
from flad_planner.planner import Decision, Planner, PlannerConfig, PlannerState
from flad_planner.ros import messages as convert
from flad_planner.tracking import Box

_LOOK_S = {"realtime": 0.05, "lockstep": 0.25}
"""How often the odometry's silence is looked at; in lockstep, a reader of controls that lacked."""


@dataclass(frozen=True, kw_only=True)
class PlannerNodeConfig:
    """How the node works in time; the planner's own knobs are below ``planner``."""

    mode: Literal["lockstep", "realtime"] = knob(
        "realtime",
        unit="",
        doc="lockstep: one answer per odometry, plans are awaited; realtime: nothing is awaited.",
    )
    plan_period_s: float = knob(
        0.1, unit="s", doc="In lockstep, odometry stamps that are multiples of it await a plan."
    )
    prediction_period_s: float = knob(
        0.0,
        unit="s",
        doc="In lockstep, odometry stamps that are multiples of it await scene_prediction, too; 0: "
        "none does, and what is detected does not count, so that runs repeat.",
    )
    odometry_watchdog_s: float = knob(
        0.5, unit="s", doc="In realtime, silence of the odometry after which the brake is sent."
    )
    planner: PlannerConfig = section(PlannerConfig, doc="The planner itself.")

    def __post_init__(self) -> None:
        for name in ("plan_period_s", "odometry_watchdog_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not self.prediction_period_s >= 0.0:
            raise ValueError(
                f"prediction_period_s must not be negative, got {self.prediction_period_s}"
            )


class PlannerNode(ManagedNode):
    """Answers every ``odometry`` with one ``control`` of the same stamp while active.

    Attributes exist from configure to cleanup.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__("planner", **kwargs)

    @reports_errors
    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Read the parameters, make the planner and its topics."""
        self._config = from_node(PlannerNodeConfig, self)
        self._lockstep = self._config.mode == "lockstep"
        self._planner = Planner(self._config.planner)
        self._car: tuple[float, float] | None = None  # wheelbase, full steer
        self._control_pub = self.create_lifecycle_publisher(
            CarlaEgoVehicleControl, "control", CONTROL
        )
        self._status_pub = self.create_lifecycle_publisher(PlannerStatus, "planner_status", STATE)
        self._path_pub = self.create_lifecycle_publisher(Path, "planned_path", VIEW)
        self._marker_pub = self.create_lifecycle_publisher(MarkerArray, "planner_markers", VIEW)
        self._diagnostics_pub = self.create_lifecycle_publisher(
            DiagnosticArray, "diagnostics", DIAGNOSTICS
        )
        self._inputs = [
            self.create_subscription(Odometry, "odometry", self._on_odometry, STATE),
            self.create_subscription(PlanMsg, "plan", self._on_plan, STATE),
            self.create_subscription(
                ScenePrediction,
                "scene_prediction",
                self._on_prediction,
                SCENE if self._lockstep else STATE,
            ),
            self.create_subscription(Bool, "manual_override", self._on_override, LATCHED),
            self.create_subscription(
                CarlaEgoVehicleControl, "manual_control", self._on_manual, CONTROL
            ),
            self.create_subscription(CarlaEgoVehicleInfo, "vehicle_info", self._on_info, LATCHED),
        ]
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timers = [
            self.create_timer(1.0, self._publish_diagnostics, clock=steady),
            self.create_timer(_LOOK_S[self._config.mode], self._watch_odometry, clock=steady),
        ]
        return super().on_configure(state)

    @reports_errors
    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Start afresh: the vehicle is held until the first plan."""
        self._planner = Planner(self._config.planner)
        if self._car is not None:
            self._planner.know_car(*self._car)
        self._waiting: list[Odometry] = []  # odometry whose plan has not come yet
        self._plans: dict[int, RawPlan] = {}  # by stamp, lockstep only
        self._seen: dict[int, tuple[list[Box], float]] = {}  # likewise, with the light
        self._decision: Decision | None = None
        self._last_odometry: Odometry | None = None
        self._heard_s = time.monotonic()
        return super().on_activate(state)

    @reports_errors
    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Leave the vehicle on its brake."""
        if self._last_odometry is not None:
            header = self._header(self._last_odometry)
            self._control_pub.publish(convert.control_to_msg(FULL_BRAKE, header))
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
            self._path_pub,
            self._status_pub,
            self._control_pub,
        ):
            self.destroy_lifecycle_publisher(publisher)
        return super().on_cleanup(state)

    def _on_odometry(self, msg: Odometry) -> None:
        if not self._control_pub.is_activated:
            return
        self._heard_s = time.monotonic()
        self._last_odometry = msg
        # In lockstep a newer step means that the one before is over, answered or not.
        self._waiting = [msg]
        self._answer()

    def _on_plan(self, msg: PlanMsg) -> None:
        if not self._control_pub.is_activated:
            return
        plan = convert.raw_plan(msg)
        if not self._lockstep:
            if not plan.is_none:
                self._hand_over(plan)
        elif is_due(plan.stamp_ns, self._config.plan_period_s):
            self._plans[plan.stamp_ns] = plan
            self._answer()
        else:
            self.get_logger().warning(
                f"plan of {plan.stamp_ns * 1e-9:.3f} s ignored: in lockstep plans are for "
                f"multiples of plan_period_s = {self._config.plan_period_s} s",
                throttle_duration_sec=5.0,
            )

    def _on_prediction(self, msg: ScenePrediction) -> None:
        ignores = self._lockstep and self._config.prediction_period_s == 0.0
        if ignores or not self._control_pub.is_activated:
            return
        try:
            boxes = convert.boxes(msg)
        except ValueError as error:
            self.get_logger().warning(
                f"scene_prediction ignored: {error}", throttle_duration_sec=5.0
            )
            boxes = []
        stamp_ns = convert.stamp_to_ns(msg.header.stamp)
        if self._lockstep:
            self._seen[stamp_ns] = (boxes, msg.light_red)
            self._answer()
        else:
            self._planner.see(stamp_ns, boxes, msg.light_red)

    def _on_info(self, msg: CarlaEgoVehicleInfo) -> None:
        """The car's geometry; what cannot be of a car is told and left alone."""
        car = convert.car_of(msg)
        if car is None:
            return
        try:
            self._planner.know_car(*car)
        except ValueError as error:
            self.get_logger().warning(f"vehicle_info is not used: {error}")
            return
        self._car = car

    def _on_override(self, msg: Bool) -> None:
        if not self._control_pub.is_activated:
            return
        if msg.data != self._planner.manual.active:
            self.get_logger().info("manual control taken" if msg.data else "manual control ended")
        self._planner.manual.set_active(msg.data, self._clock_s())
        self._answer()

    def _on_manual(self, msg: CarlaEgoVehicleControl) -> None:
        if not self._control_pub.is_activated:
            return
        refused = self._planner.manual.command(convert.control_from_msg(msg), self._clock_s())
        if refused is not None:
            self.get_logger().warning(
                f"manual control refused: {refused}", throttle_duration_sec=5.0
            )

    def _answer(self) -> None:
        """Answer the odometry that waits, unless in lockstep its plan or its reader lacks."""
        if not self._waiting:
            return
        msg = self._waiting[0]
        stamp_ns = convert.stamp_to_ns(msg.header.stamp)
        if self._lockstep:
            due = is_due(stamp_ns, self._config.plan_period_s)
            if due and stamp_ns not in self._plans and not self._planner.manual.active:
                return
            if self._awaits_prediction(stamp_ns):
                return
            if not self._control_pub.get_subscription_count():
                return  # an answer now would be lost; the timer tries again
        self._waiting.clear()
        self._planner.observe(convert.ego_from_odometry(msg))
        if stamp_ns in self._seen:
            self._planner.see(stamp_ns, *self._seen[stamp_ns])
        self._seen.clear()
        if stamp_ns in self._plans and not self._plans[stamp_ns].is_none:
            self._hand_over(self._plans[stamp_ns])
        self._plans.clear()
        decision = self._planner.decide(self._clock_s())
        self._log_change(decision)
        self._decision = decision
        self._publish(msg, decision)

    def _awaits_prediction(self, stamp_ns: int) -> bool:
        period_s = self._config.prediction_period_s
        return (
            period_s > 0.0
            and is_due(stamp_ns, period_s)
            and stamp_ns not in self._seen
            and not self._planner.manual.active
        )

    def _hand_over(self, plan: RawPlan) -> None:
        refused = self._planner.receive(plan)
        if refused is not None:
            self.get_logger().warning(
                f"plan of {plan.stamp_ns * 1e-9:.3f} s from {plan.source!r} not taken: {refused}",
                throttle_duration_sec=2.0,
            )

    def _publish(self, odometry: Odometry, decision: Decision) -> None:
        header = self._header(odometry)
        # The status first: in lockstep the control ends the step.
        self._status_pub.publish(convert.status_msg(decision, header))
        self._control_pub.publish(convert.control_to_msg(decision.control, header))
        active = self._planner.active_plan
        height_m = odometry.pose.pose.position.z
        if active is not None and self._path_pub.get_subscription_count():
            self._path_pub.publish(convert.path_msg(active, odometry.header, height_m))
        if self._marker_pub.get_subscription_count():
            ego = convert.ego_from_odometry(odometry)
            self._marker_pub.publish(
                convert.marker_msgs(active, decision, odometry.header, ego, height_m)
            )

    def _header(self, odometry: Odometry) -> Header:
        return Header(stamp=odometry.header.stamp, frame_id=odometry.child_frame_id)

    def _clock_s(self) -> float:
        """The manual watchdog's clock: simulated in lockstep, so that runs repeat."""
        if not self._lockstep:
            return time.monotonic()
        if self._last_odometry is None:
            return 0.0
        return convert.stamp_to_ns(self._last_odometry.header.stamp) * 1e-9

    def _log_change(self, decision: Decision) -> None:
        if self._decision is not None and self._decision.state == decision.state:
            return
        text = f"{decision.state.name} {decision.reason}".strip()
        if decision.state in (PlannerState.FOLLOWING, PlannerState.MANUAL, PlannerState.STARTING):
            self.get_logger().info(text)
        else:
            self.get_logger().warning(text)

    def _watch_odometry(self) -> None:
        """In realtime: brake when the odometry falls silent. Lockstep's bridge has a deadline."""
        if not self._control_pub.is_activated or self._last_odometry is None:
            return
        if self._lockstep:
            self._answer()
            return
        quiet_s = time.monotonic() - self._heard_s
        if quiet_s <= self._config.odometry_watchdog_s:
            return
        self.get_logger().warning(
            f"no odometry for {quiet_s:.1f} s: braking", throttle_duration_sec=5.0
        )
        header = self._header(self._last_odometry)
        self._control_pub.publish(convert.control_to_msg(FULL_BRAKE, header))

    def _publish_diagnostics(self) -> None:
        if not self._control_pub.is_activated:
            return
        quiet_s = time.monotonic() - self._heard_s
        status = DiagnosticStatus(
            name=f"{self.get_fully_qualified_name()}: control",
            hardware_id=self.get_namespace().strip("/"),
            level=DiagnosticStatus.OK,
            message="no odometry yet",
        )
        if self._decision is not None:
            state = self._decision.state
            good = state in (PlannerState.FOLLOWING, PlannerState.MANUAL, PlannerState.STARTING)
            status.level = DiagnosticStatus.OK if good else DiagnosticStatus.WARN
            status.message = f"{state.name} {self._decision.reason}".strip()
        if self._waiting:
            stamp_s = convert.stamp_to_ns(self._waiting[0].header.stamp) * 1e-9
            status.message = f"waiting for the plan of {stamp_s:.3f} s on {self._plan_topic()}"
            if quiet_s > 1.0:
                status.level = DiagnosticStatus.WARN
                self.get_logger().warning(status.message, throttle_duration_sec=5.0)
        status.values = [
            KeyValue(key="plans_refused", value=str(self._planner.num_refused)),
            KeyValue(key="plans_late", value=str(self._planner.num_late)),
            KeyValue(key="slowed_by_monitor", value=str(self._planner.num_slowed)),
            KeyValue(key="odometry_silence_s", value=f"{quiet_s:.2f}"),
        ]
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_pub.publish(array)

    def _plan_topic(self) -> str:
        return self._inputs[1].topic_name


def main(args: list[str] | None = None) -> None:
    """Run the node; with ``autostart`` it goes active by itself."""
    run_node(PlannerNode, args)


if __name__ == "__main__":
    main()
