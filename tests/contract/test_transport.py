# SPDX-License-Identifier: Apache-2.0
"""What every transport must do: the same cases within a process and over ROS 2."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from member_threads import in_threads, seeded, with_dds
from pipeline_of_members import train

from flad_common.error_codes import GROUP_OVER, PEER_LATE, PEER_LOST
from flad_pipeline.group.channel import ChannelConfig
from flad_pipeline.group.deadlines import GroupError, TransportConfig
from flad_pipeline.group.link import LinkEvents
from flad_pipeline.group.memory_link import MemoryNetwork
from flad_pipeline.group.packet import Kind, Packet, signed
from flad_pipeline.group.packet_cdr import to_cdr
from flad_pipeline.group.transport import Transport
from flad_pipeline.ros.dds_transport import DdsLink, DdsLinkConfig
from flad_pipeline.wire import decode_into, encode

NAMES = ("vehicle_0", "vehicle_1", "vehicle_2")
CONFIG = TransportConfig(timeout_s=60.0, channel=ChannelConfig(chunk_bytes=65_536))


class Members:
    """Three transports, and a link under the name of the third that says what a test wants."""

    def __init__(self, links: list, ready: Callable[[], None]) -> None:
        self.links = links
        self._opened = [Transport(link, CONFIG) for link in links[:2]]
        ready()

    @property
    def both(self) -> list[Transport]:
        return self._opened

    def third(self) -> Transport:
        self._opened.append(Transport(self.links[2], CONFIG))
        return self._opened[2]

    def close(self) -> None:
        for transport in self._opened:
            transport.close()


@pytest.fixture(params=["memory", "dds"])
def members(request: pytest.FixtureRequest) -> Iterator[Members]:
    if request.param == "memory":
        network = MemoryNetwork()
        made = Members([network.link(name) for name in NAMES], lambda: None)
        yield made
        made.close()
        return
    config = DdsLinkConfig(transport=CONFIG)
    links = [DdsLink(name, NAMES, config) for name in NAMES[:2]]
    third = DdsLink(NAMES[2], NAMES, config)

    def ready() -> None:
        third.wait_until_matched(60.0)
        for link in links:
            link.wait_until_matched(60.0, among=NAMES[:2])

    made = Members([*links, third], ready)
    yield made
    made.close()
    third.close()


def send(transport: Transport, destination: str, tensor: torch.Tensor, epoch: int, tag=0) -> None:
    chunk_bytes = transport.config.channel.chunk_bytes
    transport.send(destination, encode(tensor, chunk_bytes=chunk_bytes), epoch=epoch, tag=tag)


def receive(
    transport: Transport, source: str, like: torch.Tensor, epoch: int, tag=0, timeout_s=None
) -> torch.Tensor:
    slot = transport.expect(source, epoch=epoch, tag=tag)
    message = transport.receive(slot, epoch=epoch, timeout_s=timeout_s)
    back = torch.empty_like(like)
    decode_into(
        back,
        dtype=message.dtype,
        encoding=message.encoding,
        shape=message.shape,
        chunks=message.chunks,
    )
    return back


def entered(members: Members, epoch: int = 1) -> list[Transport]:
    for transport in members.both:
        transport.enter(epoch, NAMES[:2])
    return members.both


def fails(run: Callable[[], object]) -> GroupError:
    with pytest.raises(GroupError) as caught:
        run()
    return caught.value


def waits_then_fails(run: Callable[[], object], meanwhile: Callable[[], None]) -> GroupError:
    """``run`` in a thread that is known to wait when ``meanwhile`` happens."""
    caught: list[GroupError] = []
    thread = threading.Thread(target=lambda: caught.append(fails(run)))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    meanwhile()
    thread.join(30.0)
    assert not thread.is_alive(), "nobody woke the waiter"
    return caught[0]


def test_large_and_small_tensors_arrive_whole_and_in_order_both_ways(members):
    a, b = entered(members)
    tensors = [seeded((size,), size) for size in (1, 400_000, 0, 3, 100_000)]

    def run(me: Transport, other: Transport) -> list[torch.Tensor]:
        for tensor in tensors:
            send(me, other.name, tensor, 1)
        return [receive(me, other.name, tensor, 1) for tensor in tensors]

    for back in in_threads([lambda: run(a, b), lambda: run(b, a)]):
        assert all(torch.equal(x, y) for x, y in zip(back, tensors, strict=True))
    a.drain()
    assert a.counts()["bytes_sent"] == 4 * sum(len(t) for t in tensors)


def test_tags_are_told_apart_and_slots_keep_the_order_of_reservation(members):
    a, b = entered(members)
    first, second = (b.expect(a.name, epoch=1, tag=7) for _ in range(2))
    for value, tag in ((1.0, 7), (2.0, 8), (3.0, 7)):
        send(a, b.name, torch.full((1,), value), 1, tag)

    later = b.receive(second, epoch=1).chunks
    assert torch.frombuffer(bytearray(later[0]), dtype=torch.float32).item() == 3.0
    assert receive(b, a.name, torch.empty(1), 1, tag=8).item() == 2.0
    sooner = b.receive(first, epoch=1).chunks
    assert torch.frombuffer(bytearray(sooner[0]), dtype=torch.float32).item() == 1.0


def test_a_sender_does_not_wait_for_its_receiver(members):
    a, b = entered(members)
    for index in range(20):
        send(a, b.name, torch.full((50_000,), float(index)), 1)  # nobody receives yet
    a.drain()
    for index in range(20):
        assert receive(b, a.name, torch.empty(50_000), 1)[0].item() == index


def test_a_deadline_names_who_was_missing(members):
    a, b = entered(members)
    error = fails(lambda: receive(a, b.name, torch.empty(1), 1, tag=3, timeout_s=0.2))

    assert error.code is PEER_LATE
    assert error.lost == b.name
    assert f"{a.name} waited 0.2 s in epoch 1 for message 0 of tag 3" in str(error)
    assert f"{b.name} was last heard" in str(error)
    send(b, a.name, torch.ones(1), 1)  # a deadline is no abort: the group lives
    assert receive(a, b.name, torch.empty(1), 1).item() == 1.0


def test_abort_wakes_every_waiter_of_every_member_with_the_name_of_the_lost(members):
    a, b = entered(members)

    def b_gives_up() -> None:
        error = waits_then_fails(
            lambda: receive(b, a.name, torch.empty(1), 1),
            lambda: b.abort("its battery is flat", "vehicle_2"),
        )
        assert error.lost == "vehicle_2"

    error = waits_then_fails(lambda: receive(a, b.name, torch.empty(1), 1), b_gives_up)
    assert error.code is PEER_LOST
    assert error.lost == "vehicle_2"
    assert "its battery is flat" in str(error)
    assert fails(lambda: send(a, b.name, torch.ones(1), 1)).lost == "vehicle_2"


def test_a_late_message_of_an_old_epoch_is_dropped_and_its_sender_told(members):
    a, b = entered(members)
    send(a, b.name, torch.full((1,), 1.0), 1)
    a.drain()
    b.enter(2, NAMES[:2])
    with contextlib.suppress(GroupError):  # its heartbeat may have been answered already
        send(a, b.name, torch.full((1,), 5.0), 1)
    error = fails(lambda: receive(a, b.name, torch.empty(1), 1))

    assert error.code is GROUP_OVER
    assert b.counts()["dropped_stale"] >= 1
    a.enter(2, NAMES[:2])
    send(a, b.name, torch.full((1,), 2.0), 2)
    assert receive(b, a.name, torch.empty(1), 2).item() == 2.0


def test_a_message_of_an_epoch_that_the_receiver_has_not_entered_yet_is_kept(members):
    a, b = entered(members)
    a.enter(2, NAMES[:2])
    send(a, b.name, torch.full((200_000,), 4.0), 2)
    b.enter(2, NAMES[:2])
    assert receive(b, a.name, torch.empty(200_000), 2).sum().item() == 800_000.0


def test_a_group_forms_again_with_other_members_on_the_same_transports(members):
    a, b = entered(members)
    c = members.third()
    if hasattr(members.links[0], "wait_until_matched"):
        for link in members.links:
            link.wait_until_matched(60.0)
    for transport in (c, a):
        transport.enter(5, (c.name, a.name))
    send(a, c.name, torch.full((3,), 6.0), 5)
    assert receive(c, a.name, torch.empty(3), 5).tolist() == [6.0] * 3
    with pytest.raises(ValueError, match="no other member of epoch 5"):
        send(a, b.name, torch.ones(1), 5)


def test_what_is_corrupt_misaddressed_or_of_a_stranger_is_counted_and_never_received(members):
    _, b = entered(members)
    liar = members.links[2]
    liar.open(LinkEvents(on_packet=lambda packet: None, on_lost=lambda name, how: None))
    good = encode(torch.full((4,), 9.0), chunk_bytes=100)
    packet = Packet(
        kind=Kind.DATA,
        source=NAMES[0],
        destination=b.name,
        epoch=1,
        num_chunks=1,
        shape=(4,),
        data=good.chunks[0],
    )
    bad = {
        "dropped_corrupt": replace(signed(packet), tag=1),
        "dropped_stranger": signed(replace(packet, source="vehicle_2")),
        "dropped_stale": signed(replace(packet, epoch=0)),
    }
    for one in bad.values():
        liar.send(one)
    to_other = signed(replace(packet, destination=NAMES[0]))
    b._on_packet(to_other)  # no link would bring it here

    names = {*bad}
    if isinstance(liar, DdsLink):  # the others carry packets as they are
        liar._publishers[b.name].publish(to_cdr(signed(packet))[:-1])
        names.add("dropped_malformed")

    deadline_s = time.monotonic() + 30.0
    while not all(b.counts().get(name) for name in names):
        assert time.monotonic() < deadline_s, b.counts()
        threading.Event().wait(0.01)
    assert b.counts()["dropped_misaddressed"] == 1
    assert fails(lambda: receive(b, NAMES[0], torch.empty(4), 1, timeout_s=0.2)).code is PEER_LATE
    if isinstance(liar, DdsLink):
        return
    liar.close()


def test_pipeline_schedules_train_alike(members):
    losses = {
        schedule: with_dds(members.both, epoch, lambda rank, s=schedule: train(s, rank, 2))[1]
        for epoch, schedule in enumerate(("GPipe", "1F1B"), start=1)
    }
    assert losses["GPipe"] == losses["1F1B"]
    assert losses["1F1B"][-1] < losses["1F1B"][0] * 1.5
