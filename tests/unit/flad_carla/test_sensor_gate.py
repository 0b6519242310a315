# SPDX-License-Identifier: Apache-2.0
"""One frame's sensors: all that are due, none that are not, and who was missing."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

from flad_carla.sensor_gate import WARM_UP_FRAMES, SensorGate, SensorSlot
from flad_carla.session_errors import SensorTimeout


@dataclass
class Data:
    frame: int
    timestamp: float = 0.0


def slot_of(name, **options):
    """A sensor that has been there for a while."""
    return SensorSlot(name, num_frames=WARM_UP_FRAMES, **options)


def test_a_new_sensor_may_leave_out_its_first_frames_and_no_more():
    slot = SensorSlot("v/cam")
    gate = SensorGate(0.02, first_grace_s=0.01)
    for frame in range(1, WARM_UP_FRAMES + 1):
        assert gate.gather([slot], frame, frame * 0.05).data == {}
    with pytest.raises(SensorTimeout, match="v/cam"):
        gate.gather([slot], 9, 0.45)


def test_a_sensor_that_has_spoken_once_has_no_grace():
    slot = SensorSlot("v/cam")
    slot.put(Data(1))
    gate = SensorGate(0.02, first_grace_s=0.01)
    assert gate.gather([slot], 1, 0.05).data
    with pytest.raises(SensorTimeout, match="v/cam"):
        gate.gather([slot], 2, 0.10)


def test_it_waits_for_a_late_thread_and_drops_older_frames():
    slot = SensorSlot("vehicle_0/cam")
    slot.put(Data(8))
    slot.put(Data(9))
    timer = threading.Timer(0.05, lambda: slot.put(Data(10)))
    timer.start()
    gathered = SensorGate(5.0).gather([slot], frame=10, now_s=0.5)
    timer.join()

    assert gathered.data == {"vehicle_0/cam": Data(10)}
    assert gathered.num_old == 2


def test_the_missing_are_named_and_the_present_are_not():
    here, gone, other = (slot_of(f"vehicle_0/{name}") for name in ("here", "gone", "other"))
    here.put(Data(3))
    gone.put(Data(2))

    with pytest.raises(SensorTimeout, match=r"frame 3.*vehicle_0/gone, vehicle_0/other") as caught:
        SensorGate(0.05).gather([here, gone, other], frame=3, now_s=0.15)

    assert caught.value.missing == ("vehicle_0/gone", "vehicle_0/other")


def test_the_deadline_is_for_all_together():
    """Ten absent sensors must not wait ten times."""
    now = [0.0]

    def clock():
        now[0] += 0.001
        return now[0]

    slots = [slot_of(f"v/{i}") for i in range(10)]
    with pytest.raises(SensorTimeout):
        SensorGate(0.02, clock=clock).gather(slots, frame=1, now_s=0.05)

    assert now[0] < 0.1


def test_a_slow_sensor_is_awaited_when_due_only():
    slot = SensorSlot("v/slow", tick_s=0.1)
    gate = SensorGate(0.05, first_grace_s=0.01)
    seen = []
    for frame in range(1, 9):
        if frame % 2 == 1:
            slot.put(Data(frame))
        seen.append(bool(gate.gather([slot], frame, frame * 0.05).data))

    assert seen == [True, False] * 4


def test_a_slow_sensor_that_misses_its_turn_is_missing():
    slot = slot_of("v/slow", tick_s=0.1)
    gate = SensorGate(0.02, first_grace_s=0.01)
    slot.put(Data(1))
    gate.gather([slot], 1, 0.05)
    gate.gather([slot], 2, 0.10)
    with pytest.raises(SensorTimeout, match="v/slow"):
        gate.gather([slot], 3, 0.15)


def test_events_are_never_awaited_and_come_in_order():
    bump, line = SensorSlot("v/bump", is_event=True), SensorSlot("v/line", is_event=True)
    gate = SensorGate(5.0)
    assert gate.gather([bump, line], 1, 0.05).events == ()
    line.put(Data(3))
    bump.put(Data(3))
    bump.put(Data(2))

    events = gate.gather([line, bump], 3, 0.15).events

    assert [(name, data.frame) for name, data in events] == [
        ("v/bump", 2),
        ("v/bump", 3),
        ("v/line", 3),
    ]
    assert gate.gather([bump, line], 4, 0.2).events == ()


def test_a_deadline_that_is_none_is_refused():
    with pytest.raises(ValueError, match="deadline_s"):
        SensorGate(0.0)
