# SPDX-License-Identifier: Apache-2.0
"""The topology names things that exist, and its templates give ros-bridge's names."""

from __future__ import annotations

import ast
import importlib

import pytest

from flad_bringup import topology

SPECS = [*topology.VEHICLE_NODES, *topology.EDGE_NODES, *topology.SIMULATION_NODES]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.executable)
def test_every_node_is_a_module_with_a_main_and_an_entry_point(workspace, spec):
    assert callable(importlib.import_module(spec.module).main)
    setup = (workspace.root / "src" / spec.package / "setup.py").read_text()
    assert f"{spec.executable} = {spec.module}:main" in setup


def test_a_node_is_declared_once():
    names = [spec.executable for spec in SPECS]
    assert len(set(names)) == len(names)


def test_the_planner_of_a_vehicle_meets_its_bridge():
    command = topology.node_command(topology.PLANNER, vehicle="vehicle_3")
    remaps = {a.split(":=")[0]: a.split(":=")[1] for a in command if ":=" in a}

    assert remaps["__ns"] == "/vehicle_3"
    assert remaps["odometry"] == "/carla/vehicle_3/odometry"
    assert remaps["control"] == "/carla/vehicle_3/vehicle_control_cmd"
    assert remaps["autostart"] == "true"


@pytest.mark.parametrize("role", ["", "0_vehicle", "a/b", "a b", "{vehicle}"])
def test_a_role_that_is_no_name_is_refused(role):
    with pytest.raises(ValueError, match="ROS namespace"):
        topology.node_command(topology.PLANNER, vehicle=role)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.executable)
def test_only_relative_names_are_remapped(workspace, spec):
    """And only names that the node uses: a remapping of nothing is a silent mistake."""
    path = workspace.root / "src" / spec.package / (spec.module.replace(".", "/") + ".py")
    strings: set[str] = {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for name, _ in spec.remappings:
        assert not name.startswith("/")
        assert name in strings or f"/{name.split('/')[-1]}" in strings  # "<camera>/image"


@pytest.mark.parametrize("name", ["vehicle", "simulation", "edge"])
def test_launch_files_take_their_nodes_from_here(workspace, name):
    text = (workspace.root / "launch" / f"{name}.launch.py").read_text()
    wanted = f"{name.upper()}_NODES"

    assert f"in {wanted}" in text
    assert "/carla/" not in text.split('"""')[2].replace("below /carla/", "")
