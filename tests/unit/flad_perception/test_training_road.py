# SPDX-License-Identifier: Apache-2.0
"""The road reader's own training: what is shown, and that it learns from that alone."""

from __future__ import annotations

import itertools
import math

import lmdrive_files
import numpy as np
import pytest
import torch

from flad_perception.data.dataset import PackedDataset, select
from flad_perception.data.pack import pack
from flad_perception.model.encoder import build_encoder
from flad_perception.training.road import RoadConfig, road_batch, train_road, turned_path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, small):
    out = tmp_path_factory.mktemp("road")
    lmdrive_files.write_run(out / "root", num_frames=40)
    pack([out / "root"], out / "packed", small, jobs=1)
    return PackedDataset(out / "packed", small)


def test_a_picture_that_moves_right_is_of_a_vehicle_turned_left():
    # Half a width to the right is half the field of view, 50 degrees, to the left.
    ahead = np.array([[[11.3, 0.0]]], dtype=np.float32)  # 10 m ahead of the camera

    turned = turned_path(ahead, np.array([0.5]))[0, 0]

    angle = math.radians(50.0)
    assert turned == pytest.approx([1.3 + 10.0 * math.cos(angle), -10.0 * math.sin(angle)])


def test_a_turn_keeps_distances_from_the_camera_and_what_is_not_known():
    path = np.array([[[4.0, 1.0], [9.0, -2.0], [math.nan, math.nan]]], dtype=np.float32)

    turned = turned_path(path, np.array([-0.05]))

    camera = np.array([1.3, 0.0])
    before, after = (np.linalg.norm(p[0, :2] - camera, axis=-1) for p in (path, turned))
    assert after == pytest.approx(before, rel=1e-6)
    assert np.isnan(turned[0, 2]).all()


def test_without_augmentation_a_batch_is_the_packed_view(dataset):
    plain = RoadConfig(turned=0.0, colour_jitter=0.0)
    pictures, path_m = road_batch(dataset, np.array([3]), plain, np.random.default_rng(0))
    view = dataset.views[0]
    at = view.part(1.0)
    stored = dataset.row(3, "view_front.npy")[at.top : at.top + at.height, at.left :]

    assert torch.equal(pictures[0].permute(1, 2, 0), torch.from_numpy(stored[:, : at.width].copy()))
    assert np.array_equal(path_m.numpy(), dataset.table["path_m"][[3]], equal_nan=True)


def test_the_road_is_learned_and_nothing_else_changes(dataset, small):
    model = build_encoder(small, seed=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    dataset.table["path_m"][...] = [[4.0, 1.0]] * len(small.path_at_m)  # one place, to be found
    ticks = itertools.count()
    train = RoadConfig(minutes=1.0, batch_size=8, turned=0.0)

    reached = train_road(
        model, dataset, select(dataset), train, seed=1, clock=lambda: float(next(ticks))
    )

    assert reached["steps"] > 20
    changed = {n.split(".")[0] for n, t in model.state_dict().items() if not t.equal(before[n])}
    assert changed == {"road", "paths"}
    pictures, _ = road_batch(dataset, np.array([3]), train, np.random.default_rng(0))
    on = model.road_alone(pictures.float() / 255.0)[0, 1, 1].detach()
    assert float((on - torch.tensor([4.0, 1.0])).abs().sum()) < 0.5


def test_frames_that_stand_teach_no_road(dataset, small):
    with pytest.raises(ValueError, match="no frame moves at 90"):
        train_road(
            build_encoder(small),
            dataset,
            select(dataset),
            RoadConfig(minutes=1.0, min_speed_mps=90.0),
            seed=1,
        )


@pytest.mark.parametrize("wrong", [{"minutes": -1.0}, {"turned": 0.5}, {"batch_size": 0}])
def test_wrong_config_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RoadConfig(**wrong)
