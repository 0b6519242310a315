# SPDX-License-Identifier: Apache-2.0
"""The edge as its own process, over real DDS; this process plays the vehicles."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from flad_msgs.msg import DriveAnswer, DriveRequest, SceneTokens
from rclpy.executors import SingleThreadedExecutor
from tiny_adllm import CONFIG, tiny_model, tiny_tokens

from flad_bringup import topology
from flad_common import error_codes as codes
from flad_common.ros.qos import DIAGNOSTICS, MANY
from flad_common.supervision import Supervisor
from flad_edge.adllm.weights import save_adllm
from flad_perception.config import CONTRACT_VERSION
from flad_perception.ros.messages import ns_to_stamp, stamp_to_ns
from flad_perception.wire import WireDtype, encode_tokens

ENCODER = "e" * 16
LEFT, RIGHT = "Turn left at the next crossing.", "Turn right at the traffic light."
FRAME_NS = 200_000_000
_START_S = 120.0


class Stand:
    """Vehicles of one edge process, each with a made-up encoder."""

    def __init__(self, supervisor, path):
        parameters = {
            "model": str(path),
            "encoder_hash": ENCODER,
            "num_threads": "1",
            "service.admission.alive_s": "60.0",  # a slow machine must not free a name
            "service.admission.forget_after_s": "120.0",
        }
        command = topology.node_command(topology.EDGE, parameters=parameters)
        self.child = supervisor.start("edge", command)
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("vehicles", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.publisher = self.node.create_publisher(DriveRequest, "/edge/requests", MANY)
        self.answers, self.diagnostics = [], []
        self.node.create_subscription(DriveAnswer, "/edge/answers", self.answers.append, MANY)
        self.node.create_subscription(
            DiagnosticArray, "/diagnostics", self.diagnostics.append, DIAGNOSTICS
        )
        self.until(
            lambda: self.publisher.get_subscription_count() and self.diagnostics,
            "the edge being active",
            _START_S,
        )

    def close(self):
        self.executor.remove_node(self.node)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def until(self, condition, what, deadline_s=30.0):
        end_s = time.monotonic() + deadline_s
        while not condition():
            assert self.child.is_running, f"the edge ended\n{self.child.tail()}"
            assert time.monotonic() < end_s, f"{what} did not happen\n{self.child.tail()}"
            self.executor.spin_once(timeout_sec=0.02)

    def ask(self, vehicle, frame, tokens, instruction=LEFT, **changes):
        encoded = encode_tokens(tokens, WireDtype.FP32)
        scene = SceneTokens(
            model_hash=ENCODER,
            contract_version=CONTRACT_VERSION,
            num_tokens=encoded.num_tokens,
            dim=encoded.dim,
            dtype=int(encoded.dtype),
            data=encoded.data,
            crc32=encoded.crc32,
        )
        scene.header.stamp, scene.header.frame_id = ns_to_stamp(frame * FRAME_NS), vehicle
        msg = DriveRequest(tokens=scene, session="one", instruction=instruction)
        for name, value in changes.items():
            setattr(scene if hasattr(scene, name) else msg, name, value)
        self.publisher.publish(msg)

    def answer(self, number):
        """The answer with this number since the start."""
        self.until(lambda: len(self.answers) > number, f"answer {number}")
        return self.answers[number]

    def figures(self):
        return {v.key: v.value for v in self.diagnostics[-1].status[0].values}


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def stand(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("edge")
    save_adllm(folder / "untrained.safetensors", model)
    with Supervisor(folder / "logs") as supervisor:
        one = Stand(supervisor, folder / "untrained.safetensors")
        yield one
        one.close()


def test_three_vehicles_are_driven_by_the_model_and_bad_requests_are_told_why(stand, model):
    frames = tiny_tokens(3, 8).numpy()
    told = [LEFT, RIGHT, LEFT]
    for frame in range(8):
        for i in range(3):
            notice = "The traffic light ahead is red." if (i, frame) == (1, 4) else ""
            stand.ask(f"vehicle_{i}", frame, frames[i, frame], told[i], notice=notice)
        stand.answer(3 * frame + 2)
    heard = {(m.header.frame_id, stamp_to_ns(m.header.stamp)): m for m in stand.answers}
    assert len(heard) == len(stand.answers) == 24
    for i in range(3):
        (history,) = model.start([told[i]])
        for frame in range(8):
            notice = "The traffic light ahead is red." if (i, frame) == (1, 4) else None
            said = model.step([history], torch.tensor(frames[i, frame])[None], [notice])
            msg = heard[f"vehicle_{i}", frame * FRAME_NS]
            assert (msg.outcome, msg.error, msg.text) == (DriveAnswer.ANSWERED, 0, "")
            assert (msg.release, msg.step_s, msg.session) == ("untrained", 0.5, "one")
            points = np.stack([msg.x, msg.y], axis=-1)
            np.testing.assert_allclose(points, said.waypoints_m[0].numpy(), atol=1e-4)
            assert abs(msg.completed - float(said.completed[0])) < 1e-4
            if msg.completed > 0.5:  # the vehicle's history ended with this answer
                (history,) = model.start([told[i]])

    good = frames[0, 0]
    for number, (changes, code) in enumerate(
        [
            ({"contract_version": CONTRACT_VERSION + 1}, codes.TOKENS_REFUSED),
            ({"model_hash": "f" * 16}, codes.TOKENS_REFUSED),
            ({"dtype": 9}, codes.REQUEST_MALFORMED),
            ({"crc32": 1}, codes.REQUEST_MALFORMED),
            ({"tokens": good[:-1]}, codes.REQUEST_MALFORMED),
            ({"instruction": "left " * 20_000}, codes.INSTRUCTION_REFUSED),
            ({"instruction": "向左轉,然後直行。"}, codes.INSTRUCTION_REFUSED),
            ({"notice": "so " * 100}, codes.INSTRUCTION_REFUSED),
            ({"frame": 7}, codes.REQUEST_OUT_OF_ORDER),
            ({"session": "two"}, codes.VEHICLE_NAME_TAKEN),
        ],
        start=24,
    ):
        stand.ask("vehicle_0", **{"frame": 8, "tokens": good, **changes})
        refusal = stand.answer(number)
        assert (refusal.outcome, refusal.error) == (DriveAnswer.REFUSED, code.number), changes
        assert refusal.text and math.isnan(refusal.completed) and not refusal.x

    # The other vehicles do not notice.
    stand.ask("vehicle_1", 8, frames[1, 0], told[1])
    assert stand.answer(34).outcome == DriveAnswer.ANSWERED
    heard_s = len(stand.diagnostics)
    stand.until(lambda: len(stand.diagnostics) > heard_s + 1, "two diagnostics")
    figures = stand.figures()
    assert (figures["submitted"], figures["answered"], figures["refused"]) == ("35", "25", "10")
    assert float(figures["latency_p99_s"]) > 0.0 and CONFIG.num_waypoints == 5
