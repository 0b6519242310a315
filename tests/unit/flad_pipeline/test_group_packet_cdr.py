# SPDX-License-Identifier: Apache-2.0
"""Our bytes of a packet are ROS's: the middleware reads what we write, and we what it writes."""

from __future__ import annotations

import array
from dataclasses import fields, replace

import pytest
from flad_msgs.msg import GroupPacket
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message

from flad_pipeline.group.packet import Kind, Packet, is_whole, signed
from flad_pipeline.group.packet_cdr import from_cdr, to_cdr

U8, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 32, 64))
I64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=9)
PACKETS = st.builds(
    Packet,
    kind=U8,
    source=TEXT,
    destination=TEXT,
    epoch=U32,
    group=U32,
    tag=I64,
    step=U64,
    sequence=U32,
    message=U32,
    chunk=U32,
    num_chunks=U32,
    dtype=U8,
    encoding=U8,
    shape=st.lists(I64, max_size=4).map(tuple),
    ack=U32,
    limit=U32,
    selective=st.lists(U32, max_size=4).map(tuple),
    progress=U64,
    subject=TEXT,
    text=TEXT,
    crc32=U32,
    data=st.binary(max_size=40).map(lambda raw: array.array("B", raw)),
)
ARRAYS = {"shape": "q", "selective": "I"}


def _as_ros(packet: Packet) -> GroupPacket:
    values = {one.name: getattr(packet, one.name) for one in fields(packet)}
    return GroupPacket(
        **{n: array.array(ARRAYS[n], v) if n in ARRAYS else v for n, v in values.items()}
    )


@given(packet=PACKETS)
@settings(max_examples=200, deadline=None)
def test_ros_and_we_read_each_others_packets(packet):
    ours, theirs = to_cdr(packet), serialize_message(_as_ros(packet))

    assert len(ours) == len(theirs)  # the bytes that only fill up are not the same
    assert deserialize_message(ours, GroupPacket) == _as_ros(packet)
    read = from_cdr(theirs)
    assert replace(read, data=packet.data) == packet
    assert bytes(read.data) == packet.data.tobytes()


def test_a_packet_that_is_cut_anywhere_is_refused():
    data = array.array("B", range(50))
    raw = to_cdr(
        signed(
            Packet(
                kind=Kind.DATA,
                source="vehicle_0",
                destination="vehicle_10",
                epoch=3,
                shape=(5, 10),
                selective=(8,),
                text="why",
                data=data,
            )
        )
    )
    assert is_whole(from_cdr(raw))

    for length in range(len(raw)):
        with pytest.raises(ValueError, match=r"no whole packet|begins with"):
            from_cdr(raw[:length])


def test_another_byte_order_is_refused():
    raw = to_cdr(Packet(kind=Kind.ACK, source="a", destination="b", epoch=1))

    with pytest.raises(ValueError, match="a packet begins with"):
        from_cdr(b"\x00\x00" + raw[2:])
