# SPDX-License-Identifier: Apache-2.0
"""Every frame has one owner, and the level says how much owners differ."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flad_perception.data.dataset import PackedRun
from flad_perception.data.split import (
    SplitConfig,
    concentration,
    histogram,
    read_split,
    split,
    write_split,
)


def make_runs(lengths, towns=3, weathers=4):
    """Runs of given lengths, classes in turn."""
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return [
        PackedRun(
            name=f"set/run_{i:03d}",
            town=f"Town{i % towns:02d}",
            weather_id=(i // towns) % weathers,
            start=int(starts[i]),
            num_frames=length,
            folder=Path("."),
        )
        for i, length in enumerate(lengths)
    ]


class FakeDataset:
    def __init__(self, runs):
        self.runs, self.path = tuple(runs), Path("made up")


RUNS = make_runs([700] * 48)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 1500), min_size=1, max_size=20),
    num_vehicles=st.integers(1, 12),
    level=st.sampled_from([0.0, 0.5, 2.0, 6.0]),
    unit=st.sampled_from(["run", "clip"]),
    seed=st.integers(0, 99),
)
def test_owners_share_no_frame_and_keep_their_distance(lengths, num_vehicles, level, unit, seed):
    runs = make_runs(lengths)
    config = SplitConfig(num_vehicles=num_vehicles, level=level, unit=unit, seed=seed)
    try:
        result = split(runs, config)
    except ValueError as error:
        assert "cannot be divided" in str(error)
        return

    dataset = FakeDataset(runs)
    owner = np.full(sum(lengths), -1)
    for vehicle in range(num_vehicles):
        numbers = result.numbers(dataset, vehicle)
        assert np.all(owner[numbers] == -1)
        owner[numbers] = vehicle
    for run in runs:
        own = owner[run.start : run.start + run.num_frames]
        known = np.flatnonzero(own >= 0)
        changes = np.flatnonzero(own[known][1:] != own[known][:-1])
        # Between frames of two vehicles lie at least as many as the horizon has.
        assert np.all(known[changes + 1] - known[changes] > config.gap_frames)
        if unit == "run":
            assert len(set(own)) == 1
    assert result.frames_left_out == np.sum(owner == -1)
    if unit == "run":
        assert result.frames_left_out == 0


@pytest.mark.parametrize("seed", [0, 7, 1234])
def test_level_zero_is_iid_and_higher_levels_are_more_uneven(seed):
    uneven = [
        split(RUNS, SplitConfig(num_vehicles=10, level=level, seed=seed)).unevenness
        for level in (0.0, 1.0, 2.0, 5.0)
    ]

    # 336 clips of 12 classes over 10 vehicles cannot be dealt exactly; 0.15 is what is left.
    assert uneven[0] < 0.15
    assert uneven == sorted(uneven)
    assert uneven[3] > 0.6


@pytest.mark.parametrize("level", [0.0, 2.0, 5.0])
def test_vehicles_have_equally_many_frames_and_none_goes_empty(level):
    result = split(RUNS, SplitConfig(num_vehicles=50, level=level, seed=1, gap_frames=0))

    totals = np.array(list(result.counts.values())).sum(axis=0)
    assert totals.sum() == 48 * 700
    assert totals.min() > 0
    # Clips have 100 frames, and a vehicle gets about seven.
    assert np.abs(totals - totals.mean()).max() <= 300


def test_a_vehicles_mixture_follows_the_dirichlet():
    """With many clips the shares must have the variance of Dir(alpha K p)."""
    runs = make_runs([2000] * 40, towns=2, weathers=1)
    for level in (1.0, 2.0):
        config = SplitConfig(num_vehicles=100, level=level, seed=3, clip_frames=20, gap_frames=0)
        table = np.array(list(split(runs, config).counts.values()), dtype=float)
        share = table[0] / table.sum(axis=0)

        # Two classes of one half: Beta(alpha, alpha), variance 1 / (4 (2 alpha + 1)).
        expected = 0.25 / (2.0 * concentration(level) + 1.0)
        assert share.var() == pytest.approx(expected, rel=0.3)
        assert share.mean() == pytest.approx(0.5, abs=0.02)


def test_a_seed_repeats_and_the_order_of_runs_does_not_matter():
    config = SplitConfig(num_vehicles=7, level=2.0, seed=5)

    assert split(RUNS, config) == split(RUNS[::-1], config)
    other = SplitConfig(num_vehicles=7, level=2.0, seed=6)
    assert split(RUNS, config).clips != split(RUNS, other).clips


def test_a_split_survives_its_file(tmp_path):
    result = split(RUNS, SplitConfig(num_vehicles=4, level=0.0))
    write_split(tmp_path / "new/split.json", result)

    assert read_split(tmp_path / "new/split.json") == result
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="is no split"):
        read_split(tmp_path / "other.json")


def test_the_histogram_has_a_line_a_vehicle_as_long_as_its_frames():
    result = split(make_runs([1000, 500], towns=2), SplitConfig(num_vehicles=2, unit="run"))

    text = histogram(result, width=40)

    lines = [line for line in text.splitlines() if line.startswith("vehicle")]
    bars = sorted(line.split("|")[1].strip() for line in lines)
    assert sorted(map(len, bars)) == [20, 40]
    assert {bar[0] for bar in bars} == {"#", "="}
    assert "level 2 (concentration 0.25)" in text


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"num_vehicles": 0}, "num_vehicles"),
        ({"level": -1.0}, "level"),
        ({"level": float("nan")}, "level"),
        ({"clip_frames": 20}, "must be more than gap_frames"),
    ],
)
def test_nonsense_is_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        SplitConfig(**{"num_vehicles": 3, **changes})


def test_too_few_runs_say_so():
    with pytest.raises(ValueError, match="3 runs cannot be divided over 5 vehicles; --unit clip"):
        split(make_runs([500] * 3), SplitConfig(num_vehicles=5, unit="run"))
