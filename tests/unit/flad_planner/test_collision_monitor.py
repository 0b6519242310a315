# SPDX-License-Identifier: Apache-2.0
"""The collision monitor slows for who is met, and for nobody else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from flad_planner.collision_monitor import MonitorConfig, RoadUser, arcs_m, later, speed_limit
from flad_planner.geometry import Pose2
from flad_planner.plan import RawPlan
from flad_planner.planner import Ego, Planner, PlannerConfig, PlannerState

CONFIG = MonitorConfig()
CAR = RoadUser(0.0, 0.0, 0.0, 2.2, 0.9, 0.0, 0.9)
WALKER = RoadUser(0.0, 0.0, 0.0, 0.3, 0.3, 1.4, 0.9)


def straight(speed_mps=8.0):
    return [(arc_m, 0.0) for arc_m in arcs_m(speed_mps, CONFIG)]


def limit(user, speed_mps=8.0, path=None, config=CONFIG):
    return speed_limit(path or straight(speed_mps), speed_mps, [user], config)


def bend(radius_m, speed_mps=8.0):
    """A bend to the left."""
    return [
        (radius_m * math.sin(a / radius_m), radius_m * (1.0 - math.cos(a / radius_m)))
        for a in arcs_m(speed_mps, CONFIG)
    ]


def test_a_standing_car_may_be_approached_so_that_one_stops_behind_it():
    found = limit(replace(CAR, x_m=20.0))
    gap_m = 20.0 - 2.2 - CONFIG.half_length_m
    assert found.gap_m == pytest.approx(gap_m, abs=0.5)
    way_m = found.speed_mps**2 / (2.0 * CONFIG.brake_mps2)
    assert found.gap_m - way_m == pytest.approx(CONFIG.gap_m)
    assert not found.is_foreseen


def test_driving_by_the_limit_one_stops_before_the_other_and_not_far_from_it():
    x_m, speed_mps = 0.0, 9.0
    for _ in range(600):
        found = limit(replace(CAR, x_m=30.0 - x_m), speed_mps)
        wanted = min(9.0, found.speed_mps if found else 9.0)
        speed_mps += max(-4.0 * 0.05, min(2.0 * 0.05, wanted - speed_mps))
        x_m += speed_mps * 0.05
    assert speed_mps < 0.05
    assert 0.5 <= 30.0 - x_m - 2.2 - CONFIG.half_length_m <= CONFIG.gap_m + 0.5


def test_who_drives_ahead_as_fast_may_be_followed():
    found = limit(replace(CAR, x_m=14.0, speed_mps=8.0))
    assert found is None or found.speed_mps >= 8.0


def test_who_drives_ahead_and_is_too_near_lets_one_fall_back():
    found = limit(replace(CAR, x_m=6.0, speed_mps=8.0))
    assert 0.0 < found.speed_mps < 8.0


@pytest.mark.parametrize("y_m", [-3.5, 3.5])
@pytest.mark.parametrize("yaw_rad", [0.0, math.pi])
def test_who_keeps_to_the_next_lane_is_not_met(y_m, yaw_rad):
    for x_m in (-10.0, 0.0, 10.0, 20.0):
        assert limit(replace(CAR, x_m=x_m, y_m=y_m, yaw_rad=yaw_rad, speed_mps=8.0)) is None


def test_who_is_behind_is_not_braked_for():
    assert limit(replace(CAR, x_m=-6.0, speed_mps=12.0)) is None


def test_the_path_counts_and_not_the_straight_way():
    ahead = replace(CAR, x_m=20.0)
    assert limit(ahead) is not None
    assert limit(ahead, path=bend(12.0)) is None
    beside = replace(CAR, x_m=12.0, y_m=12.0, yaw_rad=math.pi / 2)
    assert limit(beside) is None
    assert limit(beside, path=bend(12.0)) is not None


def test_a_walker_who_will_cross_is_waited_for_and_one_who_has_crossed_is_not():
    comes = replace(WALKER, x_m=12.0, y_m=-3.0, yaw_rad=math.pi / 2)
    found = limit(comes)
    assert found.is_foreseen and found.speed_mps < 8.0
    assert limit(replace(comes, y_m=2.0)) is None
    assert limit(replace(comes, speed_mps=0.0)) is None


def test_who_crosses_long_before_or_after_is_not_waited_for():
    crosses = replace(CAR, x_m=16.0, yaw_rad=math.pi / 2, speed_mps=10.0)
    assert limit(replace(crosses, y_m=-30.0)) is None
    assert limit(replace(crosses, y_m=-4.0)) is None  # gone in 0.8 s
    assert limit(replace(crosses, y_m=-17.0)).is_foreseen


@pytest.mark.parametrize("name", ["x_m", "y_m", "yaw_rad", "half_length_m", "speed_mps", "score"])
def test_what_is_not_finite_or_unsure_does_not_count(name):
    near = replace(CAR, x_m=15.0)
    assert limit(replace(near, **{name: math.nan})) is None
    assert limit(replace(near, score=0.4)) is None


def test_old_news_are_brought_to_now():
    seen = replace(CAR, x_m=10.0, y_m=1.0, yaw_rad=math.pi / 2, speed_mps=4.0)
    now = later(seen, Pose2(100.0, 50.0, math.pi / 2), 0.5)
    assert (now.x_m, now.y_m) == (pytest.approx(100.0 - 1.0 - 2.0), pytest.approx(60.0))
    assert math.remainder(now.yaw_rad - math.pi, math.tau) == pytest.approx(0.0)


@pytest.mark.parametrize(
    "wrong", [{"min_score": 2.0}, {"gap_m": 0.0}, {"brake_mps2": -1.0}, {"side_margin_m": -0.1}]
)
def test_wrong_config_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MonitorConfig(**wrong)


class Ride:
    """A car at 8 m/s on a straight plan of 8 m/s."""

    def __init__(self, config=None):
        self.planner = Planner(config or PlannerConfig())
        self.now_ns = 0

    def step(self, users=None, age_s=0.0):
        self.now_ns += 50_000_000
        pose = Pose2(8.0 * self.now_ns * 1e-9, 0.0, 0.0)
        self.planner.observe(Ego(self.now_ns, pose, 8.0))
        xs = [4.0 * (i + 1) for i in range(5)]
        assert self.planner.receive(RawPlan(self.now_ns, xs, [0.0] * 5, 0.5, "test")) is None
        if users is not None:
            self.planner.see(self.now_ns - round(age_s * 1e9), users)
        return self.planner.decide(self.now_ns * 1e-9)


def test_the_planner_brakes_for_who_is_in_the_way_and_says_so():
    ride = Ride()
    assert ride.step([]).control.brake == 0.0
    ride.step()
    decision = ride.step([replace(CAR, x_m=9.0)])
    assert decision.state is PlannerState.FOLLOWING
    assert decision.control.brake == 1.0
    assert "a road user is 4." in decision.reason
    assert ride.planner.num_slowed == 1


def test_switched_off_it_does_not():
    ride = Ride(PlannerConfig(monitor=MonitorConfig(enabled=False)))
    assert ride.step([replace(CAR, x_m=9.0)]).control.brake == 0.0


def test_what_was_seen_long_ago_does_not_hold_for_ever():
    ride = Ride()
    ride.step([replace(CAR, x_m=9.0)])
    reasons = [ride.step().reason for _ in range(14)]
    assert reasons[0] and not reasons[-1]
