# SPDX-License-Identifier: Apache-2.0
"""A pedestrian goes where a client sends it, on the ground."""

import math

import pytest
from moving_bodies import drive, speed

from flad_sim.catalogue import WALKERS
from flad_sim.physics import WalkerBody, WalkerControl
from flad_sim.types import Transform

NAN, INF = math.nan, math.inf


def walker(**transform):
    return WalkerBody(WALKERS["walker.pedestrian.0002"], Transform(**transform))


def test_a_walker_goes_where_it_is_told_and_looks_there():
    body = walker(z=0.93)
    body.apply_control(WalkerControl(direction=(0.0, -2.0, 0.0), speed=1.5))
    drive(body, 4.0)

    assert body.pose.transform.y == pytest.approx(-6.0)
    assert body.pose.transform.yaw == pytest.approx(-90.0)
    assert speed(body) == pytest.approx(1.5)


def test_a_walker_stands_on_the_ground_and_climbs_a_kerb():
    body = walker(z=3.0)
    body.apply_control(WalkerControl(direction=(1.0, 0.0, 0.0), speed=2.0))
    drive(body, 3.0, lambda x, y: 0.15 if x > 2.0 else 0.0)

    assert body.pose.transform.z == pytest.approx(0.15 + body.spec.extent[2])


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_walkers_bad_control_is_named(bad):
    body = walker()
    with pytest.raises(ValueError, match=r"walker_control\.speed"):
        body.apply_control(WalkerControl(speed=bad))
    with pytest.raises(ValueError, match=r"walker_control\.direction\.y"):
        body.apply_control(WalkerControl(direction=(0.0, bad, 0.0)))
