# SPDX-License-Identifier: Apache-2.0
"""Live sensors give the encoder what a data set's frame of the same moment would."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flad_perception.config import load_encoder_config
from flad_perception.live_input import encoder_input, needed_cameras
from flad_perception.live_sensors import CameraPicture, LiveSensors
from flad_perception.preprocess import merge_sweeps, view_from_picture

CONFIG = load_encoder_config("small")
CAMERAS = tuple(view.camera for view in CONFIG.views)
FALLBACK = next(view for view in CONFIG.views if view.fallback_camera)


def picture(seed, size=(240, 320)):
    rng = np.random.default_rng(seed)
    return CameraPicture(pixels=rng.integers(0, 256, (*size, 4), dtype=np.uint8), order=(2, 1, 0))


PICTURES = {camera: picture(i) for i, camera in enumerate(CAMERAS)}
SWEEP = np.random.default_rng(9).uniform(-20.0, 20.0, (300, 4)).astype(np.float32)


def test_views_and_points_are_those_of_the_packed_data():
    frame = encoder_input(
        LiveSensors(
            pictures=PICTURES,
            sweep=SWEEP,
            previous_sweep=SWEEP[:50] + 0.1,
            speed_mps=4.0,
            target_point_m=(20.0, -3.0),
        ),
        CONFIG,
    )
    for view in CONFIG.views:
        expected = view_from_picture(PICTURES[view.camera].pixels[..., [2, 1, 0]], view)
        assert torch.equal(frame.images[view.name][0], expected)
    merged = merge_sweeps(SWEEP, SWEEP[:50] + 0.1, CONFIG.lidar)
    assert frame.num_points.tolist() == [len(merged)]
    assert torch.equal(frame.points[0], torch.from_numpy(merged))
    assert frame.view_valid.all() and len(frame) == 1
    assert frame.speed_mps.tolist() == [4.0] and frame.target_point_m.tolist() == [[20.0, -3.0]]


@pytest.mark.parametrize("lost", CAMERAS)
def test_a_lost_camera_leaves_a_black_view_that_is_not_valid(lost):
    pictures = {name: p for name, p in PICTURES.items() if name != lost}
    frame = encoder_input(LiveSensors(pictures=pictures), CONFIG)
    assert frame.view_valid[0].tolist() == [camera != lost for camera in CAMERAS]
    name = CONFIG.views[CAMERAS.index(lost)].name
    width, height = CONFIG.views[CAMERAS.index(lost)].crop_px
    assert frame.images[name].shape == (1, 3, height, width) and not frame.images[name].any()


def test_a_vehicle_without_a_camera_looks_through_another():
    carried = tuple(camera for camera in CAMERAS if camera != FALLBACK.camera)
    assert needed_cameras(CONFIG, carried) == carried
    frame = encoder_input(LiveSensors(pictures=PICTURES), CONFIG, carried)
    source = PICTURES[FALLBACK.fallback_camera].rgb()
    expected = view_from_picture(source, FALLBACK, is_fallback=True)
    assert frame.view_valid.all()
    assert torch.equal(frame.images[FALLBACK.name][0], expected)


def test_only_cameras_that_the_encoder_uses_are_needed():
    assert needed_cameras(CONFIG) == CAMERAS
    assert needed_cameras(CONFIG, ("rgb_chase", CAMERAS[1])) == (CAMERAS[1],)


def test_no_sweep_of_this_moment_is_an_empty_one_whatever_came_before():
    frame = encoder_input(LiveSensors(pictures={}, previous_sweep=SWEEP), CONFIG)
    assert frame.num_points.tolist() == [0] and not frame.points.any()
    assert not frame.view_valid.any()


def test_broken_points_are_left_out():
    broken = SWEEP.copy()
    broken[::3, 1] = np.nan
    broken[1::3, 3] = np.inf
    frame = encoder_input(LiveSensors(pictures={}, sweep=broken), CONFIG)
    assert torch.isfinite(frame.points).all()
    assert frame.num_points.tolist() == [len(merge_sweeps(SWEEP[2::3], None, CONFIG.lidar))]
