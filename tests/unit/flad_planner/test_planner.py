# SPDX-License-Identifier: Apache-2.0
"""The planner's states on a point mass: fresh, stale, refused, manual, and back."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from flad_planner.control import Control
from flad_planner.geometry import Pose2
from flad_planner.plan import RawPlan
from flad_planner.planner import Ego, Planner, PlannerConfig, PlannerState

STEP_NS = 50_000_000
NAN = math.nan


class Car:
    """A point that moves along x, and the planner that drives it."""

    def __init__(self, speed_mps=6.0, config=None):
        self.planner = Planner(config or PlannerConfig())
        self.x_m, self.speed_mps, self.now_ns = 0.0, speed_mps, 0

    def step(self, plan_mps=None, **changes):
        """One odometry and its decision; ``plan_mps`` brings a straight plan of this stamp."""
        self.now_ns += STEP_NS
        self.x_m += self.speed_mps * 0.05
        pose = Pose2(changes.get("x_m", self.x_m), 0.0, 0.0)
        self.planner.observe(Ego(self.now_ns, pose, changes.get("speed_mps", self.speed_mps)))
        if plan_mps is not None:
            assert self.send(plan_mps) is None
        return self.planner.decide(self.now_ns * 1e-9)

    def send(self, plan_mps, age_s=0.0, **changes):
        stamp_ns = self.now_ns - round(age_s * 1e9)
        xs = changes.get("xs") or [plan_mps * 0.5 * (i + 1) for i in range(5)]
        return self.planner.receive(RawPlan(stamp_ns, xs, [0.0] * len(xs), 0.5, "test"))


def test_it_brakes_until_the_first_plan():
    car = Car(speed_mps=0.0)
    for _ in range(5):
        decision = car.step()
        assert decision.state == PlannerState.STARTING
        assert decision.control.brake == 1.0
        assert decision.plan_age_s < 0.0
    assert car.step(plan_mps=5.0).state == PlannerState.FOLLOWING


def test_an_old_plan_is_followed_for_half_a_second_and_then_it_brakes():
    car = Car()
    car.step(plan_mps=6.0)
    states = [car.step() for _ in range(14)]

    assert [round(d.plan_age_s, 2) for d in states[:3]] == [0.05, 0.1, 0.15]
    for decision in states:
        fresh = decision.plan_age_s < 0.5 - 1e-6
        assert decision.state == (PlannerState.FOLLOWING if fresh else PlannerState.STALE)
    assert states[8].state == PlannerState.FOLLOWING
    assert states[9].state == PlannerState.STALE  # exactly 0.5 s old
    assert states[9].control.throttle == 0.0
    assert "0.50 s old" in states[9].reason


def test_an_aging_plan_still_asks_for_its_speed():
    """The plan is a path in time: at age a the points of a + 0.5 and a + 1.0 count."""
    car = Car()
    xs = [3.0, 6.0, 8.0, 9.0, 9.0]  # 6 m/s, 6, 4, 2, 0
    car.step()
    assert car.send(None, xs=xs) is None
    desired = [car.step().desired_speed_mps for _ in range(10)]

    assert desired[9] == pytest.approx(4.0)  # half a second later: from 6.0 m to 8.0 m
    assert desired[4] == pytest.approx(5.0)
    assert all(a >= b - 1e-9 for a, b in pairwise(desired))


def test_it_stops_within_the_bounded_deceleration_and_holds_the_brake():
    car = Car(speed_mps=12.0)
    car.step(plan_mps=12.0)
    speeds, last = [], None
    for _ in range(200):
        last = car.step()
        if last.state == PlannerState.FOLLOWING:
            continue
        # The plant: the full pedal gives 8 m/s^2, as StopConfig supposes.
        car.speed_mps = max(0.0, car.speed_mps - 8.0 * last.control.brake * 0.05)
        speeds.append(car.speed_mps)

    slopes = [(a - b) / 0.05 for a, b in pairwise(speeds) if b > 0.2]
    assert max(slopes) < 3.5
    assert min(slopes) > 2.5
    assert last.state == PlannerState.STOPPED
    assert last.control == Control(brake=1.0)


def test_a_weak_brake_gets_more_pedal():
    """The pedal is a guess; the falling target makes up for a wrong one."""
    car = Car(speed_mps=12.0)
    car.step(plan_mps=12.0)
    for _ in range(11):
        car.step()
    pedals = []
    for _ in range(40):
        pedals.append(car.step().control.brake)
        car.speed_mps = max(0.0, car.speed_mps - 4.0 * pedals[-1] * 0.05)
    assert pedals[30] > pedals[0] + 0.2
    assert all(0.0 <= pedal <= 1.0 for pedal in pedals)


def test_a_fresh_plan_ends_the_stop():
    car = Car()
    car.step(plan_mps=6.0)
    for _ in range(20):
        car.step()
    assert car.step(plan_mps=6.0).state == PlannerState.FOLLOWING


def test_a_refused_plan_leaves_the_good_one_until_it_is_stale():
    car = Car()
    car.step(plan_mps=6.0)
    car.step()
    assert "not finite" in car.send(None, xs=[1.0, NAN, 3.0, 4.0])
    decision = car.step()
    assert decision.state == PlannerState.REFUSED
    assert "not finite" in decision.reason
    assert decision.desired_speed_mps == pytest.approx(6.0)
    assert decision.control.brake == 0.0
    for _ in range(10):
        decision = car.step()
    assert decision.state == PlannerState.STALE
    assert "not finite" in decision.reason
    assert car.planner.num_refused == 1
    assert car.step(plan_mps=6.0).state == PlannerState.FOLLOWING


def test_a_refused_first_plan_keeps_the_brake():
    car = Car(speed_mps=0.0)
    car.step()
    car.send(None, xs=[100.0, 200.0, 300.0])
    decision = car.step()
    assert decision.state == PlannerState.REFUSED
    assert decision.control.brake == 1.0


def test_late_and_overtaken_plans_are_dropped_and_counted():
    car = Car()
    for _ in range(20):
        car.step(plan_mps=6.0)
    assert "old on arrival" in car.send(6.0, age_s=0.6)
    assert "older than the one" in car.send(6.0, age_s=0.1)
    assert car.planner.num_late == 2
    assert car.step().state == PlannerState.FOLLOWING


def test_a_plan_before_its_odometry_waits_for_it():
    car = Car(speed_mps=0.0)
    car.step()
    early = RawPlan(car.now_ns + STEP_NS, [3.0, 6.0, 9.0], [0.0] * 3, 0.5, "test")
    assert car.planner.receive(early) is None
    decision = car.step()
    assert decision.state == PlannerState.FOLLOWING
    assert decision.plan_age_s == 0.0
    too_early = RawPlan(car.now_ns + 20 * STEP_NS, [3.0, 6.0, 9.0], [0.0] * 3, 0.5, "test")
    assert "ahead of the odometry" in car.planner.receive(too_early)


def test_an_old_plan_is_moved_by_what_the_vehicle_has_moved():
    """A plan of 0.3 s ago, made turning: its points must be seen from the new pose."""
    planner = Planner(PlannerConfig())
    for i in range(7):
        planner.observe(Ego((i + 1) * STEP_NS, Pose2(0.3 * i, 0.0, 0.05 * i), 6.0))
    plan = RawPlan(STEP_NS, [3.0, 6.0, 9.0, 12.0, 15.0], [0.0] * 5, 0.5, "test")
    assert planner.receive(plan) is None
    decision = planner.decide(0.0)
    # The vehicle has turned 0.3 rad to the left of the straight plan: it must steer right.
    assert decision.control.steer > 0.2


def test_a_person_takes_over_and_the_watchdog_brakes():
    car = Car()
    car.step(plan_mps=6.0)
    manual = car.planner.manual
    manual.set_active(True, car.now_ns * 1e-9)
    assert manual.command(Control(throttle=0.3, steer=-0.5), car.now_ns * 1e-9) is None
    decision = car.step(plan_mps=6.0)
    assert decision.state == PlannerState.MANUAL
    assert decision.control == Control(throttle=0.3, steer=-0.5)
    for _ in range(12):
        decision = car.step(plan_mps=6.0)
    assert decision.state == PlannerState.MANUAL  # it does not go back by itself
    assert decision.control == Control(brake=1.0)
    assert "no manual command" in decision.reason
    manual.set_active(False, car.now_ns * 1e-9)
    assert car.step(plan_mps=6.0).state == PlannerState.FOLLOWING


def test_taking_over_again_does_not_revive_an_old_command():
    car = Car()
    manual = car.planner.manual
    manual.set_active(True, 0.0)
    manual.command(Control(throttle=1.0), 0.0)
    manual.set_active(False, 0.1)
    manual.set_active(True, 0.2)
    assert manual.control(0.21) == Control(brake=1.0)


@pytest.mark.parametrize("bad", [NAN, math.inf, -1.5, 1.5])
def test_manual_controls_out_of_range_are_refused(bad):
    manual = Planner(PlannerConfig()).manual
    manual.set_active(True, 0.0)
    assert "steer" in manual.command(Control(steer=bad), 0.0)
    assert manual.control(0.1) == Control(brake=1.0)


@pytest.mark.parametrize("field", ["x_m", "speed_mps"])
def test_odometry_that_is_not_finite_brakes(field):
    car = Car()
    car.step(plan_mps=6.0)
    decision = car.step(**{field: NAN})
    assert decision.control == Control(brake=1.0)
    assert "not finite" in decision.reason
    assert car.step(plan_mps=6.0).state == PlannerState.FOLLOWING


@pytest.mark.parametrize("how", ["time goes back", "the vehicle jumps"])
def test_another_world_starts_afresh(how):
    car = Car()
    for _ in range(10):
        car.step(plan_mps=6.0)
    if how == "time goes back":
        car.now_ns = 0
    else:
        car.x_m += 100.0
    assert car.step().state == PlannerState.STARTING


def test_the_law_is_stepped_at_its_own_rate():
    car = Car(speed_mps=5.0)
    controls = [car.step(plan_mps=5.02).control for _ in range(6)]
    assert controls[0] == controls[1]
    assert controls[2] == controls[3]
    assert controls[1] != controls[2]


def test_state_numbers_are_those_of_the_message():
    from flad_msgs.msg import PlannerStatus

    for state in PlannerState:
        assert getattr(PlannerStatus, state.name) == int(state)


def test_knobs_that_contradict_each_other_are_named():
    with pytest.raises(ValueError, match="history_s"):
        PlannerConfig(history_s=0.1)
