# SPDX-License-Identifier: Apache-2.0
"""Batches depend on data, order, seed, epoch and step, and on nothing else."""

import threading
from contextlib import closing
from dataclasses import fields, is_dataclass

import lmdrive_files
import numpy as np
import pytest
import torch

from flad_perception.config import load_encoder_config
from flad_perception.data import loader as loader_module
from flad_perception.data.augment import AugmentConfig
from flad_perception.data.dataset import PackedDataset
from flad_perception.data.loader import Loader, LoaderConfig
from flad_perception.data.pack import pack

EVERYTHING = AugmentConfig(view_dropout=0.3, point_dropout=0.3)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    root = folder / "LMDrive"
    root.mkdir()
    for town, frames in (("01", 34), ("02", 30)):
        name = f"routes_town{town}_tiny_w{int(town)}_01_01_01_01_01"
        lmdrive_files.write_run(root, name, num_frames=frames, has_focus=town == "01")
    pack([root], folder / "packed", load_encoder_config("small"), jobs=1)
    return PackedDataset(folder / "packed")


def make(dataset, order=None, **changes):
    if order is None:
        order = lambda epoch: np.random.default_rng(epoch).permutation(len(dataset))  # noqa: E731
    config = {"batch_size": 5, "seed": 3, "augment": EVERYTHING, "prefetch": 2, **changes}
    return Loader(dataset, order, LoaderConfig(**config))


def leaves(value):
    if is_dataclass(value):
        for field in fields(value):
            yield from leaves(getattr(value, field.name))
    elif hasattr(value, "items"):
        for item in value.values():
            yield from leaves(item)
    else:
        yield value


def same(a, b):
    return all(
        torch.equal(x.isnan(), y.isnan()) and torch.equal(x.nan_to_num(), y.nan_to_num())
        if isinstance(x, torch.Tensor)
        else x == y
        for x, y in zip(leaves(a), leaves(b), strict=True)
    )


def test_the_same_seed_gives_the_same_batches_with_and_without_a_thread(dataset):
    first, again, inline = (list(make(dataset, prefetch=ahead).epoch(1)) for ahead in (1, 3, 0))

    assert len(first) == make(dataset).num_steps(1) == -(-len(dataset) // 5)
    for a, b, c in zip(first, again, inline, strict=True):
        assert same(a, b)
        assert same(a, c)
    other = list(make(dataset, seed=4).epoch(1))
    assert not torch.equal(first[0].input.images["front"], other[0].input.images["front"])


def test_training_goes_on_at_a_step_with_the_same_batches(dataset):
    whole = list(make(dataset).epoch(0))

    rest = list(make(dataset).epoch(0, start_step=1))

    assert len(rest) == len(whole) - 1
    assert all(same(a, b) for a, b in zip(rest, whole[1:], strict=True))


def test_epochs_differ_in_order_and_augmentation(dataset):
    fixed = np.arange(5)
    loader = make(dataset, fixed)
    (a,), (b,) = list(loader.epoch(0)), list(loader.epoch(1))

    assert torch.equal(a.info.frame, b.info.frame)
    assert not torch.equal(a.input.images["front"], b.input.images["front"])


def test_a_frame_is_the_same_in_any_company(dataset):
    alone = next(make(dataset, np.array([4]), augment=None).epoch(0))
    together = next(make(dataset, np.array([9, 4, 0, 9]), augment=None, batch_size=4).epoch(0))

    part = together.slice(slice(1, 2))
    assert torch.equal(alone.targets.detection, part.targets.detection)
    assert torch.equal(alone.targets.waypoints_m, part.targets.waypoints_m)
    for name, image in alone.input.images.items():
        assert torch.equal(image, part.input.images[name])
    count = int(alone.input.num_points[0])
    assert int(part.input.num_points[0]) == count > 100
    assert torch.equal(alone.input.points[0, :count], part.input.points[0, :count])
    assert not part.input.points[0, count:].any()
    assert alone.info.run == part.info.run


def test_targets_of_a_batch_are_those_of_the_drive(dataset):
    batch = next(make(dataset, np.arange(8), augment=None, batch_size=8).epoch(0))

    assert batch.info.town == ["Town01"] * 8
    assert batch.info.frame.tolist() == list(range(1, 9))
    ahead = torch.arange(1, 6) * 2.0
    assert torch.allclose(batch.targets.waypoints_m[..., 0], ahead.expand(8, 5), atol=1e-4)
    assert batch.info.light_distance_m == pytest.approx(19.0 - 0.4 * np.arange(1, 9), abs=1e-3)
    car = batch.info.boxes[0, batch.info.boxes[0, :, 6] == 0]
    assert car[0, :2].tolist() == pytest.approx([9.6, 3.0], abs=1e-4)
    assert batch.targets.detection[0, ..., 0].max() > 0.5


def test_frames_before_the_view_are_uint8_and_shaped_as_configured(dataset):
    batch = next(make(dataset).epoch(0))

    for view in dataset.config.views:
        width, height = view.crop_px
        assert batch.input.images[view.name].dtype == torch.uint8
        assert batch.input.images[view.name].shape == (5, 3, height, width)
    assert batch.targets.detection.shape == (5, *dataset.config.grid.shape, 8)


def test_leaving_an_epoch_early_ends_its_thread(dataset):
    before = threading.active_count()
    with closing(make(dataset, batch_size=1).epoch(0)) as batches:
        next(batches)
        assert threading.active_count() == before + 1

    assert threading.active_count() == before


def test_the_thread_leaves_the_users_number_of_threads_alone(dataset):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        list(make(dataset).epoch(0))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_goes_wrong_in_the_thread_is_raised_at_the_user(dataset, monkeypatch):
    def fail(*args):
        raise OSError("the disk is gone")

    monkeypatch.setattr(loader_module, "assemble", fail)

    with pytest.raises(OSError, match="the disk is gone"):
        next(make(dataset).epoch(0))


def test_frames_that_are_not_there_are_refused(dataset):
    with pytest.raises(ValueError, match=r"numbered 0\.\.11"):
        next(make(dataset, np.array([0, 13])).epoch(0))


def test_a_last_smaller_batch_is_left_out_on_request(dataset):
    assert [len(b) for b in make(dataset, np.arange(7)).epoch(0)] == [5, 2]
    assert [len(b) for b in make(dataset, np.arange(7), drop_last=True).epoch(0)] == [5]
    assert list(make(dataset, np.arange(0)).epoch(0)) == []
