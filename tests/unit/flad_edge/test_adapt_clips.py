# SPDX-License-Identifier: Apache-2.0
"""A vehicle's drive as clips: where it went, seen from where it was, and nothing else."""

from __future__ import annotations

import hashlib
import math
from collections import Counter

import numpy as np
import pytest

from flad_edge.adapt.clip_builder import ClipBuilder, ClipBuilderConfig, SeenFrame
from flad_edge.adapt.outbox import Outbox, OutboxConfig
from flad_edge.training.clip_file import UNKNOWN, clip_to_bytes

NS = 1_000_000_000
RADIUS_M, SPEED_MPS = 20.0, 5.0
FAR_M = (4812.25, -1150.5)


def pose_at(time_s):
    """A left turn on a circle, far from the origin, that began northward."""
    angle = SPEED_MPS * time_s / RADIUS_M
    x = FAR_M[0] + RADIUS_M * math.cos(angle)
    y = FAR_M[1] + RADIUS_M * math.sin(angle)
    return x, y, (angle + math.pi / 2 + math.pi) % (2 * math.pi) - math.pi


def frame_at(time_s, **changes):
    values = {
        "stamp_ns": round(time_s * NS),
        "tokens": np.full((3, 4), time_s, np.float32),
        "speed_mps": SPEED_MPS,
        "encoder_hash": "e" * 16,
        "contract_version": 1,
        "instruction": "Turn left.",
    }
    return SeenFrame(**{**values, **changes})


def drive(builder, end_s, words=lambda time_s: "Turn left.", skip=()):
    """Poses every 0.05 s, frames every 0.1 s."""
    clips = []
    for tick in range(round(end_s / 0.05)):
        time_s = 100.0 + 0.05 * tick
        if tick % 2 == 0 and not any(a <= tick * 0.05 < b for a, b in skip):
            builder.frame(frame_at(time_s, instruction=words(0.05 * tick)))
        clips += builder.pose(round(time_s * NS), *pose_at(time_s))
    return clips


def test_a_clip_says_where_the_vehicle_went_seen_from_where_it_was():
    builder = ClipBuilder(ClipBuilderConfig(max_frames=25), "vehicle_3")
    clips = drive(builder, 20.0)
    assert [clip.num_frames for clip in clips] == [25, 25, 25]
    clip = clips[1]
    assert clip.labelled.all() and (clip.completed == UNKNOWN).all()
    for step in range(5):
        angle = SPEED_MPS * 0.5 * (step + 1) / RADIUS_M
        want = [RADIUS_M * math.sin(angle), RADIUS_M * (1.0 - math.cos(angle))]
        np.testing.assert_allclose(clip.waypoints_m[:, step], np.tile(want, (25, 1)), atol=1e-2)
    seconds = clip.tokens[:, 0, 0].astype(float)
    np.testing.assert_allclose(np.diff(seconds), 0.2, atol=0.07)  # fp16
    assert clip.about == {"source": "vehicle", "vehicle": "vehicle_3"}


def test_nothing_in_it_says_where_in_the_world_that_was():
    here = ClipBuilder(ClipBuilderConfig(max_frames=25), "v")
    data = [clip_to_bytes(clip) for clip in drive(here, 12.0)]
    assert data
    secret = np.array([*FAR_M, *pose_at(101.0)[:2]], np.float32)
    for clip in data:
        for offset in range(4):
            whole = clip[offset : len(clip) - (len(clip) - offset) % 4]
            numbers = np.frombuffer(whole, "<f4")
            with np.errstate(all="ignore"):
                assert not (np.abs(numbers[:, None] - secret) < 0.05).any()
    moved = ClipBuilder(ClipBuilderConfig(max_frames=25), "v")
    found = []
    for tick in range(240):
        time_s = 100.0 + 0.05 * tick
        if tick % 2 == 0:
            moved.frame(frame_at(time_s))
        x, y, yaw = pose_at(time_s)
        x, y = x * math.cos(1.0) - y * math.sin(1.0), x * math.sin(1.0) + y * math.cos(1.0)
        found += moved.pose(round(time_s * NS), x + 77.0, y - 5.0, yaw + 1.0)
    again = drive(ClipBuilder(ClipBuilderConfig(max_frames=25), "v"), 12.0)
    assert len(found) == len(again)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_allclose(one.waypoints_m, other.waypoints_m, atol=1e-3)


def test_a_clip_has_one_instruction_and_no_gap():
    builder = ClipBuilder(ClipBuilderConfig(min_frames=5), "v")
    clips = drive(
        builder, 22.0, words=lambda t: "Turn left." if t < 6.0 else "Go on.", skip=[(10.0, 10.6)]
    )
    lengths = Counter((c.instruction, c.num_frames) for c in clips)
    assert lengths == {("Turn left.", 30): 1, ("Go on.", 20): 1}
    builder.cut()
    x, y, yaw = pose_at(30.0)
    (last,) = builder.pose(round(130.0 * NS), x, y, yaw)
    assert last.instruction == "Go on." and last.num_frames == 57


def test_notices_follow_their_frames_and_short_clips_are_thrown_away():
    builder = ClipBuilder(ClipBuilderConfig(max_frames=10, min_frames=5), "v")
    for number in range(14):
        notice = "A red light." if number in (3, 12) else None
        builder.frame(frame_at(100.0 + 0.2 * number, notice=notice))
    builder.cut()  # four frames
    clips = []
    for tick in range(200):
        time_s = 99.0 + 0.05 * tick
        clips += builder.pose(round(time_s * NS), *pose_at(time_s))
    assert [dict(clip.notices) for clip in clips] == [{3: "A red light."}]


def test_time_that_goes_back_is_another_drive():
    builder = ClipBuilder(ClipBuilderConfig(max_frames=10, min_frames=5), "v")
    drive(builder, 2.0)
    assert len(drive(builder, 6.0)) == 1, "frames of both drives are not mixed"
    with pytest.raises(ValueError, match="min_frames must be in"):
        ClipBuilderConfig(min_frames=20, max_frames=10)


def test_what_there_is_of_a_drive_is_kept_when_it_ends():
    builder = ClipBuilder(ClipBuilderConfig(max_frames=100, min_frames=5), "v")
    assert drive(builder, 6.0) == []
    (clip,) = builder.finish()
    assert clip.num_frames == 30
    assert clip.labelled.tolist() == [True] * 18 + [False] * 12, "2.5 s after it, nothing is known"
    assert builder.finish() == []


def test_a_builder_without_places_or_without_frames_stays_small():
    blind = ClipBuilder(ClipBuilderConfig(max_frames=10, min_frames=5), "v")
    for number in range(3000):
        blind.frame(frame_at(100.0 + 0.2 * number))
    assert len(blind._closed) == 8 and blind.finish() == []

    builder = ClipBuilder(ClipBuilderConfig(min_frames=5), "v")
    drive(builder, 3.0)
    clips = []
    for tick in range(3000):  # the encoder has died, the vehicle drives on
        time_s = 103.0 + 0.05 * tick
        clips += builder.pose(round(time_s * NS), *pose_at(time_s))
        clips += builder.pose(round(time_s * NS), *pose_at(time_s))  # twice is not another drive
    assert [clip.num_frames for clip in clips] == [15]
    assert len(builder._poses) < 100


def _outbox(folder, max_mib=1.0):
    return Outbox(folder, OutboxConfig(max_mib=max_mib, receipt_within_s=10.0, pause_s=2.0))


def _digits(data):
    return hashlib.sha256(data).hexdigest()[:16]


def test_an_outbox_sends_one_at_a_time_and_gives_up_none(tmp_path):
    outbox = _outbox(tmp_path)
    for data in (b"1", b"2", b"3"):
        assert outbox.put(data)

    def due(now_s, listens=True):
        return outbox.due(now_s, someone_listens=listens)

    assert due(0.0, listens=False) is None
    assert due(0.0) == b"1"
    assert due(5.0) is None and not outbox.receipt("0" * 16, "accepted")
    assert due(10.0) == b"2", "the next has its turn"
    assert due(29.9) is None and due(30.0) == b"3", "the wait doubles"
    assert outbox.receipt(_digits(b"3"), "later")
    assert due(31.0) is None and due(32.0) == b"1", "driving comes first"
    assert outbox.receipt(_digits(b"1"), "refused")
    assert due(34.0) == b"2"
    assert outbox.receipt(_digits(b"2"), "accepted")
    assert outbox.num_waiting == 1
    assert outbox.counts == {"clips": 3, "unanswered": 2, "later": 1, "refused": 1, "accepted": 1}
    kept = {path.parent.name: path.read_bytes() for path in tmp_path.glob("*/*.safetensors")}
    assert kept == {"refused": b"1", "sent": b"2", "waiting": b"3"}


def test_what_was_not_sent_survives_the_process(tmp_path):
    first = _outbox(tmp_path)
    for data in (b"1", b"2", b"3"):
        first.put(data)
    assert first.due(0.0, someone_listens=True) == b"1"  # and the process is killed
    (tmp_path / "waiting/00000009_abc.partial").write_bytes(b"half")
    again = _outbox(tmp_path)
    again.put(b"4")
    sent = []
    while (clip := again.due(100.0 * len(sent), someone_listens=True)) is not None:
        sent.append(clip)
        again.receipt(_digits(clip), "accepted")
    assert sent == [b"1", b"2", b"3", b"4"]


def test_only_what_the_edge_has_makes_room(tmp_path):
    clips = [bytes([number]) * 300_000 for number in range(5)]
    outbox = _outbox(tmp_path)
    assert all(outbox.put(clip) for clip in clips[:3])
    assert not outbox.put(clips[3]), "nothing unsent gives way"
    for clip in clips[:2]:
        assert outbox.due(100.0 * clip[0] + 100.0, someone_listens=True) == clip
        outbox.receipt(_digits(clip), "accepted")
    again = _outbox(tmp_path)
    assert again.put(clips[3])
    there = {path.read_bytes()[0]: path.parent.name for path in tmp_path.glob("*/*.safetensors")}
    assert there == {1: "sent", 2: "waiting", 3: "waiting"}, "the oldest sent one is gone"
    assert again.num_bytes == 900_000
    assert outbox.counts["no_room"] == 1
