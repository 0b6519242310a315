# SPDX-License-Identifier: Apache-2.0
"""A live tick and its recorded frame are the same scene, and give the same targets."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from made_up_drive import Drive

from flad_carla.live_scene import LiveScenes
from flad_carla.recorder.dataset import DatasetRecorder, RecorderConfig
from flad_perception.config import load_encoder_config
from flad_perception.data.scenes import scene_of
from flad_perception.targets import box_table, make_targets

DURATION_S = 4.5
AHEAD = (5, 10, 15, 20, 25)  # recorded frames, 0.1 s apart


@pytest.fixture(scope="module")
def drive():
    """Of whose lights each affects the car for a while; at two of them it has to stop."""
    drive = Drive(duration_s=DURATION_S, seed=7, num_actors=9)
    changed = []
    for number, (tick, entry) in enumerate(drive.ticks()):
        ids = [light.actor_id for light in entry.lights]
        chosen = [*ids, -1][number // 7 % (len(ids) + 1)]
        expert = entry.expert and dataclasses.replace(
            entry.expert, affected_light_id=chosen, red_lights=tuple(ids[:1]) * (number % 3 == 0)
        )
        changed.append((tick, dataclasses.replace(entry, expert=expert)))
    drive._made = changed
    return drive


@pytest.fixture(scope="module")
def recorded(drive, tmp_path_factory):
    """``measurements_full`` by the simulator's frame number."""
    recorder = DatasetRecorder(
        tmp_path_factory.mktemp("data_set"), config=RecorderConfig(min_frames=8)
    )
    drive.feed(recorder)
    assert recorder.failures == []
    files = sorted((recorder.folders[0] / "measurements_full").glob("*.json"))
    frames = [json.loads(path.read_text()) for path in files]
    return {frame["flad"]["frame"]: frame for frame in frames}


def pairs(drive, recorded):
    """Live and recorded scene of every recorded frame whose future is known."""
    live = LiveScenes(drive.info())
    numbers = sorted(recorded)
    for _, entry in drive.ticks():
        index = numbers.index(entry.frame) if entry.frame in recorded else len(numbers)
        if index + AHEAD[-1] >= len(numbers):
            live.step(entry)
            continue
        later = [recorded[numbers[index + ahead]] for ahead in AHEAD]
        future = [(frame["x"], frame["y"]) for frame in later]
        yield live.step(entry, future), scene_of(recorded[entry.frame], future)


def test_both_scenes_give_the_same_targets(drive, recorded):
    config = load_encoder_config("small")
    occupied = 0
    for live, read in pairs(drive, recorded):
        ours, theirs = make_targets(live, config), make_targets(read, config)
        for name in ("detection", "waypoints_m", "target_point_m"):
            np.testing.assert_allclose(ours[name], theirs[name], atol=2e-3, err_msg=name)
        assert (ours["light"], ours["stop"]) == (theirs["light"], theirs["stop"])
        np.testing.assert_allclose(
            sorted(map(tuple, box_table(live))), sorted(map(tuple, box_table(read))), atol=1e-4
        )
        occupied += bool(ours["detection"].any())
    assert occupied > 10


def test_both_scenes_tell_the_same_of_the_light(drive, recorded):
    seen = set()
    for live, read in pairs(drive, recorded):
        assert live.light_state == read.light_state
        if math.isnan(read.light_distance_m):
            assert math.isnan(live.light_distance_m)
        else:
            assert live.light_distance_m == pytest.approx(read.light_distance_m, abs=1e-4)
        assert live.speed_mps == pytest.approx(read.speed_mps)
        seen.add((live.light_state != "none", live.red_light_stops))
    assert len(seen) == 4
