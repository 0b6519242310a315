# SPDX-License-Identifier: Apache-2.0
"""A recording is told what a vehicle on the same route would have been told."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spoken_route import FOLLOW, LEFT, RIGHT, STRAIGHT, measurements, route_points, steady_drive

from flad_planner.language.bank import Split, load_bank
from flad_planner.language.clips import MinerConfig, mine
from flad_planner.language.kinds import KINDS, Instruction, Kind
from flad_planner.language.misleading import MisleadingConfig
from flad_planner.language.narrator import Narrator, NarratorConfig, Voice
from flad_planner.language.navigator import NavigatorConfig
from flad_planner.language.notices import LightColour, Surroundings
from flad_planner.language.recorded import (
    HindsightConfig,
    RecordingError,
    moments,
    recorded_route,
    speed_requests,
)
from flad_planner.language.route_view import PlaceFacts, Request, RoadCommand, RouteOutline

CONFIG = MinerConfig(min_frames=1)
PROPERTY = settings(max_examples=15, deadline=None, derandomize=True)
LEGS = ((FOLLOW, 90), (LEFT, 15), (FOLLOW, 70), (RIGHT, 12), (FOLLOW, 60))
turns = st.lists(
    st.tuples(
        st.integers(5, 90), st.sampled_from((LEFT, RIGHT, STRAIGHT, RoadCommand.CHANGE_LANE_RIGHT))
    ),
    max_size=3,
)


def _recording(legs=LEGS, **options):
    points = route_points(*legs)
    drive = steady_drive(RouteOutline(points))
    return points, drive, measurements(points, drive, **options)


def _live(points, drive, config, seed, facts=None):
    outline, narrator = RouteOutline(points, facts), Narrator(config, seed)
    return [
        narrator.step(outline.view(*step), Surroundings(), 0.1 * i) for i, step in enumerate(drive)
    ]


@PROPERTY
@given(turns, st.integers(0, 1000), st.sampled_from((0.0, 0.5)))
def test_clips_are_what_the_vehicle_would_have_been_told(parts, seed, misleading):
    legs = [leg for gap, way in parts for leg in ((FOLLOW, gap), (way, 15))]
    points, drive, recorded = _recording([*legs, (FOLLOW, 60)])
    config = NarratorConfig(misleading=MisleadingConfig(probability=misleading))

    clips = mine(moments(recorded), MinerConfig(narrator=config, min_frames=1), seed)
    told = _live(points, drive, config, seed)

    assert clips[0].start_frame == 0 and clips[-1].end_frame == len(recorded)
    assert all(a.end_frame == b.start_frame for a, b in itertools.pairwise(clips))
    for clip in clips:
        for frame in range(clip.start_frame, clip.end_frame):
            assert told[frame].instruction == clip.instruction
            assert told[frame].is_misleading == clip.is_misleading
        assert (
            clip.start_frame == 0
            or told[clip.start_frame].number != told[clip.start_frame - 1].number
        )


@pytest.mark.parametrize("seed", range(15))
def test_completed_is_what_the_words_ask_for(seed):
    points, drive, recorded = _recording()
    outline = RouteOutline(points)
    clips = mine(moments(recorded), CONFIG, seed)

    for clip in clips:
        end_m = drive[min(clip.end_frame, len(drive) - 1)][0]
        name, says = clip.instruction.kind.name, clip.instruction.arguments
        if not KINDS[clip.instruction.kind].has_end or clip.end_frame == len(recorded):
            assert not clip.is_completed
        elif name.startswith(("TURN", "LEFT", "RIGHT")):
            assert clip.is_completed
            assert min(abs(end_m - m.end_m) for m in outline.manoeuvres) < 1.0
        elif name.endswith("_FOR") and clip.is_completed:
            assert end_m - drive[clip.start_frame][0] == pytest.approx(says["distance_m"], abs=1.5)
    assert sum(c.is_completed for c in clips) >= 2


def test_another_seed_tells_a_run_differently():
    _, _, recorded = _recording()
    told = {tuple(c.instruction for c in mine(moments(recorded), CONFIG, s)) for s in range(10)}
    assert len(told) > 5


def test_the_route_is_put_together_from_what_the_frames_saw():
    points, _, recorded = _recording()
    assert list(recorded_route(recorded).points) == points


def test_lights_are_read_from_the_recording_and_facts_from_the_map():
    _, _, recorded = _recording(light_at_m=88.0)
    facts = [m.facts for m in moments(recorded)[0].view.manoeuvres]
    assert facts == []  # 90 m is out of sight
    view = moments(recorded)[80].view
    assert [m.facts.has_light for m in view.manoeuvres] == [True]
    given_facts = {0: PlaceFacts(has_light=False)}
    assert [m.facts.has_light for m in moments(recorded, given_facts)[80].view.manoeuvres] == [
        False
    ]


def test_notices_stand_where_they_begin():
    _, _, recorded = _recording(light_at_m=88.0)
    for frame in (50, 51, 52):
        recorded[frame]["is_pedestrian_present"] = [7]
    states = [int(LightColour.GREEN)] * len(recorded)

    clips = mine(moments(recorded, light_states=states), CONFIG, 0)

    notices = [notice for clip in clips for notice in clip.notices]
    assert [n.kind for n in notices] == [Kind.NOTICE_PEDESTRIAN, Kind.NOTICE_LIGHT_GREEN]
    assert notices[0].frame == 50
    assert all(c.start_frame <= n.frame < c.end_frame for c in clips for n in c.notices)


def test_misleading_clips_are_flagged_and_never_completed():
    _, _, recorded = _recording()
    lanes = [(False, False)] * len(recorded)
    config = MinerConfig(
        narrator=NarratorConfig(misleading=MisleadingConfig(probability=1.0)), min_frames=1
    )
    clips = mine(moments(recorded, lanes=lanes), config, 1)
    wrong = [c for c in clips if c.is_misleading]
    assert wrong and not any(c.is_completed for c in wrong)
    assert all(c.end_frame - c.start_frame <= 21 for c in wrong)
    assert mine(moments(recorded, lanes=lanes), CONFIG, 1)[0].is_misleading is False


def _braking(recorded, last_mps):
    for frame in range(60, 100):
        recorded[frame]["speed"] = max(last_mps, 8.0 - 0.2 * (frame - 60))
    for frame in range(100, 120):
        recorded[frame]["speed"] = last_mps
    return recorded


@pytest.mark.parametrize(
    ("last_mps", "kind", "request_"),
    [(3.0, Kind.SLOW_DOWN, Request.SLOW_DOWN), (0.0, Kind.STOP, Request.STOP)],
)
def test_slowing_and_stopping_are_told_in_hindsight(last_mps, kind, request_):
    recorded = _braking(_recording()[2], last_mps)
    requests = speed_requests(recorded, HindsightConfig(probability=1.0), 0)
    assert requests[59] is Request.DRIVE and requests[65] is request_

    clips = mine(moments(recorded, requests=requests), CONFIG, 0)

    (clip,) = (c for c in clips if c.instruction.kind is kind)
    assert 60 <= clip.start_frame <= 62 and clip.is_completed
    assert set(speed_requests(recorded, HindsightConfig(probability=0.0), 0)) == {Request.DRIVE}


def test_short_clips_are_left_out():
    _, _, recorded = _recording()
    every, long = (mine(moments(recorded), MinerConfig(min_frames=n), 3) for n in (1, 30))
    assert long == [c for c in every if c.end_frame - c.start_frame >= 30] != every


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda r: r.clear(), "has no frames"),
        (lambda r: r[3].pop("speed"), "frame 3 has no field 'speed'"),
        (lambda r: r[3].update(speed=float("nan")), "frame 3: speed is nan"),
        (lambda r: r[3].update(x="1"), "expected a number"),
        (lambda r: r[3].update(future_waypoints=[[1.0, 2.0, 4]]), "more than one run"),
        (lambda r: r[3].update(future_waypoints=[[1.0]]), r"expected \[x, y, command\]"),
        (lambda r: r[3].update(future_waypoints=[["a", "b", "c"]]), r"expected \[x, y, command\]"),
        (lambda r: r[3].update(future_waypoints=None), "future_waypoints is None"),
        (lambda r: [m.update(future_waypoints=[]) for m in r], "route has 0 points"),
    ],
)
def test_broken_recordings_are_refused(spoil, words):
    _, _, recorded = _recording()
    spoil(recorded)
    with pytest.raises(RecordingError, match=words):
        moments(recorded)


def test_arguments_of_another_length_are_refused():
    with pytest.raises(ValueError, match="lanes has 1 frames of"):
        moments(_recording()[2], lanes=[(True, True)])


def test_a_telling_keeps_its_words_and_held_out_words_are_held_out():
    points, drive, _ = _recording()
    told = _live(points, drive, NarratorConfig(), 4)
    bank = load_bank()
    for split in (Split.TRAINING, Split.HELD_OUT):
        voice = Voice(bank, 9, split)
        said = {}
        for utterance in told:
            words = voice.say(utterance)
            assert said.setdefault(utterance.number, words) == words
            assert words.instruction in bank.sentences(utterance.instruction, split)


def test_a_notice_is_put_into_words():
    narrator, voice = (
        Narrator(NarratorConfig(navigator=NavigatorConfig()), 0),
        Voice(load_bank(), 0),
    )
    outline = RouteOutline(route_points(*LEGS))
    told = narrator.step(outline.view(0.0, 0.0), Surroundings(has_cyclist=True), 0.0)
    assert voice.say(told).notice in load_bank().sentences(Instruction(Kind.NOTICE_CYCLIST))
