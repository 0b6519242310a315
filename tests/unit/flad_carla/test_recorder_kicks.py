# SPDX-License-Identifier: Apache-2.0
"""Kicks are seeded, of the size they were asked for, and leave the label to the expert."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from made_up_drive import Drive

from flad_carla.recorder.dataset import DatasetRecorder, RecorderConfig
from flad_carla.recorder.kicks import HARD, LATE, KickConfig, KickFilter
from flad_carla.recorder.label import ExpertLabel
from flad_carla.run_log import ControlView

DRIVEN = ControlView(throttle=0.4, steer=0.1, brake=0.0)


def kicks_of(drive, speed_mps=8.0, duration_s=120.0, config=None):
    kicks = KickFilter(config)
    kicks.start(drive.info())
    times = np.arange(0.0, duration_s, 0.05)
    return times, np.array([kicks.apply(t, speed_mps, DRIVEN).steer - DRIVEN.steer for t in times])


def bursts(times, steer):
    """Start and end of every stretch with a kick."""
    edges = np.diff(np.concatenate([[0], (steer != 0).astype(int), [0]]))
    return list(zip(times[edges[:-1] == 1], times[np.flatnonzero(edges == -1) - 1], strict=True))


def test_the_same_run_gets_the_same_kicks_and_another_gets_others():
    _, first = kicks_of(Drive(seed=4))
    _, again = kicks_of(Drive(seed=4))
    _, seed = kicks_of(Drive(seed=5))
    _, route = kicks_of(Drive(seed=4, index=1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, seed) and not np.array_equal(first, route)


def test_bursts_are_short_and_the_pauses_long_enough_to_recover():
    config = KickConfig()
    found = []
    for seed in range(8):
        spans = bursts(*kicks_of(Drive(seed=seed)))
        assert spans and spans[0][0] >= config.min_interval_s
        for start, end in spans:
            assert end - start <= config.duration_s[1] + 0.05
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert start - end >= config.min_interval_s - 0.1
        found.append(len(spans))
    assert np.mean(found) == pytest.approx(120.0 / config.mean_interval_s, rel=0.35)


def test_hard_kicks_are_more_and_harder():
    usual = [kicks_of(Drive(seed=seed))[1] for seed in range(8)]
    hard = [kicks_of(Drive(seed=seed), config=HARD)[1] for seed in range(8)]

    assert np.mean([np.abs(k) for k in hard]) > 2.0 * np.mean([np.abs(k) for k in usual])


def test_kicks_go_both_ways():
    steer = np.concatenate([kicks_of(Drive(seed=seed))[1] for seed in range(6)])
    left, right = (steer < -0.01).sum(), (steer > 0.01).sum()
    assert 0.25 < left / (left + right) < 0.75


@pytest.mark.parametrize("speed_mps", [4.0, 8.0, 15.0])
def test_the_push_sideways_does_not_depend_on_the_speed(speed_mps):
    config = KickConfig()
    _, steer = kicks_of(Drive(seed=2), speed_mps, 300.0)
    peak = np.abs(steer).max()
    wheel_rad = math.radians(peak * config.max_wheel_angle_deg)
    lateral_mps2 = speed_mps**2 * math.tan(wheel_rad) / config.wheelbase_m
    assert config.lateral_mps2[0] < lateral_mps2 <= config.lateral_mps2[1] + 1e-6


def test_a_standing_car_is_not_kicked_and_pedals_are_never_touched():
    kicks = KickFilter()
    kicks.start(Drive(seed=1).info())
    for t in np.arange(0.0, 60.0, 0.05):
        assert kicks.apply(t, 0.5, DRIVEN) == DRIVEN
        kicked = kicks.apply(t, 8.0, DRIVEN)
        assert (kicked.throttle, kicked.brake) == (DRIVEN.throttle, DRIVEN.brake)
        assert -1.0 <= kicks.apply(t, 8.0, dataclasses.replace(DRIVEN, steer=0.99)).steer <= 1.0


def test_late_brakes_are_withheld_for_a_while_and_come_then():
    braking = dataclasses.replace(DRIVEN, throttle=0.0, brake=1.0)
    delays = []
    for seed in range(20):
        kicks = KickFilter(LATE)
        kicks.start(Drive(seed=seed).info())
        assert kicks.apply(0.0, 8.0, DRIVEN).brake == 0.0
        times = np.arange(0.05, 2.5, 0.05)
        brakes = np.array([kicks.apply(t, 8.0, braking).brake for t in times])
        assert brakes[-1] == 1.0 and (np.diff(brakes) >= 0.0).all()
        delays.append(times[brakes == 1.0][0] - times[0])
    late = np.array(delays) > 0.01
    assert 0.4 < late.mean() < 1.0
    assert max(delays) <= LATE.late_s[1] + 0.06


def test_a_slow_car_brakes_in_time():
    kicks = KickFilter(LATE)
    kicks.start(Drive(seed=1).info())
    braking = dataclasses.replace(DRIVEN, throttle=0.0, brake=1.0)
    for t in np.arange(0.0, 60.0, 0.05):
        control = braking if t % 4.0 > 2.0 else DRIVEN
        assert kicks.apply(t, 1.0, control) == control


@pytest.mark.parametrize(
    "wrong, complaint",
    [
        ({"min_interval_s": 20.0}, "min_interval_s"),
        ({"duration_s": (0.9, 0.4)}, "duration_s must be a rising pair"),
        ({"lateral_mps2": (-1.0, 0.4)}, "lateral_mps2"),
        ({"late_share": 1.5}, "late_share"),
    ],
)
def test_wrong_config_is_named(wrong, complaint):
    with pytest.raises(ValueError, match=complaint):
        KickConfig(**wrong)


def test_a_kicked_frame_says_so_and_keeps_the_experts_answer(tmp_path):
    drive = Drive(duration_s=2.0)
    recorder = DatasetRecorder(tmp_path, config=RecorderConfig(min_frames=1, reserve_bytes=0))
    recorder.on_start(drive.info())
    for k, (tick, entry) in enumerate(drive.ticks()):
        kick = 0.2 if k == 20 else 0.0
        asked = entry.control
        expert = dataclasses.replace(entry.expert, control=None)
        given = dataclasses.replace(asked, steer=asked.steer + kick)
        changed = {"asked": asked, "control": given, "perturbation": kick, "expert": expert}
        recorder.on_tick(tick, dataclasses.replace(entry, **changed))
    recorder.on_end(drive.result())

    folder = recorder.folders[0]
    for k in range(20):
        full = json.loads((folder / "measurements_full" / f"{k:04d}.json").read_text())
        flad = full["flad"]
        assert flad["perturbation"] == (0.2 if k == 10 else 0.0)
        assert flad["driven"]["steer"] - full["steer"] == pytest.approx(flad["perturbation"])
        assert full["steer"] == drive.ticks()[2 * k][1].control.steer


def test_when_another_drives_the_label_follows_the_experts_plan():
    """The expert wants to go straight on at speed; the other one stands on the brake, steering."""
    label = ExpertLabel(expert_drives=False)
    answers = []
    for _, entry in Drive(duration_s=2.0).ticks():
        expert = dataclasses.replace(entry.expert, control=None)
        wrong = ControlView(throttle=0.0, steer=0.7, brake=1.0)
        answers.append(
            label.step(dataclasses.replace(entry, expert=expert, control=wrong, asked=wrong))
        )
    assert all(answer.throttle > 0.1 and answer.brake == 0.0 for answer in answers[2:])
    assert max(abs(answer.steer) for answer in answers) < 0.1


def test_when_the_expert_drives_the_label_is_what_was_asked_for():
    label = ExpertLabel(expert_drives=True)
    _, entry = Drive().ticks()[3]
    expert = dataclasses.replace(entry.expert, control=None)
    kicked = dataclasses.replace(entry, expert=expert, asked=DRIVEN, control=ControlView(steer=0.9))
    assert label.step(kicked) == DRIVEN
