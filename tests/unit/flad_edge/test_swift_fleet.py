# SPDX-License-Identifier: Apache-2.0
"""Clusters of a fleet hold the model, outlive small changes, and refuse what cannot be."""

import dataclasses
import math
import re

import numpy as np
import pytest

from flad_edge.swift.availability import TaskNeeds
from flad_edge.swift.devices import load_devices
from flad_edge.swift.fleet import FleetConfig, FleetPlanner, Heard, Member, straight_on
from flad_edge.swift.random_problems import random_model

_GB = 1e9


def _member(name, x_m, *, device="nano", speed_mps=5.0, heading_rad=0.0, dwell_s=200.0, **more):
    return Member(
        name=name,
        device=device,
        available_bytes=more.pop("available_bytes", 0.0),
        x_m=x_m,
        y_m=more.pop("y_m", 0.0),
        speed_mps=speed_mps,
        heading_rad=heading_rad,
        dwell_s=dwell_s,
    )


def _planner(**more):
    model = random_model(np.random.default_rng(1), num_units=12, least_bytes=9e9, flops=1e11)
    needs = TaskNeeds(
        flops_per_epoch=2e13, epochs=1, capacity_bytes=model.capacity_bytes, least_share=0.2
    )
    return FleetPlanner(FleetConfig(**more), needs, model, load_devices())


_FLEET = [
    *(_member(f"west_{i}", 10.0 * i) for i in range(4)),
    *(_member(f"east_{i}", 600.0 + 10.0 * i) for i in range(4)),
    _member("lonely", 1500.0),
    _member("big", 1400.0, device="agx"),
]


def test_neighbours_train_together_able_ones_alone_and_nobody_twice():
    plan = _planner().plan(_FLEET)
    assert plan.alone == ("big",)
    sides = [{name.split("_")[0] for name in c.members} for c in plan.clusters]
    assert sides and all(len(s) == 1 for s in sides) and {"west", "east"} == set.union(*sides)
    named = [*plan.alone, *plan.left_over, *(n for c in plan.clusters for n in c.members)]
    assert sorted(named) == sorted(m.name for m in _FLEET)
    for cluster in plan.clusters:
        problem = cluster.plan.problem
        for planned in cluster.plan.pipelines:
            assert planned.pipeline is None or problem.objections(planned.pipeline) == []
        assert {frozenset([v]) for v in range(len(cluster.members))} == set(cluster.templates)


def test_a_cluster_stays_until_somebody_leaves_it():
    planner = _planner()
    first = planner.plan(_FLEET)
    moved = [dataclasses.replace(m, x_m=m.x_m + 20.0) for m in _FLEET]
    again = planner.plan(moved)
    # the very same objects: nothing was planned again
    assert [c.plan for c in again.clusters] == [c.plan for c in first.clusters]
    gone = first.clusters[0].members[0]
    after = planner.plan([m for m in moved if m.name != gone])
    assert all(gone not in c.members for c in after.clusters)
    assert first.clusters[0].plan not in [c.plan for c in after.clusters]


def test_a_cluster_that_parts_is_given_up():
    planner = _planner()
    assert planner.plan(_FLEET).clusters
    parted = [
        dataclasses.replace(m, heading_rad=math.pi * (i % 2), speed_mps=30.0)
        for i, m in enumerate(_FLEET)
    ]
    stable = straight_on(150.0, 30.0)
    assert stable(_FLEET)[0, 1] > 0.8 > 0.3 > stable(parted)[0, 1]
    assert not _planner(least_nearness=0.6).plan(parted).clusters or all(
        stable([m for m in parted if m.name in c.members]).mean() > 0.3
        for c in _planner(least_nearness=0.6).plan(parted).clusters
    )


def test_who_leaves_soon_or_is_unknown_is_told_why():
    fleet = [
        *_FLEET,
        _member("soon", 15.0, dwell_s=3.0),
        _member("odd", 15.0, device="abacus"),
        _member("weak", 15.0, dwell_s=7.0),
    ]
    why = _planner().plan(fleet).left_over
    assert "leaves in 3 s; at least 6 s" in why["soon"]
    assert "'abacus' is unknown; known are agx, nano, nx" in why["odd"]
    assert "Eq. 1" in why["weak"] and "4e+12 are needed" in why["weak"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"x_m": math.nan}, "position .* is not finite"),
        ({"speed_mps": -1.0}, r"speed_mps must be finite and >= 0, got -1.0"),
        ({"available_bytes": -1.0}, "available_bytes must be"),
        ({"dwell_s": math.inf}, "dwell_s must be"),
        ({"name": ""}, "needs a name"),
    ],
)
def test_what_cannot_be_is_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        dataclasses.replace(_FLEET[0], **change)


def test_two_of_one_name_are_refused():
    with pytest.raises(ValueError, match="names of their own"):
        _planner().plan([_FLEET[0], _FLEET[0]])


def test_a_cluster_that_cannot_hold_the_model_is_told_so_with_the_arithmetic():
    small = [dataclasses.replace(m, available_bytes=0.8 * _GB) for m in _FLEET[:4]]
    plan = _planner().plan(small)
    assert not plan.clusters
    for why in plan.left_over.values():
        assert re.search(
            r"the 3 free .* too few for the model: 3\.20 GB .* needs [\d.]+ GB", why
        ), why


def test_who_is_silent_is_gone_and_time_runs_on():
    heard = Heard(lost_s=3.0)
    heard.take(_FLEET[0], 10.0)
    heard.take(_FLEET[1], 12.0)
    assert [m.dwell_s for m in heard.present(12.5)] == [197.5, 199.5]
    assert [m.name for m in heard.present(14.0)] == ["west_1"]
