# SPDX-License-Identifier: Apache-2.0
"""A bag is read back with another reader; a full disk leaves a bag that can be read."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from made_up_drive import Drive
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader

from flad_carla.bag import BagConfig, BagRecorder
from flad_carla.bag.safe_file import DiskFullError, SafeFile
from flad_carla.bag.types import MessageTypes, find_definition
from flad_carla.bag.writer import BagWriter

ROOT = Path(__file__).resolve().parents[3]
SMALL = BagConfig(reserve_bytes=4 * 2**20)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    drive = Drive(duration_s=6.0, seed=3, predicts=True)
    recorder = BagRecorder(tmp_path_factory.mktemp("bags"), SMALL)
    drive.feed(recorder)
    assert recorder.failures == []
    return drive, recorder.bags[0]


def read(path):
    """Messages by topic, as (stamp in ns, message)."""
    found = {}
    with AnyReader([path]) as reader:
        for connection, stamp_ns, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            found.setdefault(connection.topic, []).append((stamp_ns, message))
    return found


def test_every_tick_is_there_in_ros_frame(recorded):
    drive, path = recorded
    messages = read(path)

    odometry = messages["/carla/vehicle_0/odometry"]
    assert len(odometry) == len(drive.ticks()) == len(messages["/clock"])
    for (stamp_ns, message), (tick, entry) in zip(odometry, drive.ticks(), strict=True):
        assert stamp_ns == round(tick.sim_time_s * 1e9)
        assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == stamp_ns
        assert message.pose.pose.position.y == pytest.approx(-entry.ego.pose.y)
        assert message.twist.twist.linear.x == pytest.approx(entry.ego.speed_mps, abs=1e-6)
        assert message.twist.twist.linear.y == pytest.approx(0.0, abs=1e-6)


def test_plan_seen_from_the_vehicle_and_in_the_map_agree(recorded):
    _, path = recorded
    messages = read(path)
    odometry = {stamp: m.pose.pose for stamp, m in messages["/carla/vehicle_0/odometry"]}

    pairs = zip(messages["/vehicle_0/plan"], messages["/vehicle_0/planned_path"], strict=True)
    for (stamp_ns, plan), (_, in_map) in pairs:
        pose = odometry[stamp_ns]
        yaw = 2.0 * math.atan2(pose.orientation.z, pose.orientation.w)
        c, s = math.cos(yaw), math.sin(yaw)
        xs = pose.position.x + c * plan.x - s * plan.y
        ys = pose.position.y + s * plan.x + c * plan.y
        assert xs == pytest.approx([p.pose.position.x for p in in_map.poses], abs=1e-4)
        assert ys == pytest.approx([p.pose.position.y for p in in_map.poses], abs=1e-4)


def test_predictions_and_their_markers_are_where_the_encoder_saw_them(recorded):
    drive, path = recorded
    messages = read(path)
    views = list(dict.fromkeys(e.prediction for _, e in drive.ticks() if e.prediction))
    told, shown = messages["/vehicle_0/scene_prediction"], messages["/vehicle_0/scene_markers"]
    assert len(told) == len(shown) == len(views) > 20
    for view, (_, message), (_, array) in zip(views, told, shown, strict=True):
        stamp = message.header.stamp
        assert stamp.sec + stamp.nanosec * 1e-9 == pytest.approx(view.stamp_s, abs=1e-6)
        assert message.header.frame_id == "vehicle_0" and message.model_hash == view.model_hash
        assert message.light_red == pytest.approx(view.light_red)
        np.testing.assert_allclose(message.box_y, [b.y_m for b in view.boxes], rtol=1e-6)
        np.testing.assert_allclose(message.x, [x for x, _ in view.waypoints], rtol=1e-6)
        boxes = [m for m in array.markers if m.ns == "encoder_boxes"]
        for box, marker in zip(view.boxes, boxes, strict=True):
            turn = 2.0 * math.atan2(marker.pose.orientation.z, marker.pose.orientation.w)
            assert (marker.pose.position.x, marker.pose.position.y) == (box.x_m, box.y_m)
            assert math.cos(turn - box.yaw_rad) == pytest.approx(1.0)
            assert marker.header.frame_id == "vehicle_0"
        assert array.markers[0].action == 3  # those of the last message go first


def test_tokens_are_what_came_over_the_wire_and_targets_what_the_encoder_was_told(recorded):
    drive, path = recorded
    messages = read(path)
    entries = {e.prediction: e for _, e in reversed(drive.ticks()) if e.prediction}
    tokens = dict(messages["/vehicle_0/scene_tokens"])
    targets = dict(messages["/vehicle_0/target_point"])
    assert len(tokens) == len(targets) == len(entries)
    written = {m.header.stamp.sec * 10**9 + m.header.stamp.nanosec: m for m in tokens.values()}
    for view in entries:
        message = written[view.tokens.stamp_ns]
        assert message.data.tobytes() == view.tokens.data
        assert message.scale.tolist() == list(view.tokens.scale)
        assert message.view_valid.tolist() == list(view.tokens.view_valid)
        for name in ("model_hash", "contract_version", "num_tokens", "dim", "dtype", "crc32"):
            assert getattr(message, name) == getattr(view.tokens, name)
    for stamp_ns, message in targets.items():
        (entry,) = (e for t, e in drive.ticks() if round(t.sim_time_s * 1e9) == stamp_ns)
        x, y = entry.expert.far_node or (entry.ego.pose.x, entry.ego.pose.y)
        assert (message.point.x, message.point.y) == (pytest.approx(x), pytest.approx(-y))
        assert message.header.frame_id == "map"


def test_sensors_are_what_the_rig_gave(recorded):
    drive, path = recorded
    messages = read(path)
    tick, _ = drive.ticks()[5]
    data = tick.data["vehicle_0"]

    _, cloud = messages["/carla/vehicle_0/lidar"][5]
    points = cloud.data.view(np.float32).reshape(-1, 4)
    raw = np.frombuffer(data["lidar"].raw_data, np.float32).reshape(-1, 4)
    np.testing.assert_array_equal(points[:, [0, 2, 3]], raw[:, [0, 2, 3]])
    np.testing.assert_array_equal(points[:, 1], -raw[:, 1])

    _, picture = messages["/carla/vehicle_0/rgb_front/image/compressed"][5]
    assert bytes(picture.data[:2]) == b"\xff\xd8" and picture.format.startswith("rgb8; jpeg")
    _, info = messages["/carla/vehicle_0/rgb_front/camera_info"][5]
    half_width_rad = math.atan2(info.width / 2, info.k[0])
    assert 2 * math.degrees(half_width_rad) == pytest.approx(100.0)
    assert math.isclose(
        messages["/carla/vehicle_0/imu"][5][1].linear_acceleration.z, 9.81, rel_tol=1e-6
    )


def test_late_viewers_get_latched_topics(recorded):
    _, path = recorded
    latched = {
        "/tf_static",
        "/vehicle_0/route",
        "/carla/markers/static",
        "/vehicle_0/markers/lights",
    }
    with Reader(path) as reader:
        durability = {
            c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections
        }
    assert {t for t, d in durability.items() if d == "TRANSIENT_LOCAL"} >= latched
    assert durability["/tf"] == durability["/carla/vehicle_0/odometry"] == "VOLATILE"


def test_humble_can_parse_the_metadata(recorded):
    """Humble's rosbag2 wants the QoS profiles as text, which version 9 no longer has."""
    _, path = recorded
    info = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert info["version"] == 8 and info["storage_identifier"] == "mcap"
    for topic in info["topics_with_message_count"]:
        assert isinstance(topic["topic_metadata"]["offered_qos_profiles"], str)


def test_our_own_types_come_from_their_definitions():
    types = MessageTypes()
    for name in ("flad_msgs/msg/Plan", "carla_msgs/msg/CarlaEgoVehicleControl"):
        assert find_definition(name) is not None
        assert name in types
    assert find_definition("no_such_msgs/msg/Thing") is None


def test_a_disk_that_fills_up_ends_the_bag_not_the_drive(tmp_path, monkeypatch):
    drive = Drive(duration_s=20.0, seed=3, image_size=(160, 120))
    room = {"bytes": 3_000_000}
    real_write = os.write

    def write(fd, data):
        """A disk with little room; the reserve is worth 4 MB more."""
        if len(data) > room["bytes"]:
            partly = max(0, room["bytes"] - 10)
            room["bytes"] -= partly
            if partly:
                return real_write(fd, data[:partly])
            room["bytes"] = 4_000_000
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room["bytes"] -= len(data)
        return real_write(fd, data)

    monkeypatch.setattr(SafeFile.__init__, "__defaults__", (write,))
    recorder = BagRecorder(tmp_path, SMALL)
    drive.feed(recorder)

    assert len(recorder.failures) == 1
    assert "No space left on device".lower() in recorder.failures[0].lower()
    assert "free some space" in recorder.failures[0]
    messages = read(recorder.bags[0])
    stamps = [stamp for stamp, _ in messages["/clock"]]
    expected = [round(tick.sim_time_s * 1e9) for tick, _ in drive.ticks()]
    assert 20 < len(stamps) < len(expected)
    assert stamps == expected[: len(stamps)]
    assert not list(recorder.bags[0].glob(".*reserve"))


def test_safe_file_ends_at_its_last_commit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"head")
    broken = {"on": False}

    def write(fd, data):
        if broken["on"]:
            os.write(fd, data[:3])
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(fd, data)

    file = SafeFile(path, 1000, write)
    file.write(b"one")
    assert file.tell() == 7 and path.read_bytes() == b"head"
    file.commit()
    broken["on"] = True
    file.write(b"two")
    with pytest.raises(DiskFullError, match="No space"):
        file.commit()
    assert path.read_bytes() == b"headone" and file.is_full
    broken["on"] = False
    file.close()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_no_room_for_the_reserve_is_said_at_the_start(tmp_path, monkeypatch):
    def no_room(fd, offset, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    recorder = BagRecorder(tmp_path, SMALL)
    Drive(duration_s=0.5).feed(recorder)

    assert recorder.bags == []
    assert "could not be started (No space left on device)" in recorder.failures[0]
    assert not any(tmp_path.rglob("*.mcap"))


def test_a_crashed_bag_is_replaced_and_a_finished_one_kept(tmp_path):
    drive = Drive(duration_s=0.5)
    recorder = BagRecorder(tmp_path, SMALL)
    drive.feed(recorder)
    drive.feed(recorder)
    first, second = recorder.bags
    assert first != second
    (second / "metadata.yaml").unlink()

    again = BagRecorder(tmp_path, SMALL)
    drive.feed(again)
    assert again.bags == [second]
    assert len(read(first)["/clock"]) == len(read(second)["/clock"]) == 10


def test_unknown_field_is_a_mistake():
    with pytest.raises(TypeError, match="colour"):
        MessageTypes().new("std_msgs/msg/Float32", colour=1.0)


def test_wrong_config_is_named():
    with pytest.raises(ValueError, match="jpeg_quality"):
        BagConfig(jpeg_quality=0)


def test_writer_refuses_an_existing_folder(tmp_path):
    with pytest.raises(Exception, match="exists already"):
        BagWriter(tmp_path, MessageTypes(), 0)


def test_rviz_shows_what_is_recorded_under_the_same_names(recorded):
    """Its topics are in a bag (with fitting durability), but for those that only a live run has."""
    only_live = {
        "/carla/vehicle_0/rgb_front/image",
        "/carla/vehicle_0/rgb_focus/image",
        "/vehicle_0/planner_markers",
        "/edge/fleet_markers",
    }
    config = yaml.safe_load((ROOT / "config" / "flad.rviz").read_text())
    displays = [d for d in config["Visualization Manager"]["Displays"] if "Topic" in d]
    with Reader(recorded[1]) as reader:
        offered = {
            c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections
        }
        types = {c.topic: c.msgtype.rsplit("/", 1)[1] for c in reader.connections}
    assert len(displays) >= 10
    for display in displays:
        topic = display["Topic"]["Value"]
        if topic in only_live:
            continue
        kind = display["Class"].rsplit("/", 1)[1]
        assert types[topic] == {"Image": "CompressedImage"}.get(kind, kind)
        if display["Topic"]["Durability Policy"] == "Transient Local":
            assert offered[topic] == "TRANSIENT_LOCAL"
