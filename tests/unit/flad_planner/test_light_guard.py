# SPDX-License-Identifier: Apache-2.0
"""The light guard believes a light after some frames, stops at its deceleration, and lets go."""

from __future__ import annotations

import math

import pytest

from flad_planner.collision_monitor import MonitorConfig
from flad_planner.geometry import Pose2
from flad_planner.light_guard import LightGuard, LightGuardConfig
from flad_planner.plan import RawPlan
from flad_planner.planner import Ego, Planner, PlannerConfig

CONFIG = LightGuardConfig()


def limits(reds, speed_mps=6.0, config=CONFIG):
    """The limit after each frame, 0.2 s apart."""
    guard, found = LightGuard(config), []
    for i, red in enumerate(reds):
        guard.see(red)
        found.append(guard.limit_mps(0.2 * i, speed_mps))
    return found


def test_a_light_is_believed_after_some_frames_and_stopped_for_steadily():
    found = limits([0.9] * 30)
    assert found[:2] == [None, None]
    assert found[2] == 6.0
    assert found[3] == pytest.approx(6.0 - 0.2 * CONFIG.deceleration_mps2)
    assert found[-1] == 0.0


def test_a_blink_is_none():
    assert limits([0.9, 0.9, 0.1] * 10) == [None] * 30


def test_it_lets_go_when_the_light_is_gone_and_begins_anew():
    found = limits([0.9] * 5 + [0.1] * 3 + [0.9] * 3)
    assert found[6] is not None  # two frames without it are not enough
    assert found[7] is None
    assert found[-1] == 6.0


def test_what_is_between_holds_what_was():
    assert limits([0.9] * 3 + [0.6] * 9)[-1] is not None
    assert limits([0.1] * 3 + [0.6] * 9)[-1] is None


def test_nan_is_no_light():
    assert limits([math.nan] * 9) == [None] * 9


def test_it_can_be_switched_off():
    assert limits([0.9] * 9, config=LightGuardConfig(enabled=False)) == [None] * 9


@pytest.mark.parametrize(
    "values, complaint",
    [
        ({"red_above": 0.3}, "free_below"),
        ({"count": 0}, "count"),
        ({"deceleration_mps2": 0.0}, "deceleration_mps2"),
    ],
)
def test_bad_knobs_are_named(values, complaint):
    with pytest.raises(ValueError, match=complaint):
        LightGuardConfig(**values)


@pytest.mark.parametrize("monitored", [True, False])
def test_the_planner_stops_where_its_plan_would_go_on(monitored):
    planner = Planner(PlannerConfig(monitor=MonitorConfig(enabled=monitored)))
    x_m, speed_mps, reasons = 0.0, 7.0, []
    for tick in range(120):
        stamp_ns = tick * 100_000_000
        planner.observe(Ego(stamp_ns, Pose2(x_m, 0.0, 0.0), speed_mps))
        planner.see(stamp_ns, [], 0.95)
        xs = [3.5 * (i + 1) for i in range(5)]
        planner.receive(RawPlan(stamp_ns, xs, [0.0] * 5, 0.5, "test"))
        decision = planner.decide(tick * 0.1)
        reasons.append(decision.reason)
        accel = 3.0 * decision.control.throttle - 6.0 * decision.control.brake
        speed_mps = max(0.0, speed_mps + 0.1 * accel)
        x_m += 0.1 * speed_mps
    assert (speed_mps == 0.0) == monitored
    assert ("a light is seen red" in reasons[-1]) == monitored
    if monitored:
        assert 10.0 < x_m < 30.0
