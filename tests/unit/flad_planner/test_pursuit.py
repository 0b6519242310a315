# SPDX-License-Identifier: Apache-2.0
"""Pure pursuit against circles, and the planner that steers by it."""

from __future__ import annotations

import math

import pytest

from flad_planner.geometry import Pose2
from flad_planner.plan import RawPlan
from flad_planner.planner import Ego, Planner, PlannerConfig
from flad_planner.pursuit import PursuitConfig, ahead_m, steer

CAR = PursuitConfig(wheelbase_m=2.8, full_steer_deg=50.0, understeer=0.0)
STEP_NS = 50_000_000


def on_circle(radius_m, angle_rad, config=CAR):
    """A point, seen from the car's centre, of the circle that its rear axle is on; left if > 0."""
    forward = abs(radius_m) * math.sin(angle_rad) - 0.5 * config.wheelbase_m
    return forward, radius_m * (1.0 - math.cos(angle_rad))


@pytest.mark.parametrize("radius_m", [6.0, 15.0, -6.0, -40.0])
@pytest.mark.parametrize("angle_rad", [0.1, 0.6, 1.2])
def test_it_finds_the_circle_through_any_of_its_points(radius_m, angle_rad):
    wheel_rad = math.radians(50.0) * steer(on_circle(radius_m, angle_rad), CAR)
    assert math.tan(wheel_rad) == pytest.approx(-2.8 / radius_m, rel=1e-6)


def test_what_understeers_is_steered_more():
    more = PursuitConfig(wheelbase_m=2.8, full_steer_deg=50.0, understeer=0.2)
    point = on_circle(15.0, 0.3)
    assert steer(point, more) == pytest.approx(1.2 * steer(point, CAR))


def test_it_never_leaves_the_range():
    assert steer((0.0, 1.5), CAR) == -1.0
    assert steer((0.0, -1.5), CAR) == 1.0
    assert abs(steer((-1.4, 0.0), CAR)) <= 1.0  # the rear axle itself


def test_it_looks_farther_at_speed_within_bounds():
    half_m = 0.5 * CAR.wheelbase_m
    assert ahead_m(0.0, CAR) == CAR.least_m - half_m
    assert ahead_m(8.0, CAR) == pytest.approx(8.0 * CAR.lookahead_s - half_m)
    assert ahead_m(30.0, CAR) == CAR.most_m - half_m


@pytest.mark.parametrize(
    "values, complaint",
    [
        ({"lookahead_s": 0.0}, "lookahead_s"),
        ({"least_m": 9.0}, "most_m"),
        ({"least_m": 1.0}, "wheelbase"),
        ({"full_steer_deg": 90.0}, "full_steer_deg"),
        ({"understeer": -0.1}, "understeer"),
    ],
)
def test_bad_knobs_are_named(values, complaint):
    with pytest.raises(ValueError, match=complaint):
        PursuitConfig(**values)


def drive(planner, path, *, speed_mps=5.0, full_steer_deg, ticks=200, wheelbase_m=2.8):
    """A bicycle on a path that is told to the planner anew each 0.1 s; returns its places."""
    x_m = y_m = yaw_rad = 0.0
    places = []
    for tick in range(ticks):
        pose, stamp_ns = Pose2(x_m, y_m, yaw_rad), tick * STEP_NS
        planner.observe(Ego(stamp_ns, pose, speed_mps))
        if tick % 2 == 0:
            way_m = tick * 0.05 * speed_mps
            local = [pose.to_local(path(way_m + 0.5 * speed_mps * (i + 1))) for i in range(5)]
            xs, ys = zip(*local, strict=True)
            assert planner.receive(RawPlan(stamp_ns, xs, ys, 0.5, "test")) is None
        turned = planner.decide(stamp_ns * 1e-9).control.steer
        wheel_rad = -turned * math.radians(full_steer_deg)
        # the centre of a bicycle slips by half of what the wheels are turned
        slip_rad = math.atan(0.5 * math.tan(wheel_rad))
        x_m += speed_mps * 0.05 * math.cos(yaw_rad + slip_rad)
        y_m += speed_mps * 0.05 * math.sin(yaw_rad + slip_rad)
        yaw_rad += speed_mps * 0.05 * math.cos(slip_rad) * math.tan(wheel_rad) / wheelbase_m
        places.append((x_m, y_m))
    return places


def corner(way_m, radius_m=7.0, before_m=12.0):
    """Straight on, a quarter circle to the right, straight on."""
    arc_m = way_m - before_m
    if arc_m < 0.0:
        return way_m, 0.0
    angle = min(arc_m / radius_m, math.pi / 2)
    past_m = arc_m - radius_m * angle
    return before_m + radius_m * math.sin(angle), -radius_m * (1.0 - math.cos(angle)) - past_m


def farthest_off_m(steering, full_steer_deg):
    """How far a car that is known to the planner leaves the corner."""
    pursuit = PursuitConfig(understeer=0.0)
    planner = Planner(PlannerConfig(steering=steering, pursuit=pursuit))
    planner.know_car(2.8, full_steer_deg)
    places = drive(planner, corner, full_steer_deg=full_steer_deg, ticks=160)
    line = [corner(0.05 * i) for i in range(1200)]
    return max(min(math.dist(p, q) for q in line) for p in places)


@pytest.mark.parametrize("full_steer_deg", [35.0, 45.0, 70.0])
def test_a_tight_corner_is_kept_by_any_car_whose_geometry_is_known(full_steer_deg):
    assert farthest_off_m("pursuit", full_steer_deg) < 0.5


def test_steering_that_is_tuned_to_another_car_leaves_the_corner():
    """LMDrive's gains are of a car that turns its wheels by 70 degrees."""
    assert farthest_off_m("lmdrive", 45.0) > 2.0 * farthest_off_m("pursuit", 45.0)


def test_a_plan_that_goes_nowhere_keeps_the_steering():
    planner = Planner(PlannerConfig())
    for tick, reach in enumerate((1.0, 1.0, 0.01)):
        planner.observe(Ego(tick * 2 * STEP_NS, Pose2(0.0, 0.0, 0.0), 3.0))
        ys = [0.3 * reach * (i + 1) for i in range(5)]
        xs = [reach * (i + 1) for i in range(5)]
        planner.receive(RawPlan(tick * 2 * STEP_NS, xs, ys, 0.5, "test"))
        turned = planner.decide(tick * 0.1).control.steer
        if tick == 1:
            before = turned
    assert turned == before < 0.0


def test_a_car_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="wheelbase_m"):
        Planner(PlannerConfig()).know_car(0.0, 45.0)


def test_an_unknown_way_of_steering_is_refused():
    with pytest.raises(ValueError, match="steering must be one of"):
        PlannerConfig(steering="stanley")
