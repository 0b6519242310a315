# SPDX-License-Identifier: Apache-2.0
"""What a plan may be, and that it stays where it was made while the vehicle moves on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flad_common.periods import is_due
from flad_planner.geometry import Pose2, PoseHistory
from flad_planner.plan import AnchoredPlan, Plan, PlanLimits, RawPlan, complaint

LIMITS = PlanLimits()
STRAIGHT = [3.0, 6.0, 9.0, 12.0, 15.0]


def raw(xs, ys=None, step_s=0.5):
    return RawPlan(0, xs, [0.0] * len(xs) if ys is None else ys, step_s, "test")


@pytest.mark.parametrize(
    "plan, words",
    [
        (raw([]), "0 waypoints"),
        (raw([3.0]), "1 waypoints"),
        (raw([1.0] * 51), "51 waypoints"),
        (raw(STRAIGHT, [0.0] * 4), "5 x values but 4 y values"),
        (raw([3.0, 6.0, math.nan, 12.0, 15.0]), "waypoint 2 is \\(nan"),
        (raw(STRAIGHT, [0.0, 0.0, 0.0, math.inf, 0.0]), "waypoint 3"),
        (raw(STRAIGHT, step_s=0.0), "step_s must be positive"),
        (raw(STRAIGHT, step_s=-0.5), "step_s must be positive"),
        (raw(STRAIGHT, step_s=math.nan), "step_s must be positive"),
        (raw([20.5, 30.0, 40.0, 50.0]), "waypoint 0 implies 41.0 m/s"),
        (raw([3.0, 6.0, 30.0, 33.0]), "waypoint 2 implies 48.0 m/s"),
        (raw([3.0, 6.0, 9.0, 9.0], [0.0, 0.0, 15.5, 15.5]), "waypoint 2 is 15.5 m to the side"),
        (raw([3.0, 6.0]), "reaches 1 s, it must reach 1.5 s"),
        (raw(STRAIGHT, step_s=0.2), "reaches 1 s"),
    ],
)
def test_impossible_plans_are_refused_in_words(plan, words):
    import re

    assert re.search(words, complaint(plan, LIMITS) or "accepted")


@pytest.mark.parametrize(
    "plan",
    [
        raw(STRAIGHT),
        raw([0.0] * 5),  # standing still is a plan
        raw([-0.5, -1.0, -1.5]),  # so is rolling back
        raw([19.9, 39.8, 59.7]),  # 39.8 m/s
        raw(STRAIGHT, [14.0, 0.0, 14.0, 0.0, 14.0]),
    ],
)
def test_possible_plans_are_accepted(plan):
    assert complaint(plan, LIMITS) is None


@pytest.mark.parametrize("seed", range(10))
def test_a_plan_stays_on_the_ground_while_the_vehicle_moves(seed):
    """Whatever pose it is looked at from, a waypoint is the same place in the world."""
    rng = np.random.default_rng(seed)
    made_at = Pose2(*rng.normal(scale=100.0, size=2), float(rng.uniform(-4, 4)))
    points = tuple(map(tuple, rng.normal(scale=5.0, size=(5, 2)).tolist()))
    anchored = AnchoredPlan(Plan(0, points, 0.5), made_at)
    seen_from = Pose2(*rng.normal(scale=100.0, size=2), float(rng.uniform(-4, 4)))

    for i, point in enumerate(points):
        c, s = math.cos(made_at.yaw_rad), math.sin(made_at.yaw_rad)
        world = np.array([made_at.x_m, made_at.y_m]) + np.array([[c, -s], [s, c]]) @ point
        assert anchored.at(0.5 * (i + 1)) == pytest.approx(world.tolist(), abs=1e-9)
        back = seen_from.to_world(seen_from.to_local(anchored.at(0.5 * (i + 1))))
        assert back == pytest.approx(world.tolist(), abs=1e-9)


def test_between_waypoints_it_is_linear_and_beyond_the_end_it_stops():
    anchored = AnchoredPlan(Plan(0, ((2.0, 0.0), (2.0, 4.0)), 0.5), Pose2(0.0, 0.0, 0.0))

    assert anchored.at(0.25) == pytest.approx((1.0, 0.0))
    assert anchored.at(0.75) == pytest.approx((2.0, 2.0))
    assert anchored.at(9.0) == pytest.approx((2.0, 4.0))


def test_ahead_follows_the_arc_and_goes_straight_on():
    anchored = AnchoredPlan(Plan(0, ((4.0, 0.0), (4.0, 4.0)), 0.5), Pose2(0.0, 0.0, 0.0))

    assert anchored.ahead((1.0, 0.5), 1.0) == pytest.approx((2.0, 0.0))
    assert anchored.ahead((3.0, 0.0), 3.0) == pytest.approx((4.0, 2.0))
    assert anchored.ahead((3.0, 0.0), 8.0) == pytest.approx((4.0, 7.0))


def test_ahead_of_a_plan_that_stands_still_is_where_it_stands():
    anchored = AnchoredPlan(Plan(0, ((0.0, 0.0),) * 3, 0.5), Pose2(5.0, 6.0, 1.0))

    assert anchored.ahead((5.0, 6.0), 3.0) == pytest.approx((5.0, 6.0))


def test_history_interpolates_across_the_half_turn():
    history = PoseHistory(3.0)
    history.add(0, Pose2(0.0, 0.0, math.pi - 0.1))
    history.add(100, Pose2(10.0, 2.0, -math.pi + 0.1))

    middle = history.at(50)
    assert (middle.x_m, middle.y_m) == pytest.approx((5.0, 1.0))
    assert math.cos(middle.yaw_rad) == pytest.approx(-1.0)
    assert history.at(101) is None
    assert history.at(-1) is None


def test_history_keeps_its_span_only():
    history = PoseHistory(1.0)
    for i in range(100):
        history.add(i * 100_000_000, Pose2(float(i), 0.0, 0.0))

    assert history.at(89 * 100_000_000) is not None
    assert history.at(88 * 100_000_000) is None


@pytest.mark.parametrize("steps", range(1, 200))
def test_every_second_step_of_added_up_floats_is_due(steps):
    """A simulator adds 0.05 again and again; what it adds up to must not decide."""
    total_s = 0.0
    for _ in range(steps):
        total_s += 0.05000000074505806  # 0.05 as a 32-bit float, as CARLA has it

    assert is_due(round(total_s * 1e9), 0.1) == (steps % 2 == 0)
