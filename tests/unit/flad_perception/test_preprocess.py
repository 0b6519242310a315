# SPDX-License-Identifier: Apache-2.0
"""Pictures and sweeps are prepared the same way wherever they come from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from flad_perception.preprocess import merge_sweeps, resized, view_from_picture


def _ramp(height: int, width: int):
    """Red tells the column, green the row, in 0..250."""
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    picture[..., 0] = np.linspace(0, 250, width).round()[None]
    picture[..., 1] = np.linspace(0, 250, height).round()[:, None]
    return picture


@pytest.mark.parametrize("name", ["small", "paper"])
def test_every_view_gets_its_size(request, name):
    for view in request.getfixturevalue(name).views:
        got = view_from_picture(_ramp(300, 400), view, is_fallback=bool(view.fallback_camera))
        assert got.dtype == torch.uint8 and got.is_contiguous()
        assert tuple(got.shape) == (3, view.crop_px[1], view.crop_px[0])


def test_the_crop_is_where_it_should_be(paper):
    front = view_from_picture(_ramp(600, 800), paper.views[0]).float()

    # 224 of 341 columns and of 256 rows, in the middle.
    assert front[0].mean().item() == pytest.approx(125, abs=1.5)
    assert front[0, 0, 0].item() == pytest.approx(250 * 58.5 / 341, abs=2)
    assert front[1].mean().item() == pytest.approx(125, abs=1.5)
    assert front[1, 0, 0].item() == pytest.approx(250 * 16.5 / 256, abs=2)


def test_crop_down_moves_the_crop(small):
    view = dataclasses.replace(small.views[0], crop_down=1.0)
    low = view_from_picture(_ramp(240, 320), view).float()
    high = view_from_picture(_ramp(240, 320), dataclasses.replace(view, crop_down=0.0)).float()

    assert low[1, -1].mean() > 248 and low[1, 0].mean() == pytest.approx(250 * 24.5 / 120, abs=2)
    assert high[1, 0].mean() < 2


def test_a_fallback_is_the_centre_of_the_other_camera(paper):
    center = next(view for view in paper.views if view.fallback_camera)
    picture = np.random.default_rng(0).integers(0, 255, (600, 800, 3), dtype=np.uint8)
    got = view_from_picture(picture, center, is_fallback=True)

    # LMDrive: the 128x128 in the middle of 800x600, not resized.
    expected = torch.from_numpy(picture[236:364, 336:464].copy()).permute(2, 0, 1)
    assert torch.equal(got, expected)


def test_pictures_are_not_modified_and_may_be_read_only(small):
    picture = _ramp(120, 160)
    picture.flags.writeable = False
    before = picture.copy()
    got = resized(picture, small.views[0])
    got += 1

    assert np.array_equal(picture, before)


@pytest.mark.parametrize(
    "picture, complaint",
    [
        (np.zeros((10, 10, 3), dtype=np.float32), r"'front' is uint8 \[H, W, 3\], got float32"),
        (np.zeros((10, 10), dtype=np.uint8), r"got uint8 \[10, 10\]"),
        (np.zeros((0, 10, 3), dtype=np.uint8), r"is empty: \[0, 10, 3\]"),
    ],
)
def test_what_is_no_picture_is_refused(small, picture, complaint):
    with pytest.raises(ValueError, match=complaint):
        view_from_picture(picture, small.views[0])


def test_sweeps_are_merged_and_cleaned(small):
    lidar = small.lidar
    current = np.array(
        [
            [5.0, 1.0, 0.5, 0.3],
            [np.nan, 1.0, 0.5, 0.3],
            [5.0, 1.0, np.inf, 0.3],
            [1.0, 0.5, 1.0, 0.3],  # on the own roof
            [lidar.x_max_m + 0.1, 0.0, 0.0, 0.3],
            [0.0, lidar.y_min_m - 0.1, 0.0, 0.3],
            [1.0, 1.5, 0.0, 0.3],  # beside the own car
        ],
        dtype=np.float16,
    )
    previous = np.array([[-6.0, 2.0, 1.0, 0.9]], dtype=np.float32)
    merged = merge_sweeps(current, previous, lidar)

    assert merged.dtype == np.float32
    np.testing.assert_allclose(merged[:, :2], [[5, 1], [1, 1.5], [-6, 2]])
    assert len(merge_sweeps(current, None, lidar)) == 2
    assert merge_sweeps(np.zeros((0, 4)), np.zeros((0, 4)), lidar).shape == (0, 4)
    with pytest.raises(ValueError, match=r"\[N, 4\], got \[3\]"):
        merge_sweeps(np.zeros(3), None, lidar)


def test_too_many_points_are_thinned_evenly(small):
    lidar = dataclasses.replace(small.lidar, max_points=100)
    sweep = np.zeros((730, 4), dtype=np.float32)
    sweep[:, 0], sweep[:, 3] = 10.0, np.arange(730)
    kept = merge_sweeps(sweep, None, lidar)[:, 3]

    assert len(kept) == 100
    assert set(np.diff(kept).tolist()) == {7.0, 8.0}
    assert np.array_equal(kept, merge_sweeps(sweep, None, lidar)[:, 3])
