# SPDX-License-Identifier: Apache-2.0
"""Packing keeps what is sound, and names what is not."""

import dataclasses
import json
import re

import lmdrive_files
import numpy as np
import pytest

from flad_common.folder_lock import folder_lock
from flad_perception.config import load_encoder_config
from flad_perception.data import pack_run as pack_run_module
from flad_perception.data import shards
from flad_perception.data.dataset import PackedDataset, select
from flad_perception.data.lmdrive import find_runs
from flad_perception.data.pack import pack

SMALL = load_encoder_config("small")


def pack_here(root, out, config=SMALL, **options):
    return pack([root], out, config, jobs=1, **options)


@pytest.fixture
def download(tmp_path):
    """LMDrive's own layout: no run.json, no focus camera."""
    root = tmp_path / "LMDrive"
    root.mkdir()
    return root


def test_a_download_packs_all_frames_that_have_a_past_and_a_future(download, tmp_path):
    lmdrive_files.write_run(download, num_frames=40)

    report = pack_here(download, tmp_path / "packed")

    assert report.num_frames == 40 - 1 - 25
    assert sum(report.trimmed.values()) == 26
    assert not report.refused
    dataset = PackedDataset(tmp_path / "packed")
    run = dataset.runs[0]
    assert (run.town, run.weather_id) == ("Town05", 8)
    assert run.name == "LMDrive/routes_town05_short_w8_11_22_15_30_54"
    assert dataset.table["frame"].tolist() == list(range(1, 15))
    # Red from frame 10 on; the sign counts in frame 3 only.
    assert dataset.table["light"].tolist() == [1] * 9 + [0] * 5
    assert np.flatnonzero(dataset.table["stop"]).tolist() == [2]


def test_every_view_shows_its_own_camera(download, tmp_path):
    lmdrive_files.write_run(download, num_frames=28)
    pack_here(download, tmp_path / "packed")

    dataset = PackedDataset(tmp_path / "packed")

    cameras = ("rgb_front", "rgb_left", "rgb_right", "rgb_rear")
    colours = dict(zip(cameras, lmdrive_files.COLOURS, strict=True))
    for view in dataset.config.views:
        picture = dataset.row(0, shards.view_file(view.name))
        corner = picture[-1, -1].astype(int)
        if view.camera in colours:
            assert np.abs(corner - colours[view.camera]).max() < 12, view.name
    # Without a focus camera it is the centre of the front picture, where the patch is white.
    zoomed = dataset.row(0, shards.view_file("center"))
    assert zoomed[60:68, 60:68].min() > 200


def test_the_focus_camera_is_used_where_there_is_one(download, tmp_path):
    lmdrive_files.write_run(download, num_frames=28, has_focus=True)
    pack_here(download, tmp_path / "packed")

    zoomed = PackedDataset(tmp_path / "packed").row(0, shards.view_file("center"))

    assert np.abs(zoomed.astype(int) - lmdrive_files.FOCUS_COLOUR).max() < 12


def test_large_pictures_are_halved_while_decoding_to_the_same_view(download, tmp_path):
    lmdrive_files.write_run(download, num_frames=28, size=(800, 600), has_focus=True)
    pack_here(download, tmp_path / "packed")

    front = PackedDataset(tmp_path / "packed").row(0, shards.view_file("front"))
    assert np.abs(front[-1, -1].astype(int) - lmdrive_files.COLOURS[0]).max() < 6


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _edit(change):
    def edit(path):
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return edit


def _bad_array(value):
    return lambda path: np.save(path, value)


BREAKAGES = {
    "truncated picture": ("rgb_full/0007.jpg", _cut, "truncated"),
    "no picture": ("rgb_full/0007.jpg", lambda p: p.write_bytes(b"hello"), "no picture"),
    "missing picture": ("rgb_full/0007.jpg", lambda p: p.unlink(), "missing"),
    "another size": (
        "rgb_full/0007.jpg",
        lambda p: p.write_bytes(lmdrive_files.stacked((80, 60), 7)),
        "80x60",
    ),
    "truncated sweep": ("lidar/0007.npy", _cut, "truncated"),
    "truncated other half": ("lidar_odd/0006.npy", _cut, "truncated"),
    "empty sweep": ("lidar/0007.npy", _bad_array(np.zeros((0, 4), np.float16)), "empty sweep"),
    "sweep of three columns": ("lidar/0007.npy", _bad_array(np.zeros((9, 3))), r"\[9, 3\]"),
    "pickled sweep": (
        "lidar/0007.npy",
        lambda p: np.save(p, np.array([{}], dtype=object), allow_pickle=True),
        "no npy",
    ),
    "actor without place": (
        "measurements_full/0007.json",
        _edit(lambda d: d["actors_data"]["8"].pop("loc")),
        "loc",
    ),
    "actor that is a list": (
        "measurements_full/0007.json",
        _edit(lambda d: d["actors_data"].update({"8": [1, 2]})),
        "field",
    ),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_file_costs_its_frame_and_is_named(name, download, tmp_path):
    folder = lmdrive_files.write_run(download, num_frames=40)
    file, breakage, complaint = BREAKAGES[name]
    breakage(folder / file)

    report = pack_here(download, tmp_path / "packed")

    frames = PackedDataset(tmp_path / "packed").table["frame"].tolist()
    assert frames == [f for f in range(1, 15) if f != 7]
    (refusal,) = report.refused
    assert refusal.path == str(folder / file)
    assert re.search(complaint, refusal.reason), refusal.reason


@pytest.mark.parametrize(
    "breakage", [_cut, _edit(lambda d: d.pop("speed")), _edit(lambda d: d.update(x=float("nan")))]
)
def test_a_broken_measurement_also_costs_those_who_look_ahead_to_it(breakage, download, tmp_path):
    folder = lmdrive_files.write_run(download, num_frames=60)
    breakage(folder / "measurements_full/0030.json")

    report = pack_here(download, tmp_path / "packed")

    frames = PackedDataset(tmp_path / "packed").table["frame"].tolist()
    assert frames == [1, 2, 3, 4, 31, 32, 33, 34]  # 25 frames before it cannot see their future
    assert [refusal.path for refusal in report.refused] == [
        str(folder / "measurements_full/0030.json")
    ]
    assert report.trimmed[pack_run_module.GAP] == 25


def test_points_that_are_not_finite_are_dropped_and_counted(download, tmp_path):
    folder = lmdrive_files.write_run(download, num_frames=40)
    sweep = np.load(folder / "lidar/0007.npy")
    sweep[5:8, 0] = np.nan
    sweep[9, 2] = np.inf
    np.save(folder / "lidar/0007.npy", sweep)

    report = pack_here(download, tmp_path / "packed")

    assert report.dropped_points == 4
    dataset = PackedDataset(tmp_path / "packed")
    assert len(dataset) == 14
    points = dataset.rows(6, shards.POINTS, shards.POINT_ENDS)
    assert len(points) > 100
    assert np.isfinite(points).all()


def test_a_sweep_without_any_finite_point_is_refused(download, tmp_path):
    folder = lmdrive_files.write_run(download, num_frames=40)
    for path in (folder / "lidar/0007.npy", folder / "lidar_odd/0006.npy"):
        np.save(path, np.full((5, 4), np.nan, np.float16))

    report = pack_here(download, tmp_path / "packed")

    assert "no finite point" in report.refused[0].reason
    assert len(PackedDataset(tmp_path / "packed")) == 13


def test_a_run_shorter_than_the_horizon_is_refused_and_the_others_packed(download, tmp_path):
    short = lmdrive_files.write_run(download, "routes_town01_tiny_w1_01_01_01_01_01", num_frames=25)
    lmdrive_files.write_run(download, num_frames=30)

    report = pack_here(download, tmp_path / "packed")

    assert report.num_frames == 4
    (refusal,) = report.refused
    assert refusal.path == str(short)
    assert "horizon of 2.5 s" in refusal.reason


def test_runs_that_are_not_complete_wait(download, tmp_path):
    about = {"town": "Grid", "weather_id": 3, "driver": "expert"}
    for number, status in enumerate(("recording", "partial", "complete")):
        lmdrive_files.write_run(
            download,
            f"routes_town91_short_w3_0{number}",
            num_frames=28,
            document={**about, "status": status},
        )

    report = pack_here(download, tmp_path / "packed")
    with_partial = pack_here(download, tmp_path / "packed", with_partial=True)

    assert [len(report.shards), len(with_partial.shards)] == [1, 2]
    assert with_partial.num_new == 1  # the other was there
    assert "recorded" in with_partial.refused[0].reason


def test_another_drivers_way_is_not_the_label(download, tmp_path):
    """With DAgger somebody else drives; the expert's plan is what shall be learnt."""
    about = {"town": "Grid", "weather_id": 3, "driver": "external", "status": "complete"}
    folder = lmdrive_files.write_run(download, num_frames=28, document=about)
    for path in (folder / "measurements_full").iterdir():
        # 1 m further to the right (east) with every waypoint
        plan = [[1.0 + i, -10.0] for i in range(5)]
        _edit(lambda d, plan=plan: d.update(flad={"plan_world": plan, "perturbation": 0.0}))(path)

    pack_here(download, tmp_path / "packed")

    waypoints = PackedDataset(tmp_path / "packed").table["waypoints_m"][0]
    assert waypoints[:, 1] == pytest.approx(-1.0 - np.arange(5.0))


def test_the_same_command_goes_on_where_it_was_cut_off(download, tmp_path):
    lmdrive_files.write_run(download, num_frames=28)
    pack_here(download, tmp_path / "packed")
    (folder,) = (tmp_path / "packed/runs").iterdir()
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    leftover = folder.with_name("half.new")
    leftover.mkdir()
    lmdrive_files.write_run(download, "routes_town01_tiny_w1_01_01_01_01_01", num_frames=28)

    report = pack_here(download, tmp_path / "packed")

    assert report.num_new == 1
    assert len(report.shards) == 2
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert not leftover.exists()


def test_another_configuration_is_refused_with_what_differs(download, tmp_path):
    lmdrive_files.write_run(download, num_frames=28)
    pack_here(download, tmp_path / "packed")
    front = dataclasses.replace(SMALL.views[0], crop_px=(96, 64))
    other = dataclasses.replace(SMALL, views=(front, *SMALL.views[1:]))
    wider = dataclasses.replace(SMALL, ffn_dim=2 * SMALL.ffn_dim)

    for use in (lambda: pack_here(download, tmp_path / "packed", other),
                lambda: PackedDataset(tmp_path / "packed", other)):  # fmt: skip
        with pytest.raises(ValueError, match=r"views\.0\.crop_px.* is \d+ .* and 96"):
            use()
    assert len(PackedDataset(tmp_path / "packed", wider)) == 2  # widths do not matter


def test_a_damaged_run_is_left_out_and_named(download, tmp_path):
    lmdrive_files.write_run(download, num_frames=28)
    lmdrive_files.write_run(download, "routes_town01_tiny_w1_01_01_01_01_01", num_frames=29)
    pack_here(download, tmp_path / "packed")
    first, second = sorted((tmp_path / "packed/runs").iterdir())
    points = second / shards.POINTS

    data = bytearray(points.read_bytes())
    data[-1] ^= 1
    points.write_bytes(data)
    assert len(PackedDataset(tmp_path / "packed").runs) == 2  # one bit; only checksums tell
    assert [r.path for r in shards.verify(tmp_path / "packed")] == [str(points)]
    assert len(PackedDataset(tmp_path / "packed", check_sums=True).runs) == 1

    _cut(points)
    dataset = PackedDataset(tmp_path / "packed")
    assert [run.town for run in dataset.runs] == ["Town01"]
    assert dataset.refused[0].path == str(points)

    (first / shards.FRAMES).unlink()
    with pytest.raises(ValueError, match="holds no sound run"):
        PackedDataset(tmp_path / "packed")


def test_select_takes_whole_runs(download, tmp_path):
    for town, weather in (("01", 1), ("02", 12), ("02", 3)):
        name = f"routes_town{town}_tiny_w{weather}_01_01_01_01_01"
        lmdrive_files.write_run(download, name, num_frames=28)
    pack_here(download, tmp_path / "packed")
    dataset = PackedDataset(tmp_path / "packed")

    assert select(dataset, towns=["Town02"], exclude_weathers=[12]).tolist() == [4, 5]
    assert select(dataset, exclude_towns=["Town02"]).tolist() == [0, 1]
    assert select(dataset, weathers=[12, 1]).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="no town Town09"):
        select(dataset, towns=["Town09"])


def test_two_data_sets_with_the_same_name_are_refused(tmp_path):
    for place in ("a", "b"):
        root = tmp_path / place / "data_set"
        root.mkdir(parents=True)
        lmdrive_files.write_run(root, num_frames=28)

    with pytest.raises(ValueError, match="rename one"):
        find_runs([tmp_path / "a/data_set", tmp_path / "b/data_set"])


def test_what_is_no_data_set_is_said(tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="holds no run"):
        find_runs([tmp_path])
    with pytest.raises(ValueError, match="no packed data set"):
        PackedDataset(tmp_path)


def test_processes_pack_the_same_bytes(download, tmp_path):
    for town in ("01", "02"):
        lmdrive_files.write_run(
            download, f"routes_town{town}_tiny_w1_01_01_01_01_01", num_frames=28
        )
    counted = []

    one = pack([download], tmp_path / "one", SMALL, jobs=1)
    two = pack([download], tmp_path / "two", SMALL, jobs=2, on_frames=counted.append)

    assert [shard.files for shard in one.shards] == [shard.files for shard in two.shards]
    assert sum(counted) == 56


def test_two_do_not_pack_into_one_folder_at_once(download, tmp_path):
    lmdrive_files.write_run(download)
    out = tmp_path / "packed"
    half_done = out / "runs" / "somebody.new"
    half_done.mkdir(parents=True)
    with folder_lock(out), pytest.raises(ValueError, match="packed is being written by another"):
        pack_here(download, out)
    assert half_done.is_dir()
    pack_here(download, out)
    assert not half_done.exists()
