# SPDX-License-Identifier: Apache-2.0
"""A picture of a fleet's plan shows everybody once, in its cluster's colour, inside the frame."""

import dataclasses
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from flad_edge.mobility.traces import Coverage
from flad_edge.swift.availability import TaskNeeds
from flad_edge.swift.devices import load_devices
from flad_edge.swift.fleet import FleetConfig, FleetPlan, FleetPlanner, Member
from flad_edge.swift.picture import fleet_svg
from flad_edge.swift.random_problems import random_model

COVERAGE = Coverage(x_m=50.0, y_m=-20.0, radius_m=120.0)
_SVG = "{http://www.w3.org/2000/svg}"


def _fleet():
    model = random_model(np.random.default_rng(1), num_units=12, least_bytes=9e9, flops=1e11)
    needs = TaskNeeds(flops_per_epoch=2e12, epochs=1.0, capacity_bytes=model.capacity_bytes)
    members = [
        Member(
            name=f"<v{i}>" if i == 0 else f"v{i}",
            device="agx" if i == 4 else "nano",
            available_bytes=0.0,
            x_m=50.0 + 10.0 * i,
            y_m=-20.0 + (100.0 if i == 5 else 0.0),
            speed_mps=0.0,
            heading_rad=0.0,
            dwell_s=1.0 if i == 5 else 600.0,
        )
        for i in range(6)
    ]
    plan = FleetPlanner(FleetConfig(), needs, model, load_devices()).plan(members)
    assert plan.clusters and plan.alone and plan.left_over  # else the picture shows too little
    return plan, members


def _dots(svg):
    root = ElementTree.fromstring(svg)
    dots = [c for c in root.iter(f"{_SVG}circle") if c.find(f"{_SVG}title") is not None]
    return root, {dot.find(f"{_SVG}title").text: dot for dot in dots}


def test_everybody_is_there_in_the_colour_of_its_part():
    plan, members = _fleet()
    root, dots = _dots(fleet_svg(plan, members, COVERAGE))

    assert set(dots) == {m.name for m in members}
    for cluster in plan.clusters:
        assert len({dots[name].get("fill") for name in cluster.members}) == 1
    parts = [plan.clusters[0].members[0], plan.alone[0], next(iter(plan.left_over))]
    assert len({dots[name].get("fill") for name in parts}) == 3
    ways = list(root.iter(f"{_SVG}polyline"))
    assert len(ways) == len(plan.clusters)
    assert len(ways[0].get("points").split()) == len(plan.clusters[0].members)


def test_north_is_up_and_the_coverage_fills_the_frame():
    _, members = _fleet()
    there = [
        dataclasses.replace(members[1], name="middle", x_m=50.0, y_m=-20.0),
        dataclasses.replace(members[1], name="north", x_m=50.0, y_m=100.0),
        dataclasses.replace(members[1], name="east", x_m=170.0, y_m=-20.0),
    ]
    _, dots = _dots(fleet_svg(FleetPlan(), there, COVERAGE))
    at = {n: (float(d.get("cx")), float(d.get("cy"))) for n, d in dots.items()}
    assert at["middle"] == (320.0, 320.0)
    assert at["north"] == pytest.approx((320.0, 24.0))
    assert at["east"] == pytest.approx((616.0, 320.0))
