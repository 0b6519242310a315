# SPDX-License-Identifier: Apache-2.0
"""ROS side of :class:`Driver`, on the vehicle: asks the edge, hands plans to the planner.

Everything but the ADM runs in the executor's thread. What the ADM answers comes back to it through
a guard condition.
"""

from __future__ import annotations

import time
import traceback
import uuid
import warnings
from pathlib import Path
from typing import Any, Literal

from diagnostic_msgs.msg import DiagnosticArray
from flad_msgs.msg import DriveAnswer, DriveRequest, DriverStatus, Plan, SceneTokens
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import State, TransitionCallbackReturn
from std_msgs.msg import String

with warnings.catch_warnings():  # Humble has only the old name, Jazzy warns of it
    warnings.simplefilter("ignore")
    from rclpy.qos_event import SubscriptionEventCallbacks

from flad_common.error_codes import INSTRUCTION_REFUSED, MODEL_REFUSED, FladError
from flad_common.ros.lifecycle import ManagedNode, reports_errors, run_node
from flad_common.ros.parameters import from_node
from flad_common.ros.qos import ANSWERS, DIAGNOSTICS, LATCHED, LOCKSTEP, MANY, SCENE, STATE
from flad_edge.adm_worker import AdmWorker, SmallModel
from flad_edge.driver import Driver, Ended, Who
from flad_edge.driver_config import DriverNodeConfig
from flad_edge.edge_watch import EdgeWatch
from flad_edge.open_frames import OpenFrame, OpenFrames
from flad_edge.ros import driver_messages as convert
from flad_edge.ros.driver_health import health_msg
from flad_edge.ros.driver_report import DriverReport
from flad_edge.ros.messages import head_from_msg, request_from_msg
from flad_edge.service.requests import Answer, Outcome
from flad_edge.spoken import Spoken
from flad_perception.ros.messages import stamp_to_ns

_LOOK_S = {"realtime": 0.05, "lockstep": 0.25}
"""How often deadlines are looked at. Lockstep has long ones, and its wall time is expensive."""
_SETTLE_S = 1.0  # from hearing a topic to its publisher knowing us, in lockstep
_CLOSE_S = 10.0


class DriverNode(ManagedNode):
    """Answers every frame with one ``driver_status`` and, in lockstep, one ``plan`` of its stamp.

    Attributes exist from configure to cleanup; the driver and the worker only while active.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("driver", **kwargs)
        self._active = False

    @reports_errors
    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Load the ADM, where there is one, and make the topics.

        Raises:
            FladError: if the ADM is not what the parameters ask for.
        """
        self._config = config = from_node(DriverNodeConfig, self)
        self._lockstep = config.mode == "lockstep"
        self._vehicle = self.get_namespace().strip("/").rsplit("/")[-1]
        self._model = self._load_adm(config)
        Driver(config.driver, has_adm=self._model is not None, aligned=self._lockstep)
        self._plan_pub = self.create_lifecycle_publisher(Plan, "plan", STATE)
        self._status_pub = self.create_lifecycle_publisher(DriverStatus, "driver_status", LATCHED)
        self._request_pub = self.create_lifecycle_publisher(DriveRequest, "edge/requests", MANY)
        self._diagnostics_pub = self.create_lifecycle_publisher(
            DiagnosticArray, "diagnostics", DIAGNOSTICS
        )
        self._edge = EdgeWatch(config.mode)
        self._spoken = Spoken(config.text)  # also what is said before the node is active
        events = SubscriptionEventCallbacks(liveliness=self._on_edge_liveliness)
        self._inputs = [
            # Words first: of two messages that wait, they are handled before the frame.
            self.create_subscription(String, "instruction", self._on_instruction, LATCHED),
            self.create_subscription(String, "notice", self._on_notice, LATCHED),
            self.create_subscription(
                DriveAnswer, "edge/answers", self._on_answer, ANSWERS, event_callbacks=events
            ),
            self.create_subscription(
                SceneTokens,
                "scene_tokens",
                self._on_tokens,
                SCENE if self._lockstep else LOCKSTEP,
            ),
        ]
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timers = [
            self.create_timer(_LOOK_S[config.mode], self._look, clock=steady),
            self.create_timer(1.0, self._publish_diagnostics, clock=steady),
        ]
        self._wake = self.create_guard_condition(self._take_from_adm)
        self.get_logger().info(
            f"driver of {self._vehicle!r}, {config.mode}, by the {config.driver.drive_by}"
            f"{', blind' if config.driver.is_blind else ''}; "
            f"ADM on board: {self._model.name if self._model else 'none'}"
        )
        return super().on_configure(state)

    @reports_errors
    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Start afresh: no frame seen. What has been said stands."""
        config = self._config
        self._driver = Driver(
            config.driver, has_adm=self._model is not None, aligned=self._lockstep
        )
        realtime_s = config.driver.answer_within_s
        self._open = OpenFrames(config.lockstep_deadline_s if self._lockstep else realtime_s)
        self._adm: AdmWorker | None = None
        if self._model is not None:
            keep: Literal["all", "newest"] = "all" if self._lockstep else "newest"
            self._adm = AdmWorker(
                self._model, config.driver.catch_up_frames, keep, self._wake.trigger
            )
        self._session = uuid.uuid4().hex[:16]
        self._heard_nobody_s = time.monotonic()
        self._report = DriverReport(
            self._plan_pub,
            self._status_pub,
            self._vehicle,
            driver=self._driver,
            spoken=self._spoken,
            edge=self._edge,
            num_open=self._open.__len__,
            says_none=self._lockstep,
        )
        result = super().on_activate(state)
        self._active = True
        return result

    @reports_errors
    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Frames that are open stay so; the planner stops the vehicle."""
        self.close()
        return super().on_deactivate(state)

    @reports_errors
    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Undo what configure did, in reverse."""
        self.destroy_guard_condition(self._wake)
        for timer in self._timers:
            self.destroy_timer(timer)
        for subscription in reversed(self._inputs):
            self.destroy_subscription(subscription)
        for publisher in (
            self._diagnostics_pub,
            self._request_pub,
            self._status_pub,
            self._plan_pub,
        ):
            self.destroy_lifecycle_publisher(publisher)
        self._model = None
        return super().on_cleanup(state)

    def close(self) -> None:
        """End the worker, also where the process ends without a transition."""
        was_active, self._active = self._active, False
        if was_active and self._adm is not None:
            self._adm.close(_CLOSE_S)

    def _load_adm(self, config: DriverNodeConfig) -> SmallModel | None:
        if not config.adm:
            return None
        from flad_edge.on_board import OnBoardModel, set_threads  # PyTorch only where it is used

        set_threads(config.num_threads)
        try:
            return OnBoardModel(Path(config.adm), config.adm_encoder_hash)
        except (OSError, ValueError) as error:
            raise FladError(MODEL_REFUSED, str(error)) from error

    # --- what the vehicle is told ---------------------------------------------------------------

    def _on_instruction(self, msg: String) -> None:
        self._spoken.take_instruction(msg.data)
        if self._active:
            self._report.publish()

    def _on_notice(self, msg: String) -> None:
        self._spoken.take_notice(msg.data)
        if self._active:
            self._report.publish()

    # --- frames ---------------------------------------------------------------------------------

    def _on_tokens(self, msg: SceneTokens) -> None:
        if not self._active:
            return
        arrived_s = time.monotonic()
        stamp_ns = stamp_to_ns(msg.header.stamp)
        if self._driver.begins_anew(stamp_ns):
            self._begin_anew()
        if not self._driver.takes(stamp_ns):
            return
        frame = self._frame(msg, stamp_ns, arrived_s)
        if isinstance(frame, str):
            self._nobody(stamp_ns, frame)
            return
        if not self._driver.asks_the_edge:
            self._start_adm(frame)
        elif self._lockstep and not self._edge.answers:
            self._give_up(frame)
        elif not self._lockstep and self._driver.is_adms(stamp_ns):
            frame.why = self._driver.why_not(stamp_ns)
            self._start_adm(frame)

    def _begin_anew(self) -> None:
        """Another drive: what is open ends here, and the edge hears another session."""
        for frame in self._open.close_all():
            self._driver.close(Who.NONE, frame.how or self._unanswered(frame))
        self._driver.forget()
        self._spoken.forget_lost()
        self._report.forget()
        if self._adm is not None:
            self._adm.forget()
        self._session = uuid.uuid4().hex[:16]

    def _frame(self, msg: SceneTokens, stamp_ns: int, arrived_s: float) -> OpenFrame | str:
        """The frame, asked about where the edge drives; or why nobody can drive by it."""
        spoken = self._spoken
        if not spoken.instruction:
            return spoken.complaint or "no instruction has been given yet"
        # The encoder names a frame of the vehicle there, perhaps base_link; the edge needs whose.
        msg.header.frame_id = self._vehicle
        if self._config.driver.is_blind:
            msg = convert.zeroed(msg)
        budget_s = 0.0 if self._lockstep else self._config.driver.answer_within_s
        asked = DriveRequest(
            tokens=msg,
            session=self._session,
            instruction=spoken.instruction,
            notice=spoken.notice_to_send(),
            budget_s=budget_s,
        )
        try:
            request = request_from_msg(asked, head_from_msg(asked, arrived_s))
        except ValueError as error:
            return f"the encoder's tokens cannot be read: {error}"
        if self._adm is not None:
            self._adm.remember(request)
        if self._driver.asks_the_edge:
            self._request_pub.publish(asked)
        return self._open.open(stamp_ns, request, arrived_s)

    def _on_answer(self, msg: DriveAnswer) -> None:
        is_ours = self._active and msg.session == self._session
        if not is_ours or msg.header.frame_id != self._vehicle:
            return
        self._edge.is_deaf = False
        frame = self._open.find(stamp_to_ns(msg.header.stamp))
        if frame is None or frame.how is not None:
            return  # its time is over; it is counted
        try:
            answer = convert.answer_from_msg(msg)
        except ValueError as error:
            self._not_answered(frame, Ended.REFUSED, f"the edge's answer cannot be read: {error}")
            return
        if answer.outcome is Outcome.ANSWERED:
            self._driver.answered(frame.stamp_ns)
            self._spoken.say_lost_again()
            frame.how = Ended.ANSWERED
            self._drive(frame, Who.ADLLM, answer)
        else:
            if answer.error is not INSTRUCTION_REFUSED:  # else it may be the notice itself
                self._spoken.lose(frame.request.notice)
            number = f"FLAD-{answer.error.number} {answer.error.name}: " if answer.error else ""
            self._not_answered(frame, Ended.REFUSED, f"{number}{answer.text}")

    def _unanswered(self, frame: OpenFrame) -> Ended | None:
        """How the question about a frame ends to which no answer is waited for any more."""
        if not self._driver.asks_the_edge:
            return None
        self._spoken.lose(frame.request.notice)
        return Ended.UNANSWERED

    def _not_answered(self, frame: OpenFrame, how: Ended | None, why: str) -> None:
        frame.how = how
        frame.why = frame.why or why
        if frame.adm_runs:
            return  # its answer closes the frame
        if self._driver.is_adms(frame.stamp_ns) and self._driver.is_newest(frame.stamp_ns):
            self._start_adm(frame)
        else:
            self._nobody(frame.stamp_ns, why, how)

    def _look(self) -> None:
        """What no message brings about: deadlines, and an edge that is ready."""
        if not self._active:
            return
        now_s = time.monotonic()
        if not self._report.has_said_hello:
            self._say_hello(now_s)
        self._look_for_the_edge(now_s)
        for frame in self._open.overdue(now_s):
            if frame.adm_runs:
                how = frame.how or self._unanswered(frame)
                self._nobody(frame.stamp_ns, f"{frame.why}; the ADM is late".lstrip("; "), how)
            else:
                self._edge.is_deaf = True  # in lockstep the next frames do not wait as long
                self._give_up(frame)

    def _give_up(self, frame: OpenFrame) -> None:
        """The edge's answer to a frame is not waited for any more."""
        self._not_answered(frame, self._unanswered(frame), self._driver.why_not(frame.stamp_ns))

    # --- the ADM --------------------------------------------------------------------------------

    def _start_adm(self, frame: OpenFrame) -> None:
        assert self._adm is not None
        self._open.adm_starts(frame, time.monotonic())
        self._adm.start()

    def _take_from_adm(self) -> None:
        if not self._active or self._adm is None:
            return
        for driven in self._adm.take():
            frame = self._open.find(driven.stamp_ns)
            if frame is None:
                continue  # the edge has answered it after all, or another drive has begun
            frame.how = frame.how or self._unanswered(frame)
            if driven.answer is None:
                lines = traceback.format_exception(driven.error)
                self.get_logger().error(f"the ADM broke off\n{''.join(lines)}")
                self._nobody(frame.stamp_ns, f"the ADM broke off: {driven.error}", frame.how)
            elif driven.answer.outcome is Outcome.ANSWERED:
                self._drive(frame, Who.ADM, driven.answer)
            else:
                why = f"{frame.why}; the ADM refuses: {driven.answer.text}".lstrip("; ")
                self._nobody(frame.stamp_ns, why, frame.how)

    # --- what becomes of a frame ----------------------------------------------------------------

    def _drive(self, frame: OpenFrame, who: Who, answer: Answer) -> None:
        self._open.close(frame.stamp_ns)
        self._driver.close(who, frame.how)
        self._report.drove(
            frame.stamp_ns,
            who,
            answer,
            why=frame.why,
            latency_s=time.monotonic() - frame.arrived_s,
            note=frame.request.instruction,
        )

    def _nobody(self, stamp_ns: int, why: str, how: Ended | None = None) -> None:
        self._open.close(stamp_ns)
        self._driver.close(Who.NONE, how)
        self._report.nobody(stamp_ns, why)

    # --- the edge -------------------------------------------------------------------------------

    def _on_edge_liveliness(self, info: Any) -> None:
        self._edge.set_writers(info.alive_count, time.monotonic())
        if self._active:
            self._look_for_the_edge(time.monotonic())

    def _say_hello(self, now_s: float) -> None:
        """The first status; in lockstep once no message to or from here can be lost any more."""
        encoder, planner = self._inputs[-1].topic_name, self._plan_pub
        if not (self.count_publishers(encoder) and planner.get_subscription_count()):
            self._heard_nobody_s = now_s
        is_settled = now_s - self._heard_nobody_s >= _SETTLE_S
        if is_settled or not self._lockstep:
            self._report.say_hello()

    def _look_for_the_edge(self, now_s: float) -> None:
        if not self._edge.step(self._request_pub.get_subscription_count() > 0, now_s):
            return
        is_there = self._edge.is_alive
        self.get_logger().info("the edge is there" if is_there else "the edge is gone")
        self._report.publish()
        if not self._lockstep or is_there or not self._driver.asks_the_edge:
            return
        for frame in self._open.at_the_edge():
            self._give_up(frame)

    def _publish_diagnostics(self) -> None:
        if self._active:
            self._diagnostics_pub.publish(
                health_msg(
                    self._report.status,
                    name=self.get_fully_qualified_name(),
                    stamp=self.get_clock().now().to_msg(),
                )
            )


def main(args: list[str] | None = None) -> None:
    """Run the node; with ``autostart`` it goes active by itself."""
    run_node(DriverNode, args)


if __name__ == "__main__":
    main()
