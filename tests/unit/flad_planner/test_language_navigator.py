# SPDX-License-Identifier: Apache-2.0
"""The navigator says the right thing for the route, in time, and sticks to it."""

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spoken_route import FOLLOW, LEFT, RIGHT, STRAIGHT, route_points, steady_drive

from flad_planner.language.kinds import KINDS, Family, Kind
from flad_planner.language.navigator import Ending, Navigator, NavigatorConfig
from flad_planner.language.route_view import (
    NO_FACTS,
    OutlinePoint,
    Place,
    PlaceFacts,
    Request,
    RoadCommand,
    RouteOutline,
    RouteView,
)

CONFIG = NavigatorConfig()
LANE_LEFT = RoadCommand.CHANGE_LANE_LEFT
PAIRS = list(itertools.product((LEFT, RIGHT, STRAIGHT), repeat=2))
TURNS = (Family.TURN, Family.TURN_PAIR)
ALWAYS = NavigatorConfig(distance_probability=1.0, light_probability=1.0, pair_probability=1.0)
NEVER = NavigatorConfig(distance_probability=0.0, light_probability=0.0, pair_probability=0.0)

PROPERTY = settings(max_examples=30, deadline=None, derandomize=True)
parts = st.lists(
    st.tuples(st.integers(0, 120), st.sampled_from((LEFT, RIGHT, STRAIGHT, LANE_LEFT))),
    max_size=4,
)


def _outline(turns, facts=None) -> RouteOutline:
    legs = [leg for gap, way in turns for leg in ((FOLLOW, gap), (way, 15))]
    return RouteOutline(route_points(*legs, (FOLLOW, 60)), facts)


def _drive(outline, seed=0, config=CONFIG, dt_s=0.2):
    """The view and order of every step."""
    navigator = Navigator(config, seed)
    views = [outline.view(*step) for step in steady_drive(outline, dt_s=dt_s)]
    return [(view, navigator.step(view)) for view in views]


def _orders(steps):
    """The first step of each order."""
    return [next(group) for _, group in itertools.groupby(steps, key=lambda s: s[1].number)]


def _kinds(outline, config):
    return [order.instruction.kind for _, order in _orders(_drive(outline, config=config))]


@PROPERTY
@given(parts, st.integers(0, 1000))
def test_every_manoeuvre_is_told_before_it_begins_and_until_it_ends(turns, seed):
    outline = _outline(turns)
    steps = _drive(outline, seed)

    for manoeuvre in outline.manoeuvres:
        inside = [o for v, o in steps if manoeuvre.start_m + 2 <= v.along_m < manoeuvre.end_m - 1]
        if manoeuvre.command is STRAIGHT:
            allowed = {Family.FOLLOW, Family.TURN_PAIR}  # the shape of the place is not known
        elif manoeuvre.command is LANE_LEFT:
            allowed = {Family.LANE_CHANGE}
        else:
            allowed = set(TURNS)
        assert {KINDS[o.instruction.kind].family for o in inside} <= allowed
        assert len({o.number for o in inside}) == 1, "it changed its mind on the way"
        if manoeuvre.command in (LEFT, RIGHT):
            names = {o.instruction.kind.name for o in inside}
            assert all(manoeuvre.command.name in name for name in names)


@PROPERTY
@given(parts, st.integers(0, 1000))
def test_it_is_silent_about_turns_that_are_far(turns, seed):
    outline = _outline(turns)
    most_m = CONFIG.announce_max_m + CONFIG.follow_min_m
    for view, order in _orders(_drive(outline, seed)):
        if KINDS[order.instruction.kind].family in TURNS:
            assert view.manoeuvres[0].start_m - view.along_m <= most_m
            if "distance_m" in order.instruction.arguments:
                said = order.instruction.arguments["distance_m"]
                assert said == pytest.approx(view.manoeuvres[0].start_m - view.along_m, abs=0.51)


@PROPERTY
@given(parts, st.integers(0, 1000))
def test_no_order_flickers(turns, seed):
    """An order ends because it is done, or a manoeuvre comes up; both take road."""
    orders = _orders(_drive(_outline(turns), seed))
    numbers = [order.number for _, order in orders]
    assert numbers == list(range(len(numbers)))
    for (a, one), (b, two) in itertools.pairwise(orders):
        assert one.instruction != two.instruction or KINDS[one.instruction.kind].has_end
        if two.ended is Ending.REPLACED and KINDS[two.instruction.kind].family is Family.FOLLOW:
            assert b.along_m - a.along_m > 5.0


@PROPERTY
@given(parts, st.integers(0, 1000))
def test_it_is_deterministic(turns, seed):
    outline = _outline(turns)
    assert _drive(outline, seed) == _drive(outline, seed)


def test_how_often_it_is_asked_changes_little():
    outline = _outline([(100, LEFT), (70, STRAIGHT)])
    same = 0
    for seed in range(15):
        slow, fast = (_orders(_drive(outline, seed, dt_s=dt)) for dt in (0.1, 0.05))
        same += [o.instruction.kind for _, o in slow] == [o.instruction.kind for _, o in fast]
        if len(slow) == len(fast):
            pairs = zip(slow, fast, strict=True)
            assert all(abs(a.along_m - b.along_m) < 2.0 for (a, _), (b, _) in pairs)
    assert same >= 13


def test_seeds_differ_in_what_they_say():
    outline = _outline([(100, LEFT), (100, RIGHT)])
    told = {tuple(o.instruction for _, o in _orders(_drive(outline, seed))) for seed in range(20)}
    assert len(told) > 15


@pytest.mark.parametrize(
    ("way", "facts", "plain", "with_distance"),
    [
        (LEFT, NO_FACTS, Kind.TURN_LEFT, Kind.TURN_LEFT_IN),
        (RIGHT, NO_FACTS, Kind.TURN_RIGHT, Kind.TURN_RIGHT_IN),
        (STRAIGHT, NO_FACTS, Kind.KEEP_STRAIGHT, Kind.KEEP_STRAIGHT_FOR),
        (LEFT, Place.CROSSING, Kind.CROSSING_LEFT, Kind.CROSSING_LEFT_IN),
        (STRAIGHT, Place.CROSSING, Kind.CROSSING_STRAIGHT, Kind.CROSSING_STRAIGHT_IN),
        (RIGHT, Place.T_JUNCTION, Kind.T_JUNCTION_RIGHT, Kind.T_JUNCTION_RIGHT_IN),
        (STRAIGHT, Place.T_JUNCTION, Kind.T_JUNCTION_STRAIGHT, Kind.T_JUNCTION_STRAIGHT_IN),
        (LEFT, Place.HIGHWAY_ENTRY, Kind.ENTER_HIGHWAY, Kind.ENTER_HIGHWAY_IN),
        (RIGHT, Place.HIGHWAY_EXIT, Kind.EXIT_HIGHWAY, Kind.EXIT_HIGHWAY_IN),
        (LANE_LEFT, NO_FACTS, Kind.CHANGE_LEFT, Kind.CHANGE_LEFT_IN),
        (RoadCommand.CHANGE_LANE_RIGHT, NO_FACTS, Kind.CHANGE_RIGHT, Kind.CHANGE_RIGHT_IN),
    ],
)
def test_the_place_decides_the_kind(way, facts, plain, with_distance):
    facts = facts if isinstance(facts, PlaceFacts) else PlaceFacts(place=facts)
    outline = _outline([(100, way)], {0: facts})
    assert plain in _kinds(outline, NEVER)
    assert with_distance in _kinds(outline, ALWAYS)


@pytest.mark.parametrize("way", [LEFT, RIGHT, STRAIGHT])
def test_lights_are_named_where_there_are_some(way):
    outline = _outline([(100, way)], {0: PlaceFacts(has_light=True, place=Place.CROSSING)})
    assert Kind[f"LIGHT_{way.name}_IN"] in _kinds(outline, ALWAYS)
    assert Kind[f"CROSSING_{way.name}"] in _kinds(outline, NEVER)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_roundabouts_are_left_by_their_number(number):
    facts = PlaceFacts(place=Place.ROUNDABOUT, exit_number=number)
    assert Kind[f"ROUNDABOUT_EXIT_{number}"] in _kinds(_outline([(90, RIGHT)], {0: facts}), ALWAYS)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_close_turns_are_told_at_once_and_end_together(first, second):
    outline = _outline([(90, first), (20, second)])
    steps = _drive(outline, config=ALWAYS)
    name = f"{first.name}_THEN_{second.name}"
    told = [v.along_m for v, o in steps if o.instruction.kind.name == name]
    assert told[0] < 90.0 and told[-1] == pytest.approx(outline.manoeuvres[1].end_m, abs=2.0)
    far = _outline([(90, first), (40, second)])
    assert name not in [k.name for k in _kinds(far, ALWAYS)]


def test_a_drive_starts_with_start_and_from_motion_without():
    outline = _outline([(100, LEFT)])
    assert _kinds(outline, CONFIG)[0] is Kind.START
    assert Navigator(CONFIG, 0).step(outline.view(0.0, 8.0)).instruction.kind is not Kind.START


def test_highways_are_followed_as_such_and_no_route_means_drive_freely():
    view = RouteView(along_m=0.0, remaining_m=500.0, speed_mps=20.0, on_highway=True)
    kinds = {Navigator(CONFIG, seed).step(view).instruction.kind for seed in range(30)}
    assert kinds == {Kind.FOLLOW_HIGHWAY, Kind.FOLLOW_HIGHWAY_FOR}
    lost = dataclasses.replace(view, has_route=False)
    navigator = Navigator(CONFIG, 0)
    assert navigator.step(lost).instruction.kind is Kind.DRIVE_FREELY
    assert navigator.step(view).instruction.kind in kinds


def test_a_bend_is_never_called_straight():
    bend = [(FOLLOW, 10)] * 8
    points, heading = [], 0
    for i, p in enumerate(route_points(*bend)):
        heading = max(0, i - 10) * 0.03
        points.append(OutlinePoint(p.x_m, p.y_m + heading * (i - 10), int(FOLLOW)))
    outline = RouteOutline(points)
    assert abs(outline.view(0.0, 8.0).bend_deg) > 20.0
    straight = (Kind.KEEP_STRAIGHT, Kind.KEEP_STRAIGHT_FOR)
    for seed in range(40):
        assert Navigator(CONFIG, seed).step(outline.view(0.0, 8.0)).instruction.kind not in straight


def test_a_stop_holds_until_it_is_taken_back_and_then_starts():
    outline = _outline([(100, LEFT)])
    navigator = Navigator(CONFIG, 0)
    navigator.step(outline.view(10.0, 8.0))
    asked = dataclasses.replace(outline.view(12.0, 8.0), request=Request.STOP)
    first = navigator.step(asked)
    assert (first.instruction.kind, first.ended) == (Kind.STOP, Ending.REPLACED)
    for speed in (4.0, 0.0, 0.0):
        held = navigator.step(dataclasses.replace(asked, speed_mps=speed))
        assert held.number == first.number
    again = navigator.step(outline.view(20.0, 0.0))
    assert (again.instruction.kind, again.ended) == (Kind.START, Ending.DONE)


def test_a_stop_taken_back_while_rolling_is_not_done():
    outline = _outline([(100, LEFT)])
    navigator = Navigator(CONFIG, 0)
    navigator.step(dataclasses.replace(outline.view(10.0, 8.0), request=Request.STOP))
    assert navigator.step(outline.view(12.0, 6.0)).ended is Ending.REPLACED


def test_slowing_down_is_told_once_per_request():
    outline = _outline([(150, LEFT)])
    navigator = Navigator(CONFIG, 3)
    kinds = []
    for i in range(100):
        view = outline.view(10.0 + 0.4 * i, max(3.0, 8.0 - 0.3 * i))
        kinds.append(navigator.step(dataclasses.replace(view, request=Request.SLOW_DOWN)))
    told = [i for i, o in enumerate(kinds) if o.instruction.kind is Kind.SLOW_DOWN]
    assert told == list(range(len(told))) and 0 < len(told) < 20
    assert kinds[len(told)].ended is Ending.DONE


def test_another_route_is_told_afresh():
    navigator = Navigator(CONFIG, 0)
    first = navigator.step(_outline([(20, LEFT)]).view(15.0, 8.0))
    other = RouteOutline(route_points((FOLLOW, 20), (RIGHT, 15), (FOLLOW, 50)), route_id=2)
    second = navigator.step(other.view(15.0, 8.0))
    assert (first.instruction.kind, second.instruction.kind) == (Kind.TURN_LEFT, Kind.TURN_RIGHT)
    assert (second.number, second.ended) == (1, Ending.REPLACED)


def test_the_target_is_seen_from_the_route():
    outline = RouteOutline(route_points((FOLLOW, 10), (LEFT, 15), (FOLLOW, 60)))
    forward_m, left_m = outline.view(0.0, 8.0).target
    assert 10.0 < forward_m < 25.0 and 5.0 < left_m < 20.0
    assert outline.view(70.0, 8.0).target is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NavigatorConfig(pair_probability=1.5), r"pair_probability must be in 0\.\.1"),
        (lambda: NavigatorConfig(announce_min_m=40.0), "announce_min_m <= announce_max_m"),
        (lambda: NavigatorConfig(follow_max_m=70.0), "sight - announce_max_m"),
        (lambda: RouteView(along_m=float("nan"), remaining_m=1.0, speed_mps=0.0), "along_m"),
        (lambda: RouteOutline([OutlinePoint(0.0, 0.0, 4)]), "at least 2 points, got 1"),
        (lambda: _outline([(10, LEFT)], {3: NO_FACTS}), r"manoeuvres \[3\], the route has 1"),
        (lambda: RouteOutline([OutlinePoint(0.0, 0.0, 9), OutlinePoint(1.0, 0.0, 4)]), "9"),
    ],
)
def test_nonsense_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
