# SPDX-License-Identifier: Apache-2.0
"""What a vehicle on a planned route is told, and which way it took."""

from __future__ import annotations

import carla
import pytest

from flad_carla.evaluation.language_driver import LanguageDriver
from flad_carla.evaluation.narration import RouteNarration
from flad_carla.evaluation.turn_watch import Turn, TurnWatch
from flad_carla.evaluation.world_view import WorldState
from flad_carla.expert.driver import Decision
from flad_carla.route_planner import RoutePlanner
from flad_carla.run_log import BodyView, ExpertView, LightView, PoseView
from flad_planner.language.bank import Split, load_bank
from flad_planner.language.kinds import Instruction, Kind
from flad_planner.language.route_view import RoadCommand
from flad_sim.towns import load_town

START, END = (321.8, -73.0), (148.2, -87.0)  # the demo's route: two left turns


@pytest.fixture(scope="module")
def planner():
    return RoutePlanner(carla.Map("Grid", load_town("Grid").xodr_text))


@pytest.fixture(scope="module")
def trace(planner):
    return planner.trace([carla.Location(*START, 0.0), carla.Location(*END, 0.0)])


@pytest.fixture
def option(tmp_path):
    weights = tmp_path / "adm.safetensors"
    weights.touch()

    def make(**changes):
        return LanguageDriver(who="adm", encoder_hash="e" * 16, adm=weights, **changes)

    return make


def drive(planner, trace, option, *, seed=1, red_from_m=None):
    """All that is said along the route at 8 m/s: (metres, words); the way is the route's."""
    narration = RouteNarration(planner, trace, (), option, seed=seed, route_id="0")
    said = []
    time_s = along_m = 0.0
    while along_m < trace[-1].distance:
        at = min(trace, key=lambda p: abs(p.distance - along_m))
        pose = PoseView(x=at.x, y=at.y, yaw=at.yaw)
        speed_mps = 0.0 if time_s < 0.3 else 8.0
        ego = BodyView(
            actor_id=1,
            type_id="vehicle.x",
            pose=pose,
            extent=(2.0, 1.0, 1.0),
            velocity=(speed_mps, 0.0, 0.0),
        )
        light = LightView(actor_id=5, state=0, pose=pose)
        state = WorldState(
            ego=ego,
            actors=(),
            lights=(light,),
            stop_signs=(),
            speed_limit_mps=14.0,
            traffic_speed_mps=None,
        )
        decision = Decision(
            forward=(1.0,) * 5,
            left=(0.0,) * 5,
            target_speed_mps=8.0,
            accel_mps2=0.0,
            reason="",
            ego_s=along_m,
            side_m=0.0,
            is_junction=False,
        )
        walkers = (7,) if red_from_m is not None and along_m >= red_from_m else ()
        expert = ExpertView(target_speed_mps=8.0, affected_light_id=5, pedestrians=walkers)
        said.append((along_m, narration.step(decision, expert, state, time_s)))
        narration.turns.step(pose)
        time_s += 0.1
        along_m += 0.1 * speed_mps
    return said, narration


def _templates(kinds, split):
    bank = load_bank()
    return {s for k in kinds for s in bank.sentences(Instruction(k), split)}


def test_a_route_is_told_from_its_start_and_each_turn_before_it_comes(planner, trace, option):
    said, narration = drive(planner, trace, option())
    assert said[0][1].instruction in _templates([Kind.START], Split.TRAINING)
    (first, second) = [m for m in narration._viewer.outline.manoeuvres if m.command == 1]
    for turn in (first, second):
        before = next(w for along, w in said if along >= turn.start_m - 4.0)
        assert "left" in before.instruction.lower()
    assert all(w.notice is None for _, w in said)
    taken = [(t.planned, t.told, t.taken) for t in narration.turns.taken]
    assert taken[0] == ("left", "left", "left") and all(t.as_told for t in narration.turns.taken)


def test_the_same_seed_says_the_same_and_another_split_other_words(planner, trace, option):
    first = drive(planner, trace, option())[0]
    assert first == drive(planner, trace, option())[0]
    assert first != drive(planner, trace, option(), seed=2)[0]
    held_out = drive(planner, trace, option(phrasings="held_out"))[0]
    assert held_out[0][1].instruction in _templates([Kind.START], Split.HELD_OUT)
    assert not {w.instruction for _, w in first} & {w.instruction for _, w in held_out}


def test_notices_are_told_only_where_they_are_asked_for(planner, trace, option):
    said, _ = drive(planner, trace, option(notice=True), red_from_m=20.0)
    people = _templates([Kind.NOTICE_PEDESTRIAN], Split.TRAINING)
    first = next(along for along, w in said if w.notice in people)
    assert first == pytest.approx(20.0, abs=1.0)
    assert all(w.notice is None for _, w in drive(planner, trace, option(), red_from_m=20.0)[0])


def test_an_operator_is_heard_all_the_way(planner, trace, option):
    said, _ = drive(planner, trace, option(instruction="Turn right."))
    assert {w.instruction for _, w in said} == {"Turn right."}


def test_a_wrong_turn_is_told_of_an_exit_that_is_there(planner, trace, option):
    said, narration = drive(planner, trace, option(wrong_turns=True))
    taken = narration.turns.taken
    assert taken and all(t.told != t.planned and t.taken == t.planned for t in taken)
    turn = narration._viewer.outline.manoeuvres[0]
    told = narration._told[turn.start_m]
    assert told.command in turn.facts.exits and told.command != turn.command
    before = next(w for along, w in said if along >= turn.start_m - 4.0).instruction.lower()
    word = {1: "left", 2: "right", 3: "straight"}[int(told.command)]
    assert word in before or (word == "straight" and "left" not in before)


def test_the_way_taken_is_the_nearest_of_those_that_the_map_has():
    """Right by 56 degrees is the way on where another one goes right by 105."""
    ways = ((RoadCommand.LEFT, -71.0), (RoadCommand.STRAIGHT, 56.0), (RoadCommand.RIGHT, 105.0))
    where = {"x": 0.0, "y": 0.0, "yaw_deg": 150.0}
    turn = Turn(planned=RoadCommand.STRAIGHT, told=RoadCommand.STRAIGHT, ways=ways, **where)

    assert turn.way_of(48.0) is turn.way_of(48.0 - 360.0) is RoadCommand.STRAIGHT
    assert turn.way_of(90.0) is RoadCommand.RIGHT
    assert turn.way_of(-20.0) is RoadCommand.LEFT


def test_a_vehicle_that_turns_another_way_is_seen_to():
    """Straight on was told and planned at the origin, heading north (yaw -90); it goes right."""
    turn = Turn(
        planned=RoadCommand.STRAIGHT, told=RoadCommand.STRAIGHT, x=0.0, y=0.0, yaw_deg=-90.0
    )
    watch = TurnWatch([turn])
    for y in range(-30, 1):
        watch.step(PoseView(x=0.0, y=-float(y), yaw=-90.0))
    for x in range(40):
        watch.step(PoseView(x=float(x), y=-8.0, yaw=0.0))
    (taken,) = watch.taken
    assert (taken.planned, taken.taken, taken.as_told) == ("straight", "right", False)
