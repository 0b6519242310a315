# SPDX-License-Identifier: Apache-2.0
"""Our messages cross a process boundary over real DDS, whole, and large ones as well."""

from __future__ import annotations

import array
import sys
import time

import numpy as np
import pytest
import rclpy
from flad_msgs.msg import Plan, PlannerStatus
from sensor_msgs.msg import Image

from flad_common.ros import qos
from flad_common.supervision import Supervisor

_DEADLINE_S = 30.0

ECHO = """
import rclpy
from flad_common.ros import qos
from flad_msgs.msg import Plan
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("echo")
plans = node.create_publisher(Plan, "plan_back", qos.STATE)
images = node.create_publisher(Image, "image_back", qos.SENSOR_OUT)
node.create_subscription(Plan, "plan", plans.publish, qos.STATE)
node.create_subscription(Image, "image", images.publish, qos.SENSOR_OUT)
rclpy.spin(node)
"""


@pytest.fixture
def node():
    rclpy.init()
    node = rclpy.create_node("test_dds")
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def sent_and_returned(node, kind, topic, message, profile):
    """Publish until the other process has sent it back; a new subscription needs a moment."""
    returned = []
    publisher = node.create_publisher(kind, topic, profile)
    node.create_subscription(kind, f"{topic}_back", returned.append, profile)
    deadline = time.monotonic() + _DEADLINE_S
    while not returned:
        assert time.monotonic() < deadline, f"nothing came back on {topic}_back"
        publisher.publish(message)
        rclpy.spin_once(node, timeout_sec=0.1)
    return returned[0]


def test_a_plan_comes_back_as_it_went(node, tmp_path):
    plan = Plan(x=[1.5, 3.25], y=[-0.5, 0.125], step_s=0.5, source="expert", note="red in 12.4 m")
    plan.header.stamp.sec = 12
    plan.header.frame_id = "vehicle_0"

    with Supervisor(tmp_path) as supervisor:
        supervisor.start("echo", [sys.executable, "-c", ECHO])
        assert sent_and_returned(node, Plan, "plan", plan, qos.STATE) == plan


def test_a_picture_of_four_megabytes_comes_back_bit_for_bit(node, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, 4_000_000, dtype=np.uint8)
    image = Image(width=1000, height=1000, step=4000, encoding="bgra8")
    image.data = array.array("B", pixels.tobytes())

    with Supervisor(tmp_path) as supervisor:
        supervisor.start("echo", [sys.executable, "-c", ECHO])
        back = sent_and_returned(node, Image, "image", image, qos.SENSOR_OUT)

    np.testing.assert_array_equal(np.frombuffer(back.data, np.uint8), pixels)


def test_fields_are_checked_as_on_humble():
    with pytest.raises(AssertionError):
        Plan(step_s=1)
    with pytest.raises(AssertionError):
        PlannerStatus(state=-1)
