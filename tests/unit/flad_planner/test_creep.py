# SPDX-License-Identifier: Apache-2.0
"""Creeping: after standing for long and with nobody ahead, for a while, then not again at once."""

from __future__ import annotations

import pytest

from flad_planner.collision_monitor import MonitorConfig
from flad_planner.creep import Creep, CreepConfig
from flad_planner.geometry import Pose2
from flad_planner.plan import RawPlan
from flad_planner.planner import Ego, Planner, PlannerConfig
from flad_planner.tracking import Box

CONFIG = CreepConfig(after_s=10.0, for_s=2.0)


def creeps(seconds, speed_mps=0.0, is_free=lambda t: True, creep=None):
    """The seconds, every half of one, at which it creeps."""
    creep = creep or Creep(CONFIG)
    times = [i / 2 for i in range(2 * seconds)]
    return [t for t in times if creep.step(t, speed_mps, is_free=is_free(t))]


def test_it_creeps_after_standing_and_then_has_to_stand_again():
    assert creeps(30) == [10.0, 10.5, 11.0, 11.5, 22.0, 22.5, 23.0, 23.5]


def test_who_moves_does_not_creep():
    assert creeps(30, speed_mps=0.5) == []


def test_it_waits_until_the_way_is_free_and_ends_where_it_is_not():
    assert creeps(20, is_free=lambda t: 13.0 <= t < 14.0) == [13.0, 13.5]


def test_it_can_be_switched_off():
    assert creeps(90, creep=Creep(CreepConfig(enabled=False, after_s=1.0))) == []


@pytest.mark.parametrize("name", ["after_s", "for_s", "speed_mps", "standing_mps"])
def test_bad_knobs_are_named(name):
    with pytest.raises(ValueError, match=name):
        CreepConfig(**{name: 0.0})


@pytest.mark.parametrize(
    "is_seen, monitored, in_the_way, rolls",
    [
        (True, True, False, True),
        (True, True, True, False),
        (False, True, False, False),  # nobody looks out
        (True, False, False, False),
    ],
)
def test_the_planner_creeps_only_where_its_monitor_sees_that_the_way_is_free(
    is_seen, monitored, in_the_way, rolls
):
    monitor = MonitorConfig(enabled=monitored)
    planner = Planner(PlannerConfig(creep=CONFIG, monitor=monitor))
    throttles = []
    for tick in range(120):
        stamp_ns = tick * 100_000_000
        planner.observe(Ego(stamp_ns, Pose2(0.0, 0.0, 0.0), 0.0))
        if is_seen:
            boxes = [Box(6.0, 0.0, 0.0, 2.2, 0.9, 0.9)] if in_the_way else []
            planner.see(stamp_ns, boxes)
        planner.receive(RawPlan(stamp_ns, [0.0] * 5, [0.0] * 5, 0.5, "test"))
        throttles.append(planner.decide(tick * 0.1).control.throttle)
    assert any(throttles[100:]) == rolls
    assert not any(throttles[:100])
