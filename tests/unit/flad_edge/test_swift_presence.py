# SPDX-License-Identifier: Apache-2.0
"""What a vehicle says of itself, against ways out of a circle that are known."""

import math

import pytest

from flad_edge.mobility.traces import Coverage
from flad_edge.swift.presence import PresenceConfig, leaves_m, presence

COVERAGE = Coverage(x_m=10.0, y_m=-5.0, radius_m=100.0)


@pytest.mark.parametrize("heading_rad", [0.0, 1.0, 2.5, -3.0])
@pytest.mark.parametrize("place", [(10.0, -5.0), (60.0, 30.0), (-80.0, -10.0)])
def test_straight_on_ends_on_the_circle(place, heading_rad):
    way_m = leaves_m(COVERAGE, *place, heading_rad)
    end = (place[0] + way_m * math.cos(heading_rad), place[1] + way_m * math.sin(heading_rad))
    assert way_m >= 0.0
    assert math.hypot(end[0] - 10.0, end[1] + 5.0) == pytest.approx(100.0)


def test_outside_it_stays_no_longer():
    config = PresenceConfig(coverage=COVERAGE)
    assert presence(config, "v", 200.0, 0.0, 5.0, math.pi, 0.0).dwell_s == 0.0


def test_a_vehicle_at_a_light_goes_on_and_one_that_rolls_back_moves():
    config = PresenceConfig(coverage=Coverage(radius_m=90.0), slowest_mps=3.0)
    assert presence(config, "v", 0.0, 0.0, 0.0, 0.0, 0.0).dwell_s == pytest.approx(30.0)
    backwards = presence(config, "v", 0.0, 0.0, -9.0, 0.0, 0.0)
    assert (backwards.speed_mps, backwards.dwell_s) == (9.0, pytest.approx(10.0))


def test_who_knows_its_stay_says_it_and_it_runs_out():
    config = PresenceConfig(dwell_s=60.0)
    said = [presence(config, "v", 0.0, 0.0, 5.0, 0.0, t).dwell_s for t in (0.0, 20.0, 70.0)]
    assert said == [60.0, 40.0, 0.0]


def test_who_does_not_know_where_it_is_says_nothing():
    with pytest.raises(ValueError, match=r"v: position \(nan, 0.0\) is not finite"):
        presence(PresenceConfig(dwell_s=5.0), "v", math.nan, 0.0, 5.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("knob", "value", "words"),
    [
        ("dwell_s", -1.0, "dwell_s must be finite and >= 0, got -1.0"),
        ("available_bytes", math.inf, "available_bytes must be finite and >= 0, got inf"),
        ("slowest_mps", 0.0, "slowest_mps must be positive, got 0.0"),
    ],
)
def test_a_number_that_cannot_be_is_refused(knob, value, words):
    with pytest.raises(ValueError, match=words):
        PresenceConfig(**{knob: value})
