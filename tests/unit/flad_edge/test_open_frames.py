# SPDX-License-Identifier: Apache-2.0
"""No frame is lost or given up too early, and no notice either."""

from __future__ import annotations

from edge_service import request

from flad_edge.driver import Ended
from flad_edge.open_frames import OpenFrames
from flad_edge.spoken import Spoken
from flad_planner.language.operator_text import TextLimits

WATCH_OUT = "Watch out, a pedestrian is ahead."


def test_the_adm_has_as_long_as_the_edge_had():
    frames = OpenFrames(limit_s=0.4)
    frame = frames.open(200, request(), now_s=10.0)
    frames.open(400, request(), now_s=10.2)
    assert frames.overdue(10.4) == []
    assert frames.overdue(10.41) == [frame]
    frames.adm_starts(frame, 10.41)
    assert frames.overdue(10.6) == []
    assert [f.stamp_ns for f in frames.overdue(10.82)] == [200, 400]


def test_what_is_open_is_known_until_it_is_closed():
    frames = OpenFrames(limit_s=1.0)
    for stamp_ns in (200, 400, 600):
        frames.open(stamp_ns, request(), now_s=0.0)
    refused = frames.find(400)
    refused.how = Ended.REFUSED  # the ADM is at work on it
    assert [f.stamp_ns for f in frames.at_the_edge()] == [200, 600]
    assert len(frames) == 3
    assert frames.close(200).stamp_ns == 200 and frames.close(200) is None
    assert [f.stamp_ns for f in frames.close_all()] == [400, 600]
    assert len(frames) == 0 and frames.find(400) is None


def told():
    spoken = Spoken(TextLimits())
    spoken.take_instruction("Turn left at the next crossing.")
    spoken.take_notice(WATCH_OUT)
    assert spoken.notice_to_send() == WATCH_OUT
    return spoken


def test_a_notice_that_the_edge_did_not_answer_goes_up_once_more_when_it_does():
    spoken = told()
    spoken.lose(WATCH_OUT)
    assert spoken.notice_to_send() == ""  # the frames that nobody hears do not repeat it
    spoken.say_lost_again()
    assert [spoken.notice_to_send() for _ in range(3)] == [WATCH_OUT, "", ""]


def test_a_lost_notice_that_does_not_hold_any_more_stays_away():
    def other_instruction(spoken):
        spoken.take_instruction("Turn right at the next crossing.")

    def taken_back(spoken):
        spoken.take_notice("")

    for change in (other_instruction, taken_back, Spoken.forget_lost):
        spoken = told()
        spoken.lose(WATCH_OUT)
        change(spoken)
        spoken.say_lost_again()
        assert spoken.notice_to_send() == ""

    spoken = told()
    spoken.take_notice("The traffic light ahead is red.")
    spoken.lose(WATCH_OUT)  # a newer one stands
    spoken.say_lost_again()
    assert spoken.notice_to_send() == "The traffic light ahead is red."
