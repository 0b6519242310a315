# SPDX-License-Identifier: Apache-2.0
"""Messages become the arrays they describe, and a bad one is refused by its fault."""

from __future__ import annotations

import array
import math

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PointStamped, TransformStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image, PointCloud2, PointField
from tf2_msgs.msg import TFMessage

from flad_perception.live_sensors import to_vehicle
from flad_perception.ros import messages as convert
from flad_perception.ros.static_frames import StaticFrames
from flad_perception.wire import WireDtype, decode_tokens, encode_tokens

RGB = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
CHANNELS = {"rgb8": [0, 1, 2], "bgr8": [2, 1, 0], "rgba8": [0, 1, 2, 0], "bgra8": [2, 1, 0, 0]}


def image(encoding="rgb8", padding=0):
    rows = RGB[..., CHANNELS[encoding]].reshape(4, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    msg = Image(height=4, width=6, encoding=encoding, step=rows.shape[1])
    msg.data = array.array("B", rows.tobytes())
    return msg


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", CHANNELS)
def test_every_encoding_gives_the_same_picture(encoding, padding):
    assert (convert.picture_from_msg(image(encoding, padding)).rgb() == RGB).all()


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"encoding": "mono8"}, "encoding is 'mono8'"),
        ({"encoding": ""}, "encoding is ''"),
        ({"encoding": "bgra8"}, "rows of at least 24, got 72"),
        ({"height": 5}, "is 90 bytes"),
        ({"width": 7}, "rows of at least 21"),
        ({"height": 0}, "a picture of 6x0"),
        ({"height": 2**31, "width": 2**31}, "a picture of"),
        ({"data": array.array("B")}, "got 0"),
        ({"step": 17}, "got 72"),
    ],
)
def test_a_picture_that_does_not_fit_is_refused(changes, words):
    msg = image()
    for name, value in changes.items():
        setattr(msg, name, value)
    with pytest.raises(ValueError, match=words):
        convert.picture_from_msg(msg)


def cloud(points, extra=0, big=False, names=("x", "y", "z", "intensity")):
    """Fields in reverse order with gaps, so that offsets count."""
    step = 4 * len(names) + extra
    offsets = {name: step - 4 * (i + 1) for i, name in enumerate(names)}
    raw = np.zeros((len(points), step), dtype=np.uint8)
    for i, name in enumerate(names):
        column = np.ascontiguousarray(points[:, i].astype(">f4" if big else "<f4"))
        raw[:, offsets[name] : offsets[name] + 4] = column.view(np.uint8).reshape(-1, 4)
    msg = PointCloud2(height=1, width=len(points), point_step=step, row_step=step * len(points))
    msg.fields = [
        PointField(name=n, offset=o, datatype=PointField.FLOAT32, count=1)
        for n, o in offsets.items()
    ]
    msg.is_bigendian = big
    msg.data = array.array("B", raw.tobytes())
    return msg


POINTS = np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("extra", [0, 6])
def test_points_come_from_where_the_fields_say(extra, big):
    assert (convert.points_from_msg(cloud(POINTS, extra, big)) == POINTS).all()


def test_a_cloud_without_intensity_has_zeros_and_an_empty_one_is_empty():
    bare = convert.points_from_msg(cloud(POINTS, names=("x", "y", "z")))
    assert (bare[:, :3] == POINTS[:, :3]).all() and not bare[:, 3].any()
    assert convert.points_from_msg(cloud(POINTS[:0])).shape == (0, 4)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"width": 10}, "10x1 points of 16 bytes are 160 bytes, got 144"),
        ({"data": array.array("B", b"1" * 7)}, "got 7"),
        ({"fields": []}, "no x, y, z"),
        ({"point_step": 8, "width": 18}, "beyond the 8 bytes"),
        ({"height": 3, "width": 3, "row_step": 50}, "3x3 points"),
    ],
)
def test_a_cloud_that_does_not_fit_is_refused(changes, words):
    msg = cloud(POINTS)
    for name, value in changes.items():
        setattr(msg, name, value)
    with pytest.raises(ValueError, match=words):
        convert.points_from_msg(msg)


def test_doubles_are_no_points():
    msg = cloud(POINTS)
    msg.fields[0].datatype = PointField.FLOAT64
    with pytest.raises(ValueError, match="no x of type FLOAT32"):
        convert.points_from_msg(msg)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_odometry_and_targets_that_are_not_finite_are_refused(bad):
    odometry = Odometry()
    odometry.pose.pose.orientation.w = 1.0
    odometry.twist.twist.linear.x = bad
    with pytest.raises(ValueError, match="not finite"):
        convert.ego_from_odometry(odometry)
    target = PointStamped()
    target.point.y = bad
    with pytest.raises(ValueError, match="not finite"):
        convert.route_point_from_msg(target)


def test_a_target_in_the_world_is_turned_into_the_vehicle_frame_and_others_are_not_guessed():
    odometry = Odometry()
    odometry.header.frame_id = "map"
    odometry.pose.pose.position.x = 10.0
    odometry.pose.pose.orientation.z = odometry.pose.pose.orientation.w = math.sqrt(0.5)
    odometry.twist.twist.linear.x = 3.0
    ego = convert.ego_from_odometry(odometry)
    target = PointStamped()
    target.point.x, target.point.y = 10.0, 20.0
    seen = {}
    for frame in ("map", "vehicle_0", "elsewhere"):
        target.header.frame_id = frame
        point = convert.route_point_from_msg(target)
        seen[frame] = point.seen_from(ego, "vehicle_0"), point.seen_from(None, "vehicle_0")
    assert seen["map"] == (pytest.approx((20.0, 0.0)), None)
    assert seen["vehicle_0"] == ((10.0, 20.0), (10.0, 20.0))
    assert seen["elsewhere"] == (None, None)
    assert ego.speed_mps == 3.0


@pytest.mark.parametrize("stamp_ns", [0, 1, 999_999_999, 12_345_678_901_234])
def test_stamps_come_back(stamp_ns):
    assert convert.stamp_to_ns(convert.ns_to_stamp(stamp_ns)) == stamp_ns
    assert convert.stamp_to_ns(Time(sec=2, nanosec=3)) == 2_000_000_003


def transform(parent, child, x=0.0, yaw=0.0):
    msg = TransformStamped(child_frame_id=child)
    msg.header.frame_id = parent
    msg.transform.translation.x = x
    msg.transform.rotation.z = math.sin(yaw / 2.0)
    msg.transform.rotation.w = math.cos(yaw / 2.0)
    return msg


def test_mounts_are_followed_along_their_chain():
    frames = StaticFrames()
    assert frames.mount("lidar", "vehicle_0") is None
    frames.add(TFMessage(transforms=[transform("mast", "lidar", x=1.0)]))
    assert frames.mount("lidar", "vehicle_0") is None
    frames.add(TFMessage(transforms=[transform("/vehicle_0", "mast", x=2.0, yaw=math.pi / 2)]))
    mount = frames.mount("lidar", "vehicle_0")
    (moved,) = to_vehicle(np.array([[3.0, 0.0, 0.5, 9.0]], dtype=np.float32), mount)
    assert moved == pytest.approx([2.0, 4.0, 0.5, 9.0], abs=1e-6)
    assert (frames.mount("vehicle_0", "vehicle_0") == np.eye(4)).all()


def test_a_bad_transform_is_named_and_the_good_ones_are_kept():
    frames = StaticFrames()
    bad = transform("vehicle_0", "bad", x=math.nan)
    with pytest.raises(ValueError, match="bad"):
        frames.add(TFMessage(transforms=[bad, transform("vehicle_0", "good")]))
    assert frames.mount("bad", "vehicle_0") is None
    assert frames.mount("good", "vehicle_0") is not None


def test_a_circle_of_frames_is_no_endless_walk():
    frames = StaticFrames()
    frames.add(TFMessage(transforms=[transform("a", "b"), transform("b", "a")]))
    assert frames.mount("a", "vehicle_0") is None


@pytest.mark.parametrize("dtype", WireDtype)
def test_tokens_come_back_out_of_their_message(dtype):
    from flad_msgs.msg import SceneTokens

    values = np.random.default_rng(3).normal(size=(3, 4)).astype(np.float32)
    encoded = encode_tokens(values, dtype)
    msg = SceneTokens(
        num_tokens=3,
        dim=4,
        dtype=int(dtype),
        scale=array.array("f", encoded.scale),
        data=array.array("B", encoded.data),
        crc32=encoded.crc32,
    )
    assert (decode_tokens(convert.tokens_from_msg(msg)) == decode_tokens(encoded)).all()
    msg.dtype = 9
    with pytest.raises(ValueError, match="dtype is 9"):
        convert.tokens_from_msg(msg)
