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


def test_an_outbox_sends_one_at_a_time_and_accounts_for_every_clip():
    config = OutboxConfig(max_waiting=2, receipt_within_s=10.0, pause_s=2.0, max_attempts=2)
    outbox = Outbox(config)
    for data in (b"1", b"2", b"3"):
        outbox.put(data)

    def due(now_s, listens=True):
        return outbox.due(now_s, someone_listens=listens)

    assert due(0.0, listens=False) is None
    assert due(0.0) == b"2", "the oldest gave way"
    assert due(5.0) is None and not outbox.receipt("0" * 16, accepted=True)
    assert due(10.0) == b"2" and due(19.9) is None
    assert due(20.0) == b"3", "two attempts are enough"
    assert outbox.receipt(hashlib.sha256(b"3").hexdigest()[:16], accepted=False)
    outbox.put(b"4")
    assert due(21.9) is None and due(22.0) == b"4", "driving comes first"
    assert outbox.receipt(hashlib.sha256(b"4").hexdigest()[:16], accepted=True)
    assert outbox.num_waiting == 0
    assert outbox.counts == {"clips": 4, "gave_way": 1, "given_up": 1, "refused": 1, "accepted": 1}
