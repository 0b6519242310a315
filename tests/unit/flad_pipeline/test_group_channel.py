# SPDX-License-Identifier: Apache-2.0
"""Whatever the network does to packets, messages arrive whole, once and in order."""

from __future__ import annotations

import array
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flad_pipeline.group.channel import Ack, ChannelConfig, Incoming, Outgoing
from flad_pipeline.group.packet import Packet

CONFIG = ChannelConfig(
    chunk_bytes=4,
    credits=4,
    first_window_bytes=8,
    least_window_bytes=8,
    queue_s=0.2,
    least_repeat_s=0.3,
)
HEAD = Packet(kind=0, source="a", destination="b", epoch=1)


def push(outgoing: Outgoing, text: bytes) -> None:
    pieces = [text[i : i + 4] for i in range(0, max(len(text), 1), 4)]
    outgoing.push(HEAD, [array.array("B", piece) for piece in pieces])


def read(message) -> bytes:
    return b"".join(chunk.tobytes() for chunk in message.chunks)


@given(
    texts=st.lists(st.binary(max_size=30), min_size=1, max_size=12),
    lose=st.floats(0.0, 0.6),
    repeat=st.floats(0.0, 0.5),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=80, deadline=None)
def test_messages_survive_loss_repetition_and_reordering(texts, lose, repeat, seed):
    numbers = random.Random(seed)
    outgoing, incoming = Outgoing(CONFIG), Incoming(CONFIG)
    on_the_way: list[tuple[float, Packet | Ack]] = []
    arrived: list[bytes] = []
    for text in texts:
        push(outgoing, text)

    def post(what, now_s):
        for _ in range(2 if numbers.random() < repeat else 1):
            if numbers.random() >= lose:
                on_the_way.append((now_s + numbers.uniform(0.001, 0.1), what))

    now_s = 0.0
    while outgoing.num_bytes or len(arrived) < len(texts):
        due_s = [outgoing.due_s(), incoming.ack_due_s]
        soonest_s = min([*due_s, *(time_s for time_s, _ in on_the_way)])
        now_s = max(now_s + 0.001, min(soonest_s, now_s + 1.0))
        assert now_s < 3600.0, f"{len(arrived)} of {len(texts)} messages after {now_s:.0f} s"
        while (packet := outgoing.next_packet(now_s)) is not None:
            post(packet, now_s)
        due = sorted((item for item in on_the_way if item[0] <= now_s), key=lambda item: item[0])
        for item in due:
            on_the_way.remove(item)
            if isinstance(item[1], Ack):
                outgoing.on_ack(item[1], now_s)
            else:
                arrived += [read(message) for message in incoming.on_data(item[1], now_s)]
        if now_s >= incoming.ack_due_s:
            post(incoming.ack(has_room=numbers.random() < 0.7), now_s)

    assert arrived == texts


def test_no_more_is_on_the_way_than_the_credits_allow():
    outgoing = Outgoing(ChannelConfig(chunk_bytes=4, credits=3))
    for _ in range(10):
        push(outgoing, b"abcd")

    sent = [outgoing.next_packet(0.0) for _ in range(10)]
    assert [packet.sequence for packet in sent if packet] == [0, 1, 2]

    outgoing.on_ack(Ack(ack=1, limit=4), 0.01)
    assert outgoing.next_packet(0.02).sequence == 3
    assert outgoing.next_packet(0.02) is None


@pytest.mark.parametrize("window_bytes", [8, 12, 20, 40])
def test_a_small_window_never_waits_for_a_repetition(window_bytes):
    config = ChannelConfig(
        chunk_bytes=4, credits=32, first_window_bytes=window_bytes, least_window_bytes=8
    )
    outgoing, incoming, now_s = Outgoing(config), Incoming(config), 0.0
    push(outgoing, bytes(4 * 31))
    on_the_way: list[Packet] = []
    while outgoing.num_bytes:
        now_s += 0.01
        arrived, on_the_way = on_the_way, []
        while (packet := outgoing.next_packet(now_s)) is not None:
            on_the_way.append(packet)
        for packet in arrived:
            incoming.on_data(packet, now_s)
            if now_s >= incoming.ack_due_s:
                outgoing.on_ack(incoming.ack(has_room=True), now_s)
        if now_s >= incoming.ack_due_s:
            outgoing.on_ack(incoming.ack(has_room=True), now_s)
        assert now_s < 1.0

    assert outgoing.num_repeated == 0


def test_word_of_arrival_waits_a_moment_for_more_to_say_but_not_with_a_gap():
    config = ChannelConfig(chunk_bytes=4, credits=8)
    outgoing, incoming = Outgoing(config), Incoming(config)
    for _ in range(4):
        push(outgoing, b"abcd")
    packets = [outgoing.next_packet(0.0) for _ in range(4)]
    assert incoming.ack_due_s == float("inf")

    incoming.on_data(packets[0], 1.0)
    assert 1.0 < incoming.ack_due_s <= 1.0 + config.ack_after_s
    incoming.on_data(packets[1], 1.001)
    assert incoming.ack_due_s < 1.0

    assert incoming.ack(has_room=True).ack == 2
    assert incoming.ack_due_s == float("inf")
    incoming.on_data(packets[3], 2.0)
    assert incoming.ack_due_s < 2.0


def test_a_packet_of_a_gap_is_repeated_before_its_time_and_one_in_flight_is_not():
    outgoing = Outgoing(ChannelConfig(chunk_bytes=4, credits=8))
    for _ in range(4):
        push(outgoing, b"abcd")
    assert [outgoing.next_packet(0.0).sequence for _ in range(3)] == [0, 1, 2]
    outgoing.on_ack(Ack(ack=1, limit=8), 0.1)
    assert outgoing.next_packet(0.1).sequence == 3

    outgoing.on_ack(Ack(ack=1, limit=8, selective=(2,)), 0.11)  # 1 is lost, 3 only late

    assert outgoing.next_packet(0.12).sequence == 1
    assert outgoing.next_packet(0.12) is None
    assert outgoing.num_repeated == 1


def test_a_full_mailbox_stops_the_sender_and_a_lost_word_of_room_does_not_stop_it_for_ever():
    outgoing, incoming = Outgoing(CONFIG), Incoming(CONFIG)
    for _ in range(8):
        push(outgoing, b"abcd")
    now_s = 0.0
    while (packet := outgoing.next_packet(now_s)) is not None:
        incoming.on_data(packet, now_s)
        outgoing.on_ack(incoming.ack(has_room=False), now_s)
    assert outgoing.num_bytes == 4 * 4  # the first credits are used up

    assert outgoing.next_packet(0.2) is None
    assert outgoing.next_packet(5.0).sequence == 4


def test_a_slow_link_gets_a_smaller_window_and_a_fast_one_a_larger():
    config = ChannelConfig(
        chunk_bytes=100, credits=64, first_window_bytes=1600, least_window_bytes=400, queue_s=0.05
    )

    def window_after(rate_bytes_per_s: float) -> int:
        outgoing, free_s, now_s = Outgoing(config), 0.0, 0.0
        arrivals: list[tuple[float, int]] = []
        for step in range(4000):
            now_s = step * 0.002
            if step % 10 == 0:
                outgoing.push(HEAD, [array.array("B", bytes(100)) for _ in range(8)])
            while arrivals and arrivals[0][0] <= now_s:
                sequence = arrivals.pop(0)[1]
                outgoing.on_ack(Ack(ack=sequence + 1, limit=sequence + 65), now_s)
            while (packet := outgoing.next_packet(now_s)) is not None:
                free_s = max(free_s, now_s) + 100 / rate_bytes_per_s
                arrivals.append((free_s + 0.02, packet.sequence))
        return outgoing.window_bytes

    assert window_after(5_000.0) < 1600 < window_after(1_000_000.0)


@pytest.mark.parametrize(
    "values, complaint",
    [({"credits": 1}, "credits"), ({"chunk_bytes": 0}, "chunk_bytes"), ({"queue_s": 0.0}, "queue")],
)
def test_bad_configuration_is_named(values, complaint):
    with pytest.raises(ValueError, match=complaint):
        ChannelConfig(**values)


def test_packets_are_large_only_while_the_link_keeps_up():
    """A window that has grown to its most, then packets that queue up: large ones, small again."""
    outgoing = Outgoing(CONFIG)
    sizes, now_s = [outgoing.chunk_bytes], 0.0
    for round_trip_s in [0.01] * 4 + [0.5]:
        push(outgoing, bytes(8))
        sent = [outgoing.next_packet(now_s) for _ in range(2)]
        now_s += round_trip_s
        outgoing.on_ack(Ack(ack=sent[-1].sequence + 1, limit=100), now_s)
        sizes.append(outgoing.chunk_bytes)

    assert sizes == [4, 8, 8, 8, 8, 4]
