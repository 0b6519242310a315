# SPDX-License-Identifier: Apache-2.0
"""Planned routes lie on lanes, go forward, and end where they shall."""

import itertools
import math
import random

import carla
import pytest

from flad_carla.evaluation.routes import read_routes
from flad_carla.route_planner import RoadOption, RouteError, RoutePlanner
from flad_sim.towns import load_town

CHANGES = (RoadOption.CHANGE_LANE_LEFT, RoadOption.CHANGE_LANE_RIGHT)
TOWNS = ("Grid", "OldTown", "Ring")


@pytest.fixture(scope="module", params=TOWNS)
def planner(request):
    return RoutePlanner(carla.Map(request.param, load_town(request.param).xodr_text))


def _draw(planner: RoutePlanner, seed: int):
    places = [w for w in planner.map.generate_waypoints(15.0) if not w.is_junction]
    places.sort(key=lambda w: (w.road_id, w.lane_id, w.s))
    start, end = random.Random(seed).sample(places, 2)
    return start.transform.location, end.transform.location


def _check(planner: RoutePlanner, start, end) -> None:
    route = planner.trace([start, end])
    assert math.hypot(route[0].x - start.x, route[0].y - start.y) < 0.6
    assert math.hypot(route[-1].x - end.x, route[-1].y - end.y) < 1.5
    for a, b in itertools.pairwise(route):
        step = math.hypot(b.x - a.x, b.y - a.y)
        assert 0.2 < step < 1.3
        assert b.distance - a.distance == pytest.approx(step, abs=0.1)
        turn = abs((b.yaw - a.yaw + 180.0) % 360.0 - 180.0)
        assert turn < 35.0, f"kink of {turn:.0f} deg at {b}"
    for point in route:
        if point.option in CHANGES:
            continue
        lane = planner.map.get_waypoint(carla.Location(point.x, point.y, point.z))
        if lane.is_junction:  # lanes overlap there: the nearest may be another
            continue
        centre = lane.transform.location
        assert math.hypot(centre.x - point.x, centre.y - point.y) < 0.4
        facing = math.radians(lane.transform.rotation.yaw - point.yaw)
        assert math.cos(facing) > 0.5, f"against the traffic at {point}"


@pytest.mark.parametrize("seed", range(8))
def test_a_route_follows_lanes_from_start_to_end(planner, seed):
    start, end = _draw(planner, seed)
    _check(planner, start, end)


def test_a_goal_behind_the_start_is_reached_round_the_block(planner):
    start, _ = _draw(planner, 3)
    waypoint = planner.map.get_waypoint(start)
    behind = waypoint.previous(4.0)[0].transform.location

    route = planner.trace([start, behind])

    assert route[-1].distance > 100.0
    assert math.hypot(route[-1].x - behind.x, route[-1].y - behind.y) < 1.5


def test_a_turn_is_named_by_the_way_it_turns(planner):
    """Left lowers CARLA's yaw, right raises it."""
    seen = set()
    for seed in range(12):
        route = planner.trace(list(_draw(planner, seed)))
        i = 0
        while i < len(route):
            j = i
            while j + 1 < len(route) and route[j + 1].option == route[i].option:
                j += 1
            turned = sum(
                (b.yaw - a.yaw + 180.0) % 360.0 - 180.0
                for a, b in zip(route[i:j], route[i + 1 : j + 1], strict=False)
            )
            if route[i].option in (RoadOption.LEFT, RoadOption.RIGHT) and j - i > 4:
                seen.add(route[i].option)
                assert (turned < 0.0) == (route[i].option == RoadOption.LEFT)
            i = j + 1
    assert seen == {RoadOption.LEFT, RoadOption.RIGHT}


def test_left_and_right_name_one_way_where_a_milder_one_goes_on(planner):
    """Ways out that bend to one side: only the sharpest is a turn, unless even the mildest is."""
    places = {w.road_id: w for w in planner.map.generate_waypoints(15.0) if not w.is_junction}
    lanes = {(w.road_id, w.section_id, w.lane_id) for w in places.values()}
    bends = 0
    for lane in lanes:
        ways = planner.ways(lane)
        for option, degrees in ways:
            if option is RoadOption.STRAIGHT and abs(degrees) > 35.0:
                bends += 1
                assert abs(degrees) <= 65.0
                assert all(abs(other) > abs(degrees) - 20.0 for _, other in ways), ways
                assert any(other * degrees > 0.0 and o is not option for o, other in ways), ways
    assert planner.map.name == "Grid" or bends > 0, "OldTown and Ring have such junctions"


def test_points_without_a_way_are_named(planner):
    start, end = _draw(planner, 1)
    with pytest.raises(RouteError, match=r"route point 1 at \(9999.0, 9999.0\)"):
        planner.trace([start, carla.Location(9999.0, 9999.0, 0.0)])
    with pytest.raises(RouteError, match="at least 2 points, got 1"):
        planner.trace([end])


def test_a_lane_change_ends_in_the_other_lane():
    planner = RoutePlanner(carla.Map("Grid", load_town("Grid").xodr_text))
    inner = next(
        w
        for w in planner.map.generate_waypoints(10.0)
        if w.lane_id == -1 and not w.is_junction and w.get_right_lane() and w.s > 10.0
        if w.get_right_lane().lane_type == carla.LaneType.Driving and w.next(60.0)
        if w.next(60.0)[0].road_id == w.road_id
    )
    goal = inner.next(60.0)[0].get_right_lane()

    route = planner.trace([inner.transform.location, goal.transform.location])

    assert route[-1].distance < 65.0
    assert {p.option for p in route} == {RoadOption.LANE_FOLLOW, RoadOption.CHANGE_LANE_RIGHT}
    assert route[0].lane[2] == -1 and route[-1].lane[2] == goal.lane_id
    kinks = [abs((b.yaw - a.yaw + 180) % 360 - 180) for a, b in itertools.pairwise(route)]
    assert max(kinks) < 6.0


@pytest.mark.needs_carla_towns
@pytest.mark.parametrize("town", ["Town01", "Town02"])
def test_carlas_own_towns_are_planned(carla_towns, workspace, town):
    planner = RoutePlanner(carla.Map(town, (carla_towns / f"{town}.xodr").read_text()))
    file = workspace.root / "tests" / "data" / f"routes_{town.lower()}.xml"

    for route in read_routes(file):
        _check(planner, *(carla.Location(*p) for p in route.positions))
