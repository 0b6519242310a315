# SPDX-License-Identifier: Apache-2.0
"""A recorded data set is read as LMDrive's loader reads it, and survives crashes and full disks."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import re
import subprocess

import numpy as np
import pytest
from made_up_drive import Drive
from PIL import Image

from flad_carla.recorder import dataset, store
from flad_carla.recorder.__main__ import main as tool
from flad_carla.recorder.dataset import DatasetRecorder, RecorderConfig
from flad_carla.recorder.runs import completed_keys, recorded_runs, run_key, salvage
from flad_carla.recorder.verify import verify
from flad_carla.run_log import RunResult

DURATION_S = 4.0
NUM_FRAMES = round(DURATION_S * 10)
CONFIG = RecorderConfig(min_frames=8, reserve_bytes=1000)

# Every field of LMDrive's measurements.
FIELDS = {
    "gps_x",
    "gps_y",
    "x",
    "y",
    "theta",
    "speed",
    "target_speed",
    "x_command",
    "y_command",
    "command",
    "gt_command",
    "steer",
    "throttle",
    "brake",
    "weather",
    "weather_id",
    "near_node_x",
    "near_node_y",
    "far_node_x",
    "far_node_y",
    "is_junction",
    "is_vehicle_present",
    "is_bike_present",
    "is_lane_vehicle_present",
    "is_junction_vehicle_present",
    "is_pedestrian_present",
    "is_red_light_present",
    "is_stop_sign_present",
    "should_slow",
    "should_brake",
    "future_waypoints",
    "affected_light_id",
}


def record(root, drive, config=CONFIG):
    recorder = DatasetRecorder(root, config=config)
    drive.feed(recorder)
    return recorder


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    root = tmp_path_factory.mktemp("data_set")
    drive = Drive(duration_s=DURATION_S, seed=5, town="Town02")
    recorder = record(root, drive)
    assert recorder.failures == []
    return root, recorder.folders[0], drive


def as_lmdrive_reads(root):
    """Yield what LMDrive's vision loader takes of every frame, by its own paths."""
    for line in (root / "dataset_index.txt").read_text().split("\n"):
        if len(line.split()) != 2:
            continue
        path, frames = line.split()
        folder = root / "data" / path
        town, weather = re.findall(r"town(\d\d).*w(\d+)", str(folder))[0]
        everything = json.loads((folder / "measurements_all.json").read_text())
        for k in range(int(frames)):
            full = json.loads((folder / "measurements_full" / f"{k:04d}.json").read_text())
            before = max(k - 1, 0)
            yield {
                "town": int(town),
                "weather": int(weather),
                "rgb": Image.open(folder / "rgb_full" / f"{k:04d}.jpg"),
                "lidar": np.load(folder / "lidar" / f"{k:04d}.npy", allow_pickle=True)[..., :4],
                "odd": np.load(folder / "lidar_odd" / f"{before:04d}.npy", allow_pickle=True)[
                    ..., :4
                ],
                "full": full,
                "all": everything,
                "affordances": np.load(folder / "affordances" / f"{k:04d}.npy", allow_pickle=True),
                "boxes": np.load(folder / "3d_bbs" / f"{k:04d}.npy", allow_pickle=True).item(),
            }


def test_lmdrives_loader_finds_every_frame(recorded):
    root, _, drive = recorded
    width, height = drive.image_size
    frames = list(as_lmdrive_reads(root))

    assert len(frames) == NUM_FRAMES
    for k, frame in enumerate(frames):
        assert (frame["town"], frame["weather"]) == (2, 0)
        assert frame["rgb"].size == (width, 4 * height) and frame["rgb"].mode == "RGB"
        for half in ("lidar", "odd"):
            assert frame[half].dtype == np.float16 and frame[half].shape == (200, 4)
            assert np.isfinite(frame[half]).all() and frame[half][:, 3].min() >= 0
        assert set(frame["boxes"]) == {"traffic_lights", "stop_signs", "vehicles", "pedestrians"}
        assert set(frame["affordances"].item()) == {"traffic_light", "stop_sign"}
        measured = {key: frame["full"][key] for key in FIELDS}
        assert measured == frame["all"][k]
        assert set(frame["full"]) == FIELDS | {"actors_data", "stop_sign", "flad"}
        assert int(frame["full"]["stop_sign"]) in (0, 1)
        assert 1 <= len(measured["future_waypoints"]) <= 50
        assert measured["command"] in range(1, 7)
        assert -1.0 <= measured["steer"] <= 1.0 and 0.0 <= measured["throttle"] <= 1.0
        assert measured["brake"] in (True, False)


def test_halves_of_the_sweep_are_of_neighbouring_ticks(recorded):
    _, folder, drive = recorded
    ticks = drive.ticks()
    for k in (0, 1, NUM_FRAMES - 1):
        for name, tick in (("lidar", ticks[2 * k][0]), ("lidar_odd", ticks[2 * k + 1][0])):
            raw = np.frombuffer(tick.data["vehicle_0"]["lidar"].raw_data, np.float32)
            np.testing.assert_array_equal(
                np.load(folder / name / f"{k:04d}.npy"), raw.reshape(-1, 4).astype(np.float16)
            )


def test_pictures_are_stacked_front_left_right_rear(recorded):
    _, folder, drive = recorded
    width, height = drive.image_size
    stack = np.asarray(Image.open(folder / "rgb_full" / "0003.jpg")).astype(int)
    data = drive.ticks()[6][0].data["vehicle_0"]
    for i, name in enumerate(("rgb_front", "rgb_left", "rgb_right", "rgb_rear")):
        bgra = np.frombuffer(data[name].raw_data, np.uint8).reshape(height, width, 4)
        part = stack[i * height : (i + 1) * height]
        assert np.abs(part - bgra[:, :, 2::-1].astype(int)).mean() < 4.0


def test_waypoint_targets_come_out_where_the_car_drove(recorded):
    """LMDrive's own computation on our fields gives the path ahead, x right and y backwards."""
    root, _, drive = recorded
    frames = list(as_lmdrive_reads(root))
    for k in range(10, NUM_FRAMES - 25, 3):
        full = frames[k]["full"]
        turn = np.pi / 2 + full["theta"]
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        here = drive.ticks()[2 * k][1].ego.pose
        for i in range(5):
            later = frames[k]["all"][k + 5 * (i + 1)]
            delta = np.array([later["gps_x"] - full["gps_x"], later["gps_y"] - full["gps_y"]])
            right, back = rotation.T @ delta
            pose = drive.ticks()[2 * (k + 5 * (i + 1))][1].ego.pose
            forward, expected_right = here.to_local(pose.x, pose.y)
            assert right == pytest.approx(expected_right, abs=0.02)
            assert back == pytest.approx(-forward, abs=0.02)


def test_target_point_and_future_waypoints_are_ahead(recorded):
    root, _, _ = recorded
    for frame in as_lmdrive_reads(root):
        full = frame["full"]
        turn = np.pi / 2 + full["theta"]
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        target = np.array([full["x_command"] - full["gps_x"], full["y_command"] - full["gps_y"]])
        _, back = rotation.T @ target
        assert back < -10.0  # 25 m ahead on the made-up route's straight start
        points = np.array(full["future_waypoints"])[:, :2] - [full["gps_x"], full["gps_y"]]
        backs = (rotation.T @ points.T)[1]
        assert backs[0] < 1.1 and backs[5] < -3.0


def test_the_ego_is_among_the_actors_and_lights_are_local(recorded):
    """LMDrive removes the ego by its place, and adds the light's place to its trigger's."""
    root, _, drive = recorded
    frame = list(as_lmdrive_reads(root))[8]
    full = frame["full"]
    near = [
        key
        for key, actor in full["actors_data"].items()
        if math.hypot(actor["loc"][0] - full["x"], actor["loc"][1] - full["y"]) <= 1.0
    ]
    assert "7" in near
    light = full["actors_data"]["500"]
    yaw = math.atan2(light["ori"][1], light["ori"][0])
    c, s = math.cos(yaw), math.sin(yaw)
    x, y, _ = light["taigger_loc"]
    world = (light["loc"][0] + c * x - s * y, light["loc"][1] + s * x + c * y)
    trigger = drive.ticks()[16][1].lights[0].trigger
    assert world == pytest.approx(trigger.center[:2], abs=1e-6)
    assert light["sta"] == drive.ticks()[16][1].lights[0].state and light["tpe"] == 2


def test_views_from_above_show_actors_where_they_are(recorded):
    _, folder, drive = recorded
    for k in (0, 12, 30):
        entry = drive.ticks()[2 * k][1]
        picture = np.asarray(Image.open(folder / "topdown" / f"{k:04d}.jpg")).astype(int)
        assert picture.shape == (512, 512)
        assert abs(picture[256, 256] - 10) <= 1  # the ego, a vehicle
        scale = 512 / (200 * math.tan(math.radians(25)))
        for body in entry.actors:
            forward, right = entry.ego.pose.to_local(body.pose.x, body.pose.y)
            u, v = 256 + right * scale, 256 - forward * scale
            if body.type_id.startswith("vehicle.tesla") and 8 < u < 504 and 8 < v < 504:
                assert abs(picture[round(v), round(u)] - 10) <= 2
        bird = np.asarray(Image.open(folder / "birdview" / f"{k:04d}.jpg")).astype(int)
        assert bird.shape == (400, 400, 3)
        assert bird[200, 200] == pytest.approx((252, 175, 62), abs=25)


def test_left_is_left_in_the_views_from_above(recorded):
    """The pavement of the made-up road is on its right, the other lane on its left."""
    _, folder, _ = recorded
    picture = np.asarray(Image.open(folder / "topdown" / "0015.jpg")).astype(int)
    scale = 512 / (200 * math.tan(math.radians(25)))
    row = 256 - round(7 * scale)
    assert abs(picture[row, 256 + round(3.0 * scale)] - 8) <= 1
    assert abs(picture[row, 256 - round(4.0 * scale)] - 7) <= 3
    assert abs(picture[row, 256 - round(9.0 * scale)] - 22) <= 1


def test_why_it_brakes_is_the_experts_list(recorded):
    root, _, drive = recorded
    for k, frame in enumerate(as_lmdrive_reads(root)):
        expert = drive.ticks()[2 * k][1].expert
        assert frame["full"]["is_red_light_present"] == list(expert.red_lights)
        assert frame["full"]["should_brake"] == int(expert.should_brake)


def test_verify_and_sha256sum_agree_that_all_is_well(recorded, capsys):
    root, folder, _ = recorded
    assert verify(root) == []
    assert tool(["verify", str(root)]) == 0
    assert "no problem" in capsys.readouterr().out
    subprocess.run(["sha256sum", "--check", "--quiet", "checksums.txt"], cwd=folder, check=True)


@pytest.mark.parametrize(
    "damage, complaint",
    [
        (lambda f: (f / "lidar" / "0002.npy").write_bytes(b"x"), "checksum"),
        (lambda f: (f / "rgb_full" / "0001.jpg").unlink(), "No such file"),
        (lambda f: (f / "lidar" / "0099.npy").write_bytes(b"x"), "in no frame"),
        (lambda f: (f / "measurements_all.json").write_text("[]"), "0 frames"),
        (lambda f: (f / "measurements_all.json").write_text("["), "cannot be read"),
        (lambda f: (f.parent / "dataset_index.txt").write_text(f"{f.name} 7\n"), "'.* 7'"),
        (lambda f: (f.parent / "dataset_index.txt").unlink(), "is missing"),
    ],
)
def test_verify_names_every_damage(tmp_path, damage, complaint, capsys):
    folder = record(tmp_path, Drive(duration_s=1.0)).folders[0]
    damage(folder)

    assert tool(["verify", str(tmp_path)]) == 1
    assert re.search(complaint, capsys.readouterr().err)


def test_verify_of_an_empty_folder_says_so(tmp_path):
    assert "no recorded run" in verify(tmp_path)[0].what


@pytest.mark.parametrize("crash_at", ["before_a_file", "between_files", "before_checksums"])
def test_a_crash_costs_the_frame_being_written_and_no_other(tmp_path, monkeypatch, crash_at):
    class Killed(BaseException):
        """Stands for SIGKILL: nothing of ours runs after it."""

    drive = Drive(duration_s=2.0, seed=2)
    recorder = DatasetRecorder(tmp_path, config=CONFIG)
    recorder.on_start(drive.info())
    folder = recorder.folders[0]
    for tick, entry in drive.ticks()[:20]:
        recorder.on_tick(tick, entry)
    if crash_at == "before_checksums":
        monkeypatch.setattr(store.FrameStore, "_enter", lambda *a: (_ for _ in ()).throw(Killed()))
    else:
        method = "write_bytes" if crash_at == "before_a_file" else "replace"
        real, calls = getattr(store.Path, method), []

        def killed(self, *args):
            calls.append(1)
            if len(calls) == 4:
                raise Killed
            return real(self, *args)

        monkeypatch.setattr(store.Path, method, killed)
    with pytest.raises(Killed):
        recorder.on_tick(*drive.ticks()[20])
    monkeypatch.undo()

    assert [f.what.split(",")[0] for f in verify(tmp_path) if f.place == folder] == [
        "is being recorded"
    ]
    assert salvage(tmp_path, CONFIG.min_frames) == [folder]
    assert verify(tmp_path) == []
    assert len(list(as_lmdrive_reads(tmp_path))) == 10
    assert completed_keys(tmp_path) == set()


def test_a_cut_off_line_of_checksums_does_not_count(tmp_path):
    drive = Drive(duration_s=2.0)
    recorder = DatasetRecorder(tmp_path, config=CONFIG)
    recorder.on_start(drive.info())
    for tick, entry in drive.ticks()[:30]:
        recorder.on_tick(tick, entry)
    checksums = recorder.folders[0] / "checksums.txt"
    os.truncate(checksums, checksums.stat().st_size - 150)

    salvage(tmp_path, CONFIG.min_frames)
    assert verify(tmp_path) == []
    assert len(list(as_lmdrive_reads(tmp_path))) == 14


def test_recording_the_same_run_to_its_end_replaces_the_rest_of_a_crash(tmp_path):
    drive = Drive(duration_s=2.0, seed=2)
    crashed = DatasetRecorder(tmp_path, config=CONFIG)
    crashed.on_start(drive.info())
    for tick, entry in drive.ticks()[:24]:
        crashed.on_tick(tick, entry)
    other = record(tmp_path, Drive(duration_s=1.0, seed=9)).folders[0]
    salvage(tmp_path, CONFIG.min_frames)
    finished = record(tmp_path, drive).folders[0]

    assert {folder for folder, _ in recorded_runs(tmp_path)} == {finished, other}
    assert verify(tmp_path) == []
    keys = {run_key(document) for _, document in recorded_runs(tmp_path)}
    assert completed_keys(tmp_path) == keys and len(keys) == 2


def test_a_full_disk_keeps_what_was_recorded_and_says_what_to_do(tmp_path, monkeypatch):
    drive = Drive(duration_s=4.0, seed=2)
    real, written = store.Path.write_bytes, []

    def write_bytes(self, data):
        written.append(len(data))
        if sum(written) > 400_000 and ".tmp" in self.name:
            real(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return real(self, data)

    monkeypatch.setattr(store.Path, "write_bytes", write_bytes)
    recorder = record(tmp_path, drive)

    assert recorder.is_full and len(recorder.failures) == 1
    message = recorder.failures[0]
    num_frames = len(list(as_lmdrive_reads(tmp_path)))
    assert 8 <= num_frames < 40
    assert f"after {num_frames} frames: No space left on device" in message
    assert str(recorder.folders[0]) in message and "Free some space" in message
    assert verify(tmp_path) == []
    assert completed_keys(tmp_path) == set()


def test_no_room_to_begin_with(tmp_path, monkeypatch):
    def no_room(fd, offset, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    recorder = record(tmp_path, Drive(duration_s=1.0))
    assert "stopped after 0 frames: No space left" in recorder.failures[0]


def test_a_crashed_simulation_is_not_complete(tmp_path):
    drive = Drive(duration_s=1.0)
    recorder = DatasetRecorder(tmp_path, config=CONFIG)
    recorder.on_start(drive.info())
    for tick, entry in drive.ticks():
        recorder.on_tick(tick, entry)
    recorder.on_end(
        RunResult(
            status="Failed - Simulation crashed",
            driving_score=0.0,
            route_completion=10.0,
            infraction_penalty=1.0,
        )
    )
    assert completed_keys(tmp_path) == set()
    assert verify(tmp_path) == []


def test_short_runs_are_kept_but_not_listed(tmp_path):
    record(tmp_path, Drive(duration_s=1.0), RecorderConfig(min_frames=32))
    assert (tmp_path / "dataset_index.txt").read_text() == ""
    assert verify(tmp_path) == []


def test_a_rig_without_a_camera_is_named(tmp_path):
    drive = Drive(duration_s=1.0)
    recorder = DatasetRecorder(tmp_path, config=CONFIG)
    recorder.on_start(drive.info())
    with pytest.raises(ValueError, match=r"no picture of rgb_left for \d+ ticks"):
        for tick, entry in drive.ticks():
            del tick.data["vehicle_0"]["rgb_left"]
            recorder.on_tick(tick, entry)


def test_cameras_at_ten_hertz_say_which_ticks_are_frames(tmp_path):
    """With sensor_tick 0.1 pictures come every second tick, and one extra from a new camera."""
    drive = Drive(duration_s=2.0)
    slow = dataclasses.replace(
        drive.info().rig,
        sensors=tuple(
            dataclasses.replace(s, attributes={"sensor_tick": 0.1}) if s.is_camera else s
            for s in drive.info().rig.sensors
        ),
    )
    recorder = DatasetRecorder(tmp_path, config=CONFIG)
    recorder.on_start(dataclasses.replace(drive.info(), rig=slow))
    for k, (tick, entry) in enumerate(drive.ticks()):
        if k % 2 == 0 and k > 0:
            for name in (*dataset.CAMERAS, dataset.FOCUS):
                del tick.data["vehicle_0"][name]
        recorder.on_tick(tick, entry)
    recorder.on_end(drive.result())

    frames = [f["full"]["flad"]["frame"] for f in as_lmdrive_reads(tmp_path)]
    assert frames == [1003 + 2 * k for k in range(19)]
    assert verify(tmp_path) == []


def test_wrong_config_is_named():
    with pytest.raises(ValueError, match=r"jpeg_quality .* got 0"):
        RecorderConfig(jpeg_quality=0)
    with pytest.raises(ValueError, match="min_frames"):
        RecorderConfig(min_frames=0)
