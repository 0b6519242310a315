# SPDX-License-Identifier: Apache-2.0
"""A vehicle's lanes to the other members of its epoch: what may go out, what has come in.

No threads and no clock: :class:`flad_pipeline.group.transport.Transport` has the lock, waits, and
drives this; one way between two members is :mod:`flad_pipeline.group.channel`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from flad_common.error_codes import GROUP_OVER, PEER_LOST, ErrorCode
from flad_pipeline.group.channel import Ack, Incoming, Outgoing
from flad_pipeline.group.deadlines import GroupError, TransportConfig
from flad_pipeline.group.mailbox import Mailbox
from flad_pipeline.group.packet import Kind, Packet

_ANSWER_PERIOD_S = 0.1  # to somebody of another epoch, or of one that is over
_EPOCHS_KEPT = 8  # of which is known how they ended
WORKING = "working"
IDLE = "idle"


@dataclass(frozen=True, kw_only=True)
class Membership:
    """Who is together, and since which epoch."""

    epoch: int
    members: tuple[str, ...]


@dataclass(slots=True)
class Lane:
    """Both ways between this vehicle and one member."""

    outgoing: Outgoing
    incoming: Incoming
    heard_s: float
    progress: int
    progress_s: float
    state: str = IDLE
    num_waiting: int = 0
    """Threads here that wait for this member."""
    has_left: bool = False
    """It is done with this epoch and in a later one; what it sent has arrived."""


class Lanes:
    """The members of an epoch. Single-threaded: its owner has a lock.

    Args:
        name: this vehicle's.
        config: bounds.
        on_over: told when an epoch is over before its time.
    """

    def __init__(
        self, name: str, config: TransportConfig, on_over: Callable[[GroupError], None]
    ) -> None:
        self._name, self._config, self._on_over = name, config, on_over
        self.counts: Counter[str] = Counter()
        self.membership = Membership(epoch=0, members=())
        self.mailbox = Mailbox()
        self.over: GroupError | None = None
        self.is_working = False
        self.progress = 0
        self._lanes: dict[str, Lane] = {}
        self._ended: dict[int, GroupError] = {}
        self._urgent: deque[Packet] = deque()
        self._early: deque[Packet] = deque()
        self._answered_s: dict[str, float] = {}
        self._heartbeat_due_s = 0.0
        self._turn = 0

    # --- epochs ---------------------------------------------------------------------------------

    def enter(self, epoch: int, members: Sequence[str], now_s: float) -> None:
        """Begin an epoch; everything of the one before is dropped.

        Raises:
            ValueError: if the epoch is not above the one before, or the members are not different
                names with this vehicle's among them.
        """
        if self._name not in members or len(set(members)) != len(members):
            raise ValueError(
                f"members must be different names with {self._name!r} among them, got {members}"
            )
        if epoch <= self.membership.epoch:
            raise ValueError(
                f"epochs grow: {self._name} is in {self.membership.epoch}, asked for {epoch}"
            )
        self.leave()
        self.membership = Membership(epoch=epoch, members=tuple(members))
        self._lanes = {
            name: Lane(
                outgoing=Outgoing(self._config.channel),
                incoming=Incoming(self._config.channel),
                heard_s=now_s,
                progress=0,
                progress_s=now_s,
            )
            for name in members
            if name != self._name
        }
        self.over, self.is_working, self._heartbeat_due_s = None, False, now_s
        early, self._early = self._early, deque()
        for packet in early:
            self._sort(packet, now_s)

    def leave(self) -> None:
        """Let go of the members; words that end an epoch still go out."""
        if self.over is not None:
            self._note_end(self.membership.epoch, self.over)
        for lane in self._lanes.values():
            self.counts.update(_channel_counts(lane))
            self.counts["bytes_dropped_at_end"] += lane.outgoing.num_bytes
        self._lanes = {}
        self.mailbox = Mailbox()
        self._urgent = deque(p for p in self._urgent if p.kind in (Kind.ABORT, Kind.LEFT))

    def check(self, epoch: int, *, even_if_over: bool = False) -> None:
        """That this vehicle is in ``epoch``, and that goes on.

        Raises:
            GroupError: if not.
        """
        if epoch != self.membership.epoch:
            raise GroupError(
                GROUP_OVER,
                f"{self._name} is in epoch {self.membership.epoch}, and this was epoch {epoch}",
            )
        if self.over is not None and not even_if_over:
            raise GroupError(self.over.code, self.over.detail, self.over.lost)

    def lane(self, name: str, epoch: int, *, even_if_over: bool = False) -> Lane:
        """The lane to a member.

        Raises:
            GroupError: if this vehicle is not in ``epoch``.
            ValueError: if ``name`` is no other member.
        """
        self.check(epoch, even_if_over=even_if_over)
        if name not in self._lanes:
            raise ValueError(
                f"{name!r} is no other member of epoch {epoch}; there are {sorted(self._lanes)}"
            )
        return self._lanes[name]

    def items(self) -> list[tuple[str, Lane]]:
        """All lanes."""
        return list(self._lanes.items())

    def abort(
        self, reason: str, lost: str = "", *, tell: bool, code: ErrorCode = PEER_LOST
    ) -> None:
        """This epoch is over; ``tell`` the others, except who is lost."""
        if self.over is not None or self.membership.epoch == 0:
            return
        epoch = self.membership.epoch
        who = f"{lost} is lost" if lost else "given up"
        self.over = error = GroupError(code, f"epoch {epoch}, {who}: {reason}", lost)
        if tell:
            self._urgent.extend(
                self._end_packet(name, epoch) for name in self._lanes if name != lost
            )
        self._on_over(error)

    def on_lost(self, name: str, how: str) -> None:
        """The link knows that a vehicle is gone."""
        if name in self._lanes and not self._lanes[name].has_left:
            self.abort(how, name, tell=True)

    def total_counts(self) -> dict[str, int]:
        """Since the start, by name."""
        counts = Counter(self.counts)
        for lane in self._lanes.values():
            counts.update(_channel_counts(lane))
        return dict(sorted(counts.items()))

    def called_by(self, source: str) -> int | None:
        """The later epoch that ``source`` has begun with this vehicle; None if there is none.

        Only its first packet says so: who has lost its place in an epoch cannot come back to it.
        """
        for packet in self._early:
            if (packet.source, packet.kind, packet.sequence) == (source, Kind.DATA, 0):
                return packet.epoch
        return None

    def has_room(self, source: str) -> bool:
        """Whether the mailbox takes more of a member."""
        return self.mailbox.num_bytes(source) < self._config.mailbox_bytes

    # --- what comes in --------------------------------------------------------------------------

    def on_packet(self, packet: Packet, *, is_whole: bool, now_s: float) -> None:
        """Take a packet, or count why it is dropped."""
        if not is_whole:
            self.counts["dropped_corrupt"] += 1
        elif packet.destination != self._name:
            self.counts["dropped_misaddressed"] += 1
        else:
            self._sort(packet, now_s)

    def _sort(self, packet: Packet, now_s: float) -> None:
        epoch = self.membership.epoch
        if packet.epoch > epoch:
            self._keep_early(packet)
        elif packet.epoch < epoch:
            self.counts["dropped_stale"] += 1
            if packet.kind == Kind.ABORT and packet.epoch not in self._ended:
                # Too late for this vehicle, but whoever comes back may ask it how that ended.
                self._note_end(packet.epoch, _end_said(packet))
            if packet.kind in (Kind.DATA, Kind.HEARTBEAT):
                self._answer(packet, now_s)
        elif packet.source not in self._lanes:
            self.counts["dropped_stranger"] += 1
        else:
            self._use(packet, self._lanes[packet.source], now_s)

    def _use(self, packet: Packet, lane: Lane, now_s: float) -> None:
        lane.heard_s = now_s
        if packet.kind == Kind.ABORT:
            end = _end_said(packet)
            self.abort(end.detail, end.lost, tell=False, code=end.code)
        elif packet.kind == Kind.LEFT:
            lane.has_left = True
            if all(other.has_left for other in self._lanes.values()):
                self.abort("all others have left for a later one", tell=False, code=GROUP_OVER)
        elif packet.kind == Kind.HEARTBEAT:
            if packet.progress != lane.progress or packet.text != lane.state:
                lane.progress, lane.state = packet.progress, packet.text
                lane.progress_s = now_s
            if self.over is not None:
                self._answer(packet, now_s)
        elif packet.kind in (Kind.DATA, Kind.ACK):
            ack = Ack(ack=packet.ack, limit=packet.limit, selective=packet.selective)
            lane.outgoing.on_ack(ack, now_s)
            if packet.kind == Kind.DATA:
                self._store(packet, lane, now_s)
        else:
            self.counts["dropped_corrupt"] += 1

    def _store(self, packet: Packet, lane: Lane, now_s: float) -> None:
        for message in lane.incoming.on_data(packet, now_s):
            self.mailbox.put(message)
            self.counts["messages_received"] += 1
            self.counts["bytes_received"] += message.num_bytes

    def _keep_early(self, packet: Packet) -> None:
        """Of an epoch that this vehicle will enter, perhaps: the newest one is kept, in bounds."""
        if self._early and self._early[0].epoch < packet.epoch:
            self.counts["dropped_early"] += len(self._early)
            self._early.clear()
        held = sum(1 for early in self._early if early.source == packet.source)
        older = bool(self._early) and packet.epoch < self._early[0].epoch
        if older or held >= 2 * self._config.channel.credits:
            self.counts["dropped_early"] += 1
        else:
            self._early.append(packet)

    def _answer(self, packet: Packet, now_s: float) -> None:
        """Tell somebody how its epoch ended here, now and then."""
        if now_s - self._answered_s.get(packet.source, float("-inf")) >= _ANSWER_PERIOD_S:
            self._answered_s[packet.source] = now_s
            self._urgent.append(self._end_packet(packet.source, packet.epoch))

    def _note_end(self, epoch: int, end: GroupError) -> None:
        self._ended[epoch] = end
        for old in sorted(self._ended)[:-_EPOCHS_KEPT]:
            del self._ended[old]

    def _end_packet(self, destination: str, epoch: int) -> Packet:
        ended = self.over if epoch == self.membership.epoch else self._ended.get(epoch)
        if ended is None:
            return self._packet(Kind.LEFT, destination, epoch)
        end = self._packet(Kind.ABORT, destination, epoch)
        return replace(end, subject=ended.lost, text=ended.detail)

    # --- what goes out --------------------------------------------------------------------------

    def next_packet(self, now_s: float) -> Packet | None:
        """What should go out now."""
        if self._urgent:
            return self._urgent.popleft()
        if self.over is not None:
            return None
        if now_s >= self._heartbeat_due_s:
            self._beat(now_s)
            if self._urgent:
                return self._urgent.popleft()
        names = list(self._lanes)
        for index in range(len(names)):  # in turn, so that a slow one does not starve the others
            name = names[(self._turn + index) % len(names)]
            if (packet := self._next_packet_to(name, now_s)) is not None:
                self._turn = (self._turn + index + 1) % len(names)
                return packet
        return None

    def due_s(self, now_s: float) -> float:
        """When to ask for :meth:`next_packet` again though nothing has happened."""
        if self.over is not None or not self._lanes:
            return now_s + self._config.heartbeat_s
        here = [lane for lane in self._lanes.values() if not lane.has_left]
        outgoing = [lane.outgoing.due_s() for lane in here]
        return min([*outgoing, *(lane.incoming.ack_due_s for lane in here), self._heartbeat_due_s])

    def _next_packet_to(self, name: str, now_s: float) -> Packet | None:
        lane = self._lanes[name]
        if lane.has_left:
            return None
        packet = lane.outgoing.next_packet(now_s)
        if packet is None:
            if now_s < lane.incoming.ack_due_s:
                return None
            packet = self._packet(Kind.ACK, name, self.membership.epoch)
        said = lane.incoming.ack(has_room=self.has_room(name) or lane.num_waiting > 0)
        return replace(packet, ack=said.ack, limit=said.limit, selective=said.selective)

    def _beat(self, now_s: float) -> None:
        """Say how far this vehicle is, and look at what the others said."""
        slept_s = now_s - self._heartbeat_due_s
        self._heartbeat_due_s = now_s + self._config.heartbeat_s
        here = {name: lane for name, lane in self._lanes.items() if not lane.has_left}
        waits_for = [name for name, lane in here.items() if lane.num_waiting]
        state = f"waits for {', '.join(waits_for)}" if waits_for else WORKING
        if not waits_for and not self.is_working:
            state = IDLE
        for name in here:
            beat = self._packet(Kind.HEARTBEAT, name, self.membership.epoch)
            self._urgent.append(replace(beat, progress=self.progress, text=state))
        if slept_s > self._config.heartbeat_s:  # then this vehicle has not listened, either
            for lane in here.values():
                lane.heard_s = lane.progress_s = now_s
        for name, lane in here.items():
            silent_s, stands_s = now_s - lane.heard_s, now_s - lane.progress_s
            if 0.0 < self._config.silent_after_s <= silent_s:
                self.abort(f"it said nothing for {silent_s:.1f} s", name, tell=True)
            if lane.state == WORKING and 0.0 < self._config.hang_after_s <= stands_s:
                reason = f"it works, waits for nobody and got nowhere for {stands_s:.1f} s"
                self.abort(reason, name, tell=True)

    def _packet(self, kind: Kind, destination: str, epoch: int) -> Packet:
        return Packet(kind=kind, source=self._name, destination=destination, epoch=epoch)


def _end_said(packet: Packet) -> GroupError:
    code = PEER_LOST if packet.subject else GROUP_OVER
    return GroupError(code, f"{packet.source} says: {packet.text}", packet.subject)


def _channel_counts(lane: Lane) -> dict[str, int]:
    return {
        "packets_repeated": lane.outgoing.num_repeated,
        "dropped_repeated": lane.incoming.num_repeated,
        "dropped_unusable": lane.incoming.num_unusable,
    }
