# SPDX-License-Identifier: Apache-2.0
"""Speeds are measured from places, whoever is remembered, and for how long."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flad_planner.geometry import Pose2
from flad_planner.tracking import Box, Tracker, TrackingConfig


def box(x_m, y_m=0.0):
    return Box(x_m, y_m, 0.0, 2.2, 0.9, 0.9)


def seen(places, period_s=0.2, config=None):
    """A tracker after it saw lists of places, one list a moment; and the last moment."""
    tracker = Tracker(config or TrackingConfig())
    time_s = 0.0
    for moment in places:
        time_s += period_s
        tracker.update(time_s, [box(*place) for place in moment])
    return tracker, time_s


def test_a_speed_is_known_after_three_moments():
    for count, speed_mps in ((1, None), (2, None), (3, 5.0), (10, 5.0)):
        tracker, now_s = seen([[(1.0 * k, 0.0)] for k in range(count)])
        [user] = tracker.users(now_s)
        if speed_mps is None:
            assert user.velocity_mps is None and user.speed_mps == 0.0
        else:
            assert user.velocity_mps == pytest.approx((5.0, 0.0), abs=1e-9)


def test_noise_of_half_a_metre_leaves_the_speed_within_a_metre_a_second_mostly():
    rng = np.random.default_rng(1)
    errors = []
    for _ in range(200):
        places = [[(1.4 * k + rng.normal(0.0, 0.3), rng.normal(0.0, 0.3))] for k in range(8)]
        tracker, now_s = seen(places)
        users = tracker.users(now_s)
        errors += [abs(users[-1].velocity_mps[0] - 7.0)] if users[-1].velocity_mps else []
    assert len(errors) > 180 and np.median(errors) < 0.5 and np.quantile(errors, 0.9) < 1.2


def test_two_who_pass_each_other_stay_two():
    tracker, now_s = seen([[(2.0 * k, 0.0), (20.0 - 2.0 * k, 3.5)] for k in range(9)])
    speeds = sorted(user.velocity_mps[0] for user in tracker.users(now_s))
    assert speeds == pytest.approx([-10.0, 10.0])


def test_who_is_missed_once_goes_on_and_who_stays_away_is_forgotten():
    tracker, now_s = seen([[(1.0 * k, 0.0)] for k in range(5)] + [[]])
    [user] = tracker.users(now_s)
    assert user.box.x_m == pytest.approx(5.0)
    assert tracker.users(now_s + 1.0) == []
    tracker.update(now_s + 1.0, [box(40.0)])
    assert len(tracker.users(now_s + 1.0)) == 1


def test_a_jump_is_somebody_else():
    tracker, now_s = seen([[(0.0, 0.0)]] * 4 + [[(8.0, 0.0)]])
    assert {user.velocity_mps for user in tracker.users(now_s)} == {None, (0.0, 0.0)}


def test_what_cannot_be_is_measured_anew():
    config = TrackingConfig(max_speed_mps=5.0)
    tracker, now_s = seen([[(2.0 * k, 0.0)] for k in range(3)], config=config)
    assert [user.velocity_mps for user in tracker.users(now_s)] == [None]


def test_a_box_on_the_ground_is_where_the_vehicle_sees_it():
    there = box(10.0, 1.0).on_ground(Pose2(100.0, 50.0, math.pi / 2))
    assert (there.x_m, there.y_m) == (pytest.approx(99.0), pytest.approx(60.0))
    assert there.yaw_rad == pytest.approx(math.pi / 2)


@pytest.mark.parametrize("name", ["gate_m", "window_s", "kept_s", "max_speed_mps"])
def test_wrong_config_is_named(name):
    with pytest.raises(ValueError, match=name):
        TrackingConfig(**{name: 0.0})
