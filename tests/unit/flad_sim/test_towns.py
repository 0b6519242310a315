# SPDX-License-Identifier: Apache-2.0
"""Towns are built whole, once, the same each time; bad files are named."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from flad_sim.opendrive.sections import is_driving
from flad_sim.towns import TownError, available_towns, build_towns, load_town
from flad_sim.towns.load import town_from_text
from flad_sim.traffic.sumo_net import read_sumo_net

OWN_TOWNS = available_towns()


def test_towns_are_built_the_same_each_time_and_only_once(tmp_path):
    folders = build_towns(tmp_path)
    assert [f.name.split("-")[0] for f in folders] == list(OWN_TOWNS)
    stamps = {p: p.stat().st_mtime_ns for f in folders for p in f.iterdir()}
    assert build_towns(tmp_path) == folders
    assert {p: p.stat().st_mtime_ns for f in folders for p in f.iterdir()} == stamps
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f.name for f in folders)
    for folder, name in zip(folders, OWN_TOWNS, strict=True):
        text = (folder / f"{name}.xodr").read_text(encoding="utf-8")
        assert text == load_town(name).xodr_text


def test_a_killed_build_leaves_no_half_town(tmp_path):
    folder = load_town("Grid", cache_dir=tmp_path).net_file.parent
    aborted = tmp_path / f".{folder.name}-aborted"
    folder.rename(aborted)
    assert load_town("Grid", cache_dir=tmp_path).net_file.parent == folder


@pytest.mark.parametrize("name", OWN_TOWNS)
def test_a_town_offers_routes_pavements_and_signs(name):
    town = load_town(name)
    kinds = Counter(s.kind for s in town.network.signals)
    assert kinds["1000001"] >= 14 and kinds["274"] >= 10
    assert (kinds["206"] >= 2) == (name not in ("Grid", "Quarter"))
    assert any(lane.lane_type == "sidewalk" for lane in town.network.lanes)
    net = read_sumo_net(town.net_file)
    total = sum(net.lanes[net.edges[e][0]].length for e in net.car_edges())
    assert total > 3000.0
    # every place can be reached from every other
    for start in net.car_edges():
        seen, todo = {start}, [start]
        while todo:
            new = [e for e in net.successors[todo.pop()] if e not in seen]
            seen.update(new)
            todo += new
        assert seen == set(net.car_edges())


@pytest.mark.parametrize("name", OWN_TOWNS)
def test_sumo_lanes_lie_on_the_maps_lanes(name):
    town = load_town(name)
    net = read_sumo_net(town.net_file)
    for lane in net.lanes.values():
        if not lane.for_cars or lane.edge.startswith(":") or lane.length < 5.0:
            continue
        middle = lane.points[len(lane.points) // 2]
        strip = town.network.under(middle[None, :2], middle[None, 2]).strip[0]
        assert strip >= 0 and is_driving(town.network.lanes[strip].lane_type), lane.lane_id


@pytest.mark.parametrize("name", OWN_TOWNS)
def test_the_client_parses_a_town_without_a_word(name):
    code = (
        "import sys, carla; from flad_sim.towns import load_town; t = load_town(sys.argv[1]);"
        "m = carla.Map(t.name, t.xodr_text); assert m.get_topology()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, name], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("name", OWN_TOWNS)
def test_poles_stand_off_the_road(name):
    network = load_town(name).network
    for signal in network.signals:
        t = signal.transform
        assert network.under([[t.x, t.y]], [t.z]).strip[0] < 0 or not is_driving(
            network.lanes[network.under([[t.x, t.y]], [t.z]).strip[0]].lane_type
        ), signal.signal_id


@pytest.mark.parametrize("name", OWN_TOWNS)
def test_who_waits_at_a_light_faces_it(name):
    """Also at bent streets and T-junctions: else nobody could tell by its cameras when to go."""
    lights = [s for s in load_town(name).network.signals if s.kind == "1000001"]
    assert len(lights) >= 14
    for light in lights:
        places = [
            p.to_local([[light.transform.x, light.transform.y, p.z]])[0] for p in light.stop_points
        ]
        # The outermost lane's; the others' see it a little more from aside.
        ahead, right, _ = min(places, key=lambda place: abs(place[1]))
        assert ahead > 8.0, light.signal_id
        assert abs(right) < 0.17 * ahead, light.signal_id


def test_stop_signs_stand_where_sumo_makes_vehicles_stop():
    town = load_town("OldTown")
    net = read_sumo_net(town.net_file)
    stopping = {
        net.lanes[lane].edge
        for lane, links in net.links.items()
        if any(link.state in "sw" for link in links) and not lane.startswith(":")
    }
    ends = [
        net.lanes[i].points[-1] for e in stopping for i in net.edges[e] if net.lanes[i].for_cars
    ]
    stops = [p for s in town.network.signals if s.kind == "206" for p in s.stop_points]
    assert len(stops) == len(ends) >= 8
    for x, y, _ in ends:
        assert any(abs(p.x - x) < 0.3 and abs(p.y - y) < 0.3 for p in stops)


def test_any_opendrive_file_gets_a_network_once(tmp_path):
    path = tmp_path / "mine.xodr"
    path.write_text(load_town("OldTown").xodr_text)
    town = load_town(path, cache_dir=tmp_path / "cache")
    assert town.name == "mine" and read_sumo_net(town.net_file).car_edges()
    made = town.net_file.stat().st_mtime_ns
    again = town_from_text("other", town.xodr_text, cache_dir=tmp_path / "cache")
    assert again.net_file == town.net_file and again.net_file.stat().st_mtime_ns == made
    own = load_town("OldTown").net_file
    assert load_town(path, own, tmp_path / "cache").net_file == own


def _file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content, complaint",
    [
        (b"", "empty"),
        (b"\x00\xff\xfe binary", "well-formed"),
        (b"<OpenDRIVE><road", "well-formed"),
        (b"<net></net>", "not <OpenDRIVE>"),
    ],
)
def test_a_broken_map_is_named_with_its_path(tmp_path, content, complaint):
    path = _file(tmp_path, "broken.xodr", content)
    with pytest.raises(TownError, match=complaint) as caught:
        load_town(path)
    assert str(path) in str(caught.value)


def test_missing_things_are_named(tmp_path):
    with pytest.raises(TownError, match=r"Atlantis.*neither.*Grid, OldTown, Quarter, Ring"):
        load_town("Atlantis")
    with pytest.raises(TownError, match="is not a file"):
        load_town(tmp_path)
    with pytest.raises(TownError, match=r"nowhere\.net\.xml does not exist"):
        load_town("Grid", tmp_path / "nowhere.net.xml")


def test_a_huge_map_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge.xodr"
    with path.open("wb") as file:
        file.truncate(300 * 2**20)
    with pytest.raises(TownError, match="300 MiB, over the limit of 256"):
        load_town(path)
