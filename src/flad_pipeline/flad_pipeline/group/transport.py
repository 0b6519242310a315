# SPDX-License-Identifier: Apache-2.0
"""Messages between the members of a group, over any link: epochs, deadlines, abort.

One transport stands for one vehicle for as long as its process lives; groups form and end on it by
:meth:`Transport.enter`, which makes no endpoint and starts no thread. What goes over one channel is
:mod:`flad_pipeline.group.channel`, how PyTorch uses it :mod:`flad_pipeline.group.process_group`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from flad_common.config import knob, section
from flad_common.error_codes import GROUP_OVER, PEER_LATE, PEER_LOST, ErrorCode, FladError
from flad_pipeline.group.channel import Ack, ChannelConfig, Incoming, Message, Outgoing
from flad_pipeline.group.link import Link, LinkEvents
from flad_pipeline.group.mailbox import Mailbox, Slot
from flad_pipeline.group.packet import Kind, Packet, is_whole, signed
from flad_pipeline.wire import Encoded

_log = logging.getLogger(__name__)

_ANSWER_PERIOD_S = 0.1  # to somebody of another epoch, or of one that is over
_FAREWELL_S = 2.0
_WORKING = "working"
_IDLE = "idle"


@dataclass(frozen=True, kw_only=True)
class TransportConfig:
    """Waits and bounds of a vehicle's transport."""

    timeout_s: float = knob(30.0, unit="s", doc="Deadline of a wait that names none of its own.")
    outbox_bytes: int = knob(
        268_435_456, unit="B", doc="Waiting for one member; a send above it waits for room."
    )
    mailbox_bytes: int = knob(
        268_435_456, unit="B", doc="Arrived from one member and not taken; above it, no credit."
    )
    heartbeat_s: float = knob(0.25, unit="s", doc="Time between two words on progress.")
    silent_after_s: float = knob(
        5.0, unit="s", doc="A member that says nothing for so long is lost; 0: never."
    )
    hang_after_s: float = knob(
        0.0, unit="s", doc="So is one that works, waits for nobody and gets nowhere; 0: never."
    )
    channel: ChannelConfig = section(ChannelConfig, doc="Flow control between two members.")

    def __post_init__(self) -> None:
        for name in ("timeout_s", "heartbeat_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("silent_after_s", "hang_after_s"):
            if getattr(self, name) < 0.0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if 0.0 < self.silent_after_s <= 2.0 * self.heartbeat_s:
            raise ValueError(
                f"silent_after_s must be more than two heartbeats of {self.heartbeat_s} s, "
                f"got {self.silent_after_s}"
            )
        for name in ("outbox_bytes", "mailbox_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class GroupError(FladError):
    """A group cannot go on.

    Attributes:
        lost: the member that was lost or late; empty if none was.
    """

    def __init__(self, code: ErrorCode, detail: str, lost: str = "") -> None:
        super().__init__(code, detail)
        self.lost = lost


@dataclass(frozen=True, kw_only=True)
class Membership:
    """Who is together, and since which epoch."""

    epoch: int
    members: tuple[str, ...]


@dataclass(slots=True)
class _Member:
    outgoing: Outgoing
    incoming: Incoming
    heard_s: float
    progress: int
    progress_s: float
    state: str = _IDLE
    num_waiting: int = 0


class Transport:
    """Sends and receives for one vehicle. Every method may be called from any thread.

    A send queues its message and returns; one thread passes packets to the link. A receive waits.
    Every wait ends by its deadline, or as soon as the epoch is over, with a :class:`GroupError`
    that names who was missing.

    Args:
        link: carries the packets; closed with the transport.
        config: waits and bounds.
        on_abort: told once per epoch that is over before its time, from any thread.
    """

    def __init__(
        self,
        link: Link,
        config: TransportConfig | None = None,
        on_abort: Callable[[GroupError], None] | None = None,
    ) -> None:
        self._link = link
        self._config = config or TransportConfig()
        self._on_abort = on_abort
        self._changed = threading.Condition()
        self._counts: Counter[str] = Counter()
        self._membership = Membership(epoch=0, members=())
        self._members: dict[str, _Member] = {}
        self._mailbox = Mailbox()
        self._over: GroupError | None = None
        self._urgent: deque[Packet] = deque()
        self._early: deque[Packet] = deque()
        self._answered_s: dict[str, float] = {}
        self._progress = 0
        self._working = False
        self._heartbeat_due_s = 0.0
        self._turn = 0
        self._closed = False
        self._pump = threading.Thread(
            target=self._run, name=f"transport of {link.name}", daemon=True
        )
        link.open(LinkEvents(on_packet=self._on_packet, on_lost=self._on_lost))
        self._pump.start()

    @property
    def name(self) -> str:
        """This vehicle's name."""
        return self._link.name

    @property
    def config(self) -> TransportConfig:
        """Waits and bounds."""
        return self._config

    @property
    def membership(self) -> Membership:
        """Who is together now; epoch 0 before the first group."""
        with self._changed:
            return self._membership

    def is_in(self, epoch: int) -> bool:
        """Whether this vehicle is in ``epoch`` and that is not over."""
        with self._changed:
            return epoch == self._membership.epoch and self._over is None and not self._closed

    def counts(self) -> dict[str, int]:
        """What has been sent, received, repeated and dropped since the start, by name."""
        with self._changed:
            counts = Counter(self._counts)
            for member in self._members.values():
                counts.update(_channel_counts(member))
            return dict(sorted(counts.items()))

    def enter(self, epoch: int, members: Sequence[str]) -> None:
        """Begin an epoch with these members; everything of the one before is dropped.

        Raises:
            ValueError: if the epoch is not above the one before, or the members are not different
                names with this vehicle's among them.
        """
        if self.name not in members or len(set(members)) != len(members):
            raise ValueError(
                f"members must be different names with {self.name!r} among them, got {members}"
            )
        with self._changed:
            if epoch <= self._membership.epoch:
                raise ValueError(
                    f"epochs grow: {self.name} is in {self._membership.epoch}, asked for {epoch}"
                )
            self._leave()
            now_s = time.monotonic()
            self._membership = Membership(epoch=epoch, members=tuple(members))
            self._members = {
                name: _Member(
                    outgoing=Outgoing(self._config.channel),
                    incoming=Incoming(self._config.channel),
                    heard_s=now_s,
                    progress=0,
                    progress_s=now_s,
                )
                for name in members
                if name != self.name
            }
            self._over = None
            self._working = False
            self._heartbeat_due_s = now_s
            early, self._early = self._early, deque()
            for packet in early:
                self._sort(packet)
            self._changed.notify_all()

    def send(
        self,
        destination: str,
        encoded: Encoded,
        *,
        epoch: int,
        group: int = 0,
        tag: int = 0,
        step: int = 0,
        timeout_s: float | None = None,
    ) -> None:
        """Queue a tensor for a member; returns at once while there is room in its outbox.

        Raises:
            GroupError: if the epoch is over, or no room came before the deadline.
            ValueError: if ``destination`` is not a member.
        """
        head = Packet(
            kind=Kind.DATA,
            source=self.name,
            destination=destination,
            epoch=epoch,
            group=group,
            tag=tag,
            step=step,
            dtype=encoded.dtype,
            encoding=int(encoded.encoding),
            shape=encoded.shape,
        )
        with self._changed:
            member = self._member(destination, epoch)
            room = self._config.outbox_bytes
            if member.outgoing.num_bytes + encoded.num_bytes > room:
                self._wait_for(
                    destination,
                    epoch,
                    lambda: (
                        member.outgoing.num_bytes + encoded.num_bytes <= room
                        or member.outgoing.num_bytes == 0
                    ),  # larger than any room: alone, then
                    timeout_s,
                    lambda: (
                        f"room for {encoded.num_bytes} bytes to {destination}, where "
                        f"{member.outgoing.num_bytes} of {room} wait already"
                    ),
                )
            member.outgoing.push(head, encoded.chunks)
            self._counts["messages_sent"] += 1
            self._counts["bytes_sent"] += encoded.num_bytes
            self._counts[f"messages_{encoded.encoding.name.lower()}"] += 1
            self._progress += 1
            self._changed.notify_all()

    def expect(self, source: str, *, epoch: int, group: int = 0, tag: int = 0) -> Slot:
        """Reserve the next message of a source, group and tag, for :meth:`receive`.

        Raises:
            GroupError: if this vehicle is in another epoch.
            ValueError: if ``source`` is not a member.
        """
        with self._changed:
            self._member(source, epoch, even_if_over=True)
            return self._mailbox.reserve(source, group, tag)

    def receive(self, slot: Slot, *, epoch: int, timeout_s: float | None = None) -> Message:
        """Wait for the message of a slot; what has arrived can be had also when the epoch is over.

        Raises:
            GroupError: if the epoch is over or the deadline passed; it names who was missing.
        """
        with self._changed:
            member = self._member(slot.source, epoch, even_if_over=True)
            found: list[Message] = []

            def arrived() -> bool:
                message = self._mailbox.take(slot)
                if message is not None:
                    found.append(message)
                return message is not None

            if not arrived():
                if not self._has_room(slot.source):
                    member.incoming.say()  # what it holds is not what is wanted: take one more
                    self._changed.notify_all()
                self._wait_for(
                    slot.source,
                    epoch,
                    arrived,
                    timeout_s,
                    lambda: (
                        f"{slot} from {slot.source}, of whom there is "
                        f"{self._mailbox.describe(slot.source)}"
                    ),
                )
            if self._mailbox.num_bytes(slot.source) + found[0].num_bytes > (
                self._config.mailbox_bytes
            ):
                member.incoming.say()
                self._changed.notify_all()
            self._progress += 1
            return found[0]

    def has_arrived(self, slot: Slot) -> bool:
        """Whether :meth:`receive` would not wait."""
        with self._changed:
            return self._over is not None or self._mailbox.has(slot)

    def abort(self, reason: str, lost: str = "") -> None:
        """End this epoch for every member: whoever waits is woken and told why.

        Args:
            reason: in words.
            lost: the member that is gone, if one is.
        """
        with self._changed:
            self._abort(reason, lost, tell=True)

    @contextmanager
    def working(self) -> Iterator[None]:
        """While this runs, the others may take a standstill of this vehicle for a hang."""
        with self._changed:
            self._working = True
            self._progress += 1
        try:
            yield
        finally:
            with self._changed:
                self._working = False

    def note_progress(self) -> None:
        """Say that something was finished that is neither a send nor a receive."""
        with self._changed:
            self._progress += 1

    def drain(self, timeout_s: float | None = None) -> None:
        """Wait until everything that was sent has arrived.

        Raises:
            GroupError: if the epoch is over, or the deadline passed.
        """
        with self._changed:
            epoch = self._membership.epoch
            for name, member in self._members.items():
                self._drain(name, member.outgoing, epoch, timeout_s)

    def close(self) -> None:
        """Pass on what is queued, for a moment, and let go of the link."""
        try:
            self.drain(_FAREWELL_S)
        except GroupError as error:
            _log.debug("%s closes before all was sent: %s", self.name, error)
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._leave()
            self._changed.notify_all()
        self._pump.join()
        self._link.close()

    # --- waiting, with the lock -----------------------------------------------------------------

    def _wait_for(
        self,
        peer: str,
        epoch: int,
        done: Callable[[], bool],
        timeout_s: float | None,
        what: Callable[[], str],
    ) -> None:
        allowed_s = self._config.timeout_s if timeout_s is None else timeout_s
        deadline_s = time.monotonic() + allowed_s
        member = self._members[peer]
        member.num_waiting += 1
        try:
            while not done():
                self._check(epoch)
                left_s = deadline_s - time.monotonic()
                if left_s <= 0.0:
                    raise GroupError(
                        PEER_LATE,
                        f"{self.name} waited {allowed_s:g} s in epoch {epoch} for {what()}. "
                        f"{self._said_of(peer)}",
                        lost=peer,
                    )
                self._changed.wait(left_s)
        finally:
            member.num_waiting -= 1

    def _drain(self, name: str, outgoing: Outgoing, epoch: int, timeout_s: float | None) -> None:
        if outgoing.num_bytes:
            self._wait_for(
                name,
                epoch,
                lambda: outgoing.num_bytes == 0,
                timeout_s,
                lambda: f"{name} to take {outgoing.num_bytes} bytes",
            )

    def _member(self, name: str, epoch: int, *, even_if_over: bool = False) -> _Member:
        self._check(epoch, even_if_over=even_if_over)
        if name not in self._members:
            raise ValueError(
                f"{name!r} is no other member of epoch {epoch}; there are {sorted(self._members)}"
            )
        return self._members[name]

    def _check(self, epoch: int, *, even_if_over: bool = False) -> None:
        if self._closed or epoch != self._membership.epoch:
            now = "closed" if self._closed else f"in epoch {self._membership.epoch}"
            raise GroupError(GROUP_OVER, f"{self.name} is {now}, and this was epoch {epoch}")
        if self._over is not None and not even_if_over:
            raise GroupError(self._over.code, self._over.detail, self._over.lost)

    def _said_of(self, peer: str) -> str:
        member = self._members[peer]
        return (
            f"{peer} was last heard {time.monotonic() - member.heard_s:.1f} s ago and said: "
            f"{member.state}, progress {member.progress}"
        )

    def _has_room(self, source: str) -> bool:
        return self._mailbox.num_bytes(source) < self._config.mailbox_bytes

    def _leave(self) -> None:
        for member in self._members.values():
            self._counts.update(_channel_counts(member))
            self._counts["bytes_dropped_at_end"] += member.outgoing.num_bytes
        self._members = {}
        self._mailbox = Mailbox()
        self._urgent = deque(packet for packet in self._urgent if packet.kind == Kind.ABORT)

    def _abort(self, reason: str, lost: str, *, tell: bool, code: ErrorCode = PEER_LOST) -> None:
        if self._over is not None or self._membership.epoch == 0:
            return
        epoch = self._membership.epoch
        who = f"{lost} is lost" if lost else "given up"
        self._over = error = GroupError(code, f"epoch {epoch}, {who}: {reason}", lost)
        if tell:
            self._urgent.extend(self._abort_packet(name) for name in self._members if name != lost)
        self._changed.notify_all()
        if self._on_abort is not None:
            threading.Thread(target=self._on_abort, args=(error,), daemon=True).start()

    def _abort_packet(self, destination: str, epoch: int | None = None) -> Packet:
        reason = "it has left for a later epoch" if self._over is None else self._over.detail
        return Packet(
            kind=Kind.ABORT,
            source=self.name,
            destination=destination,
            epoch=self._membership.epoch if epoch is None else epoch,
            subject="" if self._over is None else self._over.lost,
            text=reason,
        )

    # --- what the link says ---------------------------------------------------------------------

    def _on_lost(self, name: str, how: str) -> None:
        with self._changed:
            if name in self._members:
                self._abort(how, name, tell=True)

    def _on_packet(self, packet: Packet) -> None:
        whole = is_whole(packet)  # outside the lock: it takes a while
        with self._changed:
            if not whole:
                self._counts["dropped_corrupt"] += 1
            elif packet.destination != self.name:
                self._counts["dropped_misaddressed"] += 1
            elif not self._closed:
                self._sort(packet)

    def _sort(self, packet: Packet) -> None:
        """By epoch and source; the lock is held."""
        epoch = self._membership.epoch
        if packet.epoch > epoch:
            self._keep_early(packet)
        elif packet.epoch < epoch:
            self._counts["dropped_stale"] += 1
            if packet.kind in (Kind.DATA, Kind.HEARTBEAT):
                self._answer(packet)
        elif packet.source not in self._members:
            self._counts["dropped_stranger"] += 1
        else:
            self._use(packet, self._members[packet.source])

    def _use(self, packet: Packet, member: _Member) -> None:
        now_s = member.heard_s = time.monotonic()
        if packet.kind == Kind.ABORT:
            code = PEER_LOST if packet.subject else GROUP_OVER
            reason = f"{packet.source} says: {packet.text}"
            self._abort(reason, packet.subject, tell=False, code=code)
        elif packet.kind == Kind.HEARTBEAT:
            if packet.progress != member.progress or packet.text != member.state:
                member.progress, member.state = packet.progress, packet.text
                member.progress_s = now_s
            if self._over is not None:
                self._answer(packet)
        elif packet.kind in (Kind.DATA, Kind.ACK):
            ack = Ack(ack=packet.ack, limit=packet.limit, selective=packet.selective)
            member.outgoing.on_ack(ack, now_s)
            if packet.kind == Kind.DATA:
                self._store(packet, member)
            self._changed.notify_all()
        else:
            self._counts["dropped_corrupt"] += 1

    def _store(self, packet: Packet, member: _Member) -> None:
        for message in member.incoming.on_data(packet):
            self._mailbox.put(message)
            self._counts["messages_received"] += 1
            self._counts["bytes_received"] += message.num_bytes

    def _keep_early(self, packet: Packet) -> None:
        """Of an epoch that this vehicle will enter, perhaps: the newest one is kept, in bounds."""
        if self._early and self._early[0].epoch < packet.epoch:
            self._counts["dropped_early"] += len(self._early)
            self._early.clear()
        held = sum(1 for early in self._early if early.source == packet.source)
        older = bool(self._early) and packet.epoch < self._early[0].epoch
        if older or held >= 2 * self._config.channel.credits:
            self._counts["dropped_early"] += 1
        else:
            self._early.append(packet)

    def _answer(self, packet: Packet) -> None:
        """Tell somebody that its epoch is over, now and then."""
        now_s = time.monotonic()
        if now_s - self._answered_s.get(packet.source, float("-inf")) >= _ANSWER_PERIOD_S:
            self._answered_s[packet.source] = now_s
            self._urgent.append(self._abort_packet(packet.source, packet.epoch))
            self._changed.notify_all()

    # --- the thread that sends ------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                while (packet := self._next_packet()) is None:
                    if self._closed:
                        return
                    self._changed.wait(max(0.0, self._due_s() - time.monotonic()))
                self._counts["packets_sent"] += 1
            try:
                self._link.send(signed(packet))
            except Exception:
                _log.exception("%s could not pass on a packet to %s", self.name, packet.destination)
                with self._changed:
                    self._counts["dropped_unsendable"] += 1

    def _next_packet(self) -> Packet | None:
        if self._urgent:
            return self._urgent.popleft()
        if self._closed or self._over is not None:
            return None
        now_s = time.monotonic()
        if now_s >= self._heartbeat_due_s:
            self._beat(now_s)
            if self._urgent:
                return self._urgent.popleft()
        names = list(self._members)
        for index in range(len(names)):  # in turn, so that a slow one does not starve the others
            name = names[(self._turn + index) % len(names)]
            if (packet := self._next_packet_to(name, now_s)) is not None:
                self._turn = (self._turn + index + 1) % len(names)
                return packet
        return None

    def _next_packet_to(self, name: str, now_s: float) -> Packet | None:
        member = self._members[name]
        packet = member.outgoing.next_packet(now_s)
        if packet is None:
            if not member.incoming.ack_due:
                return None
            packet = Packet(
                kind=Kind.ACK,
                source=self.name,
                destination=name,
                epoch=self._membership.epoch,
            )
        said = member.incoming.ack(has_room=self._has_room(name) or member.num_waiting > 0)
        return replace(packet, ack=said.ack, limit=said.limit, selective=said.selective)

    def _due_s(self) -> float:
        if self._over is not None or not self._members:
            return time.monotonic() + self._config.heartbeat_s
        due_s = min(member.outgoing.due_s() for member in self._members.values())
        return min(due_s, self._heartbeat_due_s)

    def _beat(self, now_s: float) -> None:
        """Say how far this vehicle is, and look at what the others said."""
        slept_s = now_s - self._heartbeat_due_s
        self._heartbeat_due_s = now_s + self._config.heartbeat_s
        waits_for = [name for name, member in self._members.items() if member.num_waiting]
        state = f"waits for {', '.join(waits_for)}" if waits_for else _WORKING
        if not waits_for and not self._working:
            state = _IDLE
        self._urgent.extend(
            Packet(
                kind=Kind.HEARTBEAT,
                source=self.name,
                destination=name,
                epoch=self._membership.epoch,
                progress=self._progress,
                text=state,
            )
            for name in self._members
        )
        if slept_s > self._config.heartbeat_s:  # then this vehicle has not listened, either
            for member in self._members.values():
                member.heard_s = member.progress_s = now_s
        for name, member in self._members.items():
            silent_s, stands_s = now_s - member.heard_s, now_s - member.progress_s
            if 0.0 < self._config.silent_after_s <= silent_s:
                self._abort(f"it said nothing for {silent_s:.1f} s", name, tell=True)
            hangs = member.state == _WORKING and 0.0 < self._config.hang_after_s <= stands_s
            if hangs:
                reason = f"it works, waits for nobody and got nowhere for {stands_s:.1f} s"
                self._abort(reason, name, tell=True)


def _channel_counts(member: _Member) -> dict[str, int]:
    return {
        "packets_repeated": member.outgoing.num_repeated,
        "dropped_repeated": member.incoming.num_repeated,
        "dropped_unusable": member.incoming.num_unusable,
    }
