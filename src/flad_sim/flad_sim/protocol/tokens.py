# SPDX-License-Identifier: Apache-2.0
"""The 24-byte token that tells a client where a stream is served."""

from __future__ import annotations

import struct

_TOKEN = struct.Struct("<IHBB16x")  # stream id, TCP port, protocol, address type, address
_TCP = 1
_SAME_HOST_AS_RPC = 0  # the client uses the host it was given

EPISODE_STREAM = 1


def pack_token(stream_id: int, port: int) -> bytes:
    """The token of a stream that this host serves on TCP ``port``."""
    token = _TOKEN.pack(stream_id, port, _TCP, _SAME_HOST_AS_RPC)
    assert len(token) == 24
    return token
