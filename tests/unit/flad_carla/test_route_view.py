# SPDX-License-Identifier: Apache-2.0
"""Views of planned routes: the map's facts are right, and recordings see the same manoeuvres."""

import carla
import pytest

from flad_carla.evaluation.road import LanePoint
from flad_carla.recorder.fields import future_waypoints
from flad_carla.route_planner import RoadOption, RoutePlanner
from flad_carla.route_view import RouteViewer, TownFacts
from flad_carla.run_log import RoutePoint as LoggedPoint
from flad_planner.language.kinds import Kind
from flad_planner.language.misleading import impossible
from flad_planner.language.recorded import moments
from flad_planner.language.route_view import Place, RoadCommand
from flad_sim.towns import load_town


@pytest.fixture(scope="module")
def planner():
    return RoutePlanner(carla.Map("Grid", load_town("Grid").xodr_text))


@pytest.fixture(scope="module")
def route(planner):
    """A route of Grid with a turn at a crossing and one at a junction of three arms."""
    places = [w for w in planner.map.generate_waypoints(40.0) if not w.is_junction]
    places.sort(key=lambda w: (w.road_id, w.lane_id, w.s))
    for start in places[::7]:
        for end in places[::11]:
            if start.transform.location.distance(end.transform.location) < 150.0:
                continue
            found = planner.trace([start.transform.location, end.transform.location])
            facts = [m.facts for m in RouteViewer(planner, found).outline.manoeuvres]
            if {Place.CROSSING, Place.T_JUNCTION} <= {f.place for f in facts}:
                return found
    raise AssertionError("Grid has no such route")


def test_commands_have_carlas_numbers():
    assert {c.name: int(c) for c in RoadCommand} == {o.name: int(o) for o in RoadOption}


def test_junctions_have_as_many_arms_as_their_roads(planner):
    """Grid is 4 by 4 streets: 4 corners, 8 junctions on its edges, 4 crossings inside."""
    junctions = {w.junction_id for w, _ in planner.map.get_topology() if w.is_junction}
    arms = sorted(planner.num_arms(j) for j in junctions)
    assert arms == [2] * 4 + [3] * 8 + [4] * 4
    assert planner.num_arms(-1) == 0


def test_the_way_taken_is_an_exit_and_the_shape_fits(planner, route):
    for manoeuvre in RouteViewer(planner, route).outline.manoeuvres:
        facts = manoeuvre.facts
        if manoeuvre.command > RoadCommand.STRAIGHT:
            continue
        assert facts.exits is not None and manoeuvre.command in facts.exits
        if facts.place is Place.T_JUNCTION:
            assert len(facts.exits) == 2
        if facts.place is Place.CROSSING:
            assert len(facts.exits) == 3


def test_lane_changes_are_those_that_routes_use(planner):
    changes = {lane: planner.lane_changes(lane) for lane in planner._lanes}
    assert any(changes.values())
    for lane, ways in changes.items():
        for way in ways:
            assert way in (RoadOption.CHANGE_LANE_LEFT, RoadOption.CHANGE_LANE_RIGHT), lane


def test_a_light_belongs_to_the_junction_behind_its_stop_line(planner, route):
    plain = RouteViewer(planner, route).outline.manoeuvres
    number = next(i for i, m in enumerate(plain) if m.command <= RoadCommand.STRAIGHT)
    at = next(p for p in route if p.distance >= plain[number].start_m - 2.0)

    def lit(x: float, yaw: float) -> list[bool]:
        line = LanePoint(*at.lane, x, at.y, at.z, yaw, at.lane_width, False)
        outline = RouteViewer(planner, route, [line]).outline
        return [m.facts.has_light for m in outline.manoeuvres]

    assert lit(at.x, at.yaw) == [i == number for i in range(len(plain))]
    assert not any(lit(at.x, at.yaw + 180.0)), "that line is for the other direction"
    assert not any(lit(at.x + 500.0, at.yaw))


def test_a_recording_sees_the_manoeuvres_that_the_live_route_has(planner, route):
    viewer = RouteViewer(planner, route)
    logged = [LoggedPoint(x=p.x, y=p.y, command=int(p.option)) for p in route]
    frames = [
        {
            "x": route[i].x,
            "y": route[i].y,
            "speed": 8.0,
            "future_waypoints": future_waypoints(logged, i),
            "affected_light_id": -1,
            "should_brake": 0,
            "is_red_light_present": [],
            "is_pedestrian_present": [],
            "is_bike_present": [],
            "is_lane_vehicle_present": [],
        }
        for i in range(len(route) - 1)
    ]
    recorded = [moment.view for moment in moments(frames)]
    seen = {m.start_m: m for view in recorded for m in view.manoeuvres}

    assert [m.command for _, m in sorted(seen.items())] == [
        m.command for m in viewer.outline.manoeuvres
    ]
    for mine, theirs in zip(sorted(seen), viewer.outline.manoeuvres, strict=True):
        assert mine == pytest.approx(theirs.start_m, abs=0.1)
        assert seen[mine].end_m == pytest.approx(theirs.end_m, abs=0.1)
    for i, view in enumerate(recorded):
        live = viewer.view(viewer.outline.stations_m[i], 8.0)
        assert view.along_m == pytest.approx(live.along_m, abs=0.1)
        if view.target is not None and live.target is not None:
            assert view.target == pytest.approx(live.target, abs=0.1)


def test_the_town_and_the_lanes_are_in_the_view(planner, route):
    viewer = RouteViewer(planner, route, town=TownFacts(has_roundabout=False), route_id=7)
    view = viewer.view(5.0, 3.0)
    assert (view.route_id, view.has_roundabout, view.has_highway) == (7, False, None)
    ways = planner.lane_changes(route[5].lane)
    assert view.has_left_lane == (RoadOption.CHANGE_LANE_LEFT in ways)
    assert view.has_right_lane == (RoadOption.CHANGE_LANE_RIGHT in ways)
    kinds = {i.kind for i in impossible(view)}
    assert Kind.ROUNDABOUT_EXIT_1 in kinds and Kind.ENTER_HIGHWAY not in kinds
