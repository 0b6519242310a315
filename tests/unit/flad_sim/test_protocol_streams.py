# SPDX-License-Identifier: Apache-2.0
"""Who gets what on the streaming port, and who goes without."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from flad_sim import streams
from flad_sim.streams import StreamConnection, StreamHub

STATE = b"the present state"


class FakeTransport:
    """Keeps what is written; ``behind`` pretends that so much is still unsent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.behind = 0
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.behind

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def abort(self) -> None:
        self.aborted = True

    @property
    def messages(self) -> list[bytes]:
        data, found = b"".join(self.sent), []
        while data:
            (size,) = struct.unpack_from("<I", data)
            found.append(data[4 : 4 + size])
            data = data[4 + size :]
        return found


@pytest.fixture
def hub() -> StreamHub:
    return StreamHub(lambda: STATE)


def subscriber(hub: StreamHub, stream_id: int) -> tuple[StreamConnection, FakeTransport]:
    connection, transport = StreamConnection(hub), FakeTransport()
    connection._transport: Any = transport  # type: ignore[misc]
    head = struct.pack("<I", stream_id)
    connection.data_received(head[:1])
    connection.data_received(head[1:])
    return connection, transport


def test_a_subscriber_of_the_episode_gets_the_present_state_at_once(hub: StreamHub) -> None:
    _, transport = subscriber(hub, 1)
    assert transport.messages == [STATE]


def test_each_stream_goes_to_its_own_subscribers(hub: StreamHub) -> None:
    (_, a), (_, b), (_, c) = (subscriber(hub, s) for s in (5, 5, 6))
    hub.publish(5, b"five", may_drop=False)
    hub.publish(6, b"six", may_drop=False)
    assert (a.messages, b.messages, c.messages) == ([b"five"], [b"five"], [b"six"])


def test_nothing_is_lost_between_token_and_connection(hub: StreamHub) -> None:
    assert not hub.is_listened(5)
    hub.expect(5)
    assert hub.is_listened(5)
    hub.publish(5, b"first", may_drop=False)
    _, transport = subscriber(hub, 5)
    hub.publish(5, b"second", may_drop=False)
    assert transport.messages == [b"first", b"second"]


def test_two_announced_subscribers_both_get_what_they_missed(hub: StreamHub) -> None:
    hub.expect(5)
    hub.expect(5)
    hub.publish(5, b"first", may_drop=False)
    _, a = subscriber(hub, 5)
    hub.publish(5, b"second", may_drop=False)
    _, b = subscriber(hub, 5)
    assert a.messages == b.messages == [b"first", b"second"]


def test_one_that_never_comes_is_given_up(hub: StreamHub) -> None:
    hub.expect(5)
    for _ in range(200):
        hub.publish(5, b"x", may_drop=False)
    assert not hub.is_listened(5)


def test_a_slow_subscriber_loses_frames_only_when_the_world_runs_free(hub: StreamHub) -> None:
    _, transport = subscriber(hub, 5)
    transport.behind = streams.SLOW_BYTES + 1
    hub.publish(5, b"dropped", may_drop=True)
    hub.publish(5, b"kept", may_drop=False)
    assert transport.messages == [b"kept"]
    assert hub.num_dropped == 1


def test_a_subscriber_that_never_reads_is_given_up_at_last(hub: StreamHub) -> None:
    _, transport = subscriber(hub, 5)
    transport.behind = streams.LOST_BYTES + 1
    hub.publish(5, b"x", may_drop=False)
    assert transport.aborted


def test_one_that_left_gets_nothing_and_costs_nothing(hub: StreamHub) -> None:
    connection, transport = subscriber(hub, 5)
    connection.connection_lost(None)
    hub.publish(5, b"x", may_drop=False)
    assert transport.messages == []
    assert not hub.is_listened(5)


def test_a_new_episode_keeps_only_the_episode_s_stream(hub: StreamHub) -> None:
    _, state = subscriber(hub, 1)
    _, sensor = subscriber(hub, 5)
    hub.forget_sensors()
    hub.publish(1, b"new", may_drop=False)
    hub.publish(5, b"x", may_drop=False)
    assert state.messages == [STATE, b"new"]
    assert sensor.messages == []
