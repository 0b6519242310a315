# SPDX-License-Identifier: Apache-2.0
"""Augmentation must change what it says and nothing else."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from flad_perception.config import ViewConfig
from flad_perception.data.augment import (
    AugmentConfig,
    cut,
    draw_scales,
    drop_points,
    drop_views,
    jitter_colours,
    warped,
)
from flad_perception.data.borders import bordered
from flad_perception.preprocess import view_from_picture

VIEWS = {
    "roomy": ViewConfig(name="a", camera="c", resize_px=(81, 60), crop_px=(60, 41), crop_down=0.6),
    "as wide as the picture": ViewConfig(
        name="a", camera="c", resize_px=(80, 60), crop_px=(80, 48), crop_down=0.6
    ),
    "the whole picture": ViewConfig(name="a", camera="c", resize_px=(64, 48), crop_px=(64, 48)),
    "odd": ViewConfig(name="a", camera="c", resize_px=(67, 51), crop_px=(60, 46), crop_down=0.3),
}


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ramp(width, height):
    """Red says the column, green the row."""
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    picture[..., 0] = np.arange(width)[None, :]
    picture[..., 1] = np.arange(height)[:, None]
    return picture


def stored(picture, view):
    return view_from_picture(picture, bordered(view).stored_view).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("name", VIEWS)
def test_without_resizing_a_packed_view_is_the_live_one(name):
    view = VIEWS[name]
    picture = noise(160, 120)

    packed = cut([stored(picture, view)], bordered(view), None)

    assert torch.equal(packed[0], view_from_picture(picture, view))


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("scale", [0.9, 0.95, 1.05, 1.1])
def test_resizing_shows_a_part_of_the_inverse_size_around_the_same_point(name, scale):
    view = VIEWS[name]
    picture = ramp(*view.resize_px)

    image = cut([stored(picture, view)], bordered(view), np.array([scale]))[0].float()

    width, height = view.crop_px
    # It cannot show more than there is.
    real = max(scale, width / view.resize_px[0], height / view.resize_px[1])
    for channel, size, axis in ((0, width, 1), (1, height, 0)):
        line = image[channel].mean(dim=axis - 1 if axis else 1)
        slope = float(line[-2] - line[1]) / (size - 3)
        assert slope == pytest.approx(1.0 / real, abs=1.6 / size)
    middle = image[:, height // 2, width // 2]
    unscaled = view_from_picture(picture, view)[:, height // 2, width // 2].float()
    spare_rows = abs(1.0 - 1.0 / real) * view.crop_px[1] * abs(view.crop_down - 0.5)
    assert float((middle - unscaled).abs().max()) <= 2.0 + spare_rows


def test_zoom_views_are_not_resized():
    view = dataclasses.replace(VIEWS["roomy"], fallback_camera="rgb_front")

    assert bordered(view).stored_px == view.crop_px
    assert draw_scales([bordered(view)], 4, 0.1, np.random.default_rng(0)) == {}


def test_colours_change_as_pillow_changes_them():
    """One picture at a time through Pillow's enhancers, which round and cut off in between."""
    pictures = (noise(31, 17) // 2 + 60).astype(np.uint8)
    images = torch.from_numpy(np.stack([pictures] * 8)).permute(0, 3, 1, 2)

    ours = jitter_colours(images, 0.1, np.random.default_rng(5)).permute(0, 2, 3, 1).numpy()

    factors = np.random.default_rng(5).uniform(0.9, 1.1, (3, 8))
    for image, (b, c, s) in zip(ours, factors.T, strict=True):
        theirs = Image.fromarray(pictures)
        for enhancer, factor in (
            (ImageEnhance.Brightness, b),
            (ImageEnhance.Contrast, c),
            (ImageEnhance.Color, s),
        ):
            theirs = enhancer(theirs).enhance(factor)
        assert np.abs(image.astype(int) - np.asarray(theirs)).max() <= 3


def test_colour_jitter_of_nothing_changes_nothing():
    images = torch.from_numpy(noise(9, 7)).permute(2, 0, 1)[None]

    assert torch.equal(jitter_colours(images, 0.0, np.random.default_rng(0)), images)


def test_every_frame_keeps_a_view_and_broken_ones_stay_broken():
    valid = torch.ones(400, 5, dtype=torch.bool)
    valid[:, 2] = False

    kept = drop_views(valid, 0.5, np.random.default_rng(0))

    assert kept.any(dim=1).all()
    assert not kept[:, 2].any()
    # Half of four in five; one frame in 16 would lose all four and keeps them instead.
    assert 0.4 < kept.float().mean() < 0.5


def test_points_are_taken_away_and_never_changed():
    sweeps = [np.random.default_rng(i).random((1000, 4)).astype(np.float16) for i in range(50)]

    fewer = drop_points(sweeps, 0.4, np.random.default_rng(1))

    assert 0.7 < np.mean([len(sweep) for sweep in fewer]) / 1000 < 0.9
    for sweep, rest in zip(sweeps, fewer, strict=True):
        assert len(rest) > 550
        rows = {tuple(row) for row in sweep.tolist()}
        assert all(tuple(row) in rows for row in rest.tolist())


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"resize": 0.2}, "no wider border"),
        ({"colour_jitter": -0.1}, "colour_jitter"),
        ({"view_dropout": 1.0}, "view_dropout"),
        ({"point_dropout": -1.0}, "point_dropout"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        AugmentConfig(**changes)


def test_a_warped_picture_is_scaled_moved_and_mirrored_about_its_middle():
    ramp = torch.linspace(20.0, 220.0, 64)
    pictures = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64)]).repeat(3, 1, 1)
    images = pictures.view(3, 2, 64, 64).permute(1, 0, 2, 3).round().to(torch.uint8)  # x, then y

    mirrored = warped(images, AugmentConfig(mirror=1.0), np.random.default_rng(0))
    assert torch.equal(mirrored, images.flip(-1))

    config = AugmentConfig(zoom=0.25, shift=0.1)
    middle = slice(20, 44)
    for seed in range(5):
        seen = warped(images, config, np.random.default_rng(seed)).float()
        across, down = seen[0, 0, 32, middle], seen[1, 0, middle, 32]
        for line in (across, down):
            slope = (line[-1] - line[0]) / (line.numel() - 1) / (200.0 / 63.0)
            assert 0.7 < slope < 1.3
            at = (line[12] - 120.0) / (200.0 / 63.0)  # pixels from the middle
            assert abs(at) < 0.1 * 64 + 1.5
    assert torch.equal(warped(images, AugmentConfig(), np.random.default_rng(1)), images)
