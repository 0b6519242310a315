# SPDX-License-Identifier: Apache-2.0
"""Every byte of a stream counts: a short one kills the client's process."""

from __future__ import annotations

import struct

import msgpack
import numpy as np
import pytest

from flad_sim.protocol import payloads, snapshot
from flad_sim.protocol.tokens import pack_token
from flad_sim.types import Transform


def test_the_header_is_read_back_by_its_documented_layout() -> None:
    header = snapshot.pack_header(13, 77, 3.85, Transform(1, 2, 3, 4, 5, 6))
    assert len(header) == 48
    assert struct.unpack("<QQd6f", header) == (13, 77, 3.85, 1, 2, 3, 4, 5, 6)


def test_the_episode_state_is_read_back_by_its_documented_layout() -> None:
    state = snapshot.pack_state(5, 1.5, 0.25, 2)
    assert len(state) == 36
    assert struct.unpack("<QdfiiiI", state) == (5, 1.5, 0.25, 0, 0, 0, 2)


@pytest.mark.parametrize("kind", ["PLAIN", "VEHICLE", "SIGN", "WALKER"])
def test_every_kind_of_actor_has_a_row_of_119_bytes(kind: str) -> None:
    assert getattr(snapshot, f"{kind}_ROW").size == 119


def test_a_light_s_two_parts_are_a_row_and_its_state_is_the_last_byte() -> None:
    head = snapshot.LIGHT_HEAD.pack(4, 1, *[0.0] * 15, b"1043")
    row = head + snapshot.LIGHT_TAIL.pack(10.0, 3.0, 20.0, 1.5, 2, 1, 2)
    assert len(row) == 119
    assert row[65:69] == b"1043"
    assert struct.unpack_from("<ffffIBB", row, 97) == (10.0, 3.0, 20.0, 1.5, 2, 1, 2)


def test_the_vehicle_row_has_its_fields_where_the_client_reads_them() -> None:
    motion = [float(i) for i in range(15)]
    row = snapshot.VEHICLE_ROW.pack(9, 1, *motion, 0.5, -0.25, 0.75, 1, 0, 1, 3, 50.0, 2, 1, 41, 0)
    assert struct.unpack_from("<I", row, 0) == (9,)
    assert struct.unpack_from("<3f", row, 29) == (6.0, 7.0, 8.0)  # velocity
    assert struct.unpack_from("<fff", row, 65) == (0.5, -0.25, 0.75)
    assert struct.unpack_from("<i", row, 80) == (3,)  # gear
    assert struct.unpack_from("<f", row, 84) == (50.0,)  # speed limit
    assert struct.unpack_from("<BBI", row, 88) == (2, 1, 41)  # light


def test_the_token_tells_stream_and_port_and_leaves_the_host_to_the_client() -> None:
    token = pack_token(300, 2001)
    assert len(token) == 24
    assert struct.unpack("<IHBB", token[:8]) == (300, 2001, 1, 0)
    assert token[8:] == bytes(16)


def test_an_image_is_its_size_then_its_pixels() -> None:
    image = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    payload = payloads.pack_image(image, 90.0)
    assert struct.unpack_from("<IIf", payload) == (3, 2, 90.0)
    assert payload[12:] == bytes(range(24))


def test_a_sweep_is_its_channels_then_its_points() -> None:
    points = np.arange(12, dtype=np.float32).reshape(3, 4)
    payload = payloads.pack_lidar(0.5, [2, 1], points)
    assert struct.unpack_from("<fIII", payload) == (0.5, 2, 2, 1)
    assert np.frombuffer(payload[16:], "<f4").tolist() == list(range(12))


def test_a_semantic_sweep_has_points_of_24_bytes() -> None:
    points = np.zeros(3, payloads.SEMANTIC_POINT)
    points["object_tag"] = [4, 5, 6]
    payload = payloads.pack_semantic_lidar(0.5, [3], points)
    assert len(payload) == 12 + 3 * 24
    assert struct.unpack_from("<I", payload, 12 + 20) == (4,)


def test_events_are_13_bytes_each() -> None:
    assert payloads.DVS_EVENT.itemsize == 13
    assert len(payloads.pack_dvs(4, 3, 90.0, np.zeros(5, payloads.DVS_EVENT))) == 12 + 5 * 13


def test_radar_has_no_header() -> None:
    assert len(payloads.pack_radar(np.ones((7, 4)))) == 7 * 16


def test_small_measurements_are_msgpack_arrays() -> None:
    assert msgpack.unpackb(payloads.pack_gnss(48.5, 9.25, 300.0)) == [48.5, 9.25, 300.0]
    imu = payloads.pack_imu((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), 7.0)
    assert msgpack.unpackb(imu) == [[1, 2, 3], [4, 5, 6], 7]


@pytest.mark.parametrize(
    "make",
    [
        lambda: payloads.pack_image(np.zeros((2, 3, 3), np.uint8), 90.0),
        lambda: payloads.pack_image(np.zeros((2, 3, 4), np.float32), 90.0),  # type: ignore[arg-type]
        lambda: payloads.pack_lidar(0.0, [1, 1], np.zeros((3, 4))),
        lambda: payloads.pack_lidar(0.0, [3], np.zeros((3, 3))),
        lambda: payloads.pack_radar(np.zeros((3, 3))),
        lambda: payloads.pack_optical_flow(np.zeros((2, 2, 3), np.float32), 90.0),
    ],
)
def test_the_wrong_shape_never_reaches_the_wire(make: object) -> None:
    with pytest.raises(ValueError):
        make()  # type: ignore[operator]
