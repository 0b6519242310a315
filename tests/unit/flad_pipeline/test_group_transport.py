# SPDX-License-Identifier: Apache-2.0
"""A transport over bad networks, and with members that die, hang, fall silent or are slow."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.distributed as dist
from bad_network import BadLink, Faults
from member_threads import in_threads, memory_transports, seeded, with_dds
from pipeline_of_members import train

from flad_common.error_codes import GROUP_OVER, PEER_LATE, PEER_LOST, TENSOR_MISMATCH
from flad_pipeline.group.channel import ChannelConfig
from flad_pipeline.group.deadlines import GroupError, TransportConfig
from flad_pipeline.group.lanes import Lanes
from flad_pipeline.group.memory_link import MemoryNetwork
from flad_pipeline.group.packet import Kind, Packet
from flad_pipeline.group.transport import Transport
from flad_pipeline.wire import Encoding, encode

QUICK = ChannelConfig(
    chunk_bytes=1000, first_window_bytes=20_000, least_window_bytes=4000, least_repeat_s=0.05
)


def send(transport: Transport, destination: str, tensor: torch.Tensor, **options) -> None:
    transport.send(destination, encode(tensor, chunk_bytes=1000), epoch=1, **options)


def receive(transport: Transport, source: str, timeout_s: float | None = None) -> torch.Tensor:
    message = transport.receive(transport.expect(source, epoch=1), epoch=1, timeout_s=timeout_s)
    whole = bytearray(b"".join(chunk.tobytes() for chunk in message.chunks))
    return torch.frombuffer(whole, dtype=torch.float32)


@pytest.mark.parametrize("seed", range(3))
def test_over_a_bad_network_every_tensor_arrives_once_in_order_and_undamaged(seed):
    faults = Faults(lose=0.1, repeat=0.1, reorder=0.2, damage=0.1, misaddress=0.05)
    network = MemoryNetwork()
    config = TransportConfig(timeout_s=60.0, channel=QUICK)
    a, b = (
        Transport(BadLink(network.link(name), faults, seed + index), config)
        for index, name in enumerate(("vehicle_0", "vehicle_1"))
    )
    tensors = [seeded((17 * k * k + 1,), k) for k in range(25)]
    for transport in (a, b):
        transport.enter(1, ("vehicle_0", "vehicle_1"))

    def exchange(me: Transport, other: Transport) -> list[torch.Tensor]:
        for tensor in tensors:
            send(me, other.name, tensor)
        return [receive(me, other.name) for _ in tensors]

    for got in in_threads([lambda: exchange(a, b), lambda: exchange(b, a)]):
        assert all(torch.equal(x, y) for x, y in zip(got, tensors, strict=True))
    counts = a.counts()
    assert counts["packets_repeated"] > 0
    assert counts["dropped_corrupt"] > 0
    assert counts["dropped_stranger"] > 0
    assert counts["messages_received"] == len(tensors)
    a.close()
    b.close()


def test_a_pipeline_over_a_bad_network_has_the_losses_of_a_good_one():
    faults = Faults(lose=0.05, repeat=0.05, reorder=0.1, damage=0.05)
    network = MemoryNetwork()
    config = TransportConfig(timeout_s=60.0, channel=QUICK)
    bad = [Transport(BadLink(network.link(f"vehicle_{i}"), faults, i), config) for i in range(2)]
    losses = with_dds(bad, 1, lambda rank: train("1F1B", rank, 2))
    for transport in bad:
        transport.close()
    with memory_transports(2) as good:
        assert losses == with_dds(good, 1, lambda rank: train("1F1B", rank, 2))


def test_a_member_that_dies_amid_a_step_ends_it_for_all_and_the_rest_train_on_at_once():
    network = MemoryNetwork()
    transports = [Transport(network.link(f"vehicle_{i}")) for i in range(3)]
    reached = threading.Event()

    def member(rank: int) -> str:
        if rank == 1:
            reached.wait(30.0)
            network.kill("vehicle_1")
            return "killed"
        reached.set()
        with pytest.raises(GroupError) as caught:
            train("1F1B", rank, 3)
        assert caught.value.code is PEER_LOST
        return caught.value.lost

    assert with_dds(transports, 1, member) == ["vehicle_1", "killed", "vehicle_1"]

    rest = [transports[0], transports[2]]
    losses = with_dds(rest, 2, lambda rank: train("1F1B", rank, 2))
    with memory_transports(2) as fresh:
        assert losses == with_dds(fresh, 1, lambda rank: train("1F1B", rank, 2))
    for transport in rest:
        transport.close()


def test_a_collective_without_one_member_names_it():
    with memory_transports(3) as transports:

        def member(rank: int) -> str:
            if rank == 2:
                return "elsewhere"
            with pytest.raises(GroupError, match="vehicle_2"):
                dist.all_reduce(torch.ones(3))
            return "told"

        assert with_dds(transports, 1, member, timeout_s=0.5) == ["told", "told", "elsewhere"]


@pytest.mark.parametrize("what", ["hangs", "falls silent"])
def test_who_hangs_or_falls_silent_is_lost_and_who_waits_is_not(what):
    network = MemoryNetwork()
    config = TransportConfig(heartbeat_s=0.02, silent_after_s=0.5, hang_after_s=0.5)
    a, b = (Transport(network.link(name), config) for name in ("vehicle_0", "vehicle_1"))
    for transport in (a, b):
        transport.enter(1, ("vehicle_0", "vehicle_1"))
    with pytest.raises(GroupError) as late:  # b is idle: that is no hang
        receive(a, b.name, timeout_s=0.8)
    assert late.value.code is PEER_LATE

    with b.working():
        if what == "falls silent":
            network._links["vehicle_1"].close()
        with pytest.raises(GroupError) as caught:
            receive(a, b.name, timeout_s=30.0)
    assert caught.value.code is PEER_LOST
    assert caught.value.lost == b.name
    assert ("got nowhere" if what == "hangs" else "said nothing") in str(caught.value)
    a.close()


def test_a_full_outbox_makes_the_sender_wait_and_says_for_whom():
    config = TransportConfig(outbox_bytes=3000, channel=QUICK)
    with memory_transports(3, config) as transports:
        a = transports[0]
        a.enter(1, ("vehicle_0", "vehicle_1"))  # vehicle_1 is not there: nothing is taken
        send(a, "vehicle_1", torch.zeros(700))
        with pytest.raises(GroupError, match="room for 800 bytes to vehicle_1, where 2800") as late:
            send(a, "vehicle_1", torch.zeros(200), timeout_s=0.1)
        assert late.value.lost == "vehicle_1"


def test_a_full_mailbox_does_not_stop_who_waits_for_what_comes_later():
    config = TransportConfig(mailbox_bytes=2000, channel=QUICK)
    with memory_transports(2, config) as (a, b):
        for transport in (a, b):
            transport.enter(1, ("vehicle_0", "vehicle_1"))
        for _ in range(60):
            send(a, b.name, torch.zeros(250), tag=1)  # nobody takes these
        send(a, b.name, torch.ones(1), tag=0)
        assert receive(b, a.name, timeout_s=30.0).item() == 1.0


def test_another_shape_than_expected_is_refused_by_name():
    def member(rank: int) -> str:
        if rank == 0:
            dist.send(torch.zeros(3, 2), 1)
            return ""
        with pytest.raises(GroupError, match=r"float32.2, 3. was expected and .*3, 2. arri") as bad:
            dist.recv(torch.zeros(2, 3), 0)
        return str(bad.value.code.number)

    with memory_transports(2) as transports:
        assert with_dds(transports, 1, member)[1] == str(TENSOR_MISMATCH.number)


@pytest.mark.parametrize("encoding", [Encoding.FP16, Encoding.INT8])
def test_rounding_saves_bytes_and_learns_nearly_the_same(encoding):
    def member(rank: int) -> float:
        sent = seeded((4000,), 1)
        if rank == 0:
            dist.send(sent, 1)
            return 0.0
        back = torch.empty(4000)
        dist.recv(back, 0)
        return float((back - sent).abs().max())

    with memory_transports(2) as transports:
        error = with_dds(transports, 1, member, encoding=encoding)[1]
        assert 0.0 < error < 0.02
        share = transports[0].counts()["bytes_sent"] / (4 * 4000)
    assert share < (0.51 if encoding is Encoding.FP16 else 0.26)


def test_who_leaves_well_does_not_end_the_epoch_of_those_who_still_work_in_it():
    config = TransportConfig(timeout_s=30.0, heartbeat_s=0.02)
    with memory_transports(3, config) as (a, b, c):
        for transport in (a, b, c):
            transport.enter(1, (a.name, b.name, c.name))
        send(a, b.name, torch.ones(1))
        a.drain()
        a.enter(2, (a.name, b.name, c.name))
        with pytest.raises(GroupError, match="vehicle_0 has left epoch 1") as caught:
            receive(c, a.name)  # ends by a's answer to a heartbeat, not by the deadline
        assert caught.value.code is GROUP_OVER
        send(c, b.name, torch.full((1,), 2.0))
        assert receive(b, a.name).item() == 1.0
        assert receive(b, c.name).item() == 2.0
        assert b.is_in(1)
        b.enter(2, (a.name, b.name, c.name))
        with pytest.raises(GroupError, match=r"vehicle_1 has left|all others have left"):
            receive(c, b.name)


def test_who_comes_back_from_a_freeze_hears_how_its_epoch_ended():
    config = TransportConfig(timeout_s=30.0, heartbeat_s=0.02)
    with memory_transports(3, config) as (a, b, c):
        for transport in (a, b, c):
            transport.enter(1, (a.name, b.name, c.name))
        a.abort("it was frozen", lost=c.name)
        with pytest.raises(GroupError, match="it was frozen"):
            receive(b, a.name)  # b has heard it, too: c may be answered by either
        for transport in (a, b):
            transport.enter(2, (a.name, b.name))
        with pytest.raises(GroupError, match="it was frozen") as caught:
            receive(c, b.name)
        assert caught.value.lost == c.name


def test_who_hears_only_later_how_an_epoch_ended_can_still_say_it():
    names = ("vehicle_0", "vehicle_1", "vehicle_2")
    b = Lanes("vehicle_1", TransportConfig(), lambda _: None)
    b.enter(1, names, now_s=0.0)
    b.enter(2, names[:2], now_s=1.0)  # before it heard that the first one was aborted

    def answer(now_s: float) -> Packet:
        beat = Packet(kind=Kind.HEARTBEAT, source="vehicle_2", destination="vehicle_1", epoch=1)
        b.on_packet(beat, is_whole=True, now_s=now_s)
        return b.next_packet(now_s)

    assert answer(1.0).kind == Kind.LEFT
    end = Packet(
        kind=Kind.ABORT,
        source="vehicle_0",
        destination="vehicle_1",
        epoch=1,
        subject="vehicle_2",
        text="it was frozen",
    )
    b.on_packet(end, is_whole=True, now_s=1.1)
    said = answer(1.2)
    assert (said.kind, said.destination, said.epoch) == (Kind.ABORT, "vehicle_2", 1)
    assert (said.subject, said.text) == ("vehicle_2", "vehicle_0 says: it was frozen")
    assert b.over is None  # the second epoch goes on


def test_an_epochs_first_message_calls_for_it_and_who_has_lost_that_place_is_not_called():
    names, word = ("vehicle_0", "vehicle_1"), torch.arange(3.0)
    encoded, network = encode(word, chunk_bytes=1000), MemoryNetwork()
    config = TransportConfig(timeout_s=30.0, heartbeat_s=0.02, silent_after_s=0.0)
    a, b = (Transport(network.link(name), config) for name in names)
    a.enter(7, names)
    assert b.wait_for_call(a.name, 0.2) is None  # it has heard that somebody lives, no more
    a.send(b.name, encoded, epoch=7)
    assert b.wait_for_call(a.name, 30.0) == 7
    b.enter(7, names)
    assert b.receive(b.expect(a.name, epoch=7), epoch=7).num_bytes == 12
    assert b.wait_for_call(a.name, 0.2) is None
    a.drain()
    b.close()
    with pytest.raises(GroupError, match="is closed"):
        b.wait_for_call(a.name, 30.0)

    again = Transport(network.link("vehicle_1"), config)  # as a process that was started anew
    a.send("vehicle_1", encoded, epoch=7)
    assert again.wait_for_call(a.name, 0.2) is None
    a.enter(8, names)
    a.send("vehicle_1", encoded, epoch=8)
    assert again.wait_for_call(a.name, 30.0) == 8
    for transport in (a, again):
        transport.close()


def test_epochs_only_grow_and_members_are_different_names():
    with memory_transports(1) as (a,):
        a.enter(3, ("vehicle_0", "vehicle_1"))
        for epoch in (3, 2):
            with pytest.raises(ValueError, match=f"in 3, asked for {epoch}"):
                a.enter(epoch, ("vehicle_0",))
        for members in (("vehicle_1",), ("vehicle_0", "vehicle_0")):
            with pytest.raises(ValueError, match="different names with 'vehicle_0' among them"):
                a.enter(4, members)


def test_entering_a_group_starts_no_thread_and_waits_for_nobody():
    with memory_transports(2) as (a, _):
        before = threading.active_count()
        for epoch in range(1, 101):
            a.enter(epoch, ("vehicle_0", "vehicle_1"))
        assert threading.active_count() == before
        assert a.membership.epoch == 100
