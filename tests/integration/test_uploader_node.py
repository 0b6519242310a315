# SPDX-License-Identifier: Apache-2.0
"""What leaves a vehicle for the edge's tuning, recorded: features and words, never a picture."""

from __future__ import annotations

import array
import hashlib
import math
import time

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from flad_msgs.msg import SceneTokens
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from std_msgs.msg import String, UInt8MultiArray

from flad_bringup import topology
from flad_common.ros.qos import LATCHED, LOCKSTEP, SENSOR_OUT, STATE
from flad_common.supervision import Supervisor
from flad_edge.adapt.signed import check, unseal
from flad_edge.training.clip_file import clip_from_bytes
from flad_perception.ros.messages import ns_to_stamp
from flad_perception.wire import WireDtype, encode_tokens
from flad_pipeline.aggregation.keys import KeyRing, VehicleKey

NS = 1_000_000_000
NUM_TOKENS, DIM = 6, 8
FAR_M = (4812.25, -1150.5)
_START_S = 240.0


class Vehicle:
    """The rest of a vehicle, and an edge that only writes down what reaches it."""

    def __init__(self, supervisor, folder, key):
        parameters = {
            "clips.max_frames": "10",
            "outbox.pause_s": "0.0",
            "folder": str(folder),
            "key": str(key),
        }
        command = topology.node_command(
            topology.UPLOADER, vehicle="vehicle_0", parameters=parameters
        )
        self.child = supervisor.start("uploader", command)
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("rest", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        create = self.node.create_publisher
        self.instruction_pub = create(String, "/vehicle_0/instruction", LATCHED)
        self.notice_pub = create(String, "/vehicle_0/notice", LATCHED)
        self.tokens_pub = create(SceneTokens, "/vehicle_0/scene_tokens", LOCKSTEP)
        self.odometry_pub = create(Odometry, "/carla/vehicle_0/odometry", STATE)
        self.image_pub = create(Image, "/carla/vehicle_0/rgb_front/image", SENSOR_OUT)
        self.receipt_pub = create(DiagnosticStatus, "/edge/clip_receipts", LOCKSTEP)
        self.clips = []
        self.node.create_subscription(UInt8MultiArray, "/edge/clips", self._on_clip, LOCKSTEP)
        inputs = (self.instruction_pub, self.notice_pub, self.tokens_pub, self.odometry_pub)
        self.until(
            lambda: all(p.get_subscription_count() for p in inputs), "the uploader", _START_S
        )

    def _on_clip(self, msg):
        self.clips.append(bytes(msg.data))

    def close(self):
        self.executor.remove_node(self.node)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def until(self, condition, what, deadline_s=60.0):
        end_s = time.monotonic() + deadline_s
        while not condition():
            assert self.child.is_running, f"the uploader ended\n{self.child.tail()}"
            assert time.monotonic() < end_s, f"{what} did not happen\n{self.child.tail()}"
            self.executor.spin_once(timeout_sec=0.02)

    def moment(self, tick):
        """0.1 s of driving along x, with a picture whose bytes could be told anywhere."""
        stamp = ns_to_stamp(tick * NS // 10)
        picture = array.array("B", b"PICTURE!" * 100)
        self.image_pub.publish(Image(height=10, width=20, step=80, encoding="bgra8", data=picture))
        if tick % 2 == 0:
            values = np.full((NUM_TOKENS, DIM), tick / 100, np.float32)
            encoded = encode_tokens(values, WireDtype.FP16)
            scene = SceneTokens(
                model_hash="e" * 16,
                contract_version=1,
                num_tokens=NUM_TOKENS,
                dim=DIM,
                dtype=int(encoded.dtype),
                data=encoded.data,
                crc32=encoded.crc32,
                speed_mps=5.0,
            )
            scene.header.stamp, scene.header.frame_id = stamp, "vehicle_0"
            self.tokens_pub.publish(scene)
        odometry = Odometry()
        odometry.header.stamp = stamp
        odometry.pose.pose.position.x = FAR_M[0] + 0.5 * tick
        odometry.pose.pose.position.y = FAR_M[1]
        odometry.pose.pose.orientation.w = 1.0
        self.odometry_pub.publish(odometry)
        self.executor.spin_once(timeout_sec=0.05)  # as slow as a bridge, so that nothing is lost


@pytest.fixture
def vehicle(tmp_path):
    with Supervisor(tmp_path / "logs") as supervisor:
        VehicleKey.generate().save(tmp_path / "vehicle.pem")
        one = Vehicle(supervisor, tmp_path / "clips", tmp_path / "vehicle.pem")
        one.folder, one.key = (
            tmp_path / "clips/vehicle_0",
            VehicleKey.load(tmp_path / "vehicle.pem"),
        )
        yield one
        one.close()


def test_only_features_words_and_relative_positions_leave_the_vehicle(vehicle):
    vehicle.instruction_pub.publish(String(data="Turn left at the next crossing."))
    _a_little(vehicle)
    vehicle.notice_pub.publish(String(data="Watch out, a pedestrian is ahead."))
    _a_little(vehicle)
    tick = 0
    while not vehicle.clips:
        vehicle.moment(tick)
        tick += 1
        assert tick < 600, vehicle.child.tail()
    sealed = unseal(vehicle.clips[0])
    data = sealed.clip
    ring = KeyRing().enrol("vehicle_0", vehicle.key.public, today="2026-01-01")
    check(sealed, "vehicle_0", ring)
    clip = clip_from_bytes(data)
    assert clip.num_frames == 10 and clip.instruction == "Turn left at the next crossing."
    assert list(clip.notices.values()) == ["Watch out, a pedestrian is ahead."]
    assert clip.about == {"source": "vehicle", "vehicle": "vehicle_0"}
    ahead = np.tile(2.5 * np.arange(1, 6), (10, 1))
    np.testing.assert_allclose(clip.waypoints_m[:, :, 0], ahead, atol=1e-2)
    np.testing.assert_allclose(clip.waypoints_m[:, :, 1], 0.0, atol=1e-3)

    # Not a byte more than that, no picture, and no place in the world.
    payload = 10 * (2 * NUM_TOKENS * DIM + 4 * 5 * 2 + 1 + 4)
    header = int.from_bytes(data[:8], "little")
    assert len(data) == 8 + header + payload and header < 2000
    assert b"PICTURE!" not in data
    assert np.abs(clip.waypoints_m).max() < 20.0 and not math.isclose(clip.speed_mps[0], FAR_M[0])

    # It says nothing on any other topic, and hears no camera and no LiDAR.
    spoken = dict(vehicle.node.get_publisher_names_and_types_by_node("uploader", "/vehicle_0"))
    own = {"/parameter_events", "/rosout", "/vehicle_0/uploader/transition_event"}
    assert set(spoken) - own == {"/edge/clips", "/diagnostics"}
    heard = dict(vehicle.node.get_subscriber_names_and_types_by_node("uploader", "/vehicle_0"))
    kinds = {kind for kinds in heard.values() for kind in kinds}
    assert "nav_msgs/msg/Odometry" in kinds
    assert not any(kind.startswith("sensor_msgs/") for kind in kinds)

    # The next clip goes out only when the edge has said what became of this one.
    for more in range(tick, tick + 40):
        vehicle.moment(more)
    assert len(vehicle.clips) == 1
    # Until then, and after it, every clip is on the vehicle's disk.
    waiting = sorted((vehicle.folder / "waiting").glob("*.safetensors"))
    assert waiting[0].read_bytes() == data and len(waiting) > 1
    digits = hashlib.sha256(data).hexdigest()[:16]
    vehicle.receipt_pub.publish(
        DiagnosticStatus(level=DiagnosticStatus.OK, name="vehicle_0", hardware_id=digits)
    )
    vehicle.until(lambda: len(vehicle.clips) > 1, "the next clip")
    assert (vehicle.folder / "sent" / waiting[0].name).read_bytes() == data
    assert unseal(vehicle.clips[1]).clip == waiting[1].read_bytes()


def _a_little(vehicle):
    """Words are on their way: whatever comes after them must find them there."""
    for _ in range(10):
        vehicle.executor.spin_once(timeout_sec=0.1)
