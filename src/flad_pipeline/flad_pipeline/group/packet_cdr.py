# SPDX-License-Identifier: Apache-2.0
"""A packet as the bytes that DDS carries: ``flad_msgs/GroupPacket`` in CDR, little-endian.

ROS would write the same bytes (a test compares them) by way of a Python message and one in C. For
a packet of a few numbers that took more time than all else that is done with it.
"""

from __future__ import annotations

import struct

from flad_pipeline.group.packet import Packet

_ENCAPSULATION = b"\x00\x01\x00\x00"  # plain CDR, little-endian; two bytes of options
_START = len(_ENCAPSULATION)  # what alignment counts from
_TWO = struct.Struct("<II")
_NUMBERS = struct.Struct("<qQIIIIBB")
_LENGTH = struct.Struct("<I")
_PROGRESS = struct.Struct("<Q")


def to_cdr(packet: Packet) -> bytes:
    """The message of a packet, as it is published."""
    out = bytearray(_ENCAPSULATION)
    out.append(packet.kind)
    _put_string(out, packet.source)
    _put_string(out, packet.destination)
    _pad(out, 4)
    out += _TWO.pack(packet.epoch, packet.group)
    _pad(out, 8)
    out += _NUMBERS.pack(
        packet.tag,
        packet.step,
        packet.sequence,
        packet.message,
        packet.chunk,
        packet.num_chunks,
        packet.dtype,
        packet.encoding,
    )
    _pad(out, 4)
    out += _LENGTH.pack(len(packet.shape))
    if packet.shape:
        _pad(out, 8)
        out += struct.pack(f"<{len(packet.shape)}q", *packet.shape)
    num_selective = len(packet.selective)
    out += struct.pack(
        f"<III{num_selective}I", packet.ack, packet.limit, num_selective, *packet.selective
    )
    _pad(out, 8)
    out += _PROGRESS.pack(packet.progress)
    _put_string(out, packet.subject)
    _put_string(out, packet.text)
    _pad(out, 4)
    out += _TWO.pack(packet.crc32, len(packet.data))
    return b"".join((out, packet.data))


def from_cdr(raw: bytes) -> Packet:
    """The packet of a message, with ``data`` in place; nothing but the form is judged here.

    Raises:
        ValueError: if the bytes are no such message.
    """
    if raw[:2] != _ENCAPSULATION[:2]:
        raise ValueError(f"a packet begins with {_ENCAPSULATION[:2]!r}, here is {raw[:2]!r}")
    try:
        return _read(raw)
    except (struct.error, IndexError) as error:
        raise ValueError(f"{len(raw)} bytes are no whole packet: {error}") from error


def _read(raw: bytes) -> Packet:
    kind = raw[_START]
    source, at = _string(raw, _START + 1)
    destination, at = _string(raw, at)
    epoch, group = _TWO.unpack_from(raw, at := _aligned(at, 4))
    numbers = _NUMBERS.unpack_from(raw, at := _aligned(at + 8, 8))
    tag, step, sequence, message, chunk, num_chunks, dtype, encoding = numbers
    (num_sizes,) = _LENGTH.unpack_from(raw, at := _aligned(at + _NUMBERS.size, 4))
    at += 4
    shape: tuple[int, ...] = ()
    if num_sizes:
        shape = struct.unpack_from(f"<{num_sizes}q", raw, at := _aligned(at, 8))
        at += 8 * num_sizes
    ack, limit = _TWO.unpack_from(raw, at)
    (num_selective,) = _LENGTH.unpack_from(raw, at + 8)
    selective = struct.unpack_from(f"<{num_selective}I", raw, at + 12)
    (progress,) = _PROGRESS.unpack_from(raw, at := _aligned(at + 12 + 4 * num_selective, 8))
    subject, at = _string(raw, at + 8)
    text, at = _string(raw, at)
    crc32, num_bytes = _TWO.unpack_from(raw, at := _aligned(at, 4))
    data = memoryview(raw)[at + 8 : at + 8 + num_bytes]
    if len(data) != num_bytes:
        raise IndexError(f"{num_bytes} bytes of data were promised, {len(data)} are there")
    return Packet(
        kind=kind,
        source=source,
        destination=destination,
        epoch=epoch,
        group=group,
        tag=tag,
        step=step,
        sequence=sequence,
        message=message,
        chunk=chunk,
        num_chunks=num_chunks,
        dtype=dtype,
        encoding=encoding,
        shape=shape,
        ack=ack,
        limit=limit,
        selective=selective,
        progress=progress,
        subject=subject,
        text=text,
        crc32=crc32,
        data=data,
    )


def _aligned(at: int, to: int) -> int:
    return at + (_START - at) % to


def _pad(out: bytearray, to: int) -> None:
    out.extend(bytes((_START - len(out)) % to))


def _put_string(out: bytearray, text: str) -> None:
    raw = text.encode()
    _pad(out, 4)
    out += _LENGTH.pack(len(raw) + 1)
    out += raw
    out.append(0)


def _string(raw: bytes, at: int) -> tuple[str, int]:
    """A string, and where it ends."""
    (length,) = _LENGTH.unpack_from(raw, at := _aligned(at, 4))
    end = at + 4 + length
    if length == 0 or end > len(raw) or raw[end - 1] != 0:
        raise IndexError(f"a string of {length} bytes at {at} does not end in a zero")
    return raw[at + 4 : end - 1].decode(), end
