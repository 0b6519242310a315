# SPDX-License-Identifier: Apache-2.0
"""Whether an edge is there, and what the vehicle has been told."""

from __future__ import annotations

import pytest

from flad_edge.edge_watch import EdgeWatch
from flad_edge.spoken import Spoken
from flad_planner.language.operator_text import TextLimits


@pytest.mark.parametrize(("mode", "settle_s", "gone_s"), [("realtime", 0.2, 0), ("lockstep", 1, 2)])
def test_an_edge_is_there_once_both_see_each_other_and_gone_when_that_is_sure(
    mode, settle_s, gone_s
):
    watch = EdgeWatch(mode)
    assert not watch.step(True, 0.0) and not watch.is_alive
    watch.set_writers(1, 10.0)
    assert not watch.step(False, 50.0)  # it does not read our requests yet
    assert not watch.step(True, 10.0 + settle_s - 0.01)
    assert watch.step(True, 10.01 + settle_s) and watch.is_alive and watch.answers
    assert not watch.step(True, 60.0)
    watch.set_writers(0, 70.0)
    if gone_s:
        assert not watch.step(True, 70.0 + gone_s - 0.01) and watch.is_alive
    assert watch.step(True, 70.01 + gone_s) and not watch.is_alive and not watch.answers


def test_a_false_alarm_is_none_in_lockstep():
    watch = EdgeWatch("lockstep")
    watch.set_writers(1, 0.0)
    watch.step(True, 1.0)
    watch.set_writers(0, 5.0)
    assert not watch.step(True, 6.0)
    watch.set_writers(1, 6.5)
    assert not watch.step(True, 9.0) and watch.is_alive


def test_a_deaf_edge_is_not_waited_for_until_another_comes():
    watch = EdgeWatch("realtime")
    watch.set_writers(2, 0.0)
    watch.step(True, 1.0)
    watch.is_deaf = True
    assert watch.is_alive and not watch.answers
    watch.set_writers(1, 2.0)  # one of two gone is no news
    assert not watch.step(True, 3.0) and watch.is_deaf
    watch.set_writers(0, 4.0)
    watch.step(True, 4.0)
    watch.set_writers(1, 5.0)
    assert watch.step(True, 6.0) and watch.answers


def test_what_is_said_stands_until_something_good_is_said_and_notices_go_once():
    spoken = Spoken(TextLimits())
    spoken.take_instruction("Turn  left.")
    spoken.take_notice("The traffic light is red.")
    assert (spoken.instruction, spoken.notice) == ("Turn left.", "The traffic light is red.")
    assert [spoken.notice_to_send() for _ in range(2)] == ["The traffic light is red.", ""]
    assert spoken.notice == "The traffic light is red."

    spoken.take_instruction("Biegen Sie bitte links ab")
    assert spoken.instruction == "Turn left." and "instruction refused" in spoken.complaint
    spoken.take_instruction("Turn left.")
    assert spoken.complaint == "" and spoken.notice  # the same words: nothing is forgotten

    spoken.take_notice("The traffic light is green.")
    spoken.take_instruction("Turn right.")
    assert spoken.notice == "" and spoken.notice_to_send() == ""
    spoken.take_notice("Watch out, a pedestrian.")
    spoken.take_notice("")
    assert spoken.notice == "" and spoken.notice_to_send() == ""
