# SPDX-License-Identifier: Apache-2.0
"""A grid of cells becomes a list of objects."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flad_perception.detections import cell_centers_m, decode_detections


def _grid(config, *cells):
    """Nothing anywhere but in ``cells``: (row, column, logit, x_m, y_m)."""
    grid = np.zeros((*config.grid.shape, 8))
    grid[..., 0] = -20.0
    for row, column, logit, x_m, y_m in cells:
        center = config.grid.center_m(row, column)
        grid[row, column] = (
            logit,
            (x_m - center[0]) / 3.5,
            (y_m - center[1]) / 3.5,
            0.0,
            -2.0,  # not of unit length: only its direction counts
            2.1 / 3.5,
            0.9 / 2.0,
            4.0 / 8.0,
        )
    return grid


def test_an_object_is_read_in_metres(small):
    (found,) = decode_detections(_grid(small, (3, 4, 2.0, 20.3, 15.2)), small)

    assert (found.x_m, found.y_m) == pytest.approx((20.3, 15.2))
    assert found.yaw_rad == pytest.approx(-math.pi / 2)
    assert (found.half_length_m, found.half_width_m) == pytest.approx((2.1, 0.9))
    assert found.speed_mps == pytest.approx(4.0)
    assert found.score == pytest.approx(1 / (1 + math.exp(-2.0)))


def test_cells_that_mean_the_same_object_are_one_and_the_surest_speaks(small):
    grid = _grid(
        small,
        (5, 5, 1.0, 16.0, 12.0),
        (5, 6, 3.0, 16.2, 12.1),
        (6, 5, 2.0, 16.4, 11.8),
        (5, 8, 0.5, 16.2, 8.5),  # a car in the next lane
    )
    found = decode_detections(grid, small)

    assert [(round(d.x_m, 3), round(d.y_m, 3)) for d in found] == [(16.2, 12.1), (16.2, 8.5)]
    assert len(decode_detections(grid, small, nms_radius_m=0.01)) == 4
    assert len(decode_detections(grid, small, nms_radius_m=0.01, max_detections=3)) == 3


def test_the_threshold_is_a_probability(small):
    grid = _grid(small, (2, 2, 0.0, 20.0, 20.0))

    assert len(decode_detections(grid, small, 0.5)) == 1
    assert len(decode_detections(grid, small, 0.51)) == 0


def test_what_is_not_finite_is_left_out(small):
    grid = _grid(small, (2, 2, 3.0, 20.0, 20.0), (9, 9, 3.0, 5.0, 5.0))
    grid[2, 2, 5] = np.nan
    grid[12, 12, 0] = np.nan
    grid[13, 13, 0] = 1e9

    assert [round(d.x_m, 3) for d in decode_detections(grid, small)] == [1.0, 5.0]


def test_another_grid_is_refused(small, paper):
    with pytest.raises(ValueError, match=r"'small' has shape \(24, 24, 8\), got \(50, 50, 8\)"):
        decode_detections(np.zeros((50, 50, 8)), small)
    assert cell_centers_m(paper.grid)[0, 0].tolist() == [29.5, 24.5]
    assert cell_centers_m(paper.grid)[49, 49].tolist() == [-19.5, -24.5]
