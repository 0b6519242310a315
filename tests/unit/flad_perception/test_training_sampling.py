# SPDX-License-Identifier: Apache-2.0
"""What an epoch shows: one of each group of neighbours, few standstills, the wanted shares."""

from __future__ import annotations

import numpy as np
import pytest

from flad_perception.training.sampling import (
    GREEN,
    NONE,
    RED,
    FrameTable,
    SamplingConfig,
    draw_epoch,
    kinds,
)

PLAIN = dict(still_keep=1.0, balance=False)


def table(run, speed=5.0, light=1, distance=np.nan):
    n = len(run)
    return FrameTable(
        index=np.arange(n) * 7 + 3,
        run=np.asarray(run, dtype=np.int64),
        speed_mps=np.broadcast_to(np.asarray(speed, dtype=float), n),
        light=np.broadcast_to(np.asarray(light, dtype=np.int64), n),
        light_distance_m=np.broadcast_to(np.asarray(distance, dtype=float), n),
    )


def test_every_group_of_neighbours_of_a_run_is_shown_once_and_all_of_them_in_time():
    frames = table([0] * 12 + [1] * 3 + [2] * 5)
    groups = [set(range(0, 5)), {5, 6, 7, 8, 9}, {10, 11}, {12, 13, 14}, set(range(15, 20))]
    config = SamplingConfig(**PLAIN)
    seen = set()
    for epoch in range(40):
        rows = [(i - 3) // 7 for i in draw_epoch(frames, config, 1, epoch)]
        assert len(rows) == len(groups)
        assert all(len(group & set(rows)) == 1 for group in groups)
        seen |= set(rows)
    assert seen == set(range(20))


def test_an_epoch_is_a_function_of_seed_and_epoch():
    frames = table([0] * 200)
    config = SamplingConfig()

    def drawn(seed, epoch):
        return draw_epoch(frames, config, seed, epoch).tolist()

    assert drawn(1, 2) == drawn(1, 2)
    assert drawn(1, 2) != drawn(1, 3)
    assert drawn(1, 2) != drawn(2, 2)


def test_only_the_middle_of_a_standstill_is_thinned():
    speed = [5.0] * 50 + [0.0] * 100 + [5.0] * 50
    config = SamplingConfig(consecutive=1, **{**PLAIN, "still_keep": 0.0})
    rows = sorted((i - 3) // 7 for i in draw_epoch(table([0] * 200, speed), config, 0, 0))

    assert rows == [*range(70), *range(140, 200)]


def test_standstills_of_two_runs_are_two():
    config = SamplingConfig(consecutive=1, **{**PLAIN, "still_keep": 0.0})
    rows = draw_epoch(table([0] * 25 + [1] * 25, 0.0), config, 0, 0)

    assert len(rows) == 50  # each is shorter than its kept begin and end together


def test_shares_come_near_what_is_wanted_but_nothing_is_shown_too_often():
    n = 6000
    light = np.ones(n, dtype=int)
    light[:600] = 0
    distance = np.full(n, np.nan)
    distance[:1800], distance[1800:1810] = 12.0, 31.0
    frames = table([0] * n, 5.0, light, distance)
    config = SamplingConfig(
        consecutive=1, red_share=0.3, green_share=0.3, max_repeat=2.0, blind_speed=False
    )
    kind = kinds(frames, 30.0)
    rows = (draw_epoch(frames, config, 3, 1) - 3) // 7
    shown = np.bincount(kind[rows], minlength=3)

    assert np.bincount(kind).tolist() == [600, 1200, 4200]
    assert shown[RED] == 1200  # 0.3 of all would need each three times
    assert shown[GREEN] == pytest.approx(1800, rel=0.02)
    assert shown[NONE] == pytest.approx(2400, rel=0.03)
    assert np.bincount(rows).max() == 2


def test_the_speed_says_nothing_about_the_light():
    rng = np.random.default_rng(5)
    n = 8000
    light = (rng.random(n) < 0.5).astype(int)
    stands = rng.random(n) < np.where(light == 0, 0.9, 0.1)  # as recordings are
    speed = np.where(stands, 0.0, 6.0)
    frames = table([0] * n, speed, light, np.full(n, 12.0))
    thinning = {"still_begin": n, "still_end": 0}
    config = SamplingConfig(
        consecutive=1, red_share=0.4, green_share=0.4, max_repeat=9.0, **thinning
    )
    rows = (draw_epoch(frames, config, 3, 1) - 3) // 7

    for wanted in (0, 1):
        assert np.mean(stands[rows][light[rows] == wanted]) == pytest.approx(0.5, abs=0.02)


def test_no_frames_give_an_empty_epoch():
    assert len(draw_epoch(table([]), SamplingConfig(), 0, 0)) == 0


@pytest.mark.parametrize(
    "values, words",
    [
        ({"red_share": 0.5, "green_share": 0.5}, "less than 1"),
        ({"consecutive": 0}, "consecutive"),
        ({"still_keep": 1.5}, "still_keep"),
        ({"max_repeat": 0.5}, "max_repeat"),
        ({"still_begin": -1}, "still_begin"),
    ],
)
def test_impossible_sampling_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        SamplingConfig(**values)
