# SPDX-License-Identifier: Apache-2.0
"""Which control a vehicle is under: by stamp, by freshness, by hand; never an impossible one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flad_carla.control_inbox import ControlInbox, StampedControl
from flad_carla.pacer import Pacer
from flad_planner.control import FULL_BRAKE, Control, control_complaint

GO = Control(throttle=0.5, steer=0.1)


def test_lockstep_takes_the_answer_to_this_step_only():
    inbox = ControlInbox(0.5)
    assert inbox.answer(100, 0.0) is None
    inbox.put(StampedControl(50, GO), step_ns=100, clock_s=0.0)
    assert inbox.answer(100, 0.0) is None
    assert inbox.num_late == 1
    inbox.put(StampedControl(100, GO), step_ns=100, clock_s=0.0)
    assert inbox.answer(100, 0.0).control == GO
    assert inbox.answer(150, 0.0) is None
    assert inbox.num_late == 1


def test_realtime_takes_the_newest_until_it_is_silent():
    inbox = ControlInbox(0.5)
    assert inbox.newest(0, 0.0).control == FULL_BRAKE
    inbox.put(StampedControl(1, GO), step_ns=1, clock_s=10.0)
    assert inbox.newest(2, 10.5).control == GO
    assert inbox.newest(2, 10.6).control == FULL_BRAKE


@pytest.mark.parametrize(
    "bad",
    [
        Control(throttle=math.nan),
        Control(throttle=-0.1),
        Control(throttle=1.1),
        Control(steer=math.inf),
        Control(steer=-1.01),
        Control(brake=math.nan),
        Control(brake=2.0),
    ],
)
def test_an_impossible_control_answers_with_the_brake(bad):
    inbox = ControlInbox(0.5)
    inbox.put(StampedControl(0, GO), 0, 0.0)
    reason = inbox.put(StampedControl(100, bad), 100, 0.0)

    assert "allowed are" in reason
    assert inbox.num_refused == 1
    assert inbox.answer(100, 0.0).control == FULL_BRAKE
    assert inbox.newest(100, 0.0).control == FULL_BRAKE


@pytest.mark.parametrize("seed", range(5))
def test_nothing_impossible_ever_leaves(seed):
    rng = np.random.default_rng(seed)
    odd = [math.nan, math.inf, -math.inf, 0.0, 1.0, -1.0, 1e30, 0.5]
    inbox = ControlInbox(0.5)
    for step in range(200):
        control = Control(*(float(rng.choice(odd)) for _ in range(3)))
        if rng.random() < 0.3:
            inbox.manual.set_active(bool(rng.random() < 0.5), step * 0.05)
        put = inbox.put_manual if rng.random() < 0.5 else None
        if put:
            put(StampedControl(step, control), step * 0.05)
        else:
            inbox.put(StampedControl(step, control), step, step * 0.05)
        for found in (inbox.newest(step, step * 0.05), inbox.answer(step, step * 0.05)):
            if found is not None:
                c = found.control
                assert control_complaint(c.throttle, c.steer, c.brake) is None


def test_a_person_wins_and_is_not_waited_for():
    inbox = ControlInbox(0.5)
    inbox.put(StampedControl(100, GO), 100, 1.0)
    inbox.manual.set_active(True, 1.0)
    assert inbox.answer(150, 1.0).control == FULL_BRAKE  # no command yet
    inbox.put_manual(StampedControl(0, Control(throttle=0.2), gear=2, manual_gear_shift=True), 1.1)
    answer = inbox.answer(150, 1.2)
    assert (answer.control, answer.gear) == (Control(throttle=0.2), 2)
    assert inbox.answer(150, 1.7).control == FULL_BRAKE
    inbox.manual.set_active(False, 1.8)
    assert inbox.answer(150, 1.8) is None


def test_another_vehicle_in_the_role_starts_without_a_control():
    inbox = ControlInbox(0.5)
    inbox.put(StampedControl(100, GO), 100, 0.0)
    inbox.reset()
    assert inbox.answer(100, 0.0) is None
    assert inbox.newest(100, 0.0).control == FULL_BRAKE


def test_pacer_keeps_the_beat_and_does_not_catch_up_in_a_burst():
    now = [100.0]
    pacer = Pacer(0.05, clock=lambda: now[0])
    due = []
    for work_s in (0.0, 0.01, 0.01, 0.2, 0.01, 0.01):
        now[0] += work_s
        due.append(pacer.next_due_s())
        now[0] = max(now[0], due[-1])

    gaps = np.diff(due).round(6).tolist()
    assert gaps == [0.05, 0.05, 0.2, 0.05, 0.05]
    assert pacer.num_late == 1
    assert pacer.worst_lateness_s == pytest.approx(0.15)
