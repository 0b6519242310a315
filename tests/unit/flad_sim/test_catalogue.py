# SPDX-License-Identifier: Apache-2.0
"""The catalogue must be whole, plausible, and in CARLA's words."""

import pytest

from flad_sim.catalogue import DEFAULT_VEHICLE, PROPS, VEHICLES, WALKERS, find
from flad_sim.types import Tag

ALL = [*VEHICLES.values(), *WALKERS.values(), *PROPS.values()]


@pytest.mark.parametrize("spec", ALL, ids=lambda s: s.blueprint)
def test_every_body_is_solid_and_stands_on_its_ground(spec):
    assert min(spec.extent) > 0.0
    assert spec.mass_kg > 0.0
    # The lowest point of the box is the ground when the origin is at its height above it.
    assert spec.origin_height_m + spec.box.center[2] - spec.extent[2] == pytest.approx(0.0)
    assert spec.tags.split(",")[0] in {"vehicle", "walker", "static"}


@pytest.mark.parametrize("spec", VEHICLES.values(), ids=lambda s: s.blueprint)
def test_vehicles_fit_their_own_axles_and_a_lane(spec):
    assert spec.wheelbase_m < 2.0 * spec.extent[0]
    assert spec.track_m < 2.0 * spec.extent[1] < 3.0
    assert spec.number_of_wheels == {True: 2}.get(spec.base_type in {"motorcycle", "bicycle"}) or (
        spec.number_of_wheels in {4, 6}
    )
    # Mass per volume of the box: a tin bicycle or a lead truck is a typing error.
    volume = 8.0 * spec.extent[0] * spec.extent[1] * spec.extent[2]
    assert 25.0 < spec.mass_kg / volume < 260.0


@pytest.mark.parametrize("spec", VEHICLES.values(), ids=lambda s: s.blueprint)
def test_the_engine_can_hold_the_stated_top_speed(spec):
    drive = spec.drivetrain
    v = drive.top_speed_mps
    air_n = 0.5 * 1.2 * drive.drag_coefficient * drive.frontal_area_m2 * v * v
    rolling_n = drive.rolling_resistance * spec.mass_kg * 9.81

    assert (air_n + rolling_n) * v < 1000.0 * drive.power_kw


def test_attributes_read_as_carlas():
    attributes = {a.name: a for a in VEHICLES[DEFAULT_VEHICLE].attributes()}
    walker = {a.name: a for a in WALKERS["walker.pedestrian.0001"].attributes()}

    assert attributes["number_of_wheels"].value == "4"
    assert attributes["base_type"].value == "car"
    assert not attributes["generation"].modifiable
    assert attributes["color"].value in attributes["color"].recommended
    assert all(len(c.split(",")) == 3 for c in attributes["color"].recommended)
    assert "driver_id" not in attributes
    assert "driver_id" in {a.name for a in VEHICLES["vehicle.bh.crossbike"].attributes()}
    # CARLA's scripts take recommended_values[1] for walking and [2] for running.
    walk, run = (float(walker["speed"].recommended[i]) for i in (1, 2))
    assert 0.0 < walk < run


def test_tags_tell_the_kinds_apart():
    assert find("vehicle.yamaha.yzf").tag == Tag.MOTORCYCLE
    assert find("vehicle.mitsubishi.fusorosa").tag == Tag.BUS
    assert find("walker.pedestrian.0013").tag == Tag.PEDESTRIANS
    assert find("walker.pedestrian.0013").extent[2] < find("walker.pedestrian.0002").extent[2]


def test_an_unknown_blueprint_is_named_with_its_neighbours():
    with pytest.raises(ValueError, match=r"vehicle\.audi\.t'.*vehicle\.audi\.tt"):
        find("vehicle.audi.t")
