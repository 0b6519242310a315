# SPDX-License-Identifier: Apache-2.0
"""msgpack-rpc messages: a byte stream in, requests out, and replies as bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

_REQUEST = 0
_REPLY = 1

MAX_REQUEST_BYTES = 64 * 1024 * 1024
"""Largest request accepted: a whole OpenDRIVE town travels in one string (a few MB)."""


class FramingError(ValueError):
    """The bytes are no msgpack-rpc; the connection cannot be trusted any more."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call. ``waits`` tells whether the client reads the reply."""

    msgid: int
    method: str
    args: tuple[Any, ...]
    waits: bool


class RequestReader:
    """Splits a connection's bytes into requests. Used by one thread."""

    def __init__(self, max_bytes: int = MAX_REQUEST_BYTES) -> None:
        self._max_bytes = max_bytes
        self._unpacker = msgpack.Unpacker(
            raw=False,
            unicode_errors="surrogateescape",
            strict_map_key=False,
            max_buffer_size=max_bytes,
            use_list=True,
        )

    def feed(self, data: bytes) -> Iterator[Request]:
        """Yield the requests that ``data`` completes.

        Raises:
            FramingError: on bytes that are no request, or on a request over the size limit.
        """
        try:
            self._unpacker.feed(data)
        except msgpack.BufferFull as error:
            raise FramingError(
                f"a request of over {self._max_bytes} bytes; the limit is {self._max_bytes}"
            ) from error
        while True:
            try:
                message = self._unpacker.unpack()
            except msgpack.OutOfData:
                return
            except (ValueError, msgpack.UnpackException, TypeError, RecursionError) as error:
                raise FramingError(f"bytes that are not msgpack: {error}") from error
            yield _request(message)


def pack_reply(msgid: int, result: Any) -> bytes:
    """The reply of a call that the server knows, whether it went well or not."""
    return pack([_REPLY, msgid, None, result])


def pack_prepacked_reply(msgid: int, result: bytes) -> bytes:
    """The same for a ``result`` that is msgpack already."""
    return b"\x94\x01" + pack(msgid) + b"\xc0" + result


def pack_protocol_error(msgid: int, text: str) -> bytes:
    """The reply of a call that the server does not know."""
    return pack([_REPLY, msgid, text, None])


def pack(value: Any) -> bytes:
    """``value`` as msgpack."""
    data: bytes = msgpack.packb(value, use_bin_type=True, unicode_errors="surrogateescape")
    return data


def value_result(value: Any) -> list[Any]:
    """``Response<T>`` with a value."""
    return [[1, value]]


def value_error(text: str) -> list[Any]:
    """``Response<T>`` with an error."""
    return [[0, [text]]]


VOID_RESULT: list[Any] = [[False]]


def void_error(text: str) -> list[Any]:
    """``Response<void>`` with an error: an optional error, so the flag is inverted."""
    return [[True, [text]]]


def _request(message: Any) -> Request:
    match message:
        case [int(kind), int(msgid), str(method), list(params)] if (
            kind == _REQUEST and 0 <= msgid < 2**32
        ):
            pass
        case _:
            raise FramingError(f"not a msgpack-rpc request: {_short(message)}")
    match params:
        case [[bool(is_async), *_], *args]:
            return Request(msgid, method, tuple(args), waits=not is_async)
    return Request(msgid, method, tuple(params), waits=True)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
