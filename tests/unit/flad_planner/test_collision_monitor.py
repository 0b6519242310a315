# SPDX-License-Identifier: Apache-2.0
"""The collision monitor slows for who is met, and for nobody else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from flad_planner.collision_monitor import MonitorConfig, arcs_m, counts, speed_limit
from flad_planner.geometry import Pose2
from flad_planner.plan import RawPlan
from flad_planner.planner import Ego, Planner, PlannerConfig, PlannerState
from flad_planner.tracking import Box, RoadUser

CONFIG = MonitorConfig()


def car(x_m, y_m=0.0, yaw_rad=0.0, speed_mps=0.0, half_length_m=2.2, half_width_m=0.9):
    """A car that is known to go at a speed, on its heading."""
    box = Box(x_m, y_m, yaw_rad, half_length_m, half_width_m, 0.9)
    return RoadUser(box, (speed_mps * math.cos(yaw_rad), speed_mps * math.sin(yaw_rad)))


def walker(x_m, y_m, yaw_rad=math.pi / 2, speed_mps=1.4):
    return car(x_m, y_m, yaw_rad, speed_mps, 0.3, 0.3)


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
    found = limit(car(20.0))
    gap_m = 20.0 - 2.2 - CONFIG.half_length_m
    assert found.gap_m == pytest.approx(gap_m, abs=0.5)
    way_m = found.speed_mps**2 / (2.0 * CONFIG.brake_mps2)
    assert found.gap_m - way_m == pytest.approx(CONFIG.gap_m)
    assert not found.is_foreseen


def test_driving_by_the_limit_one_stops_before_the_other_and_not_far_from_it():
    x_m, speed_mps = 0.0, 9.0
    for _ in range(600):
        found = limit(car(30.0 - x_m), speed_mps)
        wanted = min(9.0, found.speed_mps if found else 9.0)
        speed_mps += max(-4.0 * 0.05, min(2.0 * 0.05, wanted - speed_mps))
        x_m += speed_mps * 0.05
    assert speed_mps < 0.05
    assert 0.5 <= 30.0 - x_m - 2.2 - CONFIG.half_length_m <= CONFIG.gap_m + 0.5


def test_who_drives_ahead_as_fast_may_be_followed():
    found = limit(car(14.0, speed_mps=8.0))
    assert found is None or found.speed_mps >= 8.0


def test_who_drives_ahead_and_is_too_near_lets_one_fall_back():
    found = limit(car(6.0, speed_mps=8.0))
    assert 0.0 < found.speed_mps < 8.0


@pytest.mark.parametrize("y_m", [-3.5, 3.5])
@pytest.mark.parametrize("yaw_rad", [0.0, math.pi])
def test_who_keeps_to_the_next_lane_is_not_met(y_m, yaw_rad):
    for x_m in (-10.0, 0.0, 10.0, 20.0):
        assert limit(car(x_m, y_m, yaw_rad, 8.0)) is None


def test_who_is_behind_is_not_braked_for():
    assert limit(car(-6.0, speed_mps=12.0)) is None


def test_the_path_counts_and_not_the_straight_way():
    assert limit(car(20.0)) is not None
    assert limit(car(20.0), path=bend(12.0)) is None
    beside = car(12.0, 12.0, math.pi / 2)
    assert limit(beside) is None
    assert limit(beside, path=bend(12.0)) is not None


def test_a_walker_who_will_cross_is_waited_for_and_one_who_has_crossed_is_not():
    found = limit(walker(12.0, -3.0))
    assert found.is_foreseen and found.speed_mps < 8.0
    assert limit(walker(12.0, 2.0)) is None
    assert limit(walker(12.0, -3.0, speed_mps=0.0)) is None


def test_who_crosses_long_before_or_after_is_not_waited_for():
    def crosses(y_m):
        return limit(car(16.0, y_m, math.pi / 2, 10.0))

    assert crosses(-30.0) is None
    assert crosses(-4.0) is None  # gone in 0.8 s
    assert crosses(-17.0).is_foreseen


def test_whose_speed_nobody_knows_yet_may_stand():
    unknown = RoadUser(Box(12.0, 0.0, 0.0, 2.2, 0.9, 0.9), None)
    assert limit(unknown) == limit(car(12.0))


@pytest.mark.parametrize("name", ["x_m", "y_m", "yaw_rad", "half_length_m", "score"])
def test_what_is_not_finite_does_not_count(name):
    box = Box(15.0, 0.0, 0.0, 2.2, 0.9, 0.9)
    assert counts(box, CONFIG)
    assert not counts(replace(box, **{name: math.nan}), CONFIG)


def test_what_is_unsure_or_the_vehicle_itself_does_not_count():
    box = Box(15.0, 0.0, 0.0, 2.2, 0.9, 0.9)
    assert not counts(replace(box, score=0.4), CONFIG)
    assert not counts(replace(box, x_m=0.8, y_m=-0.3), CONFIG)
    assert counts(replace(box, x_m=0.8, y_m=-2.5), CONFIG)


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

    def step(self, car_x_m=None):
        """50 ms; ``car_x_m`` is where a car is detected, ahead of the vehicle."""
        self.now_ns += 50_000_000
        pose = Pose2(8.0 * self.now_ns * 1e-9, 0.0, 0.0)
        self.planner.observe(Ego(self.now_ns, pose, 8.0))
        xs = [4.0 * (i + 1) for i in range(5)]
        assert self.planner.receive(RawPlan(self.now_ns, xs, [0.0] * 5, 0.5, "test")) is None
        if car_x_m is not None:
            self.planner.see(self.now_ns, [Box(car_x_m, 0.0, 0.0, 2.2, 0.9, 0.9)])
        return self.planner.decide(self.now_ns * 1e-9)


def test_the_planner_brakes_for_who_is_in_the_way_and_says_so():
    ride = Ride()
    assert ride.step().control.brake == 0.0
    ride.step()
    decision = ride.step(car_x_m=9.0)
    assert decision.state is PlannerState.FOLLOWING
    assert decision.control.brake == 1.0
    assert "a road user is 4." in decision.reason
    assert ride.planner.num_slowed == 1


def test_the_planner_follows_who_keeps_ahead():
    ride = Ride()
    decisions = [ride.step(car_x_m=14.0) for _ in range(30)]
    assert all(d.control.brake == 0.0 for d in decisions[10:])


def test_switched_off_it_does_not():
    ride = Ride(PlannerConfig(monitor=MonitorConfig(enabled=False)))
    assert ride.step(car_x_m=9.0).control.brake == 0.0


def test_what_was_seen_long_ago_does_not_hold_for_ever():
    ride = Ride()
    ride.step(car_x_m=9.0)
    reasons = [ride.step().reason for _ in range(14)]
    assert reasons[0] and not reasons[-1]


def test_news_of_a_time_without_odometry_are_dropped():
    ride = Ride()
    ride.step()
    ride.planner.see(ride.now_ns + 10**9, [Box(9.0, 0.0, 0.0, 2.2, 0.9, 0.9)])
    assert ride.step().reason == ""
