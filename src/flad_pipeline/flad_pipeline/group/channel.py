# SPDX-License-Identifier: Apache-2.0
"""The way from one member to another within an epoch: order, credits, repetition. No threads.

A link may lose, repeat and reorder packets; messages leave :class:`Incoming` whole, once and in
the order in which they entered :class:`Outgoing`. :mod:`flad_pipeline.group.transport` drives both
under its lock and owns the clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from flad_common.config import knob
from flad_pipeline.group.packet import Packet, Piece

# Round trip smoothing and the time after which a packet is repeated: RFC 6298.
_RTT_GAIN = 1.0 / 8.0
_DEVIATION_GAIN = 1.0 / 4.0
_MAX_REPEAT_S = 2.0
# Packets that are acknowledged together, if they come soon; as many always fit a sender's window.
_ACK_EVERY = 2
# The window shrinks by this when packets queue up in the network.
_SHRINK = 0.8


@dataclass(frozen=True, kw_only=True)
class ChannelConfig:
    """Flow control between two members."""

    chunk_bytes: int = knob(262_144, unit="B", doc="Largest piece of a tensor in one packet.")
    open_pieces: int = knob(
        2,
        unit="1",
        doc="So many pieces make one packet while the link keeps up with the largest window.",
    )
    credits: int = knob(
        32, unit="1", doc="Packets that may be on the way to one member; its inbox holds as many."
    )
    first_window_bytes: int = knob(
        1_048_576, unit="B", doc="That may be on the way before the round trip is known."
    )
    least_window_bytes: int = knob(
        524_288, unit="B", doc="That may be on the way however slow the link is."
    )
    queue_s: float = knob(
        0.1, unit="s", doc="Time in the network's queues above which less is kept on the way."
    )
    least_repeat_s: float = knob(
        0.3, unit="s", doc="No packet is repeated earlier, unless a later one has arrived."
    )

    ack_after_s: float = knob(
        0.01, unit="s", doc="Longest wait for more to acknowledge, or to send, with one packet."
    )

    def __post_init__(self) -> None:
        if not self.ack_after_s >= 0.0:
            raise ValueError(f"ack_after_s must not be negative, got {self.ack_after_s}")
        if self.chunk_bytes < 1:
            raise ValueError(f"chunk_bytes must be at least 1, got {self.chunk_bytes}")
        if self.open_pieces < 1:
            raise ValueError(f"open_pieces must be at least 1, got {self.open_pieces}")
        if self.credits < _ACK_EVERY:
            raise ValueError(f"credits must be at least {_ACK_EVERY}, got {self.credits}")
        for name in ("first_window_bytes", "least_window_bytes"):
            if getattr(self, name) < _ACK_EVERY * self.chunk_bytes:
                raise ValueError(
                    f"{name} must be at least {_ACK_EVERY} packets of {self.chunk_bytes} bytes, "
                    f"got {getattr(self, name)}"
                )
        if not self.queue_s > 0.0:
            raise ValueError(f"queue_s must be positive, got {self.queue_s}")
        if not 0.0 < self.least_repeat_s <= _MAX_REPEAT_S:
            raise ValueError(
                f"least_repeat_s must be positive and at most {_MAX_REPEAT_S}, "
                f"got {self.least_repeat_s}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Ack:
    """What a receiver says to its sender."""

    ack: int
    """All packets below have arrived."""
    limit: int
    """Packets below may be sent."""
    selective: tuple[int, ...] = ()
    """These have arrived as well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What has arrived whole."""

    source: str
    group: int
    tag: int
    step: int
    dtype: int
    encoding: int
    shape: tuple[int, ...]
    chunks: tuple[Piece, ...]

    @property
    def num_bytes(self) -> int:
        """Of all chunks."""
        return sum(len(chunk) for chunk in self.chunks)


@dataclass(slots=True)
class _OnTheWay:
    packet: Packet
    sent_s: float
    times: int = 1


class Outgoing:
    """What goes to one member. Single-threaded; ``now_s`` never goes back."""

    def __init__(self, config: ChannelConfig) -> None:
        self._config = config
        self._next_sequence = 0
        self._next_message = 0
        self._waiting: deque[Packet] = deque()
        self._on_the_way: dict[int, _OnTheWay] = {}
        self._gaps: deque[int] = deque()
        self._limit = config.credits
        self._window_bytes = float(config.first_window_bytes)
        self._most_window_bytes = float(config.credits * config.chunk_bytes)
        self._bytes_on_the_way = 0
        self._waiting_bytes = 0
        self._last_sent_s = 0.0
        self._round_trip_s: float | None = None
        self._deviation_s = 0.0
        self._shortest_s = float("inf")
        self._shrunk_s = float("-inf")
        self._repeat_s = max(1.0, config.least_repeat_s)
        self.num_repeated = 0

    @property
    def num_bytes(self) -> int:
        """Not yet known to have arrived."""
        return self._waiting_bytes + self._bytes_on_the_way

    @property
    def window_bytes(self) -> int:
        """That may be on the way now."""
        return int(self._window_bytes)

    @property
    def chunk_bytes(self) -> int:
        """Largest piece of a tensor that should go in one packet now.

        A packet costs both ends the same whatever it holds; a large one makes all others wait on a
        slow link, and is lost as a whole.
        """
        is_open = self._window_bytes >= self._most_window_bytes
        return self._config.chunk_bytes * (self._config.open_pieces if is_open else 1)

    def push(self, head: Packet, chunks: Iterable[Piece]) -> None:
        """Queue a message; ``head`` has every field but sequence, numbers and data."""
        pieces = tuple(chunks)
        for index, data in enumerate(pieces):
            self._waiting.append(
                replace(
                    head,
                    sequence=self._next_sequence,
                    message=self._next_message,
                    chunk=index,
                    num_chunks=len(pieces),
                    data=data,
                )
            )
            self._next_sequence += 1
            self._waiting_bytes += len(data)
        self._next_message += 1

    def next_packet(self, now_s: float) -> Packet | None:
        """What should go out now: a repetition first, then what the credits and window allow."""
        while self._gaps:
            if (again := self._on_the_way.get(self._gaps.popleft())) is not None:
                return self._repeat(again, now_s)
        oldest = next(iter(self._on_the_way.values()), None)
        if oldest is not None and now_s >= oldest.sent_s + self._repeat_s:
            self._repeat_s = min(2.0 * self._repeat_s, _MAX_REPEAT_S)
            self._window_bytes = max(self._window_bytes / 2.0, self._config.least_window_bytes)
            return self._repeat(oldest, now_s)
        if not self._waiting or not self._may_send(self._waiting[0], now_s):
            return None
        packet = self._waiting.popleft()
        self._on_the_way[packet.sequence] = _OnTheWay(packet, now_s)
        self._waiting_bytes -= len(packet.data)
        self._bytes_on_the_way += len(packet.data)
        self._last_sent_s = now_s
        return packet

    def due_s(self) -> float:
        """When to ask for :meth:`next_packet` again though nothing has happened."""
        if (oldest := next(iter(self._on_the_way.values()), None)) is not None:
            return oldest.sent_s + self._repeat_s
        return self._last_sent_s + self._repeat_s if self._waiting else float("inf")

    def on_ack(self, ack: Ack, now_s: float) -> None:
        """Forget what has arrived, learn how long it took, and look for gaps."""
        self._limit = max(self._limit, ack.limit)
        below = [s for s in self._on_the_way if s < ack.ack]
        arrived = [
            self._on_the_way.pop(s) for s in (*below, *ack.selective) if s in self._on_the_way
        ]
        num_bytes = sum(len(one.packet.data) for one in arrived)
        self._bytes_on_the_way -= num_bytes
        fresh = [one for one in arrived if one.times == 1]
        if fresh:  # what was repeated tells nothing: which of the two was answered?
            self._learn(now_s - max(one.sent_s for one in fresh), num_bytes, now_s)
        if ack.selective:
            self._find_gaps(max(ack.selective), now_s)

    def _may_send(self, packet: Packet, now_s: float) -> bool:
        if not self._on_the_way:
            # With no credit left one packet asks anew, lest the word about new credit was lost.
            return packet.sequence < self._limit or now_s >= self._last_sent_s + self._repeat_s
        room = self._window_bytes - self._bytes_on_the_way
        return packet.sequence < self._limit and len(packet.data) <= room

    def _repeat(self, one: _OnTheWay, now_s: float) -> Packet:
        one.sent_s = self._last_sent_s = now_s
        one.times += 1
        self.num_repeated += 1
        return one.packet

    def _learn(self, round_trip_s: float, num_bytes: int, now_s: float) -> None:
        self._shortest_s = min(self._shortest_s, round_trip_s)
        if self._round_trip_s is None:
            self._round_trip_s, self._deviation_s = round_trip_s, round_trip_s / 2.0
        else:
            error_s = round_trip_s - self._round_trip_s
            self._round_trip_s += _RTT_GAIN * error_s
            self._deviation_s += _DEVIATION_GAIN * (abs(error_s) - self._deviation_s)
        repeat_s = self._round_trip_s + 4.0 * self._deviation_s
        # Bounded: a word of arrival that was itself lost makes a round trip seem endless.
        self._repeat_s = min(max(repeat_s, self._config.least_repeat_s), _MAX_REPEAT_S)
        if round_trip_s - self._shortest_s <= self._config.queue_s:
            self._window_bytes = min(self._window_bytes + num_bytes, self._most_window_bytes)
        elif now_s - self._shrunk_s > self._round_trip_s:  # at most once in a round trip
            self._shrunk_s = now_s
            least = self._config.least_window_bytes
            self._window_bytes = max(self._window_bytes * _SHRINK, least)

    def _find_gaps(self, newest: int, now_s: float) -> None:
        """What is missing below ``newest`` is lost, if it had a round trip's time to arrive."""
        patience_s = self._round_trip_s or self._config.least_repeat_s
        self._gaps = deque(
            sequence
            for sequence, one in self._on_the_way.items()
            if sequence < newest and now_s - one.sent_s >= patience_s
        )


class Incoming:
    """What comes from one member. Single-threaded."""

    def __init__(self, config: ChannelConfig) -> None:
        self._credits, self._ack_after_s = config.credits, config.ack_after_s
        self._next = 0
        self._held: dict[int, Packet] = {}
        self._pieces: list[Packet] = []
        self._unsaid = 0
        self._unsaid_s = 0.0
        self._must_say = False
        self.num_repeated = 0
        self.num_unusable = 0

    @property
    def ack_due_s(self) -> float:
        """When the sender should be told something, if nothing goes there earlier."""
        if self._must_say or self._unsaid >= _ACK_EVERY:
            return float("-inf")
        return self._unsaid_s + self._ack_after_s if self._unsaid else float("inf")

    def say(self) -> None:
        """The sender must be told, for example because there is room again."""
        self._must_say = True

    def ack(self, *, has_room: bool) -> Ack:
        """What to tell the sender; without room it gets no new credit."""
        self._unsaid, self._must_say = 0, False
        return Ack(
            ack=self._next,
            limit=self._next + (self._credits if has_room else 0),
            selective=tuple(sorted(self._held)),
        )

    def on_data(self, packet: Packet, now_s: float) -> list[Message]:
        """Take a packet and give back the messages that it completes."""
        sequence = packet.sequence
        if sequence < self._next or sequence in self._held:
            self.num_repeated += 1
            self._must_say = True
            return []
        if sequence >= self._next + 2 * self._credits or packet.chunk >= packet.num_chunks:
            self.num_unusable += 1  # no sender of ours sends so far ahead
            return []
        self._held[sequence] = packet
        self._unsaid_s = self._unsaid_s if self._unsaid else now_s
        self._unsaid += 1
        messages = []
        while (following := self._held.pop(self._next, None)) is not None:
            self._next += 1
            self._pieces.append(following)
            if following.chunk + 1 == following.num_chunks:
                messages.append(_message(self._pieces))
                self._pieces = []
        if self._held:
            self._must_say = True
        return messages


def _message(pieces: list[Packet]) -> Message:
    head = pieces[0]
    return Message(
        source=head.source,
        group=head.group,
        tag=head.tag,
        step=head.step,
        dtype=head.dtype,
        encoding=head.encoding,
        shape=head.shape,
        chunks=tuple(piece.data for piece in pieces),
    )
