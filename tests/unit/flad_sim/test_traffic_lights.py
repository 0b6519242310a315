# SPDX-License-Identifier: Apache-2.0
"""Light programs: one approach at a time, in time, and what a client may change."""

from __future__ import annotations

import pytest

from flad_sim.traffic.lights import LightTimes, TrafficLights
from flad_sim.types import BoundingBox, LightState, Signal, Transform

RED, YELLOW, GREEN, OFF = LightState.RED, LightState.YELLOW, LightState.GREEN, LightState.OFF
DT = 0.05


def _signal(signal_id, group, *stops, kind="1000001"):
    return Signal(
        signal_id=signal_id,
        kind=kind,
        value=0.0,
        road_id=1,
        s=0.0,
        transform=Transform(),
        height=4.0,
        trigger=BoundingBox(),
        stop_points=tuple(Transform(x, y) for x, y in stops),
        group=group,
    )


# junction 5 has three approaches, the first with two heads; junction 9 has one
SIGNALS = (
    _signal("a", 5, (0, 0), (0, 3.5)),
    _signal("b", 5, (20, 0)),
    _signal("a2", 5, (0, 3.5)),
    _signal("c", 5, (10, 20)),
    _signal("alone", 9, (100, 100)),
    _signal("blind", 5),
    _signal("stop sign", 5, (50, 50), kind="206"),
)


@pytest.fixture
def lights():
    return TrafficLights(SIGNALS, seed=3)


def _show(lights):
    return {s.signal_id: s.state for s in lights.statuses()}


def _run_until(lights, signal_id, state):
    for _ in range(4000):
        if lights.state(signal_id) == state:
            return
        lights.step(DT)
    raise AssertionError(f"{signal_id} never got {state}")


def test_never_two_approaches_at_once_and_every_one_in_turn(lights):
    turns = []
    for _ in range(2000):
        lights.step(DT)
        show = _show(lights)
        assert show["a"] == show["a2"], "heads of one approach agree"
        going = [k for k in "abc" if show[k] != RED]
        assert len(going) <= 1
        if going and (not turns or turns[-1] != going[0]):
            turns.append(going[0])
    assert len(turns) >= 6
    assert all(turns[i] == turns[i + 3] for i in range(len(turns) - 3))
    assert set(turns) == set("abc")


def test_stages_last_as_long_as_told(lights):
    lights.set_times("b", green_s=4.0, yellow_s=1.5, red_s=1.0)
    for state, seconds, following in ((GREEN, 4.0, YELLOW), (YELLOW, 1.5, RED)):
        _run_until(lights, "b", RED if state == GREEN else state)
        _run_until(lights, "b", state)
        steps = 0
        while lights.state("b") == state:
            lights.step(DT)
            steps += 1
        assert steps * DT == pytest.approx(seconds, abs=1.5 * DT)
        assert lights.state("b") == following
    steps = 0
    while all(lights.state(k) == RED for k in "abc"):
        lights.step(DT)
        steps += 1
    assert steps * DT == pytest.approx(1.0, abs=1.5 * DT)
    status = next(s for s in lights.statuses() if s.signal_id == "b")
    assert (status.green_time, status.yellow_time, status.red_time) == (4.0, 1.5, 1.0)
    other = next(s for s in lights.statuses() if s.signal_id == "a")
    assert (other.green_time, other.yellow_time, other.red_time) == (10.0, 3.0, 2.0)


def test_elapsed_counts_the_time_in_the_state(lights):
    _run_until(lights, "c", GREEN)
    for n in range(1, 60):
        lights.step(DT)
        status = next(s for s in lights.statuses() if s.signal_id == "c")
        assert status.elapsed == pytest.approx(n * DT, abs=DT)


def test_a_red_light_knows_how_long_it_stays_red(lights):
    for _ in range(40):
        for _ in range(37):
            lights.step(DT)
        if lights.state("a") != RED:
            assert lights.red_left_s("a") == 0.0
            continue
        foretold, waited = lights.red_left_s("a"), 0.0
        while lights.state("a") == RED:
            lights.step(DT)
            waited += DT
        assert waited == pytest.approx(foretold, abs=1.5 * DT)


def test_a_set_state_holds_until_the_program_changes_that_approach(lights):
    _run_until(lights, "a", RED)
    lights.set_state("a", GREEN)
    assert lights.state("a") == GREEN and lights.state("a2") == RED
    _run_until(lights, "b", GREEN)
    assert lights.state("a") == GREEN, "others' changes do not end it"
    _run_until(lights, "a2", YELLOW)
    assert lights.state("a") == YELLOW


def test_a_green_that_is_cut_short_still_has_its_yellow(lights):
    _run_until(lights, "b", RED)
    _run_until(lights, "b", GREEN)
    for _ in range(round(9.5 / DT)):
        lights.step(DT)
    lights.set_times("b", green_s=2.0)
    seen = []
    for _ in range(round(4.0 / DT)):
        lights.step(DT)
        seen.append(lights.state("b"))
    assert GREEN not in seen[1:]
    assert seen.count(YELLOW) * DT == pytest.approx(3.0, abs=1.5 * DT)


def test_frozen_lights_keep_what_they_show(lights):
    lights.freeze(True)
    lights.set_state("b", YELLOW)
    before = _show(lights)
    for _ in range(1000):
        lights.step(DT)
    assert _show(lights) == before and all(s.frozen for s in lights.statuses() if s.green_time)
    lights.freeze(False)
    _run_until(lights, "c", GREEN)


def test_reset_starts_the_same_programs_again(lights):
    first = _show(lights)
    lights.set_times("a", green_s=1.0)
    lights.freeze(True)
    lights.set_state("c", GREEN)
    lights.reset()
    assert _show(lights) == first
    fresh = TrafficLights(SIGNALS, seed=3)
    for _ in range(800):
        lights.step(DT)
        fresh.step(DT)
        assert lights.statuses() == fresh.statuses()


def test_seeds_shift_the_programs():
    shows = {tuple(_show(TrafficLights(SIGNALS, seed)).values()) for seed in range(20)}
    assert len(shows) > 3


def test_groups_are_junctions_and_blind_heads_are_off(lights):
    assert sorted(lights.group("b")) == ["a", "a2", "b", "c"]
    assert lights.group("alone") == ["alone"]
    assert _show(lights)["blind"] == OFF
    assert "stop sign" not in _show(lights)


def test_mistakes_are_named(lights):
    with pytest.raises(ValueError, match="no traffic light 'zebra'"):
        lights.set_state("zebra", RED)
    with pytest.raises(ValueError, match="no traffic light 'blind' that rules a lane"):
        lights.group("blind")
    with pytest.raises(ValueError, match="positive"):
        LightTimes(green_s=0.0)
    with pytest.raises(ValueError, match="positive"):
        lights.set_times("a", yellow_s=float("nan"))
