# SPDX-License-Identifier: Apache-2.0
"""Requests and answers survive their messages; the constants of both sides are the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from edge_service import Bench, request
from flad_msgs.msg import DriveAnswer, DriveRequest, SceneTokens

from flad_common import error_codes as codes
from flad_edge.ros import messages as convert
from flad_edge.ros.health import health_msg
from flad_edge.service.requests import Answer, Outcome, RequestHead
from flad_perception.ros.messages import ns_to_stamp
from flad_perception.wire import WireDtype, decode_tokens, encode_tokens

TOKENS = np.arange(8, dtype=np.float32).reshape(2, 4)


def _msg(**changes):
    encoded = encode_tokens(TOKENS, WireDtype.INT8)
    scene = SceneTokens(
        model_hash="e" * 16,
        contract_version=3,
        num_tokens=2,
        dim=4,
        dtype=int(WireDtype.INT8),
        scale=list(encoded.scale),
        data=encoded.data,
        crc32=encoded.crc32,
    )
    scene.header.stamp, scene.header.frame_id = ns_to_stamp(12_000_000_345), "vehicle_3"
    values = {"session": "s", "instruction": "Turn left.", "budget_s": 0.5, **changes}
    return DriveRequest(tokens=scene, **values)


def test_the_constants_of_the_message_are_the_outcomes():
    assert {o.name: int(o) for o in Outcome} == {
        o.name: getattr(DriveAnswer, o.name) for o in Outcome
    }


@pytest.mark.parametrize(("notice", "expected"), [("", None), ("A light.", "A light.")])
def test_a_request_says_the_same_as_its_message(notice, expected):
    msg = _msg(notice=notice)
    head = convert.head_from_msg(msg, 7.0)
    assert head == RequestHead(
        vehicle="vehicle_3", session="s", stamp_ns=12_000_000_345, arrived_s=7.0
    )
    got = convert.request_from_msg(msg, head)
    assert (got.contract_version, got.encoder_hash) == (3, "e" * 16)
    assert (got.instruction, got.notice, got.budget_s) == ("Turn left.", expected, 0.5)
    assert np.abs(decode_tokens(got.tokens) - TOKENS).max() < 0.05


def test_tokens_in_an_unknown_way_of_writing_are_no_request():
    msg = _msg()
    msg.tokens.dtype = 9
    with pytest.raises(ValueError, match=r"dtype is 9, allowed are \[0, 1, 2\]"):
        convert.request_from_msg(msg, convert.head_from_msg(msg, 0.0))


def test_an_answer_with_waypoints():
    bench = Bench()
    msg = convert.answer_msg(bench.ask_and_run("vehicle_3", 2.5, frame=4.0))
    assert (msg.outcome, msg.error, msg.text) == (DriveAnswer.ANSWERED, 0, "")
    assert (msg.header.frame_id, msg.session) == ("vehicle_3", "s1")
    assert (msg.header.stamp.sec, msg.header.stamp.nanosec) == (2, 500_000_000)
    assert (list(msg.x), list(msg.y), msg.step_s) == ([1.0] * 5, [4.0] * 5, 0.5)
    assert (msg.release, msg.completed) == ("first", 0.0)
    assert msg.latency_s == pytest.approx(0.01)


@pytest.mark.parametrize("stamp_ns", [0, -1, 2**31 * 1_000_000_000 - 1, -(2**31) * 1_000_000_000])
def test_a_refusal_of_any_stamp_has_number_and_reason_and_no_waypoints(stamp_ns):
    head = RequestHead(vehicle="v", session="s", stamp_ns=stamp_ns, arrived_s=0.0)
    msg = convert.answer_msg(
        Answer(
            head=head,
            outcome=Outcome.REFUSED,
            latency_s=0.0,
            error=codes.EDGE_FULL,
            text="64 vehicles are being served",
        )
    )
    assert (msg.outcome, msg.error) == (DriveAnswer.REFUSED, 806)
    assert msg.text == "64 vehicles are being served"
    assert len(msg.x) == len(msg.y) == 0 and msg.step_s == 0.0 and math.isnan(msg.completed)
    assert convert.stamp_to_ns(msg.header.stamp) == stamp_ns


def test_diagnostics_carry_every_figure():
    bench = Bench()
    bench.ask_and_run()
    bench.service.submit(request(contract_version=9))
    msg = health_msg(bench.service, 101.0, name="/edge", stamp=ns_to_stamp(5))
    (status,) = msg.status
    values = {v.key: v.value for v in status.values}
    assert set(values) == set(bench.service.figures())
    assert (values["answered"], values["refused"]) == ("1", "1")
    assert values["errors"] == "TOKENS_REFUSED 1" and "1 refused" in status.message
