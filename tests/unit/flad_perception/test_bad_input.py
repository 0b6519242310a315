# SPDX-License-Identifier: Apache-2.0
"""From a damaged recording to trained weights: what is bad is left out, named and counted.

Each single breakage has its test beside its reader (test_data_pack, test_weights,
test_training_run); here they all happen in one data set, and the commands of a user run over it.
"""

from __future__ import annotations

import json

import lmdrive_files
import numpy as np
import pytest
import torch
from tiny_training import TINY, TRAIN

from flad_common.config import to_yaml
from flad_perception.data import shards
from flad_perception.data.pack import PackReport, pack
from flad_perception.training import cli
from flad_perception.weights import load_encoder

FRAMES = 48
FIRST, LAST = 1, FRAMES - 26
"""Frames that have a sweep before them and the whole horizon after them."""


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _without_speed(path):
    document = json.loads(path.read_text())
    del document["speed"]
    path.write_text(json.dumps(document))


def _not_finite(path):
    points = np.load(path)
    points[:3] = np.nan
    np.save(path, points)


def _other_size(path):
    path.write_bytes(lmdrive_files.stacked((80, 60), 0))


def _empty(path):
    np.save(path, np.zeros((0, 4), np.float16))


# What a broken file costs: its own frame, or also those that look ahead to it.
BREAKAGES = {
    "rgb_full/0003.jpg": (_cut, {3}),
    "lidar/0005.npy": (_cut, {5}),
    "lidar/0007.npy": (_empty, {7}),
    "rgb_full/0009.jpg": (_other_size, {9}),
    "measurements_full/0046.json": (_without_speed, {21, 22}),
}
KEPT_POINTS = "lidar/0011.npy"
"""Three points that are not finite are left out; the frame stays."""


class Damaged:
    """A data set with everything that can be wrong, and what packing said about it."""

    def __init__(self, folder):
        root = folder / "recorded"
        root.mkdir()
        self.broken = lmdrive_files.write_run(root, "routes_town05_short_w8_a", FRAMES)
        self.short = lmdrive_files.write_run(root, "routes_town05_short_w8_b", 20)
        lmdrive_files.write_run(root, "routes_town05_short_w12_c", 34)
        flipped = lmdrive_files.write_run(root, "routes_town05_short_w8_d", 34)
        cut = lmdrive_files.write_run(root, "routes_town05_short_w8_e", 34)
        for name, (damage, _) in BREAKAGES.items():
            damage(self.broken / name)
        _not_finite(self.broken / KEPT_POINTS)
        self.packed = folder / "packed"
        self.report: PackReport = pack([root], self.packed, TINY, jobs=1)
        runs = self.packed / "runs"
        self.flipped = runs / f"{root.name}__{flipped.name}" / shards.POINTS
        self.cut = runs / f"{root.name}__{cut.name}" / shards.view_file("front")
        data = bytearray(self.flipped.read_bytes())
        data[-1] ^= 1
        self.flipped.write_bytes(data)
        _cut(self.cut)
        (folder / "tiny.yaml").write_text(to_yaml(TINY))
        (folder / "train.yaml").write_text(to_yaml(TRAIN))
        self.arguments = [
            *("--config", str(folder / "tiny.yaml"), "--training", str(folder / "train.yaml")),
            *("--data", str(self.packed), "--quiet", "--device", "cpu", "--epochs", "1"),
        ]


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    before = torch.get_num_threads()
    yield Damaged(tmp_path_factory.mktemp("damaged"))
    torch.set_num_threads(before)


def test_packing_keeps_every_sound_frame_and_names_every_bad_file(damaged):
    lost = set().union(*(frames for _, frames in BREAKAGES.values()))
    (broken,) = [s for s in damaged.report.shards if s.source == str(damaged.broken)]
    assert broken.num_frames == LAST - FIRST + 1 - len(lost)
    assert broken.dropped_points == 3
    named = {refusal.path for refusal in damaged.report.refused}
    assert named == {str(damaged.short), *(str(damaged.broken / name) for name in BREAKAGES)}


def test_training_goes_on_and_says_what_was_left_out(damaged, tmp_path, capsys):
    out = tmp_path / "out"

    assert cli.main([*damaged.arguments, "--out", str(out)]) == cli.OK

    # The files of the recording, the short clip, and two runs that were damaged after packing.
    count = len(BREAKAGES) + 1 + 2
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["data"]["refused_while_packing"] == count
    said = capsys.readouterr().out
    assert f"refused while packing: {count}" in said
    for path in (*BREAKAGES, damaged.short.name, damaged.flipped.name, damaged.cut.name):
        assert path in said, path
    assert str(damaged.flipped.parent) in said
    state = load_encoder(out / "tiny.safetensors").model.state_dict()
    assert all(torch.isfinite(t).all() for t in state.values())


def test_nothing_sound_is_an_error_in_words(damaged, tmp_path, capsys):
    recorded = tmp_path / "recorded"
    recorded.mkdir()
    lmdrive_files.write_run(recorded, "routes_town05_short_w8_b", 20)
    report = pack([recorded], tmp_path / "packed", TINY, jobs=1)
    assert report.num_frames == 0
    arguments = [*damaged.arguments, "--out", str(tmp_path / "out")]
    arguments[arguments.index("--data") + 1] = str(tmp_path / "packed")

    assert cli.main(arguments) == cli.BAD_INPUT

    assert str(tmp_path / "packed") in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fault", ["truncated", "missing"])
def test_a_damaged_index_is_an_error_in_words(damaged, tmp_path, capsys, fault):
    packed = tmp_path / "packed"
    packed.mkdir()
    if fault == "truncated":
        text = (damaged.packed / shards.INDEX).read_bytes()
        (packed / shards.INDEX).write_bytes(text[: len(text) // 2])
    arguments = [*damaged.arguments, "--out", str(tmp_path / "out")]
    arguments[arguments.index("--data") + 1] = str(packed)

    assert cli.main(arguments) == cli.BAD_INPUT

    assert "./flad data pack" in capsys.readouterr().err
