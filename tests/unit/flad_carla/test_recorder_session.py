# SPDX-License-Identifier: Apache-2.0
"""What a recording hands to the harness, and names and weathers of a data set."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flad_carla.evaluation.routes import read_routes
from flad_carla.recorder import cli
from flad_carla.recorder.fields import GpsPlane, world_to_gps_plane
from flad_carla.recorder.layout import length_class, run_folder_name, town_number
from flad_carla.recorder.runs import recorded_runs, remove_others
from flad_carla.recorder.session import (
    choose_weather,
    missing_routes,
    parse_size,
    recording_rig,
    write_rig,
    write_routes,
)
from flad_carla.recorder.weather import FIELDS, NAMES, weather_id_of, weather_parameters
from flad_carla.rig import load_rig
from flad_common.folder_lock import folder_lock

ROOT = Path(__file__).resolve().parents[3]
LB1 = """<routes><route id="3" town="Town01"><weather cloudiness="77"/>
<waypoint x="1" y="2" z="0"/><waypoint x="30" y="2" z="0"/></route>
<route id="4" town="Town01"><weather cloudiness="66"/>
<waypoint x="1" y="2" z="0"/><waypoint x="30" y="2" z="0"/></route></routes>"""


def test_routes_get_the_weather_and_keep_the_rest(tmp_path):
    source, target = tmp_path / "a.xml", tmp_path / "b.xml"
    for text in (LB1, (ROOT / "config/routes/grid.xml").read_text()):
        source.write_text(text)
        before = read_routes(source)
        write_routes(source, target, {before[0].route_id: 14, before[1].route_id: None})
        after = read_routes(target)
        for field, value in weather_parameters(14).items():
            assert after[0].weather_at(50.0)[field] == pytest.approx(value, abs=1e-4)
        assert after[1].weather_at(0.0) == before[1].weather_at(0.0)
        for old, new in zip(before, after, strict=True):
            assert dataclasses.replace(new, weathers=old.weathers) == old


def recorded(root, routes, only=(), seed=0, status="complete", **changes):
    """As if these routes had been recorded."""
    for route in read_routes(routes, only):
        folder = root / f"routes_{len(list(root.glob('routes_*')))}"
        folder.mkdir(parents=True)
        document = {
            "town": route.town,
            "route_id": f"RouteScenario_{route.route_id}",
            "route_digest": route.digest,
            "repetition": 0,
            "seed": seed,
            "driver": "expert",
            "status": status,
        }
        (folder / "run.json").write_text(json.dumps({**document, **changes}))


def test_two_route_files_may_go_into_one_data_set(tmp_path):
    """Both have routes 3 and 4; what one has recorded is not the other's, nor in its way."""
    first, second = tmp_path / "first.xml", tmp_path / "second.xml"
    first.write_text(LB1)
    second.write_text(LB1.replace('x="30"', 'x="40"'))
    root = tmp_path / "set"
    recorded(root, first)
    recorded(root, second, only=("3",), status="partial")

    def missing(routes, seed=0, driver="expert"):
        return missing_routes(routes, (), root, seed, driver)

    assert missing(first) == [] and missing(second) == ["3", "4"]
    assert missing(first, seed=1) == missing(first, driver="adllm") == ["3", "4"]
    weathered = tmp_path / "weathered.xml"
    write_routes(first, weathered, {"3": 14})
    assert missing(weathered) == [], "its weather is chosen anew each time"
    before = {folder.name for folder, _ in recorded_runs(root)}
    remove_others(root, root / "routes_0")
    assert {folder.name for folder, _ in recorded_runs(root)} == before

    old = tmp_path / "old"  # of before routes were told apart
    recorded(old, first, route_digest="")
    assert missing_routes(second, (), old, 0, "expert") == []


def test_random_weather_is_the_runs_own():
    chosen = [
        choose_weather("random", str(route), seed) for route in range(30) for seed in range(9)
    ]
    again = [choose_weather("random", str(route), seed) for route in range(30) for seed in range(9)]
    assert chosen == again and set(chosen) == set(range(21))
    assert choose_weather("route", "1", 0) is None and choose_weather("20", "1", 0) == 20
    for wrong in ("21", "-1", "sunny"):
        with pytest.raises(ValueError, match="allowed are random, route"):
            choose_weather(wrong, "1", 0)


def test_every_weather_is_told_from_every_other():
    assert [weather_id_of(weather_parameters(i)) for i in range(len(NAMES))] == list(range(21))
    assert set(weather_parameters(0)) == set(FIELDS)
    assert weather_parameters(20)["sun_altitude_angle"] == -90.0
    assert weather_id_of({"cloudiness": 12.0, "sun_altitude_angle": 50.0}) == 0
    with pytest.raises(ValueError, match="must be in"):
        weather_parameters(21)


def test_the_recording_rig_is_lmdrives_at_ten_hertz(tmp_path):
    rig = recording_rig(load_rig(ROOT / "config/rigs/lmdrive.yaml"), (800, 600))
    write_rig(rig, tmp_path / "rig.yaml")
    sensors = {sensor.id: sensor for sensor in load_rig(tmp_path / "rig.yaml").sensors}

    for name, yaw in {"rgb_front": 0, "rgb_left": -60, "rgb_right": 60, "rgb_rear": 180}.items():
        camera = sensors[name]
        attributes = camera.attributes
        assert (attributes["image_size_x"], attributes["image_size_y"]) == (800, 600)
        assert attributes["fov"] == 100.0 and attributes["sensor_tick"] == 0.1
        assert camera.pose.yaw_deg == yaw and camera.pose.z_m == 2.3
    assert sensors["rgb_focus"].attributes["image_size_x"] == 128
    assert sensors["lidar"].pose.yaw_deg == -90.0 and sensors["lidar"].tick_s == 0.0
    rig.check_rate(0.05)


@pytest.mark.parametrize("text", ["800", "x600", "800x", "8x6", "800x-600", "9000x600"])
def test_a_wrong_size_is_named(text):
    with pytest.raises(ValueError, match="image size is"):
        parse_size(text)


def test_names_are_lmdrives():
    assert run_folder_name("Town10HD", 600.0, 7, "2025-11-28T18:28:35+00:00") == (
        "routes_town10_long_w7_11_28_18_28_35"
    )
    assert [length_class(x) for x in (149.0, 150.0, 500.0, 501.0)] == [
        *("tiny", "short", "short", "long")
    ]
    numbers = {
        town: town_number(town) for town in ("Town01", "Grid", "OldTown", "Ring", "Elsewhere")
    }
    assert numbers["Town01"] == 1 and len(set(numbers.values())) == 5
    assert all(0 < number < 100 for number in numbers.values())


@pytest.mark.parametrize("north", [1.0, -1.0])
@pytest.mark.parametrize("origin", [(0.0, 0.0), (49.0, 8.0), (-33.0, 151.0)])
def test_gps_plane_and_world_agree(origin, north):
    """A GNSS as CARLA makes it, Mercator around the map's origin; north is -y or, in 0.9.16, +y."""
    radius = 6378137.0
    scale = np.cos(np.radians(origin[0]))
    mx0 = scale * np.radians(origin[1]) * radius
    my0 = scale * radius * np.log(np.tan(np.radians(90 + origin[0]) / 2))
    plane = GpsPlane(origin)
    for x, y in [(0.0, 0.0), (300.0, -120.0), (10.0, -0.5), (-50.0, 400.0)]:
        longitude = np.degrees((mx0 + x) / (radius * scale))
        latitude = np.degrees(2 * np.arctan(np.exp((my0 - north * y) / (radius * scale)))) - 90
        measured = plane.position(latitude, longitude, y)
        assert measured == pytest.approx(world_to_gps_plane(x, y), abs=0.05)
        assert measured == pytest.approx((-y, x), abs=0.05)


@pytest.mark.parametrize(
    "options, complaint",
    [
        (["--image-size", "big"], "image size is 'big'"),
        (["--weather", "hail"], "weather is 'hail'"),
        (["--repetitions", "0"], "repetitions must be at least 1"),
        (["--rig", "none_such"], "there is no rig 'none_such'"),
        (["--jpeg-quality", "0"], "jpeg_quality"),
        (["--only", "77"], "has no route 77"),
    ],
)
def test_bad_options_are_named_before_anything_starts(tmp_path, capsys, options, complaint):
    routes = str(ROOT / "config/routes/grid.xml")
    status = cli.main(["--routes", routes, "--out", str(tmp_path / "set"), *options])
    assert status == cli.BAD_INPUT
    assert complaint in capsys.readouterr().err


def test_missing_route_file_is_named(tmp_path, capsys):
    gone = tmp_path / "gone.xml"
    assert cli.main(["--routes", str(gone), "--out", str(tmp_path)]) == cli.BAD_INPUT
    assert "there is no route file" in capsys.readouterr().err


def test_a_data_set_that_is_being_recorded_is_left_alone(tmp_path, capsys):
    root, routes = tmp_path / "set", str(ROOT / "config/routes/grid.xml")
    folder = root / "routes_town01_short_w1"
    folder.mkdir(parents=True)
    (folder / "checksums.txt").touch()  # what salvage removes
    command = [
        *(sys.executable, "-c"),
        "import sys, pathlib\n"
        "from flad_common.folder_lock import folder_lock\n"
        "with folder_lock(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()",
        str(root),
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout.readline() == "held\n"
        status = cli.main(["--routes", routes, "--out", str(root)])
        told = capsys.readouterr().err
        other.kill()
    assert status == cli.BAD_INPUT and folder.exists()
    assert f"{root} is being written by another process (id {other.pid})" in told
    with folder_lock(root):  # its holder was killed: nothing is left behind
        pass
