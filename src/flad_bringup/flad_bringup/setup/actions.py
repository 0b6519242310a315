# SPDX-License-Identifier: Apache-2.0
"""What the set-up steps do: each starts one external program; their order is in checkout.py."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from flad_bringup.environment import child_environment, installed_ros
from flad_bringup.setup import wheels
from flad_bringup.setup.tool import run_tool
from flad_bringup.workspace import Workspace
from flad_common.error_codes import (
    BUILD_FAILED,
    PACKAGES_FAILED,
    TOOL_MISSING,
    TOWNS_FAILED,
    FladError,
)

CONSTRAINTS = Path("requirements/constraints/installed_ros.txt")
"""What an installed ROS asks of the versions of other packages."""


def install(workspace: Workspace, files: list[Path], environment: Mapping[str, str]) -> None:
    """Install the requirement files with pip; patch the ROS wheels where they are used."""
    command = [str(workspace.python), "-m", "pip", "install", "--progress-bar=off"]
    command += ["--disable-pip-version-check"]
    for file in files:
        command += ["-r", str(file)]
    if installed_ros(environment):
        command += ["-c", str(workspace.root / CONSTRAINTS)]
    run_tool(
        command,
        log_file=workspace.build / "log/packages.log",
        failure=PACKAGES_FAILED,
        environment=environment,
        folder=workspace.root,
    )
    if not installed_ros(environment):
        run_tool(
            [str(workspace.python), "-m", "flad_bringup.setup.wheels"],
            log_file=workspace.build / "log/wheels.log",
            failure=PACKAGES_FAILED,
            environment=environment,
            folder=workspace.root,
        )


def build(
    workspace: Workspace, messages: list[Path], environment: Mapping[str, str], ros: str | None
) -> None:
    """Build the message packages with colcon; with an installed ROS, every package."""
    colcon = shutil.which("colcon") if ros else str(workspace.venv / "bin/colcon")
    if colcon is None:
        raise FladError(
            TOOL_MISSING,
            "colcon is not installed: sudo apt install python3-colcon-common-extensions",
        )
    command = [
        # By our Python, also where colcon is the system's: executables get its name in their
        # first line, and it sees both the installed ROS and our packages.
        *(str(workspace.python), colcon),
        *("--log-base", str(workspace.build / "log/colcon")),
        "build",
        *("--build-base", str(workspace.build / "colcon")),
        *("--install-base", str(workspace.install)),
        "--merge-install",
    ]
    build_environment = dict(environment)
    if ros:  # everything, so that ros2 launch finds it; the sources stay live
        sources = sorted({p.parent for p in workspace.root.glob("src/*/package.xml")})
        command += ["--symlink-install", "--base-paths", *map(str, [*messages, *sources])]
        command += ["--cmake-args", "-DBUILD_TESTING=OFF"]
    else:
        prefix = str(workspace.venv)
        build_environment |= {
            "AMENT_PREFIX_PATH": prefix,
            "CMAKE_PREFIX_PATH": prefix,
            "VIRTUAL_ENV": prefix,
            "PATH": f"{prefix}/bin{os.pathsep}{environment.get('PATH', '')}",
        }
        command += ["--base-paths", *map(str, messages)]
        command += ["--cmake-args", f"-DPython3_EXECUTABLE={workspace.python}"]
        command += ["-DBUILD_TESTING=OFF", "--no-warn-unused-cli"]
    run_tool(
        command,
        log_file=workspace.build / "log/messages.log",
        failure=BUILD_FAILED,
        environment=build_environment,
        folder=workspace.root,
    )
    if not ros:
        wheels.link_libraries(workspace)


def build_towns(workspace: Workspace, environment: Mapping[str, str]) -> None:
    """Make the towns that ship with the project."""
    program = "import sys, pathlib, flad_sim.towns as t; t.build_towns(pathlib.Path(sys.argv[1]))"
    run_tool(
        [str(workspace.python), "-c", program, str(workspace.towns)],
        log_file=workspace.build / "log/towns.log",
        failure=TOWNS_FAILED,
        environment=child_environment(workspace, environment),
        folder=workspace.root,
    )


def compile_kernels(workspace: Workspace, environment: Mapping[str, str]) -> None:
    """Compile the world's kernels ahead, so that no client waits for a compiler."""
    run_tool(
        [str(workspace.python), "-m", "flad_sim.prepare"],
        log_file=workspace.build / "log/kernels.log",
        failure=TOWNS_FAILED,
        environment=child_environment(workspace, environment),
        folder=workspace.root,
    )
