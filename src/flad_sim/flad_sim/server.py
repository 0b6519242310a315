# SPDX-License-Identifier: Apache-2.0
"""The RPC port and the clock: requests in the order they arrive, frames when they are due.

Everything runs on one event loop and one thread, so ``apply_control`` then ``tick`` means what it
says. Streams are in ``flad_sim.streams``, the calls in ``flad_sim.rpc``.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from flad_sim.episode import Episode
from flad_sim.errors import PortInUseError
from flad_sim.protocol.framing import FramingError, Request, RequestReader
from flad_sim.protocol.structs import EpisodeSettings
from flad_sim.protocol.tokens import EPISODE_STREAM, pack_token
from flad_sim.rpc.dispatch import Dispatcher
from flad_sim.streams import StreamConnection, StreamHub
from flad_sim.world import Frame, World

_LOG = logging.getLogger(__name__)
_TM_TICK_DELAY_S = 0.005


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Where the server listens and how it paces ticks."""

    host: str = "127.0.0.1"
    port: int = 2000  # 0: any free one
    tick_delay_s: float | None = None  # None: 5 ms while a TrafficManager is registered, else 0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65534:
            raise ValueError(f"port must be 0 (any free one) to 65534, got {self.port}")
        if self.tick_delay_s is not None and not 0.0 <= self.tick_delay_s <= 1.0:
            raise ValueError(f"tick_delay_s must be within 0 to 1 s, got {self.tick_delay_s}")


class Ports:
    """The two listening sockets: taken first, because a town takes seconds to load.

    Raises:
        PortInUseError: from the constructor, when another process listens on the RPC port.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.rpc_socket = _listen(host, port)
        self.rpc: int = self.rpc_socket.getsockname()[1]
        self.stream_socket = _listen_near(host, self.rpc + 1)
        self.streams: int = self.stream_socket.getsockname()[1]

    def close(self) -> None:
        """Let others have the ports."""
        self.stream_socket.close()
        self.rpc_socket.close()


class Server:
    """Serves one world; ``start`` lets clients in. Single-threaded."""

    def __init__(self, world: World, ports: Ports, config: ServerConfig) -> None:
        self.world = world
        self.traffic_managers: dict[int, str] = {}  # host by port
        self._caller: RpcConnection | None = None
        self._owners: dict[int, RpcConnection | None] = {}
        self._ports = ports
        self._config = config
        self._hub = StreamHub(world.snapshot)
        self._dispatcher = Dispatcher(self)
        self._listeners: list[asyncio.Server] = []
        self._clock: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer on both ports and let the clock run."""
        loop = asyncio.get_running_loop()
        ports = self._ports
        self._listeners = [
            await loop.create_server(lambda: RpcConnection(self), sock=ports.rpc_socket),
            await loop.create_server(lambda: StreamConnection(self._hub), sock=ports.stream_socket),
        ]
        self._clock = loop.create_task(self._run_free())
        _LOG.info(
            "serving CARLA 0.9.16\n  RPC     %s:%d\n  streams %s:%d",
            ports.host,
            ports.rpc,
            ports.host,
            ports.streams,
        )

    async def serve_forever(self) -> None:
        """Until cancelled; a failure of the clock ends the server."""
        assert self._clock is not None
        await self._clock

    async def stop(self) -> None:
        """Undo ``start``, in reverse."""
        if self._clock is not None:
            self._clock.cancel()
        for listener in reversed(self._listeners):
            listener.close()
        self._listeners = []

    # --- what the handlers use ------------------------------------------------------------------

    def tick(self) -> int:
        """Advance by a frame and publish it; a free-running world only tells where it is."""
        if self.world.settings.synchronous_mode:
            self._advance()
        return self.world.frame

    def apply_settings(self, settings: EpisodeSettings) -> int:
        """Take over the settings and return the present frame."""
        self.world.settings = settings
        return self.world.frame

    def change_episode(self, load: Callable[[], None]) -> None:
        """Begin a new episode and show it at once: a client that loads waits for its id."""
        load()
        self._hub.forget_sensors()
        self._hub.publish(EPISODE_STREAM, self.world.first_snapshot(), may_drop=False)

    def stream_token(self, stream_id: int) -> bytes:
        """The token with which a client may subscribe."""
        return pack_token(stream_id, self._ports.streams)

    def expect_subscriber(self, stream_id: int) -> None:
        """A client is about to subscribe."""
        self._hub.expect(stream_id)

    @property
    def episode(self) -> Episode:
        """The present episode of the world."""
        return self.world.episode

    def note(self, text: str) -> None:
        """Say something in the log, the first time only."""
        self._dispatcher.note(text)

    def register_traffic_manager(self, port: int, host: str) -> None:
        """Remember the calling client's TrafficManager for as long as the client is connected."""
        self.traffic_managers[port] = host
        self._owners[port] = self._caller

    # --- what the connections use ---------------------------------------------------------------

    def answer(self, request: Request, caller: RpcConnection) -> bytes:
        """The reply of a request."""
        self._caller = caller
        return self._dispatcher.answer(request)

    def forget(self, caller: RpcConnection) -> None:
        """A client is gone, and with it the TrafficManagers that ran inside it."""
        for port in [p for p, owner in self._owners.items() if owner is caller]:
            del self._owners[port]
            self.traffic_managers.pop(port, None)

    def delay_of(self, request: Request) -> float:
        """Seconds to wait before a request is handled.

        The client's TrafficManager loses a wake-up (its issue #9172) when a tick is answered too
        fast, and then hangs for ever.
        """
        if request.method != "tick_cue":
            return 0.0
        if self._config.tick_delay_s is not None:
            return self._config.tick_delay_s
        return _TM_TICK_DELAY_S if self.traffic_managers else 0.0

    # --- frames ---------------------------------------------------------------------------------

    def _advance(self) -> None:
        frame: Frame = self.world.tick(self._hub.is_listened)
        may_drop = not self.world.settings.synchronous_mode
        self._hub.publish(EPISODE_STREAM, frame.snapshot, may_drop)
        for stream_id, message in frame.messages:
            self._hub.publish(stream_id, message, may_drop)

    async def _run_free(self) -> None:
        """Frames in real time while the world is asynchronous; late ones are not caught up."""
        loop = asyncio.get_running_loop()
        due_s, last_error = loop.time(), ""
        while True:
            if not self.world.settings.synchronous_mode:
                try:
                    self._advance()
                except Exception as error:  # the boundary: clients can still load another town
                    if repr(error) != last_error:
                        _LOG.exception("a frame failed; load a map to begin anew")
                    last_error = repr(error)
            due_s = max(due_s + self.world.delta_s, loop.time())
            await asyncio.sleep(due_s - loop.time())


class RpcConnection(asyncio.Protocol):
    """One client: its requests are answered in the order they came."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._reader = RequestReader()
        self._pending: deque[Request] = deque()
        self._is_waiting = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        connected: socket.socket = transport.get_extra_info("socket")
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Bytes of requests, cut anywhere."""
        try:
            for request in self._reader.feed(data):
                self._pending.append(request)
                if not self._is_waiting:
                    self._answer_pending()
        except FramingError as error:
            peer = self._transport.get_extra_info("peername") if self._transport else "?"
            _LOG.warning("client %s sent %s; its connection is closed", peer, error)
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client closed or vanished: what it asked last is not done any more."""
        self._transport = None
        self._pending.clear()
        self._server.forget(self)

    def _answer_pending(self) -> None:
        while self._pending:
            delay_s = self._server.delay_of(self._pending[0])
            if delay_s > 0.0:
                self._is_waiting = True
                asyncio.get_running_loop().call_later(delay_s, self._resume)
                return
            self._answer(self._pending.popleft())

    def _resume(self) -> None:
        self._is_waiting = False
        if self._pending:
            self._answer(self._pending.popleft())
            self._answer_pending()

    def _answer(self, request: Request) -> None:
        reply = self._server.answer(request, self)
        if self._transport is not None:
            self._transport.write(reply)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(100)
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise PortInUseError(
            f"port {port} on {host} is in use, perhaps by another simulator; "
            f"choose another with --port N, or any free one with --port 0"
        ) from error
    return listener


def _listen_near(host: str, port: int) -> socket.socket:
    """The stream port: the token carries it, so it need not be the next one."""
    try:
        return _listen(host, port)
    except (PortInUseError, OverflowError):
        return _listen(host, 0)
