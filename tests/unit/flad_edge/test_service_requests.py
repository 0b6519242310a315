# SPDX-License-Identifier: Apache-2.0
"""What must not be asked is refused with number and reason, counted, and harms nobody else."""

from __future__ import annotations

import dataclasses
import math
import re
import zlib

import numpy as np
import pytest
from edge_service import Bench, request

from flad_common import error_codes as codes
from flad_edge.service.admission import AdmissionConfig
from flad_edge.service.core import EdgeServiceConfig
from flad_edge.service.requests import Outcome, RequestHead
from flad_perception.wire import WireDtype, encode_tokens


def _tokens(shape=(2, 4), dtype=WireDtype.FP32):
    return encode_tokens(np.ones(shape, np.float32), dtype)


def _with_nan():
    broken = np.ones((2, 4), np.float32)
    broken[1, 2] = math.nan
    data = broken.tobytes()
    return dataclasses.replace(_tokens(), data=data, crc32=zlib.crc32(data))


BAD = {
    "another contract": ({"contract_version": 4}, codes.TOKENS_REFUSED, "contract 4.* contract 3"),
    "another encoder": ({"encoder_hash": "f" * 16}, codes.TOKENS_REFUSED, "'ffffffffffffffff'"),
    "too many tokens": ({"tokens": _tokens((3, 4))}, codes.REQUEST_MALFORMED, "3 tokens of 4"),
    "wrong width": ({"tokens": _tokens((2, 5))}, codes.REQUEST_MALFORMED, "2 of 4"),
    "bytes missing": (
        {"tokens": dataclasses.replace(_tokens(), data=b"\0" * 31)},
        codes.REQUEST_MALFORMED,
        "32 bytes, got 31",
    ),
    "bits flipped": (
        {"tokens": dataclasses.replace(_tokens(), crc32=1)},
        codes.REQUEST_MALFORMED,
        "checksum",
    ),
    "not a number": ({"tokens": _with_nan()}, codes.REQUEST_MALFORMED, "not finite"),
    "100 kB": ({"instruction": "a" * 100_000}, codes.INSTRUCTION_REFUSED, "100000 .* 400"),
    "empty": ({"instruction": "  "}, codes.INSTRUCTION_REFUSED, "empty"),
    "two lines": ({"instruction": "left\nright"}, codes.INSTRUCTION_REFUSED, r"'\\n'"),
    "unprintable": ({"instruction": "left\x00"}, codes.INSTRUCTION_REFUSED, r"'\\x00'"),
    "long notice": ({"notice": "b" * 401}, codes.INSTRUCTION_REFUSED, "notice has 401"),
    "no name": ({"vehicle": ""}, codes.REQUEST_MALFORMED, "vehicle must be"),
    "odd name": ({"vehicle": "v 0"}, codes.REQUEST_MALFORMED, "'v 0'"),
    "no session": ({"session": ""}, codes.REQUEST_MALFORMED, "session must be"),
    "budget": ({"budget_s": math.nan}, codes.REQUEST_MALFORMED, "budget_s"),
    "past": ({"stamp_s": -1.0}, codes.REQUEST_MALFORMED, "negative"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_refused_and_the_others_are_unharmed(name):
    changes, code, words = BAD[name]
    bench = Bench()
    bench.ask_and_run("vehicle_1", 1.0, frame=5.0)

    bench.ask("vehicle_1", 1.2, frame=6.0)
    (refusal,) = bench.ask(**{"vehicle": "vehicle_0", **changes})
    (answer,) = bench.run()

    assert (refusal.outcome, refusal.error) == (Outcome.REFUSED, code)
    assert refusal.waypoints_m == () and len(refusal.text) <= 500
    assert pytest.approx(0.0) == refusal.latency_s
    assert re.search(words, refusal.text), refusal.text
    # The other's history goes on as if nothing had been.
    assert answer.head.vehicle == "vehicle_1" and answer.waypoints_m[0] == (2.0, 11.0)
    assert bench.service.outcomes()[Outcome.REFUSED] == 1
    assert bench.service.figures()["errors"] == f"{code.name} 1"
    # And the sender may do better with the same stamp.
    assert bench.ask_and_run("vehicle_0").outcome is Outcome.ANSWERED


def test_a_name_that_does_not_end_travels_back_cut_short():
    bench = Bench()
    (refusal,) = bench.ask("v" * 100_000)
    assert refusal.head.vehicle == "v" * 64


def test_the_model_may_say_that_it_cannot_read_a_text():
    def complaint(instruction, notice):
        return None if f"{instruction}{notice}".isascii() else "half of it is unknown"

    bench = Bench(complaint=complaint)
    for bad in ({"instruction": "Fahren Sie zügig."}, {"notice": "Da ist ein Fußgänger."}):
        (refusal,) = bench.ask(**bad)
        assert refusal.error is codes.INSTRUCTION_REFUSED and "unknown" in refusal.text
    assert bench.ask_and_run().outcome is Outcome.ANSWERED


def test_a_message_that_is_no_request_is_answered_and_counted():
    bench = Bench()
    head = RequestHead(vehicle="vehicle_0", session="s", stamp_ns=5, arrived_s=bench.clock.now_s)
    answer = bench.service.refuse_unreadable(head, "dtype is 7, allowed are [0, 1, 2]")
    assert answer.error is codes.REQUEST_MALFORMED and answer.head == head
    assert bench.service.figures()["submitted"] == bench.service.figures()["refused"] == 1


def test_of_two_processes_with_one_name_the_second_is_refused_while_the_first_lives():
    bench = Bench()
    bench.ask_and_run(session="first", stamp_s=1.0, frame=1.0)
    bench.clock.now_s += 1.0
    (refusal,) = bench.ask(session="second", stamp_s=50.0)
    assert refusal.error is codes.VEHICLE_NAME_TAKEN and "'first'" in refusal.text
    assert refusal.head.session == "second"

    # The first goes on, with its history and with stamps that the second's did not touch.
    assert bench.ask_and_run(session="first", stamp_s=1.2, frame=2.0).waypoints_m[0] == (2.0, 3.0)

    # Being refused did not keep the second's claim warm; the first's silence frees the name.
    bench.clock.now_s += 2.1
    taken = bench.ask_and_run(session="second", stamp_s=1.4, frame=7.0)
    assert taken.waypoints_m[0] == (1.0, 7.0), "another process's history must not go on"
    (refusal,) = bench.ask(session="first", stamp_s=1.6)
    assert refusal.error is codes.VEHICLE_NAME_TAKEN


@pytest.mark.parametrize("stamp_s", [0.9, 1.0, 1.1])
def test_stamps_that_go_back_or_come_too_soon_are_refused(stamp_s):
    bench = Bench()
    bench.ask_and_run(stamp_s=1.0)
    (refusal,) = bench.ask(stamp_s=stamp_s)
    assert refusal.error is codes.REQUEST_OUT_OF_ORDER
    assert f"{stamp_s - 1.0:.3f} s after" in refusal.text
    assert bench.ask_and_run(stamp_s=1.2).waypoints_m[0][0] == 2.0


def test_after_silence_a_process_may_begin_its_clock_anew():
    bench = Bench()
    bench.ask_and_run(stamp_s=500.0)
    bench.clock.now_s += 2.5
    assert bench.ask_and_run(stamp_s=1.0).waypoints_m[0][0] == 1.0


def test_a_process_that_takes_a_name_over_begins_a_history_of_its_own():
    bench = Bench()
    assert bench.ask_and_run("v", 1.0, frame=5.0, session="s1").waypoints_m[0] == (1.0, 5.0)
    bench.clock.now_s += 3.0
    # Its clock goes on where the other's ended: only the session tells them apart.
    assert bench.ask_and_run("v", 1.2, frame=7.0, session="s2").waypoints_m[0] == (1.0, 7.0)
    assert bench.service.figures()["dropped_session"] == 1


def test_a_request_that_waits_keeps_the_name():
    bench = Bench()
    bench.ask(session="first")
    bench.clock.now_s += 10.0
    (refusal,) = bench.ask(session="second", stamp_s=9.0)
    assert refusal.error is codes.VEHICLE_NAME_TAKEN


def test_a_full_edge_refuses_until_one_falls_silent_and_lets_the_longest_silent_go():
    config = EdgeServiceConfig(admission=AdmissionConfig(max_vehicles=2, alive_s=2.0))
    bench = Bench(config)
    bench.ask_and_run("a", 1.0)
    bench.clock.now_s += 1.5
    bench.ask_and_run("b", 1.0)
    (refusal,) = bench.ask("c")
    assert refusal.error is codes.EDGE_FULL and "limit is 2" in refusal.text

    bench.clock.now_s += 1.0  # a has been silent for 2.5 s, b for 1 s
    assert bench.ask_and_run("c").outcome is Outcome.ANSWERED
    figures = bench.service.figures()
    assert (figures["vehicles"], figures["histories"]) == (2, 2)
    assert (figures["vehicles_evicted"], figures["dropped_gone"]) == (1, 1)
    assert bench.ask_and_run("b", 1.2).waypoints_m[0][0] == 2.0, "b was not the idle one"


def test_the_longest_silent_goes_not_the_one_that_came_first():
    bench = Bench(EdgeServiceConfig(admission=AdmissionConfig(max_vehicles=2)))
    bench.ask_and_run("a", 1.0)
    bench.ask_and_run("b", 1.0)
    bench.clock.now_s += 2.5
    bench.ask_and_run("a", 1.2)
    assert bench.ask_and_run("c").outcome is Outcome.ANSWERED
    assert bench.ask_and_run("a", 1.4).waypoints_m[0][0] == 3.0


def test_who_waits_for_an_answer_is_not_let_go():
    bench = Bench(EdgeServiceConfig(admission=AdmissionConfig(max_vehicles=1)))
    bench.ask("a")
    bench.clock.now_s += 60.0
    (refusal,) = bench.ask("b")
    assert refusal.error is codes.EDGE_FULL
    assert bench.run()[0].outcome is Outcome.ANSWERED
    assert bench.ask_and_run("b").outcome is Outcome.ANSWERED


def test_many_names_cost_no_more_memory_than_the_limit():
    config = EdgeServiceConfig(admission=AdmissionConfig(max_vehicles=3))
    bench = Bench(config)
    for i in range(200):
        bench.ask(f"vehicle_{i}")
        bench.run()
        bench.clock.now_s += 1.1
        assert bench.service.figures()["vehicles"] <= 3
        assert bench.service.figures()["histories"] <= 3


def test_who_is_silent_for_long_is_forgotten():
    bench = Bench()
    bench.ask_and_run("a")
    bench.clock.now_s += 31.0
    bench.run()
    figures = bench.service.figures()
    assert (figures["vehicles"], figures["histories"], figures["vehicles_silent"]) == (0, 0, 1)


@pytest.mark.parametrize("field", ["max_vehicles", "max_instruction_chars"])
def test_limits_are_positive(field):
    with pytest.raises(ValueError, match=f"{field} must be at least 1"):
        AdmissionConfig(**{field: 0})
    with pytest.raises(ValueError, match="alive_s"):
        AdmissionConfig(alive_s=40.0)


def test_what_the_request_says_is_compared_as_it_is():
    assert request().expired(1e9) is False
    assert request(budget_s=0.2).expired(100.2001) and not request(budget_s=0.2).expired(100.1999)
