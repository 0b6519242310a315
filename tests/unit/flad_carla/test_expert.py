# SPDX-License-Identifier: Apache-2.0
"""The expert's pieces against independent oracles."""

import math

import numpy as np
import pytest
from shapely import Polygon
from toy_road import Other, agents, corner, straight

from flad_carla.expert.config import ExpertConfig
from flad_carla.expert.forecast import boxes_overlap, forecast_agents
from flad_carla.expert.idm import Lead, idm_acceleration
from flad_carla.expert.path import RoutePath, speed_envelope
from flad_carla.expert.rules import Rules, held_by_lights
from flad_carla.expert.scene import Light, StopLine


def _polygon(pose, half):
    c, s = math.cos(pose[2]), math.sin(pose[2])
    corners = [(1, 1), (1, -1), (-1, -1), (-1, 1)]
    return Polygon(
        [
            (
                pose[0] + c * i * half[0] - s * j * half[1],
                pose[1] + s * i * half[0] + c * j * half[1],
            )
            for i, j in corners
        ]
    )


@pytest.mark.parametrize("seed", range(5))
def test_overlap_is_what_the_polygons_say(seed):
    rng = np.random.default_rng(seed)
    n = 200
    a, b = (
        np.stack([rng.uniform(-4, 4, n), rng.uniform(-4, 4, n), rng.uniform(-4, 4, n)], axis=1)
        for _ in range(2)
    )
    a_half, b_half = (rng.uniform(0.2, 3.0, (n, 2)) for _ in range(2))

    found = boxes_overlap(a, a_half, b, b_half)

    expected = [_polygon(a[i], a_half[i]).intersects(_polygon(b[i], b_half[i])) for i in range(n)]
    assert 20 < sum(expected) < n - 20  # both cases occur
    assert found.tolist() == expected


def test_a_turning_car_is_forecast_on_its_circle():
    """A car that turns at w with speed v is on a circle of radius v/w: stepped through finely."""
    others = agents([Other(yaw=0.3, speed=5.0)])
    others.yaw_rate[:] = 0.4
    times = np.arange(0.0, 3.05, 0.1)

    poses = forecast_agents(others, times)[0]

    x = y = 0.0
    yaw, dt = 0.3, 1e-4
    for _ in range(30000):
        x, y, yaw = x + 5.0 * math.cos(yaw) * dt, y + 5.0 * math.sin(yaw) * dt, yaw + 0.4 * dt
    assert poses[30] == pytest.approx([x, y, yaw], abs=5e-3)


def test_a_walker_is_forecast_straight():
    others = agents([Other(kind=2, yaw=math.pi / 2, speed=1.5)])
    others.yaw_rate[:] = 2.0  # a head that turns is no turn
    assert forecast_agents(others, np.array([2.0]))[0, 0, :2] == pytest.approx([0.0, 3.0])


def _idm(v, v0, lead=None):
    return idm_acceleration(v, v0, lead, accel_mps2=2.0, brake_mps2=3.0)


def test_following_settles_at_the_models_equilibrium():
    """At equal speed the gap is (s0 + v T) / sqrt(1 - (v/v0)^4): rolled until it stands."""
    v, gap, lead_v = 8.0, 12.0, 5.0
    for _ in range(20000):
        lead = Lead(gap, lead_v, 3.0, 1.0)
        a = _idm(v, 8.0, lead)
        v, gap = max(0.0, v + a * 0.01), gap + (lead_v - v) * 0.01
    assert v == pytest.approx(5.0, abs=1e-3)
    assert gap == pytest.approx((3.0 + 5.0) / math.sqrt(1 - (5 / 8) ** 4), rel=1e-2)


def test_less_gap_and_more_closing_speed_brake_harder():
    wishes = [_idm(8.0, 8.0, Lead(gap, 0.0, 3.0, 1.0)) for gap in (60.0, 30.0, 15.0, 8.0)]
    assert wishes == sorted(wishes, reverse=True)
    assert _idm(8.0, 8.0, Lead(20.0, -6.0, 3.0, 1.0)) < _idm(8.0, 8.0, Lead(20.0, 0.0, 3.0, 1.0))


def test_projection_undoes_places():
    path = RoutePath(corner(12.0))
    for s in np.arange(5.0, 130.0, 3.7):
        for d in (-2.0, 0.0, 1.5):
            x, y, _ = path.at(np.array([s]), np.array([d]))
            assert path.project(float(x[0]), float(y[0]), s + 3.0) == pytest.approx(
                (s, d), abs=0.15
            )


@pytest.mark.parametrize("radius", [8.0, 15.0, 30.0])
def test_curvature_of_a_corner_is_one_over_its_radius(radius):
    for sign in (1, -1):
        path = RoutePath(corner(radius, sign))
        middle = np.searchsorted(path.s, 60.0 + radius * math.pi / 4)
        assert path.curvature[middle] == pytest.approx(sign / radius, rel=0.1)


def test_a_bend_is_approached_with_the_braking_that_is_allowed():
    curvature = np.zeros(80)
    curvature[50:60] = 1 / 8.0
    speed = speed_envelope(curvature, 1.0, 2.0, 1.5, 1.0)

    assert speed[50:60] == pytest.approx(4.0)  # sqrt(2 * 8)
    assert np.all(np.diff(speed[:51] ** 2) / 2.0 >= -1.5 - 1e-9)
    assert speed[20] == pytest.approx(math.sqrt(16.0 + 2 * 1.5 * 30.0))


# --- lights -------------------------------------------------------------------------------------


def _rules():
    return Rules(RoutePath(straight()), [StopLine(5, 100.0, 0.3, 0.0)], [], ExpertConfig())


def _look(rules, front_s, speed, light, room_m=math.inf):
    return rules.look(front_s, speed, {5: light}, room_m, 5.0)


def test_red_holds_and_green_does_not():
    rules = _rules()
    assert _look(rules, 70.0, 8.0, Light.RED).red_lights == (5,)
    assert _look(rules, 70.0, 8.0, Light.RED).leads[0].gap_m == pytest.approx(30.0)
    assert _look(rules, 70.0, 8.0, Light.GREEN).leads == ()
    assert _look(rules, 70.0, 8.0, Light.UNKNOWN).leads == ()


def test_yellow_far_away_stops_and_near_does_not():
    assert _look(_rules(), 75.0, 8.0, Light.YELLOW).leads != ()
    assert _look(_rules(), 95.0, 8.0, Light.YELLOW).leads == ()


def test_yellow_is_judged_once():
    """Having decided to go, braking for something else does not turn it into a stop."""
    rules = _rules()
    assert _look(rules, 95.0, 8.0, Light.YELLOW).leads == ()
    assert _look(rules, 96.0, 1.0, Light.YELLOW).leads == ()


def test_slow_before_a_yellow_that_cannot_be_cleared_stops():
    assert _look(_rules(), 97.0, 2.0, Light.YELLOW).leads != ()


def test_a_full_junction_is_not_entered():
    rules = _rules()
    held = _look(rules, 90.0, 5.0, Light.GREEN, room_m=14.0)
    assert held.leads != ()
    assert held.red_lights == ()  # it is green
    assert _look(rules, 90.0, 5.0, Light.GREEN, room_m=25.0).leads == ()


def test_the_line_behind_us_is_over():
    assert _look(_rules(), 101.5, 3.0, Light.RED).leads == ()


def test_lights_of_other_streets_are_not_ours():
    across = [StopLine(5, 100.0, 0.0, math.pi / 2), StopLine(6, 100.0, -3.5, math.pi)]
    rules = Rules(RoutePath(straight()), across, [], ExpertConfig())
    assert rules.look(80.0, 8.0, {5: Light.RED, 6: Light.RED}, math.inf, 5.0).leads == ()


def test_a_red_light_holds_whom_it_faces():
    line = StopLine(5, 50.0, 0.0, 0.0)
    others = agents(
        [
            Other(agent_id=1, x=30.0, speed=5.0),
            Other(agent_id=2, x=30.0, y=-3.5, yaw=math.pi, speed=5.0),
            Other(agent_id=3, x=60.0, speed=5.0),
        ]
    )
    limit = held_by_lights(others, [line], {5: Light.RED})
    assert limit[0] == pytest.approx(50.0 - 30.0 - 2.3)
    assert np.isinf(limit[1:]).all()
    assert np.isinf(held_by_lights(others, [line], {5: Light.GREEN})).all()
