# SPDX-License-Identifier: Apache-2.0
"""Notices are told once, the urgent first; misleading instructions are impossible where told."""

import dataclasses

import pytest
from spoken_route import FOLLOW, LEFT, RIGHT, STRAIGHT, route_points

from flad_planner.language.kinds import Instruction, Kind
from flad_planner.language.misleading import Misleader, MisleadingConfig, impossible
from flad_planner.language.navigator import Navigator, NavigatorConfig, Order
from flad_planner.language.notices import LightColour, NoticeBoard, NoticeConfig, Surroundings
from flad_planner.language.route_view import Place, PlaceFacts, RouteOutline, RouteView

CONFIG = NoticeConfig(hold_s=4.0, absent_s=3.0, light_range_m=40.0)
NOTHING = Surroundings()
PEDESTRIAN = Surroundings(has_pedestrian=True)
RED = Surroundings(light=LightColour.RED, light_m=20.0)
GREEN = Surroundings(light=LightColour.GREEN, light_m=20.0)


def _told(*steps):
    """``(time, name)`` of every new notice; steps are ``(until_s, surroundings)``, 10 Hz."""
    board, seen, told, i = NoticeBoard(CONFIG), -1, [], 0
    for until_s, surroundings in steps:
        while i < until_s * 10:
            notice = board.step(i / 10, surroundings)
            if notice is not None and notice.number != seen:
                seen = notice.number
                told.append((i / 10, notice.kind.name.removeprefix("NOTICE_")))
            i += 1
    return told


def test_a_lasting_cause_is_told_once():
    assert _told((60.0, PEDESTRIAN)) == [(0.0, "PEDESTRIAN")]


def test_a_notice_stands_for_its_time():
    board = NoticeBoard(CONFIG)
    stands = [board.step(i / 10, PEDESTRIAN if i == 0 else NOTHING) is not None for i in range(60)]
    assert stands == [True] * 40 + [False] * 20


def test_a_cause_that_flickers_is_not_told_again_but_one_that_comes_back_is():
    assert _told((1.0, PEDESTRIAN), (2.0, NOTHING), (3.0, PEDESTRIAN)) == [(0.0, "PEDESTRIAN")]
    later = _told((1.0, PEDESTRIAN), (8.0, NOTHING), (9.0, PEDESTRIAN))
    assert later == [(0.0, "PEDESTRIAN"), (8.0, "PEDESTRIAN")]


def test_lights_tell_each_change_at_once_and_only_in_range():
    told = _told((1.0, RED), (2.0, GREEN), (3.0, RED))
    assert told == [(0.0, "LIGHT_RED"), (1.0, "LIGHT_GREEN"), (2.0, "LIGHT_RED")]
    far = dataclasses.replace(RED, light_m=41.0)
    assert _told((1.0, far), (2.0, dataclasses.replace(RED, light_m=None))) == []


def test_the_urgent_goes_first_and_the_rest_waits():
    both = dataclasses.replace(RED, has_pedestrian=True)
    assert _told((10.0, both)) == [(0.0, "PEDESTRIAN"), (4.0, "LIGHT_RED")]
    assert _told((1.0, RED), (2.0, both)) == [(0.0, "LIGHT_RED"), (1.0, "PEDESTRIAN")]


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        ("has_cyclist", Kind.NOTICE_CYCLIST),
        ("has_sudden_stop", Kind.NOTICE_SUDDEN_STOP),
        ("has_runner_left", Kind.NOTICE_RUNNER_LEFT),
        ("has_runner_ahead", Kind.NOTICE_RUNNER_AHEAD),
        ("is_bumpy", Kind.NOTICE_BUMPY_ROAD),
        ("is_tunnel", Kind.NOTICE_TUNNEL),
    ],
)
def test_each_cause_has_its_kind(cause, kind):
    assert NoticeBoard(CONFIG).step(0.0, Surroundings(**{cause: True})).kind is kind


def _at_junction(way, exits, place=Place.UNKNOWN, has_light=False) -> RouteView:
    facts = PlaceFacts(
        place=place, has_light=has_light, exits=None if exits is None else frozenset(exits)
    )
    points = route_points((FOLLOW, 30), (way, 15), (FOLLOW, 60))
    return RouteOutline(points, {0: facts}).view(0.0, 8.0)


def _names(view) -> set[str]:
    return {i.kind.name for i in impossible(view)}


def test_what_is_not_known_is_never_called_impossible():
    assert _names(_at_junction(LEFT, None)) == set()


def test_ways_that_a_junction_lacks_are_impossible():
    view = _at_junction(LEFT, (LEFT, RIGHT), Place.T_JUNCTION, has_light=True)
    assert _names(view) == {"T_JUNCTION_STRAIGHT", "LIGHT_STRAIGHT"}
    assert _names(_at_junction(STRAIGHT, (STRAIGHT, LEFT))) == {"TURN_RIGHT"}
    assert _names(_at_junction(LEFT, (LEFT, RIGHT, STRAIGHT), Place.CROSSING)) == set()


def test_turns_are_impossible_where_no_junction_comes():
    free = RouteOutline(route_points((FOLLOW, 200))).view(0.0, 8.0)
    assert {"TURN_LEFT", "CROSSING_RIGHT"} <= _names(free)
    assert _names(RouteOutline(route_points((FOLLOW, 50))).view(0.0, 8.0)) == set()


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        ({"has_left_lane": False}, {"CHANGE_LEFT"}),
        ({"has_right_lane": False}, {"CHANGE_RIGHT"}),
        ({"has_left_lane": True, "has_right_lane": True}, set()),
        ({"has_roundabout": False}, {f"ROUNDABOUT_EXIT_{i}" for i in (1, 2, 3)}),
        ({"has_highway": False}, {"FOLLOW_HIGHWAY", "ENTER_HIGHWAY", "EXIT_HIGHWAY"}),
        ({"is_braking": True}, {"START"}),
    ],
)
def test_what_else_is_impossible(facts, names):
    assert _names(dataclasses.replace(_at_junction(LEFT, None), **facts)) == names


def _mislead(probability, seed, num=400):
    """Which of many orders are preceded by a wrong instruction."""
    misleader = Misleader(MisleadingConfig(probability=probability), seed)
    view = dataclasses.replace(_at_junction(LEFT, (LEFT,)), has_left_lane=False)
    orders = (Order(number=i, instruction=Instruction(Kind.FOLLOW_ROAD)) for i in range(num))
    return [misleader.step(order, view, 10.0 * order.number) for order in orders]


def test_misleading_comes_by_probability_and_seed():
    assert not any(_mislead(0.0, 1))
    assert all(_mislead(1.0, 1))
    assert 0.15 < sum(map(bool, _mislead(0.2, 1))) / 400 < 0.25
    assert _mislead(0.2, 1) == _mislead(0.2, 1) != _mislead(0.2, 2)
    assert len({i.kind for i in _mislead(1.0, 1)}) == 2  # every candidate has its turn


def test_misleading_ends_after_its_time_and_does_not_come_back():
    misleader = Misleader(MisleadingConfig(probability=1.0, hold_s=2.0), 0)
    view, order = _at_junction(LEFT, (LEFT,)), Order(number=0, instruction=Instruction(38))
    wrong = [misleader.step(order, view, i / 10) is not None for i in range(50)]
    assert wrong == [True] * 20 + [False] * 30


def test_an_order_with_a_distance_is_not_delayed():
    misleader = Misleader(MisleadingConfig(probability=1.0), 0)
    order = Order(number=0, instruction=Instruction(Kind.TURN_LEFT_IN, {"distance_m": 9}))
    assert misleader.step(order, _at_junction(LEFT, (LEFT,)), 0.0) is None


def test_the_navigator_never_orders_the_impossible():
    for way in (LEFT, RIGHT, STRAIGHT):
        for place in (Place.UNKNOWN, Place.CROSSING, Place.T_JUNCTION):
            view = _at_junction(way, (way,), place, has_light=True)
            for seed in range(20):
                order = Navigator(NavigatorConfig(), seed).step(view)
                assert order.instruction not in impossible(view)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MisleadingConfig(probability=1.1), r"must be in 0\.\.1, got 1\.1"),
        (lambda: MisleadingConfig(hold_s=0.0), "hold_s must be positive"),
        (lambda: NoticeConfig(absent_s=float("nan")), "absent_s must be positive"),
    ],
)
def test_nonsense_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
