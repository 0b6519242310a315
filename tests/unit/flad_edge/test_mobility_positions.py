# SPDX-License-Identifier: Apache-2.0
"""Patterns learned from traces say probabilities that come true, and near ones are stable."""

import numpy as np
import pytest

from flad_edge.mobility.positions import PositionsConfig, calibrate, learn_positions
from flad_edge.mobility.traces import Traces


def _traces(rng, vehicles=240, seconds=60):
    """Up and down a road of 600 m; at the crossing in its middle, three of four go on."""
    rows = []
    for vehicle in range(vehicles):
        east = vehicle % 2 == 0
        turns = rng.uniform() < 0.25
        x_m, y_m = (-300.0 if east else 300.0), 0.0
        for second in range(seconds):
            step = 10.0 if rng.uniform() < 0.9 else 0.0
            if turns and abs(x_m) < 5.0:
                y_m += step
            else:
                x_m += step if east else -step
            rows.append((second, vehicle, x_m, y_m, step, 0))
    columns = np.array(rows).T
    names = ("second", "vehicle", "x_m", "y_m", "speed_mps", "link")
    return Traces(
        dict(zip(names, columns, strict=True))
        | {
            "route_links": np.zeros(vehicles, dtype=int),
            "route_begins": np.arange(vehicles + 1),
            "link_names": np.array(["road"]),
            "link_length_m": np.array([600.0]),
            "link_speed_mps": np.array([10.0]),
            "link_ends_m": np.array([[-300.0, 0, 300.0, 0]]),
            "turns": np.zeros((0, 2), dtype=int),
            "green": np.zeros((seconds, 0)),
        },
        {},
    )


def _learned(patterns=2):
    rng = np.random.default_rng(1)
    config = PositionsConfig(patterns=patterns, cell_m=50.0, step_s=5)
    return learn_positions(_traces(rng), config, rng)


def test_what_is_said_comes_true_and_two_patterns_know_more_than_one():
    errors = {}
    for patterns in (1, 2):
        positions, unseen = _learned(patterns)
        found = calibrate(positions, unseen, seen_steps=3, ahead_steps=4)
        errors[patterns] = found.error
        assert found.count.sum() > 100
    # one chain cannot know which way a vehicle drives
    assert errors[2] < 0.6 * errors[1]


def test_who_drives_the_same_way_is_more_stable_than_who_comes_towards():
    positions, _ = _learned()
    here = [positions.cell_of(x, 0.0) for x in (-200.0, -150.0, -100.0)]
    back = [positions.cell_of(x, 0.0) for x in (0.0, -50.0, -100.0)]
    found = positions.stability([here, here, back], 150.0, 30.0)
    assert found[0, 1] > 2.0 * found[0, 2]
    assert found == pytest.approx(found.T)
    assert np.all((found >= 0.0) & (found <= 1.0))


def test_too_short_traces_are_named():
    positions, unseen = _learned()
    with pytest.raises(ValueError, match="has 103 steps"):
        calibrate(positions, unseen, seen_steps=3, ahead_steps=100)
