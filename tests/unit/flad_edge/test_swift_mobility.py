# SPDX-License-Identifier: Apache-2.0
"""Patterns of movement are found again, predictions are calibrated, and near ones are stable."""

import numpy as np
import pytest

from flad_edge.swift.mobility import (
    GridConfig,
    MobilityPatterns,
    joint_probability,
    learn_patterns,
    nearness,
    stability,
)

CELLS = 8


def _ring(rng: np.random.Generator, direction: int, steps: int = 20) -> list[int]:
    """Around a ring of cells, now and then standing still."""
    cell, trace = int(rng.integers(CELLS)), []
    for _ in range(steps):
        trace.append(cell)
        cell = (cell + direction * int(rng.uniform() < 0.8)) % CELLS
    return trace


def _learned(seed: int = 0) -> MobilityPatterns:
    rng = np.random.default_rng(seed)
    traces = [_ring(rng, 1 if i % 3 else -1) for i in range(120)]
    return learn_patterns(traces, CELLS, num_patterns=2, rng=rng)


def test_both_directions_are_found():
    patterns = _learned()
    on = np.array([[m[c, (c + 1) % CELLS] for c in range(CELLS)] for m in patterns.moves])
    back = np.array([[m[c, c - 1] for c in range(CELLS)] for m in patterns.moves])
    forward = int(np.argmax(on.mean(axis=1)))
    assert on[forward].mean() == pytest.approx(0.8, abs=0.05)
    assert back[1 - forward].mean() == pytest.approx(0.8, abs=0.05)
    assert patterns.shares[forward] == pytest.approx(2 / 3, abs=0.05)


def test_predictions_are_calibrated():
    patterns, rng = _learned(), np.random.default_rng(9)
    said, happened = [], []
    for _ in range(300):
        trace = _ring(rng, int(rng.choice([-1, 1])), steps=9)
        ahead = patterns.ahead(trace[:5], 4)
        assert ahead.sum(axis=1) == pytest.approx(np.ones(5))
        said += ahead[4].tolist()
        happened += [float(trace[8] == c) for c in range(CELLS)]
    said, happened = np.array(said), np.array(happened)
    for low, high in ((0.0, 0.05), (0.05, 0.3), (0.3, 1.0)):
        inside = (said >= low) & (said < high)
        assert inside.sum() > 50
        assert happened[inside].mean() == pytest.approx(said[inside].mean(), abs=0.05)


def test_the_present_is_certain_and_a_history_is_needed():
    patterns = _learned()
    assert patterns.ahead([3, 4], 0).tolist() == [[float(c == 4) for c in range(CELLS)]]
    with pytest.raises(ValueError, match="at least the present cell"):
        patterns.ahead([], 3)


def test_who_goes_the_same_way_is_more_stable():
    patterns = _learned()
    angle = 2.0 * np.pi * np.arange(CELLS) / CELLS
    near = nearness(100.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1), radius_m=150.0)
    ahead = {
        name: patterns.ahead(h, 10)
        for name, h in (("me", [0, 1, 2]), ("with", [7, 0, 1]), ("against", [4, 3, 2]))
    }
    same, other = (stability(ahead["me"], ahead[who], near) for who in ("with", "against"))
    assert same > other > 0.0
    # Eq. 5 is the sum over Eq. 4
    joint = joint_probability(ahead["me"], ahead["with"])
    assert joint.sum(axis=(1, 2)) == pytest.approx(np.ones(11))
    assert same == pytest.approx(float((joint * near).sum()))


def test_cells_of_an_area():
    grid = GridConfig(width_m=120.0, height_m=90.0, cell_m=50.0)
    assert (grid.columns, grid.num_cells) == (3, 6)
    assert grid.cell_of(0.0, 0.0) == 0
    assert grid.cell_of(120.0, 90.0) == 5
    for cell, (x_m, y_m) in enumerate(grid.centres_m()):
        if x_m <= 120.0 and y_m <= 90.0:
            assert grid.cell_of(x_m, y_m) == cell


@pytest.mark.parametrize("place", [(float("nan"), 1.0), (-1.0, 1.0), (1.0, 1e9)])
def test_positions_outside_are_refused(place):
    with pytest.raises(ValueError, match=r"is outside the area of 120\.0 m x 90\.0 m"):
        GridConfig(width_m=120.0, height_m=90.0).cell_of(*place)


@pytest.mark.parametrize(
    "traces, complaint", [([[3]], "none of 1 traces has a move"), ([[1, 9]], "leaves the grid")]
)
def test_useless_traces_are_refused(traces, complaint):
    with pytest.raises(ValueError, match=complaint):
        learn_patterns(traces, CELLS, num_patterns=2, rng=np.random.default_rng(0))
