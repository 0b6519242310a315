# SPDX-License-Identifier: Apache-2.0
"""The architecture holds here, and each rule notices when it is broken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flad_bringup.checks.imports import (
    MAY_USE,
    REQUIREMENTS,
    import_complaints,
    unused_requirements,
)


def test_this_checkout_keeps_the_rules(workspace):
    assert import_complaints(workspace.root) == []


def test_nothing_is_installed_that_nobody_imports(workspace):
    assert unused_requirements(workspace.root) == []


def test_a_requirement_that_nobody_imports_is_named(tree, tmp_path: Path):
    tree("flad_planner/flad_planner/a.py", "import yaml")

    found = unused_requirements(tmp_path)
    assert "requirements/vehicle.txt: nothing in src imports numpy" in found
    assert not any("pyyaml" in line for line in found)


def test_every_package_has_its_rules(workspace):
    packages = {folder.name for folder in workspace.source_folders()}

    assert packages == set(MAY_USE) == set(REQUIREMENTS)


def test_no_two_packages_need_each_other():
    def reaches(start: str) -> set[str]:
        found: set[str] = set()
        todo = [start]
        while todo:
            for name in MAY_USE[todo.pop()] - found:
                found.add(name)
                todo.append(name)
        return found

    assert [package for package in MAY_USE if package in reaches(package)] == []


@pytest.fixture
def tree(tmp_path: Path, workspace):
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    for file in (workspace.root / "requirements").glob("*.txt"):
        (requirements / file.name).write_text(file.read_text())

    def write(path: str, line: str) -> list[str]:
        file = tmp_path / "src" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'"""A module."""\n\n{line}\n')
        return import_complaints(tmp_path)

    return write


@pytest.mark.parametrize(
    "path, line, complaint",
    [
        ("flad_planner/flad_planner/pid.py", "import rclpy", "rclpy is ROS: only"),
        ("flad_planner/flad_planner/pid.py", "from rclpy.node import Node", "is ROS: only"),
        ("flad_planner/flad_planner/pid.py", "from tf2_msgs.msg import A", "tf2_msgs is ROS"),
        ("flad_planner/flad_planner/pid.py", "def f():\n    import flad_msgs.msg", "is ROS: only"),
        ("flad_sim/flad_sim/traffic_node.py", "import rclpy", "flad_sim knows no ROS"),
        ("flad_planner/flad_planner/pid.py", "import carla", "only flad_carla imports carla"),
        ("flad_carla/flad_carla/town.py", "import libsumo", "only flad_sim imports libsumo"),
        ("flad_carla/flad_carla/ray.py", "from embreex import rtcore", "only flad_sim imports"),
        ("flad_sim/flad_sim/a.py", "import flad_common.config", "flad_sim may not import flad_com"),
        ("flad_common/flad_common/a.py", "import flad_planner", "flad_common may not import"),
        ("flad_planner/flad_planner/a.py", "import flad_carla.rig", "may not import flad_carla"),
        ("flad_planner/flad_planner/a.py", "import scipy", r"scipy \(scipy\) is not in req"),
        ("flad_planner/flad_planner/a.py", "from . import pid", "relative import"),
        ("flad_new/flad_new/a.py", "import math", "flad_new is not in the table"),
    ],
)
def test_a_broken_rule_is_named_with_its_place(tree, path, line, complaint):
    (found,) = tree(path, line)

    assert found.startswith(f"src/{path}:{4 if line.startswith('def') else 3}: ")
    assert re.search(complaint, found)


@pytest.mark.parametrize(
    "path, line",
    [
        ("flad_planner/flad_planner/planner_node.py", "import rclpy"),
        ("flad_common/flad_common/ros/qos.py", "from rclpy.qos import QoSProfile"),
        ("flad_carla/flad_carla/session.py", "import carla"),
        ("flad_sim/flad_sim/traffic/a.py", "import libsumo"),
        ("flad_bringup/flad_bringup/bench/sim.py", "import embreex"),
        ("flad_carla/flad_carla/a.py", "import flad_planner.pid, yaml, json, numpy.linalg"),
        ("flad_bringup/flad_bringup/a.py", "import flad_carla, flad_sim, yaml"),
    ],
)
def test_what_is_allowed_passes(tree, path, line):
    assert tree(path, line) == []
