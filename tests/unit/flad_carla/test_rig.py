# SPDX-License-Identifier: Apache-2.0
"""The shipped rigs are what they say they are, and a wrong rig is told in words."""

from __future__ import annotations

import math

import pytest

from flad_carla.recorder.session import recording_rig
from flad_carla.rig import Rig, load_rig
from flad_common.config import from_mapping

# LMDrive's agent: id -> (x, y, z, yaw); its README and code agree on these.
LMDRIVE = {
    "rgb_front": (1.3, 0.0, 2.3, 0.0),
    "rgb_left": (1.3, 0.0, 2.3, -60.0),
    "rgb_right": (1.3, 0.0, 2.3, 60.0),
    "rgb_rear": (-1.3, 0.0, 2.3, 180.0),
    "rgb_focus": (1.3, 0.0, 2.3, 0.0),
    "lidar": (1.3, 0.0, 2.5, -90.0),
    "imu": (0.0, 0.0, 0.0, 0.0),
    "gnss": (0.0, 0.0, 0.0, 0.0),
}


def sensor(**changes):
    return {"id": "cam", "type": "sensor.camera.rgb"} | changes


@pytest.mark.parametrize("name", ["minimal", "demo", "lmdrive", "encoder"])
def test_every_shipped_rig_loads_and_fits_20_hz(workspace, name):
    load_rig(workspace.config / f"rigs/{name}.yaml").check_rate(0.05)


def test_lmdrive_poses(workspace):
    rig = load_rig(workspace.config / "rigs/lmdrive.yaml")
    poses = {s.id: (s.pose.x_m, s.pose.y_m, s.pose.z_m, s.pose.yaw_deg) for s in rig.sensors}

    assert poses == LMDRIVE
    assert all(s.pose.pitch_deg == s.pose.roll_deg == 0.0 for s in rig.sensors)


def test_the_encoder_sees_by_the_rig_of_its_training_data(workspace):
    lmdrive = load_rig(workspace.config / "rigs/lmdrive.yaml")
    encoder = load_rig(workspace.config / "rigs/encoder.yaml")

    assert encoder.sensors == recording_rig(lmdrive, (320, 240)).sensors


def test_the_focus_camera_sees_the_middle_of_the_front_image(workspace):
    """LMDrive crops 128 of 800 pixels out of 100 degrees."""
    rig = load_rig(workspace.config / "rigs/lmdrive.yaml")
    focus = next(s for s in rig.sensors if s.id == "rgb_focus").attributes
    half_tan = math.tan(math.radians(50.0)) * 128 / 800

    assert focus["fov"] == pytest.approx(2 * math.degrees(math.atan(half_tan)), abs=0.05)
    assert (focus["image_size_x"], focus["image_size_y"]) == (128, 128)


def test_lmdrive_lidar_gives_half_a_sweep_of_30000_points(workspace):
    rig = load_rig(workspace.config / "rigs/lmdrive.yaml")
    lidar = next(s for s in rig.sensors if s.id == "lidar").attributes

    assert lidar["points_per_second"] * 0.05 == 30_000
    assert lidar["rotation_frequency"] * 0.05 == 0.5


def test_attributes_are_written_as_carla_reads_them():
    values = {"a": 400, "b": 21.6, "c": True, "d": "text"}
    rig = from_mapping(Rig, {"sensors": [sensor(attributes=values)]})

    assert rig.sensors[0].carla_attributes() == {"a": "400", "b": "21.6", "c": "true", "d": "text"}


@pytest.mark.parametrize(
    "sensors, error, words",
    [
        ([sensor(id="0cam")], ValueError, "no ROS name"),
        ([sensor(id="cam/left")], ValueError, "no ROS name"),
        ([sensor(id="odometry")], ValueError, "publishes itself"),
        ([sensor(), sensor()], ValueError, "more than once"),
        ([sensor(type="vehicle.tesla.model3")], ValueError, "expected sensor"),
        ([sensor(attributes={"fov": [90]})], TypeError, "text or a number"),
        ([sensor(pose={"x": 1.0})], ValueError, "has no \\['x'\\]"),
        ([sensor(fov=90)], ValueError, "has no \\['fov'\\]"),
        ([{"id": "cam"}], ValueError, "needs \\['type'\\]"),
    ],
)
def test_a_wrong_rig_is_told_in_words(sensors, error, words):
    with pytest.raises(error, match=words):
        from_mapping(Rig, {"sensors": sensors})


@pytest.mark.parametrize(
    "tick_s, fits", [(0.0, True), (0.01, True), (0.05, True), (0.1, True), (0.07, False)]
)
def test_a_sensor_speaks_at_whole_steps(tick_s, fits):
    rig = from_mapping(Rig, {"sensors": [sensor(attributes={"sensor_tick": tick_s})]})
    if fits:
        rig.check_rate(0.05)
    else:
        with pytest.raises(ValueError, match=r"use 0.05 or 0.1"):
            rig.check_rate(0.05)


def test_a_missing_rig_file_names_itself(tmp_path):
    (tmp_path / "odd.yaml").write_text("- just\n- a list\n")
    with pytest.raises(ValueError, match=r"odd\.yaml"):
        load_rig(tmp_path / "odd.yaml")
