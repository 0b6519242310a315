# SPDX-License-Identifier: Apache-2.0
"""The streaming port: who subscribed to what, and what a slow subscriber means.

A client opens one connection per subscription and sends four bytes, the stream's id; after that
only the server talks. The RPC port is in ``flad_sim.server``. Single-threaded.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import defaultdict
from collections.abc import Callable

from flad_sim.protocol.tokens import EPISODE_STREAM

_LOG = logging.getLogger(__name__)
_SIZE = struct.Struct("<I")
_SEND_BUFFER_BYTES = 4 * 1024 * 1024  # an image then leaves in one system call

SLOW_BYTES = 8 * 1024 * 1024
"""Unsent bytes from which frames are dropped for a subscriber, when the world runs free."""

LOST_BYTES = 1024 * 1024 * 1024
"""Unsent bytes at which a subscriber is given up even in synchronous mode."""


class StreamHub:
    """Subscribers by stream, and what was published before an announced one connected."""

    def __init__(self, current_state: Callable[[], bytes]) -> None:
        self._current_state = current_state
        self._subscribers: dict[int, list[StreamConnection]] = defaultdict(list)
        self._backlogs: dict[int, _Backlog] = {}
        self.num_dropped = 0

    def expect(self, stream_id: int) -> None:
        """A client asked for a token: keep what is published until it has connected."""
        if stream_id != EPISODE_STREAM:
            self._backlogs.setdefault(stream_id, _Backlog()).waiting += 1

    def is_listened(self, stream_id: int) -> bool:
        """Whether anybody gets, or is about to get, what is published there."""
        return bool(self._subscribers.get(stream_id)) or stream_id in self._backlogs

    def publish(self, stream_id: int, message: bytes, may_drop: bool) -> None:
        """Send to all subscribers; ``may_drop`` leaves out those that are far behind."""
        frame = _SIZE.pack(len(message)) + message
        for connection in tuple(self._subscribers.get(stream_id, ())):
            self.num_dropped += not connection.send(frame, may_drop)
        backlog = self._backlogs.get(stream_id)
        if backlog is not None and not backlog.keep(frame):
            _LOG.warning("stream %d: its subscriber never connected", stream_id)
            del self._backlogs[stream_id]

    def forget_sensors(self) -> None:
        """A new episode: its sensors' streams have other ids, the old ones stay silent."""
        self._backlogs.clear()
        for stream_id in [s for s in self._subscribers if s != EPISODE_STREAM]:
            del self._subscribers[stream_id]

    def subscribe(self, stream_id: int, connection: StreamConnection) -> None:
        """A connection named its stream; it gets the present state, or what it missed."""
        if stream_id == EPISODE_STREAM:
            state = self._current_state()
            connection.send(_SIZE.pack(len(state)) + state, may_drop=False)
        elif (backlog := self._backlogs.get(stream_id)) is not None:
            for frame in backlog.frames:
                connection.send(frame, may_drop=False)
            backlog.waiting -= 1
            if backlog.waiting <= 0:
                del self._backlogs[stream_id]
        self._subscribers[stream_id].append(connection)

    def unsubscribe(self, stream_id: int, connection: StreamConnection) -> None:
        """The connection is gone."""
        remaining = self._subscribers.get(stream_id, [])
        if connection in remaining:
            remaining.remove(connection)
        if not remaining:
            self._subscribers.pop(stream_id, None)


class _Backlog:
    """Messages for subscribers that have a token and no connection yet."""

    MAX_BYTES = 64 * 1024 * 1024
    MAX_FRAMES = 100

    def __init__(self) -> None:
        self.waiting = 0
        self.frames: list[bytes] = []
        self._num_bytes = 0

    def keep(self, frame: bytes) -> bool:
        """Keep a message; False when it has become too much."""
        self.frames.append(frame)
        self._num_bytes += len(frame)
        return self._num_bytes <= self.MAX_BYTES and len(self.frames) <= self.MAX_FRAMES


class StreamConnection(asyncio.Protocol):
    """One subscription."""

    def __init__(self, hub: StreamHub) -> None:
        self._hub = hub
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._stream_id: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected; it has not said what it wants."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        connected: socket.socket = transport.get_extra_info("socket")
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        """The four bytes of a stream id; anything more is ignored."""
        if self._stream_id is not None:
            return
        self._head += data[:4]
        if len(self._head) >= 4:
            (self._stream_id,) = _SIZE.unpack(self._head[:4])
            self._hub.subscribe(self._stream_id, self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client closed or vanished."""
        self._transport = None
        if self._stream_id is not None:
            self._hub.unsubscribe(self._stream_id, self)

    def send(self, frame: bytes, may_drop: bool) -> bool:
        """Queue bytes for the client; False when they were dropped."""
        if self._transport is None or self._transport.is_closing():
            return True  # nobody to miss them
        behind = self._transport.get_write_buffer_size()
        if may_drop and behind > SLOW_BYTES:
            return False
        if behind > LOST_BYTES:
            _LOG.warning("stream %s: %d bytes behind, given up", self._stream_id, behind)
            self._transport.abort()
            return False
        self._transport.write(frame)
        return True
