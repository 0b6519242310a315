# SPDX-License-Identifier: Apache-2.0
"""The environment variables that our processes need; ours decide nothing by them (STYLE rule 11).

They speak to other people's code: SUMO, Fast DDS, rclpy, ament. The command line gives them to its
children, the tests' conftest to its own process.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from flad_bringup.workspace import Workspace
from flad_common.fast_dds import PROFILE_VARIABLE, SHIPPED


def installed_ros(environment: Mapping[str, str]) -> str | None:
    """The name of the ROS 2 that is sourced here, or None where the wheels are used."""
    return environment.get("ROS_DISTRO") or None


def variables(workspace: Workspace, inherited: Mapping[str, str]) -> dict[str, str]:
    """What to add to ``inherited`` so that a child finds everything; a user's own choice stays."""
    added = {"PYTHONUNBUFFERED": "1"}  # a log must hold the last line of a process that died
    if profiles := _existing(workspace.config / SHIPPED):
        added[PROFILE_VARIABLE] = profiles
    if sumo := importlib.util.find_spec("sumo"):
        added["SUMO_HOME"] = str((sumo.submodule_search_locations or [""])[0])
    if not installed_ros(inherited):
        added["AMENT_PREFIX_PATH"] = os.pathsep.join([str(workspace.install), str(workspace.venv)])
    return {name: value for name, value in added.items() if name not in inherited}


def this_machine_only(inherited: Mapping[str, str]) -> dict[str, str]:
    """Keep DDS on this machine: what the demo, the evaluation and the tests want."""
    if installed_ros(inherited) == "humble":
        return {"ROS_LOCALHOST_ONLY": "1"}
    return {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def test_variables() -> dict[str, str]:
    """Jazzy skips the field checks that Humble always makes, unless told."""
    return {"ROS_PYTHON_CHECK_FIELDS": "1"}


def child_environment(
    workspace: Workspace, inherited: Mapping[str, str] | None = None, **extra: str
) -> dict[str, str]:
    """The whole environment of a child process on this machine."""
    base = dict(os.environ if inherited is None else inherited)
    return base | variables(workspace, base) | this_machine_only(base) | extra


def _existing(path: Path) -> str | None:
    return str(path) if path.is_file() else None
