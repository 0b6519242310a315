# SPDX-License-Identifier: Apache-2.0
"""Messages between the members of a group, over any link: epochs, deadlines, abort.

One transport stands for one vehicle for as long as its process lives; groups form and end on it by
:meth:`Transport.enter`, which makes no endpoint and starts no thread. Here are its lock, its waits
and who passes packets on; what is sent and received is :mod:`flad_pipeline.group.lanes`, how
PyTorch uses it :mod:`flad_pipeline.group.process_group`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from flad_common.error_codes import GROUP_OVER, PEER_LATE
from flad_pipeline.group.channel import Message
from flad_pipeline.group.deadlines import GroupError, TransportConfig
from flad_pipeline.group.lanes import Lane, Lanes, Membership
from flad_pipeline.group.link import Link, LinkEvents
from flad_pipeline.group.mailbox import Slot
from flad_pipeline.group.packet import Kind, Packet, is_whole, signed
from flad_pipeline.wire import Encoded

_log = logging.getLogger(__name__)

_FAREWELL_S = 2.0
_TURN_S = 1.0  # between two looks whether the thread that passes packets on has ended


class Transport:
    """Sends and receives for one vehicle. Every method may be called from any thread.

    A send queues its message and returns; a receive waits. Every wait ends by its deadline, or as
    soon as the epoch is over, with a :class:`GroupError` that names who was missing.

    One thread at a time passes packets to the link. Where that never blocks, it is whoever has made
    a packet possible: the sender, or the link's thread that has brought word of arrival. Another
    thread woken for each packet took longer than the packet. Where it blocks, and for what is due
    by the clock, it is a thread of the transport's own.

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
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        """What a wait waits for may have happened."""
        self._due = threading.Condition(lock)
        """The own thread has something to do earlier than it thought."""
        self._wakes_s = 0.0
        """When it thinks that it has."""
        self._must_look = False
        self._is_passing_on = False
        self._num_waits_for_room = 0
        self._lanes = Lanes(link.name, self._config, self._tell_over)
        self._closed = False
        self._pump = threading.Thread(
            target=self._run, name=f"transport of {link.name}", daemon=True
        )
        link.open(
            LinkEvents(
                on_packet=self._on_packet,
                on_lost=self._on_lost,
                on_malformed=self._on_malformed,
            )
        )
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
            return self._lanes.membership

    def is_in(self, epoch: int) -> bool:
        """Whether this vehicle is in ``epoch`` and that is not over."""
        with self._changed:
            here = epoch == self._lanes.membership.epoch
            return here and self._lanes.over is None and not self._closed

    def counts(self) -> dict[str, int]:
        """What has been sent, received, repeated and dropped since the start, by name."""
        with self._changed:
            return self._lanes.total_counts()

    def enter(self, epoch: int, members: Sequence[str]) -> None:
        """Begin an epoch with these members; everything of the one before is dropped.

        Raises:
            ValueError: if the epoch is not above the one before, or the members are not different
                names with this vehicle's among them.
        """
        with self._changed:
            self._lanes.enter(epoch, members, time.monotonic())
            self._changed.notify_all()
        self._pass_on()

    def chunk_bytes_to(self, destination: str, *, epoch: int) -> int:
        """Into what pieces a tensor for a member should be cut now.

        Raises:
            GroupError: if the epoch is over.
            ValueError: if ``destination`` is not a member.
        """
        with self._changed:
            return self._lane(destination, epoch).outgoing.chunk_bytes

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
        room = self._config.outbox_bytes
        with self._changed:
            outgoing = self._lane(destination, epoch).outgoing
            self._wait_for_room(
                destination,
                epoch,
                lambda: (
                    outgoing.num_bytes + encoded.num_bytes <= room or outgoing.num_bytes == 0
                ),  # larger than any room: alone, then
                timeout_s,
                lambda: (
                    f"room for {encoded.num_bytes} bytes to {destination}, where "
                    f"{outgoing.num_bytes} of {room} wait already"
                ),
            )
            outgoing.push(head, encoded.chunks)
            counts = self._lanes.counts
            counts["messages_sent"] += 1
            counts["bytes_sent"] += encoded.num_bytes
            counts[f"messages_{encoded.encoding.name.lower()}"] += 1
            self._lanes.progress += 1
        self._pass_on()

    def expect(self, source: str, *, epoch: int, group: int = 0, tag: int = 0) -> Slot:
        """Reserve the next message of a source, group and tag, for :meth:`receive`.

        Raises:
            GroupError: if this vehicle is in another epoch.
            ValueError: if ``source`` is not a member.
        """
        with self._changed:
            self._lane(source, epoch, even_if_over=True)
            return self._lanes.mailbox.reserve(source, group, tag)

    def receive(self, slot: Slot, *, epoch: int, timeout_s: float | None = None) -> Message:
        """Wait for the message of a slot; what has arrived can be had also when the epoch is over.

        Raises:
            GroupError: if the epoch is over or the deadline passed; it names who was missing.
        """
        with self._changed:
            lane = self._lane(slot.source, epoch, even_if_over=True)
            mailbox = self._lanes.mailbox
            found: list[Message] = []

            def arrived() -> bool:
                message = mailbox.take(slot)
                if message is not None:
                    found.append(message)
                return message is not None

            if not mailbox.has(slot) and not self._lanes.has_room(slot.source):
                lane.incoming.say()  # what it holds is not what is wanted: take one more
                self._wake()
            self._wait_for(
                slot.source,
                epoch,
                arrived,
                timeout_s,
                lambda: (
                    f"{slot} from {slot.source}, of whom there is {mailbox.describe(slot.source)}"
                ),
            )
            held = mailbox.num_bytes(slot.source) + found[0].num_bytes
            if held > self._config.mailbox_bytes:
                lane.incoming.say()
                self._wake()
            self._lanes.progress += 1
            return found[0]

    def wait_for_call(self, source: str, timeout_s: float) -> int | None:
        """Wait until ``source`` has sent this vehicle the first message of a later epoch.

        Returns:
            The epoch, to be given to :meth:`enter`; None if none was called within ``timeout_s``.

        Raises:
            GroupError: if this transport is closed.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not self._closed:
                if (epoch := self._lanes.called_by(source)) is not None:
                    return epoch
                if (left_s := deadline_s - time.monotonic()) <= 0.0:
                    return None
                self._changed.wait(left_s)
        raise GroupError(GROUP_OVER, f"{self.name} is closed, and waited for a call of {source}")

    def has_arrived(self, slot: Slot) -> bool:
        """Whether :meth:`receive` would not wait."""
        with self._changed:
            left = any(name == slot.source and lane.has_left for name, lane in self._lanes.items())
            return left or self._lanes.over is not None or self._lanes.mailbox.has(slot)

    def abort(self, reason: str, lost: str = "") -> None:
        """End this epoch for every member: whoever waits is woken and told why.

        Args:
            reason: in words.
            lost: the member that is gone, if one is.
        """
        with self._changed:
            self._lanes.abort(reason, lost, tell=True)
        self._pass_on()

    @contextmanager
    def working(self) -> Iterator[None]:
        """While this runs, the others may take a standstill of this vehicle for a hang."""
        with self._changed:
            self._lanes.is_working = True
            self._lanes.progress += 1
        try:
            yield
        finally:
            with self._changed:
                self._lanes.is_working = False

    def note_progress(self) -> None:
        """Say that something was finished that is neither a send nor a receive."""
        with self._changed:
            self._lanes.progress += 1

    def drain(self, timeout_s: float | None = None) -> None:
        """Wait until everything that was sent has arrived.

        Raises:
            GroupError: if the epoch is over, or the deadline passed.
        """
        with self._changed:
            epoch = self._lanes.membership.epoch
            for name, lane in self._lanes.items():
                self._drain(name, lane, epoch, timeout_s)

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
            self._lanes.leave()
            self._changed.notify_all()
            self._wake()
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
        if done():
            return
        allowed_s = self._config.timeout_s if timeout_s is None else timeout_s
        deadline_s = time.monotonic() + allowed_s
        lane = self._lane(peer, epoch, even_if_over=True)
        lane.num_waiting += 1
        try:
            while True:
                self._check(epoch)
                if lane.has_left:
                    raise GroupError(
                        GROUP_OVER, f"{peer} has left epoch {epoch}, {self.name} wants {what()}"
                    )
                left_s = deadline_s - time.monotonic()
                if left_s <= 0.0:
                    raise GroupError(
                        PEER_LATE,
                        f"{self.name} waited {allowed_s:g} s in epoch {epoch} for {what()}. "
                        f"{_said(peer, lane)}",
                        lost=peer,
                    )
                self._changed.wait(left_s)
                if done():
                    return
        finally:
            lane.num_waiting -= 1

    def _wait_for_room(
        self,
        peer: str,
        epoch: int,
        done: Callable[[], bool],
        timeout_s: float | None,
        what: Callable[[], str],
    ) -> None:
        """The same for what ends by word of arrival."""
        self._num_waits_for_room += 1
        try:
            self._wait_for(peer, epoch, done, timeout_s, what)
        finally:
            self._num_waits_for_room -= 1

    def _drain(self, name: str, lane: Lane, epoch: int, timeout_s: float | None) -> None:
        outgoing = lane.outgoing
        self._wait_for_room(
            name,
            epoch,
            lambda: outgoing.num_bytes == 0,
            timeout_s,
            lambda: f"{name} to take {outgoing.num_bytes} bytes",
        )

    def _lane(self, name: str, epoch: int, *, even_if_over: bool = False) -> Lane:
        self._check(epoch, even_if_over=even_if_over)
        lane = self._lanes.lane(name, epoch, even_if_over=even_if_over)
        if lane.has_left and not even_if_over:
            raise GroupError(GROUP_OVER, f"{name} has left epoch {epoch}")
        return lane

    def _check(self, epoch: int, *, even_if_over: bool = False) -> None:
        if self._closed:
            raise GroupError(GROUP_OVER, f"{self.name} is closed, and this was epoch {epoch}")
        self._lanes.check(epoch, even_if_over=even_if_over)

    def _tell_over(self, error: GroupError) -> None:
        self._changed.notify_all()
        if self._on_abort is not None:
            threading.Thread(target=self._on_abort, args=(error,), daemon=True).start()

    # --- the link's threads, and who sends -------------------------------------------------------

    def _on_lost(self, name: str, how: str) -> None:
        with self._changed:
            self._lanes.on_lost(name, how)
        self._pass_on()

    def _on_malformed(self, reason: str) -> None:
        with self._changed:
            counts = self._lanes.counts
            counts["dropped_malformed"] += 1
            is_first = counts["dropped_malformed"] == 1
        if is_first:
            _log.warning("%s dropped bytes that are no packet: %s", self.name, reason)

    def _on_packet(self, packet: Packet) -> None:
        whole = is_whole(packet)  # outside the lock: it takes a while
        with self._changed:
            if self._closed:
                return
            counts = self._lanes.counts
            before = counts["messages_received"]
            is_early = packet.epoch > self._lanes.membership.epoch
            self._lanes.on_packet(packet, is_whole=whole, now_s=time.monotonic())
            # Only then can a wait be over: a thread that is woken for nothing costs the others.
            is_word = is_early or packet.kind == Kind.LEFT
            if counts["messages_received"] > before or is_word or self._num_waits_for_room:
                self._changed.notify_all()
        self._pass_on()

    def _pass_on(self) -> None:
        """See that what may go out does; without the lock."""
        with self._changed:
            if self._link.blocks:
                self._wake()
                return
            if self._is_passing_on:
                return  # who does looks again before it ends
            self._is_passing_on = True
        self._empty()

    def _wake(self) -> None:
        """Let the own thread look for packets; with the lock."""
        self._must_look = True
        self._due.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while True:
                    left_s = self._wakes_s - time.monotonic()
                    if self._is_passing_on:
                        self._wakes_s, left_s = float("inf"), _TURN_S
                    elif self._must_look or left_s <= 0.0:
                        break
                    elif self._closed:
                        return
                    self._due.wait(left_s)
                self._must_look, self._is_passing_on = False, True
            self._empty()

    def _empty(self) -> None:
        """Pass on packets until there is none; by the one thread that has set the flag."""
        while True:
            with self._changed:
                packet = self._lanes.next_packet(time.monotonic())
                if packet is None:
                    self._is_passing_on = False
                    due_s = self._lanes.due_s(time.monotonic())
                    if due_s < self._wakes_s:
                        self._due.notify()
                    self._wakes_s = due_s
                    return
                self._lanes.counts["packets_sent"] += 1
            try:
                self._link.send(signed(packet))
            except Exception:
                _log.exception("%s could not pass on a packet to %s", self.name, packet.destination)
                with self._changed:
                    self._lanes.counts["dropped_unsendable"] += 1


def _said(peer: str, lane: Lane) -> str:
    return (
        f"{peer} was last heard {time.monotonic() - lane.heard_s:.1f} s ago and said: "
        f"{lane.state}, progress {lane.progress}"
    )
