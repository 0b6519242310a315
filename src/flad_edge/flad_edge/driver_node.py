# SPDX-License-Identifier: Apache-2.0
"""ROS side of :class:`Driver`, on the vehicle: asks the edge, hands plans to the planner.

Everything but the ADM runs in the executor's thread. What the ADM answers comes back to it through
a guard condition.
"""

from __future__ import annotations

import time
import traceback
import uuid
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from flad_msgs.msg import DriveAnswer, DriveRequest, DriverStatus, Plan, SceneTokens
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, State, TransitionCallbackReturn
from std_msgs.msg import String

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble has it under another name
    from rclpy.qos_event import SubscriptionEventCallbacks

from flad_common.config import knob, section
from flad_common.error_codes import MODEL_REFUSED, FladError
from flad_common.ros.lifecycle import bring_to_active, reports_errors
from flad_common.ros.parameters import from_node
from flad_common.ros.qos import ANSWERS, DIAGNOSTICS, LATCHED, LOCKSTEP, MANY, STATE
from flad_edge.driver import Driver, DriverConfig, Ended, Who
from flad_edge.ros import driver_messages as convert
from flad_edge.ros.driver_health import health_msg
from flad_edge.ros.messages import head_from_msg, request_from_msg
from flad_edge.service.requests import Answer, Outcome
from flad_edge.service.requests import DriveRequest as Request
from flad_perception.ros.messages import ns_to_stamp, stamp_to_ns
from flad_perception.worker import Worker
from flad_planner.language.operator_text import RefusedTextError, TextLimits, accepted_text

_LOOK_S = 0.02
_SETTLE_S = 0.2  # from hearing a topic to its publisher knowing us
_SURELY_GONE_S = 2.0  # in lockstep a loaded machine must not look like a dead edge
_CLOSE_S = 10.0
_SOURCES = {Who.ADLLM: "adllm", Who.ADM: "adm"}


@dataclass(frozen=True, kw_only=True)
class DriverNodeConfig:
    """How the node works in time and which ADM is on board; the rules are below ``driver``."""

    mode: Literal["lockstep", "realtime"] = knob(
        "realtime",
        unit="",
        doc="lockstep: an edge that is there is waited for; realtime: nothing is.",
    )
    adm: str = knob("", unit="", doc="Weights of the ADM, a .safetensors file; empty: none.")
    adm_encoder_hash: str = knob(
        "", unit="", doc="Of the encoder whose tokens the ADM was trained on; needed with adm."
    )
    num_threads: int = knob(1, unit="1", doc="That PyTorch computes with for the ADM; 0: its own.")
    lockstep_deadline_s: float = knob(
        30.0, unit="s", doc="In lockstep, wall time after which an edge that is there is given up."
    )
    driver: DriverConfig = section(DriverConfig, doc="Who drives when.")
    text: TextLimits = section(TextLimits, doc="What may be typed as an instruction or a notice.")

    def __post_init__(self) -> None:
        if self.num_threads < 0:
            raise ValueError(f"num_threads must not be negative, got {self.num_threads}")
        if not self.lockstep_deadline_s > 0.0:
            raise ValueError(
                f"lockstep_deadline_s must be positive, got {self.lockstep_deadline_s}"
            )
        if self.adm and not self.adm_encoder_hash:
            raise ValueError("adm needs adm_encoder_hash: a model drives by one encoder's tokens")


@dataclass(slots=True)
class _Frame:
    """A frame whose driver is not known yet."""

    stamp_ns: int
    arrived_s: float
    request: Request
    how: Ended | None = None  # how the question to the edge ended, once it has
    why: str = ""
    adm_runs: bool = False


class DriverNode(LifecycleNode):
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
        self._adm = self._load_adm(config)
        Driver(config.driver, has_adm=self._adm is not None, aligned=self._lockstep)
        self._plan_pub = self.create_lifecycle_publisher(Plan, "plan", STATE)
        self._status_pub = self.create_lifecycle_publisher(DriverStatus, "driver_status", LATCHED)
        self._request_pub = self.create_lifecycle_publisher(DriveRequest, "edge/requests", MANY)
        self._diagnostics_pub = self.create_lifecycle_publisher(
            DiagnosticArray, "diagnostics", DIAGNOSTICS
        )
        self._edge_writers = 0
        self._edge_changed_s = 0.0
        events = SubscriptionEventCallbacks(liveliness=self._on_edge_liveliness)
        self._inputs = [
            # Words first: of two messages that wait, they are handled before the frame.
            self.create_subscription(String, "instruction", self._on_instruction, LATCHED),
            self.create_subscription(String, "notice", self._on_notice, LATCHED),
            self.create_subscription(
                DriveAnswer, "edge/answers", self._on_answer, ANSWERS, event_callbacks=events
            ),
            self.create_subscription(SceneTokens, "scene_tokens", self._on_tokens, LOCKSTEP),
        ]
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timers = [
            self.create_timer(_LOOK_S, self._look, clock=steady),
            self.create_timer(1.0, self._publish_diagnostics, clock=steady),
        ]
        self._wake = self.create_guard_condition(self._take_from_adm)
        self.get_logger().info(
            f"driver of {self._vehicle!r}, {config.mode}, by the {config.driver.drive_by}"
            f"{', blind' if config.driver.is_blind else ''}; "
            f"ADM on board: {self._adm.name if self._adm else 'none'}"
        )
        return super().on_configure(state)

    @reports_errors
    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Start afresh: told nothing, no frame seen."""
        config = self._config
        self._driver = Driver(config.driver, has_adm=self._adm is not None, aligned=self._lockstep)
        self._open: dict[int, _Frame] = {}
        self._from_adm: deque[tuple[_Frame, Answer | Exception]] = deque()
        self._unread: deque[Request] = deque(maxlen=config.driver.catch_up_frames)
        self._worker: Worker[tuple[_Frame, list[Request]]] = Worker(
            self._run_adm,
            lambda job, error: self._adm_done(job[0], error),
            "all" if self._lockstep else "newest",
        )
        self._instruction = self._notice = self._unsent_notice = self._complaint = ""
        self._session = _new_session()
        self._edge_alive = self._said_hello = False
        self._heard_nobody_s = time.monotonic()
        self._status = DriverStatus(completed=float("nan"), latency_s=float("nan"))
        self._status.edge_latency_s = float("nan")
        result = super().on_activate(state)
        self._active = True
        return result

    @reports_errors
    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Frames that are open stay so; the planner stops the vehicle."""
        self._active = False
        self._worker.close(_CLOSE_S)
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
        self._adm = None
        return super().on_cleanup(state)

    def close(self) -> None:
        """End the worker, where the process ends without a transition."""
        if self._active:
            self._active = False
            self._worker.close(_CLOSE_S)

    def _load_adm(self, config: DriverNodeConfig) -> Any:
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
        if not self._active:
            return
        text = self._accepted("instruction", msg.data)
        if text:
            if text != self._instruction:
                self._notice = self._unsent_notice = ""
            self._instruction, self._complaint = text, ""
        self._publish_status()

    def _on_notice(self, msg: String) -> None:
        if not self._active:
            return
        if not msg.data:
            self._notice = self._unsent_notice = ""
        elif text := self._accepted("notice", msg.data):
            self._notice = self._unsent_notice = text
        self._publish_status()

    def _accepted(self, what: str, text: str) -> str:
        try:
            return accepted_text(text, self._config.text)
        except RefusedTextError as error:
            self._complaint = f"{what} refused: {error}"
            self.get_logger().warning(self._complaint)
            return ""

    # --- frames ---------------------------------------------------------------------------------

    def _on_tokens(self, msg: SceneTokens) -> None:
        if not self._active:
            return
        arrived_s = time.monotonic()
        stamp_ns = stamp_to_ns(msg.header.stamp)
        if self._driver.begins_anew(stamp_ns):
            self._driver.forget()
            self._open.clear()
            self._unread.clear()
            self._session = _new_session()
        if not self._driver.takes(stamp_ns):
            return
        frame = self._frame(msg, stamp_ns, arrived_s)
        if isinstance(frame, str):
            self._nobody(stamp_ns, frame)
            return
        self._open[stamp_ns] = frame
        asks = self._driver.asks_the_edge
        if not asks:
            self._start_adm(frame)
            return
        if self._lockstep and not self._edge_alive:
            self._not_answered(frame, Ended.UNANSWERED, self._driver.why_not(stamp_ns))
        elif not self._lockstep and self._driver.is_adms(stamp_ns):
            frame.why = self._driver.why_not(stamp_ns)
            self._start_adm(frame)

    def _frame(self, msg: SceneTokens, stamp_ns: int, arrived_s: float) -> _Frame | str:
        """The frame, asked about where the edge drives; or why nobody can drive by it."""
        if not self._instruction:
            return self._complaint or "no instruction has been given yet"
        if self._config.driver.is_blind:
            msg = convert.zeroed(msg)
        budget_s = 0.0 if self._lockstep else self._config.driver.answer_within_s
        asked = convert.request_msg(
            msg, self._session, self._instruction, self._unsent_notice, budget_s
        )
        try:
            request = request_from_msg(asked, head_from_msg(asked, arrived_s))
        except ValueError as error:
            return f"the encoder's tokens cannot be read: {error}"
        self._unsent_notice = ""
        if self._adm is not None:
            self._remember(request)
        if self._driver.asks_the_edge:
            self._request_pub.publish(asked)
        return _Frame(stamp_ns, arrived_s, request)

    def _on_answer(self, msg: DriveAnswer) -> None:
        if not self._active or msg.session != self._session:
            return
        if msg.header.frame_id != self._vehicle:
            return
        frame = self._open.get(stamp_to_ns(msg.header.stamp))
        if frame is None or frame.how is not None:
            return  # its time is over; it is counted
        try:
            answer = convert.answer_from_msg(msg)
        except ValueError as error:
            self._not_answered(frame, Ended.REFUSED, f"the edge's answer cannot be read: {error}")
            return
        if answer.outcome is Outcome.ANSWERED:
            self._driver.answered(frame.stamp_ns)
            frame.how = Ended.ANSWERED
            self._drive(frame, Who.ADLLM, answer)
        else:
            number = f"FLAD-{answer.error.number} {answer.error.name}: " if answer.error else ""
            self._not_answered(frame, Ended.REFUSED, f"{number}{answer.text}")

    def _not_answered(self, frame: _Frame, how: Ended, why: str) -> None:
        frame.how = how
        frame.why = frame.why or why
        if frame.adm_runs:
            return  # its answer closes the frame
        if self._driver.is_adms(frame.stamp_ns):
            self._start_adm(frame)
        else:
            self._nobody(frame.stamp_ns, why, how)

    def _look(self) -> None:
        """What no message brings about: deadlines, and an edge that is ready."""
        if not self._active:
            return
        now_s = time.monotonic()
        if not self._said_hello:
            self._say_hello(now_s)
        self._look_for_the_edge(now_s)
        config = self._config
        limit_s = config.lockstep_deadline_s if self._lockstep else config.driver.answer_within_s
        for frame in [f for f in self._open.values() if now_s - f.arrived_s > limit_s]:
            if frame.adm_runs:
                how = frame.how or (Ended.UNANSWERED if self._driver.asks_the_edge else None)
                self._nobody(frame.stamp_ns, f"{frame.why}; the ADM is late".lstrip("; "), how)
            else:
                self._not_answered(frame, Ended.UNANSWERED, self._driver.why_not(frame.stamp_ns))

    # --- the ADM --------------------------------------------------------------------------------

    def _start_adm(self, frame: _Frame) -> None:
        frame.adm_runs = True
        self._worker.submit((frame, list(self._unread)))
        self._unread.clear()

    def _remember(self, request: Request) -> None:
        """The ADM reads it when it next drives."""
        if self._unread and self._unread[-1].instruction != request.instruction:
            self._unread.clear()  # it would forget them at the new instruction
        self._unread.append(request)

    def _run_adm(self, job: tuple[_Frame, list[Request]]) -> None:
        """In the worker's thread."""
        frame, unread = job
        self._adm_done(frame, self._adm.drive(unread))

    def _adm_done(self, frame: _Frame, outcome: Answer | Exception) -> None:
        """In the worker's thread."""
        self._from_adm.append((frame, outcome))
        self._wake.trigger()

    def _take_from_adm(self) -> None:
        while self._active and self._from_adm:
            frame, outcome = self._from_adm.popleft()
            if self._open.get(frame.stamp_ns) is not frame:
                continue  # the edge has answered it after all, or another drive has begun
            if self._driver.asks_the_edge and frame.how is None:
                frame.how = Ended.UNANSWERED
            if isinstance(outcome, Exception):
                lines = traceback.format_exception(type(outcome), outcome, outcome.__traceback__)
                self.get_logger().error(f"the ADM broke off\n{''.join(lines)}")
                self._nobody(frame.stamp_ns, f"the ADM broke off: {outcome}", frame.how)
            elif outcome.outcome is Outcome.ANSWERED:
                self._drive(frame, Who.ADM, outcome)
            else:
                why = f"{frame.why}; the ADM refuses: {outcome.text}".lstrip("; ")
                self._nobody(frame.stamp_ns, why, frame.how)

    # --- what becomes of a frame ----------------------------------------------------------------

    def _drive(self, frame: _Frame, who: Who, answer: Answer) -> None:
        del self._open[frame.stamp_ns]
        self._driver.close(who, frame.how)
        status = self._status
        status.driver, status.why = int(who), "" if who is Who.ADLLM else frame.why
        status.completed = answer.completed
        status.latency_s = time.monotonic() - frame.arrived_s
        status.edge_latency_s = answer.latency_s if who is Who.ADLLM else float("nan")
        status.release = answer.release
        self._publish_status(frame.stamp_ns)
        self._plan_pub.publish(
            convert.plan_msg(
                frame.stamp_ns, self._vehicle, answer, _SOURCES[who], frame.request.instruction
            )
        )

    def _nobody(self, stamp_ns: int, why: str, how: Ended | None = None) -> None:
        self._open.pop(stamp_ns, None)
        self._driver.close(Who.NONE, how)
        status = self._status
        status.driver, status.why, status.release = int(Who.NONE), why, ""
        status.completed = status.latency_s = status.edge_latency_s = float("nan")
        self._publish_status(stamp_ns)
        if self._lockstep:
            self._plan_pub.publish(convert.no_plan_msg(stamp_ns, self._vehicle, why))

    def _publish_status(self, stamp_ns: int | None = None) -> None:
        status, driver = self._status, self._driver
        status.header.frame_id = self._vehicle
        if stamp_ns is not None:
            status.header.stamp = ns_to_stamp(stamp_ns)
        status.instruction, status.notice = self._instruction, self._notice
        status.edge_alive = self._edge_alive
        if self._complaint:
            status.why = self._complaint
        status.num_answered = driver.ended[Ended.ANSWERED]
        status.num_refused = driver.ended[Ended.REFUSED]
        status.num_unanswered = driver.ended[Ended.UNANSWERED]
        status.num_asked = sum(driver.ended.values())
        if driver.asks_the_edge:
            status.num_asked += sum(1 for frame in self._open.values() if frame.how is None)
        status.num_adm = driver.driven[Who.ADM]
        status.num_nobody = driver.driven[Who.NONE]
        if self._said_hello:
            self._status_pub.publish(status)

    # --- the edge -------------------------------------------------------------------------------

    def _on_edge_liveliness(self, info: Any) -> None:
        if (info.alive_count > 0) != (self._edge_writers > 0):
            self._edge_changed_s = time.monotonic()
        self._edge_writers = info.alive_count
        if self._active:
            self._look_for_the_edge(time.monotonic())

    def _say_hello(self, now_s: float) -> None:
        """The first status; in lockstep once no message to or from here can be lost any more."""
        encoder, planner = self._inputs[-1].topic_name, self._plan_pub
        if not (self.count_publishers(encoder) and planner.get_subscription_count()):
            self._heard_nobody_s = now_s
        is_settled = now_s - self._heard_nobody_s >= _SETTLE_S
        self._said_hello = is_settled or not self._lockstep
        if self._said_hello:
            self._publish_status()

    def _look_for_the_edge(self, now_s: float) -> None:
        is_there = self._edge_writers > 0 and self._request_pub.get_subscription_count() > 0
        patience_s = _SETTLE_S
        if not is_there:
            patience_s = _SURELY_GONE_S if self._lockstep else 0.0
        if is_there == self._edge_alive or now_s - self._edge_changed_s < patience_s:
            return
        is_alive = is_there
        self._edge_alive = is_alive
        if is_alive:
            self.get_logger().info("the edge is there")
        else:
            self.get_logger().warning("the edge is gone")
        self._publish_status()
        if self._lockstep and not is_alive:
            for frame in list(self._open.values()):
                if frame.how is None and self._driver.asks_the_edge:
                    self._not_answered(
                        frame, Ended.UNANSWERED, self._driver.why_not(frame.stamp_ns)
                    )

    def _publish_diagnostics(self) -> None:
        if self._active:
            self._diagnostics_pub.publish(
                health_msg(
                    self._status,
                    name=self.get_fully_qualified_name(),
                    stamp=self.get_clock().now().to_msg(),
                )
            )


def _new_session() -> str:
    return uuid.uuid4().hex[:16]


def main(args: list[str] | None = None) -> None:
    """Run the node; with ``autostart`` it goes active by itself, where no launch does it."""
    rclpy.init(args=args)
    node = None
    try:
        node = DriverNode()
        if node.declare_parameter("autostart", False).value:
            bring_to_active(node)
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        if node is not None:
            node.close()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
