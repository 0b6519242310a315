# SPDX-License-Identifier: Apache-2.0
"""An edge as its own process, over real DDS, and vehicles that ask it."""

from __future__ import annotations

import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from flad_msgs.msg import DriveAnswer, DriveRequest, SceneTokens
from rclpy.executors import SingleThreadedExecutor

from flad_bringup import topology
from flad_common.ros.qos import ANSWERS, DIAGNOSTICS, MANY
from flad_perception.config import CONTRACT_VERSION
from flad_perception.ros.messages import ns_to_stamp
from flad_perception.wire import WireDtype, encode_tokens

ENCODER = "e" * 16
LEFT, RIGHT = "Turn left at the next crossing.", "Turn right at the traffic light."
FRAME_NS = 200_000_000
_START_S = 240.0


class Stand:
    """Vehicles of one edge process, each with a made-up encoder.

    Args:
        supervisor: of the edge's process.
        parameters: of the edge, its model or store above all.
        encoder_hash: that the vehicles' tokens bear.
    """

    def __init__(self, supervisor, parameters, encoder_hash=ENCODER):
        self.encoder_hash = encoder_hash
        parameters = {
            **parameters,
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
        self.node.create_subscription(DriveAnswer, "/edge/answers", self.answers.append, ANSWERS)
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

    def until(self, condition, what, deadline_s=60.0):
        end_s = time.monotonic() + deadline_s
        while not condition():
            assert self.child.is_running, f"the edge ended\n{self.child.tail()}"
            assert time.monotonic() < end_s, f"{what} did not happen\n{self.child.tail()}"
            self.executor.spin_once(timeout_sec=0.02)

    def ask(self, vehicle, frame, tokens, instruction=LEFT, **changes):
        encoded = encode_tokens(tokens, WireDtype.FP32)
        scene = SceneTokens(
            model_hash=self.encoder_hash,
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
