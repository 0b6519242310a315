# SPDX-License-Identifier: Apache-2.0
"""The bridge: publishes what a tick brought with ros-bridge's names, and collects the controls.

The process that holds the session calls :meth:`BridgeNode.publish` and then
:meth:`BridgeNode.wait_for_control` (lockstep) or :meth:`BridgeNode.newest_control` (realtime). The
loop that does so standing alone is :mod:`flad_carla.bridge_loop`.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import carla
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock as ClockMsg
from tf2_msgs.msg import TFMessage

from flad_carla.bridge import BridgeConfig, ControlTimeout
from flad_carla.bridge_loop import BridgeLoop, BridgeLoopConfig, parse_arguments
from flad_carla.control_inbox import ControlInbox, StampedControl
from flad_carla.cruise import Cruise
from flad_carla.expert_node import ExpertPublisher
from flad_carla.ros import messages
from flad_carla.ros.crew import Crew
from flad_carla.ros.diagnostics import BridgeHealth
from flad_carla.ros.ego_topics import EgoTopics
from flad_carla.ros.scene_topics import SceneTopics
from flad_carla.ros.world_topics import WorldTopics
from flad_carla.session import CarlaSession, Tick
from flad_common.error_codes import FladError
from flad_common.ros.qos import CLOCK, TF, TF_STATIC


class BridgeNode(Node):
    """Publishes ticks and collects controls. Single-threaded: callbacks run while it waits.

    Args:
        session: of the world.
        config: how it works in time.
        check: called while an answer is waited for; may raise to end the wait.
        awaits: in lockstep, who must be there besides the planner before a vehicle's first step
            (see :class:`Crew`), by role.
        kwargs: of the ROS node.
    """

    def __init__(
        self,
        session: CarlaSession,
        config: BridgeConfig,
        *,
        check: Callable[[], None] = lambda: None,
        awaits: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__("bridge", **kwargs)
        self._session = session
        self._config = config
        self._check = check
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self)
        self._clock_pub = self.create_publisher(ClockMsg, "/clock", CLOCK)
        self._tf_pub = self.create_publisher(TFMessage, "/tf", TF)
        self._static_tf_pub = self.create_publisher(TFMessage, "/tf_static", TF_STATIC)
        self._world_topics = WorldTopics(self, session)
        self._topics: dict[str, EgoTopics] = {}
        self._scenes: dict[str, SceneTopics] = {}
        self._health = BridgeHealth(self)
        self._inboxes: dict[str, ControlInbox] = {}
        self._crews = {role: Crew(self, role, names) for role, names in (awaits or {}).items()}
        self._step_ns = 0

    def close(self) -> None:
        """Take the topics away and leave the executor."""
        for role in list(self._topics):
            self._remove(role)
        for crew in self._crews.values():
            crew.destroy()
        self._health.destroy()
        self._world_topics.destroy()
        self._executor.remove_node(self)
        self._executor.shutdown(timeout_sec=1.0)
        self.destroy_node()

    def publish(self, tick: Tick) -> None:
        """Publish everything that this step brought, the clock first and odometry last.

        In lockstep the first call for a vehicle waits until its planner, and who else answers, is
        there: a step that nobody hears is never answered.

        Raises:
            ControlTimeout: naming the vehicles that nobody listens to.
        """
        self._step_ns = tick.stamp_ns
        self._follow_egos()
        if self._config.mode == "lockstep":
            self.wait_for_planners()
            self._wait_for_crews()
        self._clock_pub.publish(ClockMsg(clock=messages.time_msg(tick.stamp_ns)))
        self._world_topics.publish(tick)
        for scene in self._scenes.values():
            scene.publish(tick, self._world_topics.lights)
        transforms = [topics.publish(tick) for topics in self._topics.values()]
        self._tf_pub.publish(TFMessage(transforms=[t for t in transforms if t is not None]))
        self._health.publish(tick, self._inboxes)

    def collect_and_apply(self, tick: Tick) -> dict[str, carla.VehicleControl]:
        """Get the controls as the mode says and give them to the vehicles; returns them.

        Raises:
            ControlTimeout: in lockstep, naming who did not answer.
        """
        lockstep = self._config.mode == "lockstep"
        controls = self.wait_for_control(tick) if lockstep else self.newest_control(tick)
        for role, control in controls.items():
            self._session.apply_control(role, control)
        for role, topics in self._topics.items():
            if topics.ackermann is not None and not self._session.egos[role].autopilot:
                self._session.apply_ackermann(role, ackermann_control(topics.ackermann))
        return controls

    @property
    def is_paused(self) -> bool:
        """Whether /carla/control holds the world."""
        return self._world_topics.paused

    def wait_while_paused(self) -> None:
        """Handle what arrives until the world may step: /carla/control can hold it."""
        while not self._world_topics.take_step():
            self._executor.spin_once(timeout_sec=0.5)

    def note_lateness(self, num_late: int, worst_s: float) -> None:
        """In realtime: how many steps began late so far, and by how much; for /diagnostics."""
        self._health.num_late_steps, self._health.worst_lateness_s = num_late, worst_s

    def wait_for_planners(self, deadline_s: float | None = None) -> None:
        """Wait until every vehicle's odometry is heard by somebody who sends controls.

        Raises:
            ControlTimeout: naming the vehicles without one.
        """
        self._follow_egos()
        limit_s = self._config.control_deadline_s if deadline_s is None else deadline_s
        end_s = time.monotonic() + limit_s
        while missing := [r for r in self._waited() if not self._is_driven(r)]:
            if time.monotonic() > end_s:
                topics = ", ".join(self._topics[role].control_topic for role in missing)
                raise ControlTimeout(
                    f"no planner for {', '.join(missing)} within {limit_s:g} s: nobody hears the "
                    f"odometry and publishes {topics}; start one for each, and see that "
                    "ROS_DOMAIN_ID is the same",
                    tuple(missing),
                )
            self._check()
            self._executor.spin_once(timeout_sec=0.02)

    def _wait_for_crews(self) -> None:
        limit_s = self._config.control_deadline_s
        end_s = time.monotonic() + limit_s
        while missing := {
            role: names for role, crew in self._crews.items() if (names := crew.missing())
        }:
            if time.monotonic() > end_s:
                who = "; ".join(f"{role}: {', '.join(names)}" for role, names in missing.items())
                raise ControlTimeout(
                    f"not there within {limit_s:g} s: {who}; start them, or take them out of the "
                    "bridge's awaits, and see that ROS_DOMAIN_ID is the same",
                    tuple(missing),
                )
            self._check()
            self._executor.spin_once(timeout_sec=0.02)
        for crew in self._crews.values():
            crew.destroy()
        self._crews.clear()  # who goes later is missed by the planner

    def _is_driven(self, role: str) -> bool:
        return self._inboxes[role].manual.active or self._topics[role].is_heard()

    def wait_for_control(
        self, tick: Tick, deadline_s: float | None = None
    ) -> dict[str, carla.VehicleControl]:
        """The controls that answer this step, by role; autopilot and Ackermann are left out.

        Raises:
            ControlTimeout: naming who did not answer, and what is known of them.
        """
        limit_s = self._config.control_deadline_s if deadline_s is None else deadline_s
        end_s = time.monotonic() + limit_s
        while True:
            answers = {role: self._answer(role, tick.stamp_ns) for role in self._waited()}
            missing = tuple(role for role, answer in answers.items() if answer is None)
            if not missing:
                return {r: _carla_control(a) for r, a in answers.items() if a is not None}
            left_s = end_s - time.monotonic()
            if left_s <= 0.0:
                raise ControlTimeout(self._who_is_missing(tick, limit_s, missing), missing)
            self._check()
            self._executor.spin_once(timeout_sec=min(left_s, 0.5))

    def newest_control(self, tick: Tick) -> dict[str, carla.VehicleControl]:
        """The newest control of each vehicle, the brake where it is too old."""
        clock_s = time.monotonic()
        return {
            role: _carla_control(self._inboxes[role].newest(tick.stamp_ns, clock_s))
            for role in self._waited()
        }

    def wait_until(self, condition: Callable[[], bool], what: str, deadline_s: float) -> None:
        """Handle what arrives until ``condition`` holds.

        Raises:
            ControlTimeout: saying that ``what`` did not happen.
        """
        end_s = time.monotonic() + deadline_s
        while not condition():
            if time.monotonic() > end_s:
                raise ControlTimeout(f"{what} did not happen within {deadline_s:g} s", ())
            self._check()
            self._executor.spin_once(timeout_sec=0.02)

    def spin_for(self, duration_s: float) -> None:
        """Handle what arrives during ``duration_s`` of wall time."""
        end_s = time.monotonic() + duration_s
        while (left_s := end_s - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left_s)

    def last_control_ns(self, role: str) -> int | None:
        """Stamp of the newest control of a vehicle, None before the first."""
        return self._inboxes[role].last_stamp_ns

    def num_refused(self, role: str) -> int:
        """How many controls of a vehicle were impossible so far."""
        return self._inboxes[role].num_refused

    def _waited(self) -> list[str]:
        """The vehicles that a control is awaited for."""
        return [
            role
            for role, topics in self._topics.items()
            if not self._session.egos[role].autopilot and topics.ackermann is None
        ]

    def _answer(self, role: str, step_ns: int) -> StampedControl | None:
        return self._inboxes[role].answer(step_ns, self._clock_s())

    def _who_is_missing(self, tick: Tick, limit_s: float, missing: tuple[str, ...]) -> str:
        lines = [f"no control for the step of {tick.sim_time_s:.3f} s within {limit_s:g} s from:"]
        for role in missing:
            topics, last_ns = self._topics[role], self._inboxes[role].last_stamp_ns
            if topics.num_drivers() == 0:
                known = f"nobody publishes {topics.control_topic}; is its planner running?"
            elif last_ns is None:
                known = "its planner is there and never answered; is it active, has it a plan?"
            else:
                known = f"its last answer was for {last_ns * 1e-9:.3f} s; has it a plan?"
            lines.append(f"  {role}: {known}")
        return "\n".join(lines)

    def _clock_s(self) -> float:
        """The watchdogs' clock: simulated in lockstep, so that runs repeat."""
        if self._config.mode == "lockstep":
            return self._step_ns * 1e-9
        return time.monotonic()

    def _follow_egos(self) -> None:
        """Topics for vehicles that are new, none for those that are gone."""
        for role in [r for r in self._topics if r not in self._session.egos]:
            self._remove(role)
        changed = False
        for role, ego in self._session.egos.items():
            if role not in self._topics:
                self._add(role)
            elif self._topics[role].ego is not ego:
                self._topics[role].rebind(ego)
                self._scenes[role].rebind(ego.actor.id)
            else:
                continue
            changed = True
        if changed:
            static = [t for topics in self._topics.values() for t in topics.static_transforms(0)]
            self._static_tf_pub.publish(TFMessage(transforms=static))

    def _add(self, role: str) -> None:
        ego = self._session.egos[role]
        inbox = ControlInbox(self._config.control_watchdog_s)
        self._inboxes[role] = inbox
        self._topics[role] = EgoTopics(
            self,
            ego,
            inbox,
            step=lambda: (self._step_ns, self._clock_s()),
            set_autopilot=lambda on: self._session.set_autopilot(role, on),
        )
        self._scenes[role] = SceneTopics(
            self, f"/carla/{role}", self._world_topics.cache, own_id=ego.actor.id
        )

    def _remove(self, role: str) -> None:
        self._scenes.pop(role).destroy()
        self._topics.pop(role).destroy()
        del self._inboxes[role]


def _carla_control(stamped: StampedControl) -> carla.VehicleControl:
    c = stamped.control
    return carla.VehicleControl(
        throttle=c.throttle,
        steer=c.steer,
        brake=c.brake,
        hand_brake=c.hand_brake,
        reverse=c.reverse,
        manual_gear_shift=stamped.manual_gear_shift,
        gear=stamped.gear,
    )


def ackermann_control(msg: Any) -> carla.VehicleAckermannControl:
    """An AckermannDrive as CARLA takes it: its steering angle is positive to the right."""
    return carla.VehicleAckermannControl(
        steer=-msg.steering_angle,
        steer_speed=msg.steering_angle_velocity,
        speed=msg.speed,
        acceleration=msg.acceleration,
        jerk=msg.jerk,
    )


def main(args: list[str] | None = None) -> None:
    """Run the standing bridge until Ctrl-C; ends with a sentence and status 1 on a bad start."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    arguments = remove_ros_args(sys.argv if args is None else [sys.argv[0], *args])[1:]
    rclpy.init(args=args)
    session, node = None, None
    try:
        config, folder = parse_arguments(arguments)
        session = CarlaSession(config.session)
        loop = BridgeLoop(session, config, folder)
        awaits = {ego.role: ego.awaits for ego in config.egos if ego.awaits}
        node = BridgeNode(session, config.bridge, awaits=awaits)
        loop.run(node, _experts(node, session, config))
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (FladError, ValueError, TypeError, OSError) as error:
        raise SystemExit(f"bridge: {error}") from error
    except RuntimeError:
        if rclpy.ok():
            raise
        # A signal shut ROS down between two of a step's publications: the end that was asked for.
    finally:
        if node is not None:
            node.close()
        if session is not None:
            session.close()
        rclpy.try_shutdown()


def _experts(
    node: BridgeNode, session: CarlaSession, config: BridgeLoopConfig
) -> list[Callable[[Tick], None]]:
    """Who plans in this process."""

    def driver(role: str) -> Callable[[Tick], None]:
        cruise = Cruise(session, session.egos[role], config.session.seed)
        publisher = ExpertPublisher(node, role)
        return lambda tick: publisher.publish(cruise.decide(tick), tick.stamp_ns)

    return [driver(ego.role) for ego in config.egos if ego.driver == "expert"]


if __name__ == "__main__":
    main()
