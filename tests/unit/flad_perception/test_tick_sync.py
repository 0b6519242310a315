# SPDX-License-Identifier: Apache-2.0
"""Whatever order and losses messages come with, ticks are whole, ordered, and say what lacks."""

from __future__ import annotations

import random

import pytest

from flad_perception.tick_sync import LIDAR, ODOMETRY, TARGET, TickSync, TickSyncConfig

STEP_NS = 50_000_000
CAMERAS = ("rgb_front", "rgb_left")
ALL = (*CAMERAS, LIDAR, ODOMETRY)


def lockstep(expected=ALL, **config):
    return TickSync(TickSyncConfig(**config), expected, "lockstep")


def realtime(expected=ALL, **config):
    return TickSync(TickSyncConfig(**config), expected, "realtime")


def put_step(sync, step, now_s, names=ALL):
    for name in names:
        sync.put(name, step * STEP_NS, f"{name}@{step}", now_s)


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_a_tick_s_messages_gives_the_same_whole_ticks(seed):
    rng = random.Random(seed)
    sync = lockstep()
    taken = []
    for step in range(12):
        names = list(ALL)
        rng.shuffle(names)
        for name in names:
            sync.put(name, step * STEP_NS, f"{name}@{step}", float(step))
            taken += sync.take(float(step))
    assert [t.stamp_ns for t in taken] == [step * STEP_NS for step in range(0, 12, 2)]
    for tick in taken:
        step = tick.stamp_ns // STEP_NS
        assert tick.pictures == {name: f"{name}@{step}" for name in CAMERAS}
        assert tick.sweep == f"lidar@{step}" and tick.odometry == f"odometry@{step}"
        assert tick.previous_sweep == (f"lidar@{step - 1}" if step else None)
        assert tick.missing == ()


@pytest.mark.parametrize("lost", ALL)
def test_lockstep_waits_for_each_and_names_the_one_that_is_missing(lost):
    sync = lockstep()
    put_step(sync, 2, 1.0, [name for name in ALL if name != lost])
    assert sync.take(10.9) == [] and sync.waiting_for == (lost,)
    (tick,) = sync.take(11.0)
    assert tick.missing == (lost,) and sync.num_missing == {lost: 1}
    sync.put(lost, 2 * STEP_NS, "late", 11.1)
    assert sync.take(99.0) == [] and sync.num_late == {lost: 1}


def test_lockstep_answers_late_ticks_in_order():
    sync = lockstep()
    put_step(sync, 2, 1.0, ALL[:-1])
    put_step(sync, 4, 1.1, ALL[:-1])
    assert sync.take(1.2) == []
    sync.put(ALL[-1], 2 * STEP_NS, "now", 1.3)
    sync.put(ALL[-1], 4 * STEP_NS, "now", 1.3)
    assert [t.stamp_ns // STEP_NS for t in sync.take(1.3)] == [2, 4]


def test_realtime_goes_on_without_what_is_late_and_does_not_wait_behind_it():
    sync = realtime()
    put_step(sync, 0, 0.0)
    assert len(sync.take(0.0)) == 1
    put_step(sync, 2, 0.1, ALL[1:])
    assert sync.take(0.15) == []
    (tick,) = sync.take(0.21)
    assert tick.missing == ("rgb_front",)
    put_step(sync, 4, 0.3, ALL[1:])
    put_step(sync, 6, 0.31)
    assert [t.missing for t in sync.take(0.32)] == [("rgb_front",), ()]


def test_realtime_thins_fast_cameras_to_the_period():
    sync = realtime()
    taken = []
    for step in range(3, 23):
        put_step(sync, step, step * 0.05)
        taken += sync.take(step * 0.05)
    assert [t.stamp_ns // STEP_NS for t in taken] == list(range(3, 23, 2))


def test_realtime_takes_sensors_that_are_not_quite_together():
    sync = realtime(tolerance_s=0.02)
    sync.put("rgb_front", 1_000_000_000, "a", 0.0)
    sync.put("rgb_left", 1_012_000_000, "b", 0.012)
    sync.put(LIDAR, 990_000_000, "c", 0.013)
    sync.put(ODOMETRY, 700_000_000, "old but young enough", 0.014)
    (tick,) = sync.take(0.014)
    assert tick.missing == () and tick.sweep == "c" and tick.odometry.startswith("old")
    assert (tick.first_s, tick.last_s) == (0.0, 0.013)


def test_when_all_cameras_die_the_lidar_still_makes_ticks():
    sync = realtime()
    taken = []
    for step in range(20):
        put_step(sync, step, step * 0.05, ALL if step < 5 else (LIDAR, ODOMETRY))
        taken += sync.take(step * 0.05)
    taken += sync.take(99.0)
    blind = [t for t in taken if not t.pictures]
    assert len(blind) >= 3 and all(t.missing == CAMERAS and t.sweep for t in blind)


def test_old_odometry_is_missing_rather_than_used():
    sync = realtime()
    sync.put(ODOMETRY, 0, "old", 0.0)
    put_step(sync, 20, 1.0, (*CAMERAS, LIDAR))
    (tick,) = sync.take(1.2)
    assert tick.odometry is None and tick.missing == (ODOMETRY,)


def test_a_sweep_that_is_too_old_is_not_merged():
    sync = lockstep()
    sync.put(LIDAR, 0, "old", 0.0)
    put_step(sync, 2, 0.1)
    (_, tick) = sync.take(99.0)
    assert tick.previous_sweep is None and tick.sweep == "lidar@2"


def test_the_target_point_is_awaited_only_in_lockstep_where_it_is_expected():
    awaiting = lockstep((*ALL, TARGET))
    awaiting.put(TARGET, 0, "old", 0.0)
    put_step(awaiting, 2, 0.1)
    assert awaiting.take(0.1) == [] and awaiting.waiting_for == (TARGET,)
    awaiting.put(TARGET, 2 * STEP_NS, "new", 0.2)
    assert awaiting.take(0.2)[0].target == "new"

    sync = realtime()
    sync.put(TARGET, 0, "old", 0.0)
    put_step(sync, 200, 0.1)
    assert sync.take(0.1)[0].target == "old"


@pytest.mark.parametrize("make, steps", [(lockstep, (6, 8)), (realtime, (40, 42))])
def test_a_world_that_begins_anew_is_followed(make, steps):
    sync = make()
    for step in steps:
        put_step(sync, step, 1.0)
    assert len(sync.take(1.0)) == 2
    put_step(sync, 2, 2.0)
    put_step(sync, 4, 2.1)
    assert [t.stamp_ns // STEP_NS for t in sync.take(2.1)] == [2, 4]


def test_in_lockstep_a_world_that_was_left_at_its_first_tick_is_followed_by_another():
    sync = lockstep()
    for now_s in (1.0, 2.0):
        put_step(sync, 4, now_s)
        assert [t.stamp_ns // STEP_NS for t in sync.take(now_s)] == [4]
    assert not sync.num_late


def test_arrival_times_are_those_of_the_tick_s_own_sensors():
    sync = lockstep()
    for at_s, name in enumerate((ODOMETRY, "rgb_left", LIDAR, "rgb_front"), 5):
        sync.put(name, 0, name, float(at_s))
    (tick,) = sync.take(9.0)
    assert (tick.first_s, tick.last_s) == (5.0, 8.0)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"period_s": 0.0}, "period_s must be positive"),
        ({"tolerance_s": 0.05}, "would belong to two ticks"),
        ({"sweep_age_s": -1.0}, "sweep_age_s"),
    ],
)
def test_what_cannot_work_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        TickSyncConfig(**values)
