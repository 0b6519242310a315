# SPDX-License-Identifier: Apache-2.0
"""Clips: their bytes, their labels, and how a drive is cut into them."""

from __future__ import annotations

import json

import lmdrive_files
import numpy as np
import pytest
from tiny_lessons import clip, features, write_drive

from flad_edge.training.clip_file import YES, clip_from_bytes, clip_to_bytes, read_clip, write_clip
from flad_edge.training.labels import FREE, RED, frame_labels, later
from flad_edge.training.lessons import Drive, LessonConfig, group_of
from flad_perception.data.lmdrive import BadFileError
from flad_planner.language.bank import Split, load_bank
from flad_planner.language.kinds import Kind

BANK = load_bank()


def test_a_clip_comes_back_from_its_bytes(tmp_path):
    sent = clip(
        7,
        waypoints_m=np.full((7, 5, 2), np.nan, dtype=np.float32),
        notices={3: "Watch out, a pedestrian."},
        about={"town": "Grid", "vehicle": "7"},
    )
    write_clip(tmp_path / "a.safetensors", sent)

    got = read_clip(tmp_path / "a.safetensors")

    for name, value in vars(sent).items():
        np.testing.assert_array_equal(getattr(got, name), value, err_msg=name)
    assert not got.labelled.any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokens": np.zeros((4, 6, 8), dtype=np.float16)}, "first of 4 frames"),
        ({"tokens": np.zeros((5, 6, 8), dtype=np.float32)}, "tokens is float32"),
        ({"tokens": np.full((5, 6, 8), np.nan, dtype=np.float16)}, "not finite"),
        ({"waypoints_m": np.full((5, 5, 2), 2e3, dtype=np.float32)}, "farther than 1000 m"),
        ({"completed": np.full(5, 3, dtype=np.int8)}, "completed must be"),
        ({"instruction": "left " * 100}, "500 characters, allowed are 1 to 400"),
        ({"instruction": "  "}, "allowed are 1 to 400"),
        ({"notices": {5: "Red."}}, r"follow frames \[5\] of 5"),
    ],
)
def test_what_can_be_no_clip_is_refused_with_the_reason(changes, words):
    with pytest.raises(ValueError, match=words):
        clip(5, **changes)


def test_waypoints_known_in_part_are_refused():
    waypoints = np.zeros((5, 5, 2), dtype=np.float32)
    waypoints[2, 1, 0] = np.nan
    with pytest.raises(ValueError, match="known in part"):
        clip(5, waypoints_m=waypoints)


def test_bytes_of_somebody_else_never_become_a_clip_nor_another_error():
    good = clip_to_bytes(clip(5))
    rng = np.random.default_rng(0)
    bad = [b"", b"hello", good[:40], good[:-1], b"\xff" * 200, b"\x02" + bytes(7) + b"[]" + good]
    for _ in range(200):
        broken = bytearray(good)
        broken[rng.integers(0, 700)] ^= 1 << rng.integers(0, 8)
        bad.append(bytes(broken))
    refused = 0
    for data in bad:
        try:
            clip_from_bytes(data)
        except ValueError:
            refused += 1
    assert refused > len(bad) // 2


def test_the_plan_is_the_label_whoever_drove():
    here = lmdrive_files.measurement(3)
    # Driving north: ahead is -y, right is +x. The plan leads ahead and to the right.
    points = [[0.1 * i, here["y"] - 2.0 * i] for i in range(1, 6)]
    here["flad"] = {
        "plan_world": points,
        "plan_step_s": 0.5,
        "plan_stamp_s": 1.0,
        "sim_time_s": 1.0,
        "perturbation": 0.0,
    }
    frames = [lmdrive_files.measurement(n) for n in range(40)]
    frames[3] = here

    labels = frame_labels(frames, 3)

    expected = [[2.0 * i, -0.1 * i] for i in range(1, 6)]
    np.testing.assert_allclose(labels.plan_m, expected, atol=1e-5)
    np.testing.assert_allclose(labels.driven_m, [[2.0 * i, 0.0] for i in range(1, 6)], atol=1e-5)
    assert labels.light == FREE and frame_labels(frames, 12).light == RED
    assert np.isnan(frame_labels(frames, 20).driven_m).all()


def test_a_plan_made_earlier_is_read_where_the_planner_reads_it():
    plan = np.array([[4.0, 0.0], [8.0, 0.0], [12.0, 1.0], [16.0, 2.0], [20.0, 4.0]])
    np.testing.assert_allclose(
        later(plan, 0.05),
        [[4.4, 0.0], [8.4, 0.1], [12.4, 1.1], [16.4, 2.2], [20.4, 4.2]],
        atol=1e-6,
    )
    with pytest.raises(ValueError, match=r"a plan that is 0\.70 s old"):
        later(plan, 0.7)


def test_another_drivers_way_without_a_plan_teaches_nothing(tmp_path):
    run = write_drive(tmp_path)
    nothing = np.full_like(features(run).plan_m, np.nan)
    assert (features(run, plan_m=nothing).waypoints("plan") == features(run).driven_m)[:5].all()
    with pytest.raises(ValueError, match="where it went teaches nothing"):
        features(run, plan_m=nothing, driver="adllm").waypoints("plan")


def test_a_drive_becomes_the_clips_that_its_narrator_tells(tmp_path):
    run = write_drive(tmp_path)
    drive = Drive(run, features(run), LessonConfig())
    told = {(c.start_frame, c.end_frame): c for c in drive.told(4)}

    lessons = drive.lessons(BANK, 4)

    assert [n.group for n in lessons if n.group in ("left", "right")] == ["left", "right"]
    speeds = features(run).speed_mps
    at = 0
    for lesson in lessons:
        first = next(i for i in range(at, len(speeds)) if 1 + 2 * i >= _start(lesson, told))
        np.testing.assert_array_equal(
            lesson.clip.speed_mps, speeds[first : first + lesson.clip.num_frames]
        )
        assert (lesson.clip.completed[:-1] == 0).all()
        at = first + 1
    turns = [n for n in lessons if n.group in ("left", "right")]
    assert all(n.clip.completed[-1] == YES for n in turns)


def _start(lesson, told):
    return next(
        start
        for (start, _), c in told.items()
        if c.instruction == lesson.instruction
        and (c.end_frame - start) // 2 in (lesson.clip.num_frames, lesson.clip.num_frames - 1)
    )


def test_turns_are_told_by_every_shape_of_junction(tmp_path):
    run = write_drive(tmp_path)
    drive = Drive(run, features(run), LessonConfig())
    kinds = {n.instruction.kind for seed in range(30) for n in drive.lessons(BANK, seed)}
    for plain, crossing, junction in (
        (Kind.TURN_LEFT, Kind.CROSSING_LEFT, Kind.T_JUNCTION_LEFT),
        (Kind.TURN_RIGHT, Kind.CROSSING_RIGHT, Kind.T_JUNCTION_RIGHT),
    ):
        assert {plain, crossing, junction} <= kinds


def test_the_same_seed_tells_the_same_and_held_out_words_are_others(tmp_path):
    import random

    run = write_drive(tmp_path)
    drive = Drive(run, features(run), LessonConfig())
    one, same, other = (drive.lessons(BANK, seed) for seed in (1, 1, 2))
    assert [n.instruction for n in one] == [n.instruction for n in same]
    assert [n.instruction for n in one] != [n.instruction for n in other]
    trained = BANK.sentences(one[1].instruction, Split.TRAINING)
    assert one[1].words(BANK, random.Random(0), Split.TRAINING) in trained
    assert one[1].words(BANK, random.Random(0), Split.HELD_OUT) not in trained


def test_measurements_that_cannot_be_told_are_named(tmp_path):
    run = write_drive(tmp_path)
    path = run.folder / "measurements_all.json"
    told = json.loads(path.read_text())
    made = features(run)
    del told[10]["future_waypoints"]
    path.write_text(json.dumps(told))
    with pytest.raises(BadFileError, match="frame 10 has no field 'future_waypoints'"):
        Drive(run, made, LessonConfig())


def test_a_wedged_vehicle_teaches_nothing_after_three_seconds(tmp_path):
    run = write_drive(tmp_path)
    made = features(run)
    speeds = made.speed_mps.copy()
    speeds[40:70] = 0.0  # its plan goes on
    lessons = Drive(run, features(run, speed_mps=speeds), LessonConfig()).lessons(BANK, 1)
    labelled = np.concatenate([n.clip.labelled for n in lessons])
    whole = np.concatenate(
        [n.clip.labelled for n in Drive(run, made, LessonConfig()).lessons(BANK, 1)]
    )
    assert (whole != labelled).nonzero()[0].tolist() == list(range(40 + 15, 70))


def test_every_kind_that_is_no_notice_has_a_group():
    assert group_of(Kind.T_JUNCTION_RIGHT_IN) == "right"
    assert group_of(Kind.STRAIGHT_THEN_LEFT) == "straight"
    assert group_of(Kind.CHANGE_LEFT_IN) == "change"
    assert group_of(Kind.KEEP_STRAIGHT_FOR) == "follow"
    assert group_of(Kind.STOP) == "speed"
