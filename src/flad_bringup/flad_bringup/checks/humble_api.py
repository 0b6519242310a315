# SPDX-License-Identifier: Apache-2.0
"""The Humble gate: ROS wrappers may call only what Humble's rclpy has, though Jazzy's runs here.

``rclpy-intellisense`` on PyPI is Humble's rclpy as Python source. It is named ``rclpy`` too, so it
goes into a folder of its own and never into the environment.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flad_bringup.checks.result import CheckResult, run_program
from flad_bringup.workspace import Workspace

PACKAGE = "rclpy-intellisense==1.2.0"  # rclpy 3.3.15, the last of Humble


def wrapper_files(root: Path) -> list[Path]:
    """Every file that may import rclpy."""
    nodes = root.glob("src/*/*/**/*_node.py")
    ros = (p for p in root.glob("src/*/*/**/*.py") if "ros" in p.relative_to(root).parts[:-1])
    return sorted({*nodes, *ros})


def check_humble_api(workspace: Workspace, files: list[Path] | None = None) -> CheckResult:
    """Check ``files`` (default: all wrappers) against Humble's rclpy."""
    folder = workspace.build / "humble_api"
    if not (folder / "rclpy").is_dir():
        installed = run_program(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
                *("--disable-pip-version-check", "--target", str(folder), PACKAGE),
            ],
            folder=workspace.root,
        )
        if installed.verdict != "passed":
            return CheckResult(verdict="failed", text=f"cannot install {PACKAGE}\n{installed.text}")
    sources = [str(path) for path in workspace.source_folders()]
    return run_program(
        [
            *(sys.executable, "-m", "mypy"),
            *("--config-file", str(Path(__file__).with_name("humble_api.ini"))),
            *("--cache-dir", str(workspace.build / "humble_mypy_cache")),
            *map(str, files or wrapper_files(workspace.root)),
        ],
        folder=workspace.root,
        environment=os.environ | {"MYPYPATH": os.pathsep.join([str(folder), *sources])},
    )
