# SPDX-License-Identifier: Apache-2.0
"""The reader against the real client, which parses the same text on its own."""

from __future__ import annotations

import math
import re

import carla
import numpy as np
import pytest
from shapely.geometry import Point, Polygon

from flad_sim.opendrive import OpenDriveError, read_opendrive
from flad_sim.opendrive.sections import is_driving
from flad_sim.towns import available_towns, load_town

OWN_TOWNS = available_towns()
POSITION_M, ANGLE_DEG, WIDTH_M = 0.02, 0.1, 0.001


@pytest.fixture(scope="module")
def town_text(request):
    """The text of a town of our own, or of CARLA's."""

    def find(name):
        if name in OWN_TOWNS:
            return load_town(name).xodr_text
        return (request.getfixturevalue("carla_towns") / f"{name}.xodr").read_text()

    return find


towns = pytest.mark.parametrize(
    "name",
    [
        *OWN_TOWNS,
        pytest.param("Town01", marks=pytest.mark.needs_carla_towns),
        pytest.param("Town02", marks=pytest.mark.needs_carla_towns),
    ],
)


def _angle(a, b):
    return abs((a - b + 180.0) % 360.0 - 180.0)


def _lane_places(network, shares):
    for road_id, road in network.roads.items():
        for index, section in enumerate(road.record.sections):
            start, end = section.s, road.record.section_end(index)
            if end - start < 0.05:
                continue
            for lane_id, lane in section.lanes.items():
                if lane_id != 0 and lane.lane_type != "none":
                    for share in shares:
                        yield road_id, index, lane_id, start + share * (end - start)


@towns
def test_lane_centres_and_widths_equal_the_clients(name, town_text):
    text = town_text(name)
    network, client = read_opendrive(text), carla.Map(name, text)
    compared = 0
    for road_id, index, lane_id, s in _lane_places(network, (0.02, 0.3, 0.55, 0.98)):
        theirs = client.get_waypoint_xodr(road_id, lane_id, s)
        ours = network.lane_center(road_id, lane_id, s)
        where = f"road {road_id} lane {lane_id} s {s:.3f}"
        there = theirs.transform.location
        assert math.dist(ours.location, (there.x, there.y, there.z)) < POSITION_M, where
        assert _angle(ours.yaw, theirs.transform.rotation.yaw) < ANGLE_DEG, where
        assert _angle(ours.pitch, theirs.transform.rotation.pitch) < ANGLE_DEG, where
        width = network.roads[road_id].lane_width(index, lane_id, s)
        assert width == pytest.approx(theirs.lane_width, abs=WIDTH_M), where
        compared += 1
    assert compared > 300


@towns
def test_the_client_finds_spawn_points_on_the_lane_that_they_follow(name, town_text):
    text = town_text(name)
    network, client = read_opendrive(text), carla.Map(name, text)
    points = network.spawn_points()
    assert len(points) > 60
    for p in points:
        waypoint = client.get_waypoint(carla.Location(p.x, p.y, p.z))
        at = waypoint.transform.location
        assert not waypoint.is_junction
        along, lateral, _ = p.to_local(np.array([[at.x, at.y, p.z]]))[0]
        assert abs(lateral) < 0.03 and abs(along) < 0.3  # the client searches in steps
        assert _angle(waypoint.transform.rotation.yaw, p.yaw) < 3.0  # chords of tight bends
        assert p.z == pytest.approx(at.z + 0.3, abs=0.03)


@towns
def test_strips_lie_where_the_lane_centres_are(name, town_text):
    network = read_opendrive(town_text(name))
    rng = np.random.default_rng(0)
    places = list(_lane_places(network, (0.13, 0.71)))
    for k in rng.choice(len(places), 150, replace=False):
        road_id, index, lane_id, s = places[k]
        lane = network.roads[road_id].record.sections[index].lanes[lane_id]
        if network.roads[road_id].lane_width(index, lane_id, s) < 0.3:
            continue
        center = network.lane_center(road_id, lane_id, s)
        strip = next(
            x
            for x in network.lanes
            if (x.road_id, x.section, x.lane_id) == (road_id, index, lane_id)
        )
        outline = Polygon(np.vstack([strip.left[:, :2], strip.right[::-1, :2]])).buffer(0.02)
        assert outline.contains(Point(center.x, center.y))
        if is_driving(lane.lane_type):
            i = np.argmin(np.linalg.norm(strip.left[:, :2] - [center.x, center.y], axis=1))
            local = center.to_local(strip.left[i : i + 1])[0]
            assert local[1] < 0.0, "left is left along travel"


@towns
def test_every_light_is_found_ahead_by_the_client(name, town_text):
    text = town_text(name)
    network, client = read_opendrive(text), carla.Map(name, text)
    lights = [s for s in network.signals if s.kind == "1000001"]
    theirs = {mark.id for mark in client.get_all_landmarks_of_type("1000001")}
    assert {s.signal_id for s in lights} == theirs
    assert len(lights) >= 14
    for light in lights:
        assert light.stop_points, light.signal_id
        for stop in light.stop_points:
            forward = stop.forward()
            before = carla.Location(stop.x - 8.0 * forward[0], stop.y - 8.0 * forward[1], stop.z)
            waypoint = client.get_waypoint(before)
            ahead = waypoint.get_landmarks_of_type(30.0, "1000001")
            assert light.signal_id in {mark.id for mark in ahead}
            # where the lane ends before the junction
            assert not client.get_waypoint(
                carla.Location(stop.x - 0.5 * forward[0], stop.y - 0.5 * forward[1], stop.z)
            ).is_junction
            # the lamp looks at the traffic, the trigger lies in front of the line
            assert _angle(light.transform.yaw, stop.yaw + 180.0) < 20.0
            center = stop.to_local(np.array([light.trigger.center]))[0]
            assert -6.0 < center[0] < 0.0


@towns
def test_junction_areas_cover_every_crossing_lane(name, town_text):
    network = read_opendrive(town_text(name))
    areas = [Polygon(a[:, :2]) for a in network.junction_areas]
    assert areas and all(a.is_valid and a.area > 1.0 for a in areas)
    for strip in network.lanes:
        if strip.junction_id < 0 or strip.lane_type == "sidewalk":
            continue
        center = (strip.left + strip.right) / 2.0
        for point in center[1:-1:3, :2]:
            assert any(a.buffer(0.05).contains(Point(point)) for a in areas)


def test_geo_conversion_equals_the_clients():
    text = load_town("Grid").xodr_text
    for reference in (
        "+proj=tmerc +lat_0=49.5 +lon_0=8.25 +k=1 +datum=WGS84",
        "+lat_0=-33.0 +lon_0=151.0",
        "+proj=utm +zone=32",
        "",
    ):
        changed = re.sub("<geoReference>.*?<", f"<geoReference>{reference}<", text)
        network, client = read_opendrive(changed), carla.Map("m", changed)
        for x, y, z in ((0.0, 0.0, 0.0), (310.5, -220.25, 3.0), (-900.0, 1500.0, -2.0)):
            theirs = client.transform_to_geolocation(carla.Location(x, y, z))
            ours = network.geo.to_geo(x, y, z)
            assert ours[0] == pytest.approx(theirs.latitude, abs=1e-9)
            assert ours[1] == pytest.approx(theirs.longitude, abs=1e-9)
            assert network.geo.to_location(*ours) == pytest.approx((x, y, z), abs=1e-5)


def test_height_knows_the_two_levels_of_a_bridge():
    network = load_town("Ring").network
    deck, ground = network.height(-300.0, 1.75, 6.0), network.height(-307.0, 0.0, 0.0)
    assert deck == pytest.approx(6.5, abs=0.1)
    assert ground == pytest.approx(0.0, abs=1e-6)
    assert network.height(-307.0, 1.75) > 5.0, "without a level the top one counts"
    assert network.height(-307.0, 1.75, 0.0) == pytest.approx(0.0, abs=1e-6)
    assert network.height(0.0, 5000.0) is None
    assert network.height(math.nan, 0.0) is None


def test_speed_limits_are_those_of_the_lane():
    network = load_town("Ring").network
    assert network.speed_limit_kmh(0.0, 227.0) == pytest.approx(80.0, abs=0.1)
    assert network.speed_limit_kmh(0.0, 68.0) == pytest.approx(50.0, abs=0.1)


CURVES = {
    "line": "<line/>",
    "arc": '<arc curvature="0.05"/>',
    "spiral": '<spiral curvStart="0.0" curvEnd="0.08"/>',
    "poly3": '<poly3 a="0" b="0.1" c="0.01" d="-0.0004"/>',
    "paramPoly3": '<paramPoly3 pRange="normalized" aU="0" bU="26" cU="0" dU="-2" aV="0" bV="0" '
    'cV="14" dV="-3"/>',
}


def _one_road(curve, length=28.0, extra=""):
    return f"""<?xml version="1.0"?><OpenDRIVE><header revMajor="1" revMinor="4" name="t"/>
    <road name="r" length="{length}" id="7" junction="-1"><link/>
    <type s="0" type="town"><speed max="30" unit="mph"/></type>
    <planView><geometry s="0" x="3" y="-4" hdg="0.7" length="{length}">{curve}</geometry></planView>
    <elevationProfile><elevation s="0" a="1" b="0.05" c="0" d="0"/>
    <elevation s="10" a="1.5" b="0.05" c="-0.004" d="0.0001"/></elevationProfile>
    <lateralProfile/>
    <lanes><laneOffset s="0" a="0.5" b="0" c="0" d="0"/>
    <laneOffset s="12" a="0.5" b="0" c="0.01" d="-0.0004"/>
    <laneSection s="0"><left><lane id="1" type="driving" level="false"><link/>
    <width sOffset="0" a="3.2" b="0" c="0" d="0"/></lane></left>
    <center><lane id="0" type="none" level="false"><link/></lane></center>
    <right><lane id="-1" type="driving" level="false"><link/>
    <width sOffset="0" a="3" b="0" c="0.004" d="-0.0001"/>
    <width sOffset="15" a="3.5" b="0.02" c="0" d="0"/>
    {extra}</lane></right></laneSection></lanes></road></OpenDRIVE>"""


@pytest.mark.parametrize("kind", ["line", "arc", "spiral", "paramPoly3"])
def test_every_curve_with_offsets_and_cubic_widths_equals_the_clients(kind):
    text = _one_road(CURVES[kind])
    network, client = read_opendrive(text), carla.Map("t", text)
    for s in np.linspace(0.1, 27.0, 40).tolist():
        for lane_id in (-1, 1):
            theirs = client.get_waypoint_xodr(7, lane_id, s)
            ours = network.lane_center(7, lane_id, s)
            at = theirs.transform.location
            assert math.dist(ours.location, (at.x, at.y, at.z)) < POSITION_M, (kind, s)
            assert _angle(ours.yaw, theirs.transform.rotation.yaw) < 2 * ANGLE_DEG, (kind, s)


def test_poly3_is_walked_by_arc_length():
    network = read_opendrive(_one_road(CURVES["poly3"]))
    line = network.roads[7].points(np.linspace(0.0, 28.0, 2801), np.zeros(2801))[:, :2]
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    assert steps == pytest.approx(np.full(2800, 0.01), rel=1e-3)
    u = 12.0
    v = 0.1 * u + 0.01 * u * u - 0.0004 * u**3
    c, s = math.cos(0.7), math.sin(0.7)
    on_curve = np.array([3.0 + c * u - s * v, -(-4.0 + s * u + c * v)])
    assert np.linalg.norm(line - on_curve, axis=1).min() < 0.01


def test_superelevation_lifts_the_left_side():
    text = _one_road(CURVES["line"]).replace(
        "<lateralProfile/>",
        '<lateralProfile><superelevation s="0" a="0.1" b="0" c="0" d="0"/></lateralProfile>',
    )
    network = read_opendrive(text)
    left, right = network.lane_center(7, 1, 5.0), network.lane_center(7, -1, 5.0)
    assert left.z - right.z == pytest.approx(3.1 * math.sin(0.1), abs=0.05)


def test_marks_change_where_their_records_say():
    marks = (
        '<roadMark sOffset="0" type="solid" weight="standard" color="standard" width="0.15"/>'
        '<roadMark sOffset="9" type="broken" weight="standard" color="yellow" width="0.1"/>'
        '<roadMark sOffset="20" type="none" weight="standard" color="white"/>'
    )
    network = read_opendrive(_one_road(CURVES["line"], extra=marks))
    found = [(m.kind, m.color, m.width) for m in network.marks]
    assert found == [("solid", "white", 0.15), ("broken", "yellow", 0.1)]
    lengths = [
        np.linalg.norm(np.diff(m.points[:, :2], axis=0), axis=1).sum() for m in network.marks
    ]
    assert lengths == pytest.approx([9.0, 11.0], abs=0.15)
    assert network.speed_limit_kmh(10.0, -3.0) == pytest.approx(48.28, abs=0.01)


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("", "empty"),
        ("<OpenDRIVE>", "well-formed"),
        ("<net/>", "root is <net>"),
        ("<OpenDRIVE/>", "no <road>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><OpenDRIVE/>', "entities"),
        (_one_road(CURVES["line"]).replace('x="3"', 'x="nan"'), "road id='7'"),
        (_one_road(CURVES["line"]).replace('length="28.0"', 'length="wide"'), "road id='7'"),
        (_one_road(CURVES["line"]).replace('"driving"', '"tram"'), "no driving lane"),
    ],
)
def test_bad_maps_are_named(text, complaint):
    with pytest.raises(OpenDriveError, match=complaint):
        read_opendrive(text)
