# SPDX-License-Identifier: Apache-2.0
"""A packet between two members: what ``flad_msgs/GroupPacket`` says, without ROS.

As the bytes of that message: :mod:`flad_pipeline.group.packet_cdr`.
"""

from __future__ import annotations

import array
import enum
import struct
import zlib
from dataclasses import dataclass, field, replace
from typing import TypeAlias

Piece: TypeAlias = "array.array[int] | memoryview"
"""Bytes of a tensor: an array where they are made, a view into what arrived where they are read."""

_FIXED = struct.Struct("<BIIqQIIIIBBIIQ")
"""Numbers of a packet whose length does not vary, in the message's order."""


class Kind(enum.IntEnum):
    """What a packet is for; the numbers are the message's constants."""

    DATA = 0
    ACK = 1
    ABORT = 2
    HEARTBEAT = 3
    LEFT = 4


def _nothing() -> array.array[int]:
    return array.array("B")


@dataclass(frozen=True, kw_only=True, slots=True)
class Packet:
    """One packet; fields as in ``GroupPacket.msg``, which describes each."""

    kind: int
    source: str
    destination: str
    epoch: int
    group: int = 0
    tag: int = 0
    step: int = 0
    sequence: int = 0
    message: int = 0
    chunk: int = 0
    num_chunks: int = 0
    dtype: int = 0
    encoding: int = 0
    shape: tuple[int, ...] = ()
    ack: int = 0
    limit: int = 0
    selective: tuple[int, ...] = ()
    progress: int = 0
    subject: str = ""
    text: str = ""
    crc32: int = 0
    data: Piece = field(default_factory=_nothing)


def checksum(packet: Packet) -> int:
    """CRC-32 of all fields but ``crc32`` itself."""
    names = "\0".join((packet.source, packet.destination, packet.subject, packet.text)).encode()
    numbers = _FIXED.pack(
        packet.kind,
        packet.epoch,
        packet.group,
        packet.tag,
        packet.step,
        packet.sequence,
        packet.message,
        packet.chunk,
        packet.num_chunks,
        packet.dtype,
        packet.encoding,
        packet.ack,
        packet.limit,
        packet.progress,
    )
    lists = struct.pack(
        f"<{len(packet.shape)}q{len(packet.selective)}I", *packet.shape, *packet.selective
    )
    return zlib.crc32(packet.data, zlib.crc32(lists, zlib.crc32(numbers, zlib.crc32(names))))


def signed(packet: Packet) -> Packet:
    """``packet`` with its checksum."""
    return replace(packet, crc32=checksum(packet))


def is_whole(packet: Packet) -> bool:
    """Whether the checksum fits; numbers that cannot be packed do not fit either."""
    try:
        return checksum(packet) == packet.crc32
    except struct.error:
        return False
