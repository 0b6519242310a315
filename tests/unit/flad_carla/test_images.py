# SPDX-License-Identifier: Apache-2.0
"""Raw bytes against values packed by hand."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest

from flad_carla import images


@pytest.mark.parametrize("metres", [0.0, 0.5, 10.0, 123.456, 999.9])
def test_depth_round_trip(metres):
    steps = round(metres / 1000.0 * (256**3 - 1))
    red, green, blue = steps & 255, (steps >> 8) & 255, steps >> 16
    pixels = images.bgra(bytes([blue, green, red, 255]) * 6, height=2, width=3)

    depth = images.depth_m(pixels)

    assert depth.shape == (2, 3)
    assert depth.dtype == np.float32
    assert depth[1, 2] == pytest.approx(metres, abs=1e-3)


def test_a_truncated_image_is_refused():
    with pytest.raises(ValueError, match="3x2 has 24 bytes, got 23"):
        images.bgra(bytes(23), height=2, width=3)


def test_semantic_tags_become_colours():
    tags = [1, 14, 12, 200]
    raw = b"".join(bytes([0, 0, tag, 255]) for tag in tags)
    coloured = images.cityscapes_bgra(images.bgra(raw, 1, 4))

    assert coloured[0, :, ::-1][:, 1:].tolist() == [
        [128, 64, 128],  # road
        [0, 0, 142],  # car
        [220, 20, 60],  # pedestrian
        [0, 0, 0],  # unknown
    ]
    assert len(images.CITYSCAPES_RGB) == 29


def test_lidar_is_mirrored_and_the_source_is_left_alone():
    raw = struct.pack("<8f", 1.0, 2.0, 3.0, 0.4, 5.0, -6.0, 7.0, 0.8)
    points = images.mirrored(raw, images.LIDAR)

    assert points["y"].tolist() == [-2.0, 6.0]
    assert points["x"].tolist() == [1.0, 5.0]
    assert points["intensity"].tolist() == pytest.approx([0.4, 0.8])
    assert struct.unpack("<8f", raw)[1] == 2.0


def test_semantic_lidar_keeps_its_integers():
    raw = struct.pack("<4f2I", 1.0, 2.0, 3.0, 0.5, 4_000_000_000, 14)
    (point,) = images.mirrored(raw, images.SEMANTIC_LIDAR)

    assert (point["ObjIdx"], point["ObjTag"]) == (4_000_000_000, 14)
    assert point["y"] == -2.0


def test_radar_to_the_right_is_at_negative_y():
    raw = struct.pack("<4f", -3.0, math.radians(30.0), 0.0, 10.0)
    (point,) = images.radar_points(raw)

    assert (point["x"], point["y"]) == pytest.approx((10 * math.cos(math.pi / 6), -5.0))
    assert point["Velocity"] == -3.0
    assert point["Range"] == 10.0


@pytest.mark.parametrize("fov_deg", [21.6, 90.0, 100.0])
def test_focal_length_puts_the_edge_at_half_the_field(fov_deg):
    focal = images.focal_px(400, fov_deg)

    assert math.degrees(math.atan2(200.0, focal)) == pytest.approx(fov_deg / 2)
