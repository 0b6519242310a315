# SPDX-License-Identifier: Apache-2.0
"""msgpack-rpc: the captured bytes of the real client, bytes cut anywhere, and garbage."""

from __future__ import annotations

import random

import msgpack
import pytest

from flad_sim.protocol.framing import (
    FramingError,
    Request,
    RequestReader,
    pack_reply,
    value_error,
    value_result,
    void_error,
)

# What carla==0.9.16 sends for get_server_version, and what it understands as the answer.
VERSION_REQUEST = bytes.fromhex("940001a776657273696f6e9191c2")
VERSION_REPLY = bytes.fromhex("940101c0919201a6302e392e3136")


def test_reads_the_request_that_the_client_was_seen_to_send() -> None:
    assert list(RequestReader().feed(VERSION_REQUEST)) == [Request(1, "version", (), waits=True)]


def test_writes_the_reply_that_the_client_understands() -> None:
    assert pack_reply(1, value_result("0.9.16")) == VERSION_REPLY


def test_an_error_of_a_void_call_has_its_flag_inverted() -> None:
    assert (value_error("no"), void_error("no")) == ([[0, ["no"]]], [[True, ["no"]]])


@pytest.mark.parametrize("seed", range(5))
def test_requests_arrive_whole_however_the_bytes_are_cut(seed: int) -> None:
    rng = random.Random(seed)
    sent = [
        Request(i, f"method_{i}", (i, "x" * rng.randrange(300), [1.5, None]), waits=bool(i % 2))
        for i in range(50)
    ]
    data = b"".join(msgpack.packb([0, r.msgid, r.method, [[not r.waits], *r.args]]) for r in sent)
    reader, received = RequestReader(), []
    while data:
        size = rng.randrange(1, 97)
        received += reader.feed(data[:size])
        data = data[size:]
    assert received == sent


@pytest.mark.parametrize(
    "message",
    [
        5,
        "text",
        [],
        [0, 1, "version"],
        [1, 1, None, 2],  # a reply
        [0, -1, "version", [[False]]],
        [0, 1, 7, [[False]]],
        [0, 1, "version", {"a": 1}],
        {"version": 1},
    ],
)
def test_anything_but_a_request_is_named(message: object) -> None:
    with pytest.raises(FramingError, match="not a msgpack-rpc request"):
        list(RequestReader().feed(msgpack.packb(message)))


def test_bytes_that_are_not_msgpack_are_refused() -> None:
    with pytest.raises(FramingError):
        list(RequestReader().feed(b"\xc1" * 20))  # the one byte that msgpack never uses


def test_a_request_over_the_limit_is_refused_before_it_is_whole() -> None:
    reader = RequestReader(max_bytes=1000)
    endless = msgpack.packb([0, 1, "copy_opendrive_to_file", [[False], "x" * 5000]])
    with pytest.raises(FramingError, match="limit"):
        for i in range(0, len(endless), 100):
            list(reader.feed(endless[i : i + 100]))


def test_a_claim_of_endless_items_takes_no_memory() -> None:
    with pytest.raises(FramingError):
        list(RequestReader().feed(b"\xdd\xff\xff\xff\xff" + b"\xc0" * 100))  # array of 2^32 - 1


def test_text_that_is_not_utf8_goes_in_and_out_unchanged() -> None:
    raw = msgpack.packb([0, 1, "m", [[False], b"\xff\xfeabc"]], use_bin_type=False)
    (request,) = RequestReader().feed(raw)
    assert request.args[0].encode("utf-8", "surrogateescape") == b"\xff\xfeabc"
    assert b"\xff\xfeabc" in pack_reply(1, request.args[0])


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_give_requests_or_a_framing_error_and_nothing_else(seed: int) -> None:
    rng = random.Random(seed)
    reader = RequestReader()
    try:
        for _ in range(20):
            for request in reader.feed(rng.randbytes(50)):
                assert isinstance(request, Request)
    except FramingError:
        pass
