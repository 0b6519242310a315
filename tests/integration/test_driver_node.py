# SPDX-License-Identifier: Apache-2.0
"""The driver as its own process, over real DDS; this process plays encoder, edge and planner."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import numpy as np
import pytest
import rclpy
from flad_msgs.msg import DriveAnswer, DriveRequest, DriverStatus, Plan, SceneTokens
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String
from tiny_adllm import straight_adllm

from flad_bringup import topology
from flad_carla.evaluation.processes import DRIVER_TOPICS
from flad_common.ros.qos import ANSWERS, LATCHED, MANY, SCENE, STATE
from flad_common.supervision import Supervisor
from flad_perception.config import CONTRACT_VERSION
from flad_perception.ros.messages import ns_to_stamp, stamp_to_ns, tokens_from_msg
from flad_perception.wire import WireDtype, decode_tokens, encode_tokens

ENCODER = "e" * 16
ROLE = "vehicle_0"
LEFT = "Turn left at the next crossing."
FRAME_NS = 200_000_000
_START_S = 120.0


class Stand:
    """Everything around one driver."""

    def __init__(self, supervisor, **parameters):
        command = topology.node_command(
            topology.DRIVER, vehicle=ROLE, parameters={"mode": "lockstep", **parameters}
        )
        self.child = supervisor.start("driver", command)
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("around", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        node = self.node
        self.tokens_pub = node.create_publisher(SceneTokens, f"/{ROLE}/scene_tokens", SCENE)
        self.instruction_pub = node.create_publisher(String, f"/{ROLE}/instruction", LATCHED)
        self.notice_pub = node.create_publisher(String, f"/{ROLE}/notice", LATCHED)
        self.plans, self.statuses, self.requests = {}, [], []
        self.is_silent = False
        node.create_subscription(Plan, f"/{ROLE}/plan", self._on_plan, STATE)
        node.create_subscription(
            DriverStatus, f"/{ROLE}/driver_status", self.statuses.append, LATCHED
        )
        self.answers_pub = None
        self.until(lambda: self.statuses, "the driver saying hello", _START_S)

    def close(self):
        self.executor.remove_node(self.node)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def until(self, condition, what, deadline_s=30.0):
        end_s = time.monotonic() + deadline_s
        while not condition():
            assert self.child.is_running, f"the driver ended\n{self.child.tail()}"
            assert time.monotonic() < end_s, f"{what} did not happen\n{self.child.tail()}"
            self.executor.spin_once(timeout_sec=0.02)

    @property
    def status(self):
        return self.statuses[-1]

    def edge_comes(self):
        self.request_sub = self.node.create_subscription(
            DriveRequest, "/edge/requests", self._on_request, MANY
        )
        self.answers_pub = self.node.create_publisher(DriveAnswer, "/edge/answers", ANSWERS)
        self.until(lambda: self.status.edge_alive, "the driver seeing the edge")

    def edge_goes(self):
        self.node.destroy_publisher(self.answers_pub)
        self.node.destroy_subscription(self.request_sub)
        self.until(lambda: not self.status.edge_alive, "the driver missing the edge")

    def tell(self, text):
        self.instruction_pub.publish(String(data=text))

    def frame(self, number, value=0.5):
        """Show frame ``number`` and return the plan that it brings."""
        stamp_ns = number * FRAME_NS
        encoded = encode_tokens(np.full((42, 64), value), WireDtype.FP16)
        msg = SceneTokens(
            model_hash=ENCODER,
            contract_version=CONTRACT_VERSION,
            num_tokens=42,
            dim=64,
            dtype=int(encoded.dtype),
            data=encoded.data,
            crc32=encoded.crc32,
            view_valid=[True],
        )
        # As an encoder names the vehicle's frame that has the parameter vehicle_frame.
        msg.header.stamp, msg.header.frame_id = ns_to_stamp(stamp_ns), "base_link"
        self.plans.pop(stamp_ns, None)
        num_requests = len(self.requests)
        self.tokens_pub.publish(msg)
        if self.is_silent:  # the edge hears it, and nobody says anything
            self.until(lambda: len(self.requests) > num_requests, f"the request of frame {number}")
            return None
        self.until(lambda: stamp_ns in self.plans, f"the plan of frame {number}")
        self.until(lambda: stamp_to_ns(self.status.header.stamp) == stamp_ns, "its status")
        return self.plans[stamp_ns]

    def _on_plan(self, msg):
        self.plans[stamp_to_ns(msg.header.stamp)] = msg

    def _on_request(self, msg):
        """The edge: 1 m per waypoint; a "stop" is refused."""
        self.requests.append(msg)
        assert msg.tokens.header.frame_id == ROLE
        if self.is_silent:
            return
        answer = DriveAnswer(session=msg.session, header=msg.tokens.header, latency_s=0.01)
        if "stop" in msg.instruction.lower():
            answer.outcome, answer.error = DriveAnswer.REFUSED, 803
            answer.text, answer.completed = "not this one", math.nan
        else:
            answer.x, answer.y = [1.0, 2.0, 3.0, 4.0, 5.0], [0.0] * 5
            answer.step_s, answer.completed, answer.release = 0.5, 0.25, "made-up"
        self.answers_pub.publish(answer)


@pytest.fixture
def stand(tmp_path):
    stands = []
    with Supervisor(tmp_path / "logs") as supervisor:

        def start(**parameters):
            stands.append(Stand(supervisor, **parameters))
            return stands[-1]

        yield start
        for one in stands:
            one.close()


def test_the_edge_drives_is_lost_and_comes_back(stand, tmp_path):
    straight_adllm(tmp_path / "adm.safetensors", speed_mps=3.0)
    one = stand(adm=str(tmp_path / "adm.safetensors"), adm_encoder_hash=f"'{ENCODER}'")
    plan = one.frame(0)
    assert not plan.x and "no instruction" in plan.note

    one.edge_comes()
    one.tell(LEFT)
    one.until(lambda: one.status.instruction == LEFT, "the instruction being heard")
    for number in (1, 2):
        plan = one.frame(number)
        assert (plan.source, list(plan.x), plan.step_s) == ("adllm", [1.0, 2.0, 3.0, 4.0, 5.0], 0.5)
    status = one.status
    assert status.driver == DriverStatus.ADLLM and status.why == ""
    assert (status.completed, status.release) == (0.25, "made-up")
    assert status.latency_s > 0.0 and status.edge_latency_s == pytest.approx(0.01)

    # A notice goes up once, with the frame that follows it.
    one.notice_pub.publish(String(data="The traffic light is red."))
    one.until(lambda: one.status.notice == "The traffic light is red.", "the notice being heard")
    one.frame(3)
    one.frame(4)
    assert [r.notice for r in one.requests] == ["", "", "The traffic light is red.", ""]
    assert len({r.session for r in one.requests}) == 1

    # Killed: the plan of frame 4 is followed over frame 5, from frame 6 on the ADM drives.
    one.edge_goes()
    assert not one.frame(5).x
    assert one.status.driver == DriverStatus.NONE
    plan = one.frame(6)
    assert (plan.source, one.status.driver) == ("adm", DriverStatus.ADM)
    assert plan.x[0] == pytest.approx(1.5, abs=0.75) and "no answer" in one.status.why

    one.edge_comes()
    assert one.frame(7).source == "adllm"
    counts = one.status
    assert (counts.num_asked, counts.num_answered, counts.num_unanswered) == (7, 5, 2)
    assert (counts.num_adm, counts.num_nobody) == (1, 2)

    # What the edge refuses is told; half a second of it, and the ADM drives.
    one.tell("Stop at once.")
    one.until(lambda: one.status.instruction == "Stop at once.", "the instruction being heard")
    assert not one.frame(8).x
    assert "FLAD-803" in one.status.why and "not this one" in one.status.why
    assert one.frame(9).source == "adm"

    # Not English, too long: refused here, the old one stays.
    for text, complaint in [("Biegen Sie bitte links ab", "English"), ("left " * 200, "400")]:
        one.tell(text)
        one.until(lambda c=complaint: c in one.status.why, "the refusal")
        assert one.status.instruction == "Stop at once."
    one.tell(LEFT)

    # Time goes back: another drive, another session.
    one.until(lambda: one.status.instruction == LEFT, "the instruction being heard")
    before = one.requests[-1].session
    assert one.frame(1).source == "adllm"
    assert one.requests[-1].session != before

    # Again, while the edge owes an answer: that frame has an end, too.
    asked, unanswered = one.status.num_asked, one.status.num_unanswered
    one.frame(10)
    one.is_silent = True
    one.frame(11)
    one.is_silent = False
    assert one.frame(2).source == "adllm"
    counts = one.status
    assert (counts.num_asked, counts.num_unanswered) == (asked + 3, unanswered + 1)
    ended = counts.num_answered + counts.num_refused + counts.num_unanswered
    assert counts.num_asked == ended


def test_an_edge_that_says_nothing_is_not_waited_for_long_and_the_adm_has_its_time(stand, tmp_path):
    straight_adllm(tmp_path / "adm.safetensors", speed_mps=3.0)
    adm = {"adm": str(tmp_path / "adm.safetensors"), "adm_encoder_hash": f"'{ENCODER}'"}
    one = stand(lockstep_deadline_s=2.0, **adm)
    one.edge_comes()
    one.tell(LEFT)
    one.until(lambda: one.status.instruction == LEFT, "the instruction being heard")
    assert one.frame(1).source == "adllm"
    one.notice_pub.publish(String(data="The traffic light is red."))
    one.until(lambda: one.status.notice == "The traffic light is red.", "the notice being heard")
    one.is_silent = True
    for number in range(2, 9):  # more than the ADM reads in a moment
        one.frame(number)
    one.until(lambda: 8 * FRAME_NS in one.plans, "the plan of frame 8")
    assert one.plans[8 * FRAME_NS].source == "adm", one.plans[8 * FRAME_NS].note
    assert not one.plans[2 * FRAME_NS].x  # the newest frame alone is the ADM's
    one.is_silent = False

    # The edge speaks again, first to a frame that was not waited for, and then hears once more
    # what it did not answer.
    assert one.frame(9).source == "adm"
    for number in range(10, 13):
        assert one.frame(number).source == "adllm"
    red = [i for i, request in enumerate(one.requests, 1) if request.notice]
    assert red == [2, 11]


def test_in_realtime_the_adm_takes_over_and_an_older_frame_changes_nothing(stand, tmp_path):
    straight_adllm(tmp_path / "adm.safetensors", speed_mps=3.0)
    adm = {"adm": str(tmp_path / "adm.safetensors"), "adm_encoder_hash": f"'{ENCODER}'"}
    patience = {"driver.answer_within_s": 5.0}  # a slow machine is no silent edge
    one = stand(**{"mode": "realtime", **patience, **adm})
    one.edge_comes()
    one.tell(LEFT)
    one.until(lambda: one.status.instruction == LEFT, "the instruction being heard")
    for number in (1, 2):
        assert one.frame(number).source == "adllm"
    one.is_silent = True
    one.frame(3)  # 0.2 s after the last answer: its plan is still good
    assert 3 * FRAME_NS not in one.plans
    one.frame(4)  # 0.4 s after it
    one.until(lambda: 4 * FRAME_NS in one.plans, "the ADM's plan")
    assert one.plans[4 * FRAME_NS].source == "adm"
    one.until(lambda: one.status.num_nobody == 1, "the end of frame 3")
    assert 3 * FRAME_NS not in one.plans
    assert one.status.driver == DriverStatus.ADM
    stamps = [stamp_to_ns(status.header.stamp) for status in one.statuses]
    assert stamps == sorted(stamps)
    one.is_silent = False
    assert one.frame(5).source in ("adm", "adllm")  # both are asked; the first one drives
    one.until(lambda: one.status.num_asked == 5, "the count")


def test_without_an_adm_no_pytorch_is_loaded():
    code = "import flad_edge.driver_node, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


def test_a_blind_driver_shows_zeros_and_without_an_adm_nobody_drives(stand):
    one = stand(**{"driver.is_blind": "true"})
    one.edge_comes()
    one.tell(LEFT)
    one.until(lambda: one.status.instruction == LEFT, "the instruction being heard")
    assert one.frame(1).source == "adllm"
    tokens = decode_tokens(tokens_from_msg(one.requests[-1].tokens))
    assert tokens.shape == (42, 64) and not tokens.any()
    one.edge_goes()
    for number in range(2, 6):
        plan = one.frame(number)
        assert not plan.x and plan.note.startswith("no answer from the edge")
    assert one.status.num_nobody == 4


def test_the_evaluation_and_the_topology_name_the_same_topics():
    assert dict(topology.DRIVER.remappings) == DRIVER_TOPICS
