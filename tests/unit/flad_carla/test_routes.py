# SPDX-License-Identifier: Apache-2.0
"""Both route formats give the same values; what cannot be used is named."""

from pathlib import Path

import pytest

from flad_carla.evaluation.routes import RouteFileError, read_routes

LB1 = """<routes>
<route id="7" town="Town01">
  <waypoint x="1.5" y="-2" z="0.1" pitch="0" roll="0" yaw="90"/>
  <waypoint x="100" y="-2" z="0" pitch="0" roll="0" yaw="90"/>
  <weather id="x" cloudiness="5" sun_altitude_angle="-10"/>
</route></routes>"""
LB2 = """<routes>
<route id="7" town="Town01">
  <weathers>
    <weather route_percentage="100" cloudiness="90" sun_altitude_angle="10"/>
    <weather route_percentage="0" cloudiness="10" sun_altitude_angle="50"/>
  </weathers>
  <waypoints><position x="1.5" y="-2" z="0.1"/><position x="100" y="-2"/></waypoints>
  <scenarios><scenario name="A_1" type="Accident">
    <trigger_point x="50" y="-2" z="0" yaw="12"/><distance value="40"/><frequency from="3" to="9"/>
  </scenario></scenarios>
</route></routes>"""


def _read(tmp_path: Path, text: str, only=()):
    path = tmp_path / "routes.xml"
    path.write_text(text)
    return read_routes(path, only)


def test_both_formats_hold_the_same_route(tmp_path):
    (first,), (second,) = _read(tmp_path, LB1), _read(tmp_path, LB2)

    assert first.positions == second.positions == ((1.5, -2.0, 0.1), (100.0, -2.0, 0.0))
    assert (first.route_id, first.town) == (second.route_id, second.town) == ("7", "Town01")
    assert first.scenarios == ()


def test_weather_is_linear_between_its_points_and_constant_outside(tmp_path):
    (route,) = _read(tmp_path, LB2)

    assert route.weather_at(25.0)["cloudiness"] == pytest.approx(30.0)
    assert route.weather_at(25.0)["sun_altitude_angle"] == pytest.approx(40.0)
    assert route.weather_at(-5.0)["cloudiness"] == 10.0
    assert route.weather_at(500.0)["cloudiness"] == 90.0


def test_a_route_without_weather_has_the_leaderboards_default(tmp_path):
    text = "\n".join(line for line in LB1.splitlines() if "<weather" not in line)
    (route,) = _read(tmp_path, text)

    assert route.weather_at(50.0) == {"cloudiness": 30.0, "sun_altitude_angle": 70.0}


def test_scenario_parameters_are_read_by_name(tmp_path):
    (scenario,) = _read(tmp_path, LB2)[0].scenarios

    assert (scenario.name, scenario.kind, scenario.trigger_yaw) == ("A_1", "Accident", 12.0)
    assert scenario.number("distance", 1.0) == 40.0
    assert scenario.number("absent", 1.25) == 1.25
    assert scenario.parameters["frequency"] == {"from": "3", "to": "9"}


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("<routes>", "cannot be read as XML"),
        ("<routes></routes>", "no <route> element"),
        (LB1.replace('town="Town01"', ""), "'town' is missing"),
        (LB1.replace('x="100" y="-2"', 'x="nan" y="-2"'), "x='nan'.*not a finite number"),
        (LB1.replace('x="100" y="-2"', 'x="100"'), "needs x and y"),
        (LB2.replace('<position x="100" y="-2"/>', ""), "at least 2"),
        (LB2.replace("</routes>", LB2[8:]), "more than one route with id 7"),
        (LB2.replace('<trigger_point x="50" y="-2" z="0" yaw="12"/>', ""), "trigger_point"),
    ],
)
def test_bad_files_are_named(tmp_path, text, complaint):
    with pytest.raises(RouteFileError, match=complaint):
        _read(tmp_path, text)


def test_a_missing_file_and_a_missing_id_are_named(tmp_path):
    with pytest.raises(RouteFileError, match=r"no route file .*absent\.xml"):
        read_routes(tmp_path / "absent.xml")
    with pytest.raises(RouteFileError, match=r"has no route 8; it has 7"):
        _read(tmp_path, LB1, ("8",))


def test_the_shipped_files_are_routes(workspace):
    files = sorted((workspace.config / "routes").glob("*.xml"))
    assert {"demo.xml", "grid.xml", "oldtown.xml", "ring.xml", "scenarios.xml"} <= {
        f.name for f in files
    }
    for file in files:
        towns = {route.town for route in read_routes(file)}
        assert towns <= {"Grid", "OldTown", "Quarter", "Ring"}, file
